"""Every check of the contract fails for a model that breaks just that promise, and what happens to an author who forgets something."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor, nn

from lexirec.errors import RunFolderError
from lexirec.models.graph import Batch, GraphConfig, GraphRecommender, IdGraphRecommender
from lexirec.models.lightgcn import LightGCN, LightGCNConfig
from lexirec.models.popularity import Popularity
from lexirec.query import Basis, Query
from lexirec.testing import CHECKS, ContractError, Subject, check_model, checkerboard
from lexirec.training.options import TrainingOptions

SETTINGS = {"lr": 0.05, "embedding_dim": 16, "batch_size": 64, "init_std": 0.1}


class FitsAnything(LightGCN):
    def fit(self, *arguments: Any) -> Any:
        return self


class NextItem(LightGCN):
    def refresh(self) -> None:
        super().refresh()
        self.item_rows = self.item_rows.roll(1, 0)


class KnowsTheBatch(LightGCN):
    def encode_queries(self, queries: Sequence[Query]) -> Tensor:
        return super().encode_queries(queries) * len(queries)


class CountsItsFits(LightGCN):
    fits = 0

    def build(self, *arguments: Any) -> None:
        self.fits += 1
        torch.manual_seed(self.fits)
        super().build(*arguments)


class ForgetsUsers(LightGCN):
    def restore(self, tensors: dict, values: dict) -> None:
        super().restore(tensors, values)
        self.hot_users = self.hot_users + 1


class CountsItsSteps(LightGCN):
    def build(self, *arguments: Any) -> None:
        super().build(*arguments)
        self.steps = 0

    def loss(self, batch: Batch) -> Tensor:
        self.steps += 1
        return super().loss(batch) * self.steps


class ClaimsToKnow(LightGCN):
    def recommend(self, *arguments: Any, **limits: Any) -> pl.DataFrame:
        return super().recommend(*arguments, **limits).with_columns(answered_by=pl.lit("user"))


class LooksAtIdsOnly(LightGCN):
    def _person_of(self, query: Query) -> str:
        return "user" if query.user_id in self.users else super()._person_of(query)


class TheOtherWay(LightGCN):
    def encode_histories(self, histories: Sequence[Sequence[str]]) -> Tensor:
        return -super().encode_histories(histories)


class SkipsWords(LightGCN):
    def answered_by(self, query: Query) -> Basis:
        return super().answered_by(Query(user_id=query.user_id, history=query.history))


class TakesItems(LightGCN):
    def add_items(self, *arguments: Any, **options: Any) -> Any:
        return self


class ShowsAnything(LightGCN):
    def recommend(self, queries: Any, k: int = 10, filter_seen: bool = True, candidates: Any = None, exclude: Any = None) -> pl.DataFrame:
        return super().recommend(queries, k, filter_seen)


class Unseeded(LightGCN):
    def build(self, *arguments: Any) -> None:
        torch.seed()
        super().build(*arguments)


class HidesTheBest(LightGCN):
    def recommend(self, queries: Any, k: int = 10, **limits: Any) -> pl.DataFrame:
        return super().recommend(queries, k + 3, **limits).filter(pl.col("rank") > 3)


class OverflowsInBfloat16(LightGCN):
    low = False

    def loss(self, batch: Any) -> Tensor:
        self.low = torch.is_autocast_enabled("cpu")
        return super().loss(batch)

    def score(self, queries: Sequence[Query], items: Any = None) -> Tensor:
        return super().score(queries, items) * (torch.nan if self.low else 1)


class ZerosForStrangers(LightGCN):
    def score(self, queries: Sequence[Query], items: Any = None) -> Tensor:
        known = torch.tensor([bool(self.answered_by(query)) for query in queries])
        return super().score(queries, items) * known[:, None]


class AnswersUnfitted(LightGCN):
    def recommend(self, *arguments: Any, **limits: Any) -> pl.DataFrame:
        return super().recommend(*arguments, **limits) if self._fitted else pl.DataFrame()


class LenientConfig(LightGCNConfig):
    @classmethod
    def parse(cls, settings: Any) -> Any:
        return super().parse({name: value for name, value in settings.items() if name in cls.model_fields})


class Lenient(LightGCN):
    Config = LenientConfig


class GoesAnywhere(LightGCN):
    def transfer(self, train: Any) -> Any:
        return self


BROKEN = {
    "arguments_of_fit_are_checked_before_anything_is_done": (FitsAnything, r"fit\('Dataset',\) is not refused"),
    "checkerboard_has_a_known_answer": (NextItem, "don't get the right item first"),
    "batch_equals_single": (KnowsTheBatch, "not close"),
    "second_fit_starts_anew": (CountsItsFits, "after a fit on other data: scores differ"),
    "save_and_load_answer_alike": (ForgetsUsers, "loaded: scores differ"),
    "resume_gives_the_same_bits": (CountsItsSteps, r"resumed: (scores differ|the epochs read)"),
    "trains_in_bfloat16": (OverflowsInBfloat16, "precision='bf16', the model scores items with NaN"),
    "unknown_person_gets_popularity_and_is_told": (ClaimsToKnow, "nothing is known is answered by 'user'"),
    "what_a_known_user_has_now_counts": (LooksAtIdsOnly, "answered by user, not the history"),
    "histories": (TheOtherWay, "odd items are right"),
    "words": (SkipsWords, "an intent is not refused"),
    "new_items": (TakesItems, "a new item is not refused"),
    "candidates_and_seen": (ShowsAnything, "other items than the candidates"),
    "same_seed_same_answer_other_seed_other_weights": (Unseeded, "the same seed again: scores differ"),
    "evaluation_and_recommend_ask_alike": (HidesTheBest, "by the lists of recommend"),
    "a_user_without_training_events_is_evaluated_by_popularity": (ZerosForStrangers, "is not scored by popularity"),
    "unfitted_model_says_so": (AnswersUnfitted, "to an unfitted model is not refused"),
    "unknown_setting_is_refused_with_the_nearest_name": (Lenient, "'nonsense' is not refused"),
    "transfer": (GoesAnywhere, "another data set is not refused"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_broken_promise_is_found(name: str, tmp_path: Path) -> None:
    kind, found = BROKEN[name]
    with pytest.raises(AssertionError, match=found):
        CHECKS[name](Subject(kind, SETTINGS, transfers=False), tmp_path / "files")


def test_all_broken_promises_of_a_model_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("words", "histories", "unfitted_model_says_so")
    for name in set(CHECKS) - set(names):
        monkeypatch.delitem(CHECKS, name)

    class Worse(TheOtherWay, SkipsWords):
        pass

    with pytest.raises(ContractError, match=r"(?s)lightgcn breaks 2 of 3 promises.*\nhistories: .*\nwords: an intent is not refused"):
        check_model(Worse, **SETTINGS)


def test_a_model_that_answers_everybody_alike_may_say_so(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="don't get the right item first"):
        CHECKS["checkerboard_has_a_known_answer"](Subject(Popularity, {}), tmp_path)
    check_model(Popularity, personal=False)


def test_importing_the_checks_imports_no_pytest() -> None:
    code = "import sys, lexirec.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class OwnTable(GraphRecommender):
    """What an author may write from the base alone: a network of another kind, made in ``build`` and forgotten in ``restore``."""

    name = "own-table"

    def build(self, *arguments: Any) -> None:
        super().build(*arguments)
        self.network = nn.ModuleDict({"e": nn.Embedding(self.n_users + self.n_items, self.config.embedding_dim)})

    def layer0(self) -> Tensor:
        return self.network.get_parameter("e.weight")

    def loss(self, batch: Batch) -> Tensor:
        rows = self.graph.mean_over_layers(self.layer0(), self.config.num_layers)
        return self.contrast(rows[batch[0]], rows[self.n_users :], batch)


class OwnTableRestored(OwnTable):
    def restore(self, tensors: dict, values: dict) -> None:
        super().restore(tensors, values)
        self.network = nn.ModuleDict({"e": nn.Embedding(self.n_users + self.n_items, self.config.embedding_dim)})


def test_a_network_that_restore_forgot_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    train = checkerboard()[0].train_set()
    model = OwnTable(num_negs=4, embedding_dim=8).fit(train, options=TrainingOptions(epochs=2, progress=False))
    model.save(tmp_path / "saved")
    with pytest.raises(
        RunFolderError, match=r"restore\(\) of OwnTable .* saved by 'own-table' \(Unexpected key.*e\.weight.*restore\(\) as in build"
    ):
        OwnTable.load(tmp_path / "saved")
    query = Query(user_id="u03")
    assert OwnTableRestored.load(tmp_path / "saved").recommend(query).equals(model.recommend(query))


def test_a_model_of_one_table_gives_its_loss_alone(tmp_path: Path) -> None:
    class OneTable(IdGraphRecommender):
        name = "one-table"
        loss = OwnTable.loss

    assert GraphConfig.model_fields.keys() == OneTable.Config.model_fields.keys()
    model = OneTable(num_negs=4, embedding_dim=8).fit(checkerboard()[0].train_set(), options=TrainingOptions(epochs=2, progress=False))
    assert not model.ranks_by_cosine
    model.save(tmp_path / "saved")
    loaded, queries = OneTable.load(tmp_path / "saved"), [Query(user_id="u03"), Query(history=["i01"])]
    assert torch.equal(loaded.score(queries), model.score(queries))
    assert torch.equal(loaded.layer0(), model.layer0())
