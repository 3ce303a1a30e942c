"""CALRec as a recommender: learning, pooling, new items, named models, two stages, diagnostics and bad input."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset, Heldout, TrainSet
from lexirec.data.mixing import mix
from lexirec.errors import InputError, LexirecError, RunFolderError
from lexirec.evaluation.evaluate import evaluate
from lexirec.losses import contrast_bounds
from lexirec.models.calrec import CALRec
from lexirec.models.calrec.diagnostics import self_retrieval
from lexirec.models.calrec.steps import held_out_losses
from lexirec.models.calrec.writing import write
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.calrec import worlds
from tests.models.toys import checkerboard, markov, write_shop

TINY = {
    "text": "Title=title", "lm": "tiny", "lm_dim": 16, "lm_layers": 1, "lm_heads": 2, "vocabulary": 300, "merges": "words", "lm_epochs": 0,
    "warmup": 2, "lr": 0.02, "batch_size": 30, "samples": 8, "max_new_tokens": 12,
}  # fmt: skip
FAST = {"progress": False, "threads": 1, "epochs": 2}


@pytest.fixture(scope="module")
def train() -> TrainSet:
    return checkerboard()[0].train_set()


@pytest.fixture(scope="module")
def model(train: TrainSet, tmp_path_factory: pytest.TempPathFactory) -> CALRec:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEXIREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        return CALRec(**{**TINY, "lm_epochs": 10, "lm_lr": 0.02}).fit(train, options=TrainingOptions(**{**FAST, "epochs": 15}))  # type: ignore[return-value]


def shop(titles: list[str | None]) -> Dataset:
    n = len(titles)
    log = pl.DataFrame(
        [(f"u{u}", f"i{(u + t) % n:02d}", t) for u in range(6) for t in range(4)], ["user_id", "item_id", "timestamp"], orient="row"
    )
    items = pl.DataFrame({"item_id": [f"i{i:02d}" for i in range(n)], "title": titles}, schema_overrides={"title": pl.String})
    return Dataset(log, items, name="shop")


def recall(dial: float, passes: int) -> float:
    split = markov(dial, users=80, items=12).split("leave-one-out")
    settings = {"vocabulary": 400, "lm_dim": 32, "lm_layers": 2, "lm_epochs": passes, "lm_tokens": 300, "lm_lr": 0.01, "lr": 0.005}
    model = CALRec(**{**TINY, **settings}).fit(split.train, options=TrainingOptions(**{**FAST, "epochs": 3}))
    found = evaluate(model, split.train, split.test, seen=(split.valid,), metrics=["recall@1"], mask_seen=False, beyond=False)
    return found.metrics["recall@1"]


def test_order_is_learned_where_there_is_one() -> None:
    assert recall(1.0, 14) > 0.8
    assert recall(0.0, 3) < 0.3  # one of twelve by chance


def test_probable_texts_come_first_and_nothing_is_masked(model: CALRec) -> None:
    query = Query(history=["i01", "i03", "i05"])
    written = model.write([query])[0]
    scores = model.score([query])[0]
    bm25 = model.bm25.scores(written.texts[:10])
    firsts = list(dict.fromkeys(bm25.argmax(1).tolist()))
    order = scores.argsort(descending=True, stable=True).tolist()
    assert firsts[0] == order[0]
    assert scores[firsts[0]].item() == pytest.approx(float(np.exp(model.config.epsilon * written.logprobs[0])), abs=1e-6)
    assert torch.isfinite(scores).all()


def test_pooling_settings_use_the_same_texts(model: CALRec) -> None:
    queries = [Query(history=["i01", "i03"]), Query(history=["i02", "i08", "i04"])]
    texts = [one.texts for one in model.write(queries)]
    base = model.score(queries)
    assert model.config.answers() != model.with_settings(samples=4).config.answers()
    for settings in ({"pooling": "mean"}, {"pooling": "min"}, {"modulate": False}, {"epsilon": 1.0}):
        other = model.with_settings(**settings)
        other.network = None  # type: ignore[assignment]  # no weight is needed
        assert [one.texts for one in other.write(queries)] == texts
        assert not torch.equal(other.score(queries), base)
    assert torch.equal(model.score(queries), base)


def test_written_texts_are_kept_on_disk_by_weights_and_settings(
    model: CALRec, train: TrainSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lexirec.models.calrec import kept

    monkeypatch.setattr(kept, "FEWEST", 2)
    model._kept = None
    queries = [Query(user_id=u) for u in train.users.ids.to_list()]
    scores = model.score(queries)
    files = list((tmp_path / "cache" / "written").rglob("*.parquet"))
    assert len(files) == 1
    model.save(tmp_path / "run")
    loaded = CALRec.load(tmp_path / "run")
    monkeypatch.setattr("lexirec.models.calrec.model.write", None)  # nothing is written again
    assert torch.equal(loaded.score(queries), scores)
    files[0].write_bytes(b"damaged")
    with pytest.raises(TypeError):
        CALRec.load(tmp_path / "run").score(queries)
    with pytest.raises(TypeError):
        loaded.with_settings(temperature=0.6).score(queries)


def test_of_kept_texts_those_of_the_asked_histories_are_read(tmp_path: Path) -> None:
    from lexirec.models.calrec.kept import Kept
    from lexirec.models.calrec.writing import Written

    keys = np.arange(2**64 - 200, 2**64, dtype=np.uint64)
    texts = [Written([f"red {n}"], np.array([-n], dtype=np.float32), np.array([n], dtype=np.int32)) for n in range(200)]
    for lo in (0, 100):
        Kept(tmp_path).add(keys[lo : lo + 100], texts[lo : lo + 100])
    kept = Kept(tmp_path)
    asked = [int(keys[n]) for n in (3, 150)]
    found = kept.known([*asked, 7])
    assert [found[key].texts for key in asked] == [["red 3"], ["red 150"]] and found[asked[1]].counts.tolist() == [150]
    assert len(found) == len(kept._few) + len(kept._many) == 2
    for path in tmp_path.iterdir():
        path.unlink()  # what was read is in memory, and the rest is written again
    assert list(kept.known(keys.tolist())) == asked


@pytest.mark.parametrize("passes", [0, 1])
def test_a_cache_that_takes_no_file_loses_nothing(passes: int, train: TrainSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.calrec import kept, stage_zero
    from lexirec.text.cache import CacheWarning

    monkeypatch.setattr(kept, "FEWEST", 2)
    (tmp_path / "file").write_text("")
    options = TrainingOptions(**{**FAST, "epochs": 1, "folder": tmp_path / "run"})
    settings = {**TINY, "lm_epochs": passes, "samples": 2}
    expected = CALRec(**settings).fit(train, options=options.model_copy(update={"folder": None}))
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "file"))
    told = r"the cache folder .*file can't be written \(.*\); "
    model = CALRec(**settings)
    if passes:
        with pytest.warns(CacheWarning, match=f"{told}the result of the stage 'calrec' isn't kept for other runs. Set LEXIREC_CACHE"):
            model.fit(train, options=options)
        monkeypatch.setattr(stage_zero.WriteEverything, "loss", lambda *_: pytest.fail("trained again"))
        with pytest.warns(CacheWarning, match="isn't kept"):  # its checkpoints are in the run's folder
            CALRec(**settings).fit(train, options=options.model_copy(update={"resume": True}))
    else:
        model.fit(train, options=options)
    queries = [Query(user_id=user) for user in train.users.ids[:4]]
    with pytest.warns(CacheWarning, match=f"{told}written texts aren't kept. Set LEXIREC_CACHE"):
        found = model.write(queries)
    monkeypatch.setattr("lexirec.models.calrec.model.write", None)
    assert [one.texts for one in model.write(queries)] == [one.texts for one in found]  # they are in memory
    monkeypatch.undo()
    assert [one.texts for one in found] == [one.texts for one in expected.write(queries)]


def test_kept_files_that_lack_a_column_are_passed_over(tmp_path: Path) -> None:
    from lexirec.models.calrec.kept import Kept
    from lexirec.models.calrec.writing import Written

    one = Written(["red"], np.array([-1.5], dtype=np.float32), np.array([3], dtype=np.int32))
    Kept(tmp_path).add(np.arange(64, dtype=np.uint64), [one] * 64)
    pl.DataFrame({"history": [70], "texts": [["red"]]}).write_parquet(tmp_path / "0.parquet")
    pl.DataFrame({"history": [71], "texts": ["a"], "logprobs": ["x"], "counts": ["b"]}).write_parquet(tmp_path / "1.parquet")
    found = Kept(tmp_path).known(range(100))
    assert sorted(found) == list(range(64))
    assert found[5].texts == ["red"] and found[5].logprobs.tolist() == [-1.5] and found[5].counts.tolist() == [3]


def test_a_full_memory_forgets_what_was_asked_longest_ago_and_nothing_that_is_asked_now(
    model: CALRec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lexirec.models.calrec import kept

    monkeypatch.setattr(kept, "REMEMBERED", 3)
    other = model.with_settings(sampling_seed=11)
    one, two, three, four, *more = (Query(history=[f"i{at:02d}"]) for at in range(1, 9))
    texts = [other.write([query])[0].texts for query in (one, two, three)]
    assert other.write([one])[0].texts == texts[0]
    assert other.write([two, four])[0].texts == texts[1]  # the memory has no place for both and the others
    monkeypatch.setattr("lexirec.models.calrec.model.write", lambda *_, **__: pytest.fail("written again"))
    assert [found.texts for found in other.write([one, two])] == texts[:2]
    monkeypatch.setattr("lexirec.models.calrec.model.write", write)
    assert [bool(found.texts) for found in other.write([three, *more])] == [True] * 5  # more than the memory holds


def test_written_texts_outlive_new_items_and_another_catalogue(model: CALRec, train: TrainSet, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [Query(history=["i01"]), Query(history=["i02", "i08"])]
    other, bound = model.with_settings(), model.with_settings(catalogue_only=True)
    texts = [one.texts for one in other.write(queries)]
    bound.write(queries)
    with monkeypatch.context() as patch:
        patch.setattr("lexirec.models.calrec.model.write", None)  # nothing is written again
        moved = other.transfer(train)
        assert [one.texts for one in moved.write(queries)] == texts
        moved.add_items(pl.DataFrame({"item_id": ["new"], "title": ["purple zither"]}))
        assert [one.texts for one in moved.write(queries)] == texts
        assert moved.score(queries).shape == (2, 21)
        assert bound.write(queries)
        with pytest.raises(TypeError):  # these could be the new item's
            bound.transfer(train).write(queries)


def test_other_frozen_weights_and_vocabularies_have_texts_of_their_own(train: TrainSet, tmp_path: Path) -> None:
    """The weights that are tuned tell two models with adapters apart only together with what they are put on."""
    pytest.importorskip("peft")
    folders = [Path(worlds.gpt_folder(tmp_path / f"lm{seed}", worlds.vocabulary(), seed)) for seed in (0, 1)]

    def key(folder: Path, **settings: object) -> str:
        named = {"text": "Title=title", "lm": str(folder), "tune": "lora", "max_new_tokens": 12, "max_tokens": 300, "lora_r": 2, **settings}
        model = CALRec(**named).fit(train, options=TrainingOptions(**{**FAST, "epochs": 0}))
        found = model._texts_kept().folder
        assert found is not None
        model.vocabulary.end += 1
        model._kept = None
        assert model._texts_kept().folder != found
        return found.name

    first = key(folders[0])
    assert first == key(folders[0]) != key(folders[1])
    assert first != key(folders[0], lora_alpha=1.0)
    folders[0].rename(tmp_path / "moved")
    assert key(tmp_path / "moved") == first  # its content counts, not its place


def test_a_run_of_adapters_is_not_put_on_other_weights(train: TrainSet, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    folder = Path(worlds.gpt_folder(tmp_path / "lm", worlds.vocabulary(), 0))
    settings = {"text": "Title=title", "lm": str(folder), "tune": "lora", "max_new_tokens": 12, "max_tokens": 300, "lora_r": 2}
    CALRec(**settings).fit(train, options=TrainingOptions(**{**FAST, "epochs": 0})).save(tmp_path / "run")
    assert CALRec.load(tmp_path / "run").config.lora_r == 2
    folder.rename(tmp_path / "before")
    worlds.gpt_folder(folder, worlds.vocabulary(), 1)
    with pytest.raises(RunFolderError, match="holds other weights than those that this run's adapters were trained on"):
        CALRec.load(tmp_path / "run")


def test_empty_texts_take_no_place_among_those_looked_up(model: CALRec, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.calrec.writing import Written

    title = model.items["title"][3]
    said = Written(["", title], np.array([-1.0, -2.0], dtype=np.float32), np.ones(2, dtype=np.int32))
    monkeypatch.setattr(CALRec, "write", lambda self, queries, progress=False: [said for _ in queries])
    for settings in ({"n_preds": 1}, {"pooling": "min"}, {"pooling": "mean"}):
        found = model.with_settings(**settings).score([Query(history=["i01"])])[0]
        assert found[3] == found.max() == pytest.approx(np.exp(-2 / 5000), rel=1e-5)


def test_a_person_for_whom_nothing_that_matches_was_written_gets_the_popular(model: CALRec, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.calrec.writing import Written

    def said(*texts: str) -> Written:
        return Written(list(texts), -np.arange(1, len(texts) + 1, dtype=np.float32), np.ones(len(texts), dtype=np.int32))

    late = [f"z{n}" for n in range(model.config.n_preds)]  # they find nothing, so they take no place from what does
    answers = {"i01": said("zzz qqq", ""), "i03": said(*late, "blue"), "i05": said("zzz", "blue car")}
    monkeypatch.setattr(CALRec, "write", lambda self, queries, progress=False: [answers[query.history[-1]] for query in queries])
    queries = [Query(history=[item]) for item in answers]
    scores = model.score(queries)
    popular = torch.from_numpy(model.popularity.astype(np.float32))
    for row, kind in enumerate(("popularity", "history", "history")):
        found = model.recommend(queries[row], k=1).select("answered_by", "reason").row(0)
        assert found == (kind, None if kind == "history" else "nothing that was written for the history matches the catalogue")
        assert torch.equal(scores[row], popular) == (kind == "popularity")
    assert model.explain(queries[0], "i02").is_empty()
    both = Query(history=["i01"], intent="red apple")
    assert str(model.answered_by(both)) == "words" and "wish" in model.explain(both, "i02")["kind"].to_list()


def test_people_are_written_for_together(model: CALRec, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.calrec import model as module
    from lexirec.models.hybrid import Hybrid

    sizes: list[int] = []
    original = module.write

    def counting(lm: object, vocabulary: object, prompts: object, *args: object, **options: object) -> object:
        sizes.append(len(prompts.lengths))  # type: ignore[attr-defined]
        return original(lm, vocabulary, prompts, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write", counting)
    for asked in (model.with_settings(sampling_seed=11), Hybrid(model.with_settings(sampling_seed=12))):
        asked.recommend([Query(history=[f"i{i:02d}"]) for i in range(8)], k=1)
    assert sizes == [8, 8]


def test_explain_shows_the_texts_with_their_log_probabilities(model: CALRec) -> None:
    query = Query(history=["i01", "i03", "i05"])
    best = model.recommend(query, k=1)["item_id"][0]
    why = model.explain(query, best, k=3).filter(pl.col("kind") == "written")
    written = model.write([query])[0]
    assert 1 <= why.height <= 3 and why["name"][0] == best
    assert all(any(title.startswith(text) for text in written.texts) for title in why["title"])
    told = f"[drawn x{written.counts[0]}, log-probability {written.logprobs[0]:.1f}, fits "
    assert told in " ".join(model.explain(query, best, k=20)["title"].drop_nulls())
    assert why["weight"].to_list() == sorted(why["weight"], reverse=True)
    assert why["weight"][0] == pytest.approx(float(model.score([query])[0, int(best[1:])]), abs=1e-6)
    # What gives the item nothing is not shown.
    everything = pl.concat([model.explain(query, f"i{i:02d}", k=20).filter(pl.col("kind") == "written") for i in range(20)])
    assert (everything["weight"] > 0).all()
    assert everything.height < 20 * min(model.config.n_preds, len(written.texts))


def test_explain_follows_what_answered(model: CALRec) -> None:
    wish = Query(intent="red apple")
    best = model.recommend(wish, k=1)["item_id"][0]
    alone = model.explain(wish, best)
    assert set(alone["kind"]) == {"wish"} and "red" in alone["name"].to_list()
    both = Query(history=["i01", "i03"], intent="red apple")
    assert str(model.answered_by(both)) == "history+words"
    kinds = model.explain(both, best)["kind"].to_list()
    assert "wish" in kinds
    assert "wish" not in model.explain(Query(history=["i01", "i03"], intent="zebra"), best)["kind"].to_list()
    assert model.explain(Query(history=["gone"]), best).is_empty()  # popularity: nothing of the person counted


def test_similar_items_are_those_with_like_texts(model: CALRec) -> None:
    near = model.similar_items(["i01"], k=5)["similar_item_id"]
    unit = torch.nn.functional.normalize(model.encode_items(), dim=1)
    cosines = {f"i{at:02d}": float(unit[1] @ unit[at]) for at in range(20)}
    assert model.similar_items(["i01"], k=5)["score"].to_list() == pytest.approx([cosines[name] for name in near], abs=1e-6)
    assert sum(int(name[1:]) % 2 for name in near) >= 4
    assert model.encode_items(pl.DataFrame({"item_id": ["n"], "title": ["red apple"], "categories": [["Food"]]})).shape == (1, 16)
    assert model.encode_queries([Query(history=["i01"]), Query(history=["i02", "i01"])]).shape == (2, 16)


def test_validation_by_loss_writes_nothing_and_logs_the_contrasts(train: TrainSet, monkeypatch: pytest.MonkeyPatch) -> None:
    split = checkerboard()[0].split("leave-one-out")
    monkeypatch.setattr("lexirec.models.calrec.model.write", None)
    model = CALRec(**{**TINY, "batch_size": 5}).fit(
        split.train, split.valid, TrainingOptions(**{**FAST, "monitor": "-loss", "eval_every": 1})
    )
    lines = model.training_result.history
    floor = contrast_bounds(5, 0.5)[0]
    assert [line["-loss"] for line in lines] == sorted(line["-loss"] for line in lines) and lines[-1]["-loss"] < 0
    for line in lines:
        assert line["contrast_floor"] == pytest.approx(floor) and min(line["target_target"], line["user_target"]) >= floor
    assert model.training_result.best_value == max(line["-loss"] for line in lines)


def test_a_loss_that_is_no_number_names_the_users_and_keeps_the_checkpoint(train: TrainSet, tmp_path: Path) -> None:
    options = TrainingOptions(**{**FAST, "epochs": 1, "folder": tmp_path / "run"})
    model = CALRec(**TINY).fit(train, options=options)
    before = (tmp_path / "run" / "checkpoints" / "last.safetensors").read_bytes()
    broken = CALRec(**TINY)
    original = CALRec.loss

    def loss(self: CALRec, batch: object) -> torch.Tensor:
        with torch.no_grad():
            self.network.tokens.weight[5] = torch.nan  # type: ignore[union-attr, index]
        return original(self, batch)

    broken.loss = loss.__get__(broken)  # type: ignore[method-assign]
    with pytest.raises(LexirecError, match=r"the loss is nan in epoch 2, step 1 \(user_id 'u\d+', .* more\)"):
        broken.fit(train, options=options.model_copy(update={"epochs": 2, "resume": True}))
    assert (tmp_path / "run" / "checkpoints" / "last.safetensors").read_bytes() == before
    assert model.training_result.best_epoch == 1


def test_a_resumed_training_equals_an_uninterrupted_one(train: TrainSet, tmp_path: Path) -> None:
    settings = {**TINY, "lm_epochs": 1, "lm_dropout": 0.2, "decay_epochs": 4, "micro_tokens": 200, "batch_size": 10}
    whole = CALRec(**settings).fit(train, options=TrainingOptions(**{**FAST, "epochs": 3}))
    first = TrainingOptions(**{**FAST, "epochs": 2, "folder": tmp_path / "run"})
    CALRec(**settings).fit(train, options=first)
    resumed = CALRec(**settings).fit(train, options=first.model_copy(update={"epochs": 3, "resume": True}))
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_two_stages(train: TrainSet, tmp_path: Path) -> None:
    """Stage I on a mixture of data sets, stage II on one with the weights and the vocabulary of stage I."""
    other = shop(["green lamp", "old book", "silver ring", "wool scarf", "tin drum"])
    both, _ = mix([(train, None), (other.train_set(), None)])
    first = CALRec(**{**TINY, "epoch_users": 12, "lm_epochs": 1}).fit(both, options=TrainingOptions(**FAST))
    drawn = np.concatenate([batch.users for batch in first.batches(both, np.random.default_rng(0))])
    assert {both.users.ids[int(u)].split("/")[0] for u in drawn} == {"checkerboard", "shop"}
    first.save(tmp_path / "first")
    second = CALRec(**{**TINY, "start": str(tmp_path / "first")})
    second.fit(train, options=TrainingOptions(**{**FAST, "epochs": 0}))
    assert len(second.vocabulary) == len(first.vocabulary)
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)
    # With passes of its own, stage 0 goes on from there: another language model, made once.
    options = TrainingOptions(**{**FAST, "epochs": 0})
    third, again = (CALRec(**{**TINY, "start": str(tmp_path / "first"), "lm_epochs": 1}).fit(train, options=options) for _ in range(2))
    moved = [not torch.equal(a, b) for a, b in zip(first.network.parameters(), third.network.parameters(), strict=True)]
    assert all(moved)
    for a, b in zip(third.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)
    second.save(tmp_path / "second")
    query = Query(history=["i01", "i03"])
    assert torch.equal(CALRec.load(tmp_path / "second").score([query]), second.score([query]))
    data = checkerboard()[0]
    items = data.items.with_columns(name=pl.col("title"))
    with pytest.warns(UserWarning, match=r"wrote items as 'Title=title' and this training writes them as 'Title=name\|title'"):
        CALRec(**{**TINY, "text": "Title=name|title", "start": str(tmp_path / "first")}).fit(
            Dataset(data.interactions, items).train_set(), options=TrainingOptions(**{**FAST, "epochs": 0})
        )
    for name, value, was in (("lm_dim", 32, "16"), ("vocabulary", 400, "300"), ("merges", "phrases", "'words'")):
        with pytest.raises(InputError, match=f"was made with {name} {was}; use the same"):
            CALRec(**{**TINY, name: value, "start": str(tmp_path / "first")}).fit(train, options=TrainingOptions(**FAST))


@pytest.mark.parametrize("kind", ["llama", "gpt", "lora"])
def test_named_models_train_answer_and_load(kind: str, train: TrainSet, tmp_path: Path) -> None:
    """Models of Hugging Face's kind without a token for padding, all weights or adapters."""
    if kind == "lora":
        pytest.importorskip("peft")
    pieces = worlds.pieces()
    folder = worlds.gpt_folder(tmp_path / "lm", pieces.vocabulary) if kind == "gpt" else worlds.llama_folder(
        tmp_path / "lm", worlds.decoder(pieces), pieces.vocabulary)  # fmt: skip
    settings = {
        "text": "Title=title",
        "lm": folder,
        "batch_size": 20,
        "samples": 4,
        "max_new_tokens": 8,
        "max_tokens": 400,
        "warmup": 1,
        "lr": 0.01,
    }
    settings |= {"micro_tokens": 900, **({"tune": "lora", "lora_r": 4} if kind == "lora" else {})}
    model = CALRec(**settings).fit(train, options=TrainingOptions(**{**FAST, "epochs": 1}))
    lines = [model.step.loss(batch).item() for batch in model.batches(train, np.random.default_rng(0))]
    model2 = CALRec(**settings).fit(train, options=TrainingOptions(**{**FAST, "epochs": 3}))
    assert model2.step.loss(next(iter(model2.batches(train, np.random.default_rng(0))))).item() < lines[0]
    if kind == "lora":
        assert sum(p.numel() for p in model.network.parameters()) < 5000
    queries = [Query(user_id="u01"), Query(user_id="u02")]
    scores = model.score(queries)
    model.save(tmp_path / "run")
    assert torch.equal(CALRec.load(tmp_path / "run").score(queries), scores)


def test_a_named_model_that_was_trained_whole_is_loaded_without_its_folder(train: TrainSet, tmp_path: Path) -> None:
    folder = Path(worlds.gpt_folder(tmp_path / "lm", worlds.vocabulary()))
    settings = {"text": "Title=title", "lm": str(folder), "samples": 2, "max_new_tokens": 12, "max_tokens": 600, "lr": 0.01, "warmup": 1}
    with pytest.warns(UserWarning, match="inputs are cut to 500 tokens"):
        model = CALRec(**settings).fit(train, options=TrainingOptions(**{**FAST, "epochs": 1}))
    scores, kept = model.score([Query(user_id="u01")]), model._texts_kept().folder
    model.save(tmp_path / "run")
    folder.rename(tmp_path / "moved")
    loaded = CALRec.load(tmp_path / "run")
    assert isinstance(loaded, CALRec) and loaded.pieces.max_tokens == 500
    assert loaded._texts_kept().folder == kept
    assert torch.equal(loaded.score([Query(user_id="u01")]), scores)
    loaded.save(tmp_path / "again")
    second = CALRec(**{**settings, "start": str(tmp_path / "again")}).fit(train, options=TrainingOptions(**{**FAST, "epochs": 0}))
    assert torch.equal(second.score([Query(user_id="u01")]), scores)
    loaded.state = lambda: ({"vocabulary": loaded.vocabulary.state()}, {})  # type: ignore[method-assign]  # as older versions did
    loaded.save(tmp_path / "older")
    with pytest.raises(InputError, match=r"^lm = '.*lm' can't be had"):
        CALRec.load(tmp_path / "older")
    (tmp_path / "moved").rename(folder)
    assert torch.equal(CALRec.load(tmp_path / "older").score([Query(user_id="u01")]), scores)


def test_what_a_named_model_computes_with_and_does_not_train_is_in_its_run(train: TrainSet, tmp_path: Path) -> None:
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    found = worlds.vocabulary()
    shape = DeepseekV3Config(
        vocab_size=len(found), hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, n_routed_experts=4, num_experts_per_tok=2, n_group=2, topk_group=1, kv_lora_rank=8, q_lora_rank=8,
        qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, first_k_dense_replace=1, max_position_embeddings=512, bos_token_id=None,
        eos_token_id=found.end, pad_token_id=None,
    )  # fmt: skip
    lm = DeepseekV3ForCausalLM(shape)
    lm.model.layers[1].mlp.gate.e_score_correction_bias.copy_(torch.tensor([3.0, 1.0, 4.0, 1.0]))
    lm.save_pretrained(tmp_path / "lm")
    worlds._tokenizer(found, tmp_path / "lm")
    settings = {"text": "Title=title", "lm": str(tmp_path / "lm"), "samples": 2, "max_new_tokens": 8, "max_tokens": 400}
    model = CALRec(**settings).fit(train, options=TrainingOptions(**{**FAST, "epochs": 0}))
    model.save(tmp_path / "run")
    (tmp_path / "lm").rename(tmp_path / "moved")
    loaded = CALRec.load(tmp_path / "run")
    assert loaded.lm.whole.model.layers[1].mlp.gate.e_score_correction_bias.tolist() == [3, 1, 4, 1]
    assert torch.equal(loaded.encode_items(), model.encode_items())


def test_warm_start_from_the_bundled_encoder(train: TrainSet) -> None:
    model = CALRec(
        text="Title=title",
        lm="minilm",
        vocabulary=300,
        lm_epochs=0,
        max_tokens=400,
        max_new_tokens=10,
        samples=2,
        batch_size=4,
        epoch_users=4,
    )
    model.fit(train, options=TrainingOptions(**{**FAST, "epochs": 1}))
    tokens = torch.tensor([300 % len(model.vocabulary), 5, 9, 7])
    from lexirec.models.layers.sequence import Layout

    with torch.no_grad():
        model.network.eval()
        whole = model.network(tokens, Layout(np.array([4])))
        part = model.network(tokens[:2], Layout(np.array([2])))
    torch.testing.assert_close(whole[:2], part, atol=1e-4, rtol=1e-3)  # it looks back only
    assert model.score([Query(user_id="u01")]).shape == (1, 20)


def test_minilm_reads_as_much_as_it_has_positions_for(train: TrainSet, tmp_path: Path) -> None:
    """With the defaults; half a thousand items of history don't fit, and what was trained is loaded as it was."""
    with pytest.warns(UserWarning, match="minilm has 512 positions: inputs are cut to 432 tokens where max_tokens is 1024"):
        model = CALRec(text="Title=title", lm="minilm", lm_epochs=0, samples=2).fit(train, options=TrainingOptions(**{**FAST, "epochs": 0}))
    query = [Query(history=[f"i{t % 20:02d}" for t in range(500)])]
    assert int(model.pieces.joined(np.arange(500) % 20, np.array([500])).lengths[0]) <= 432
    model.save(tmp_path / "run")
    assert torch.equal(CALRec.load(tmp_path / "run").score(query), model.score(query))
    with pytest.raises(InputError, match="max_new_tokens = 512 takes all"):
        CALRec(text="Title=title", lm="minilm", max_new_tokens=512).fit(train, options=TrainingOptions(**FAST))


def test_items_without_text_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.calrec.writing import Written

    data = shop(["red drill", None, "blue saw", "", "green lamp"])
    with pytest.warns(UserWarning, match=r"2 of 5 items have no attribute"):
        model = CALRec(**TINY).fit(data.train_set(), options=TrainingOptions(**FAST))
    assert not {1, 3} & set(model.histories.items.tolist())
    found = model.recommend(Query(history=["i01", "i03"]), k=1)
    assert found.select("answered_by", "reason").row(0) == ("popularity", "no item of the history has a text")
    assert str(model.answered_by(Query(history=["i01"], intent="red"))) == "words"
    said = Written([model.texts[2]], np.array([-1.0], dtype=np.float32), np.ones(1, dtype=np.int32))
    with monkeypatch.context() as patch:
        patch.setattr(CALRec, "write", lambda self, queries, progress=False: [said for _ in queries])
        scores = model.score([Query(history=["i00", "i02"])])[0]
    assert scores[[1, 3]].tolist() == [0.0, 0.0] and torch.isfinite(scores).all() and scores.argmax() == 2
    with pytest.warns(UserWarning, match=r"1 of 2 new items have no attribute of the template \(item_id 'mute'\)"):
        model.add_items(pl.DataFrame({"item_id": ["mute", "new"], "title": ["", "red nail"]}))
    silent = shop([None] * 5).train_set()
    for fail in (lambda: CALRec(**TINY).fit(silent, options=TrainingOptions(**FAST)), lambda: model.transfer(silent)):
        with pytest.raises(InputError, match="no item of shop has any attribute"):
            fail()


def test_a_wish_finds_words_that_stand_before_punctuation() -> None:
    data = shop(["red drill, small", "blue saw. New", "green lamp"])
    model = CALRec(**{**TINY, "lm_epochs": 30, "lm_lr": 0.02}).fit(data.train_set(), options=TrainingOptions(**FAST))
    assert model.recommend(Query(intent="a saw"), k=1)["item_id"][0] == "i01"
    assert model.recommend(Query(history=["i00"], intent="saw", alpha=1.0), k=1)["item_id"][0] == "i01"
    unknown = ("popularity", "no word of the catalogue is in the wish")
    assert model.recommend(Query(intent="zebra"), k=1).select("answered_by", "reason").row(0) == unknown
    assert str(model.answered_by(Query(history=["i00"], intent="zebra"))) == "history"


def test_equal_texts_tell_nothing_and_are_no_error() -> None:
    data = shop(["red drill"] * 5)
    with pytest.warns(UserWarning, match="all 5 items have the same text"):
        model = CALRec(**{**TINY, "lm_epochs": 30, "lm_lr": 0.02}).fit(data.train_set(), options=TrainingOptions(**FAST))
    query = Query(history=["i00", "i02"])
    assert not model._pooled(model.write([query])).any()
    found = model.recommend(query, k=1).select("answered_by", "reason").row(0)
    assert found == ("popularity", "what was written for the history fits all items alike")
    assert torch.equal(model.score([query])[0], torch.from_numpy(model.popularity.astype(np.float32)))


def test_chinese_texts_are_searched_by_characters_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.calrec.writing import Written

    data = shop(["红色无线电钻套装", "蓝色陶瓷茶杯", "不锈钢汤勺", "绿色台灯"])
    items = data.items.with_columns(kind=pl.lit("工具"))
    settings = {**TINY, "text": "Title=title,Kind=kind"}
    model = CALRec(**settings).fit(Dataset(data.interactions, items).train_set(), options=TrainingOptions(**{**FAST, "epochs": 0}))
    said = Written(["Title: 红色无线电钻. Kind: 工具."], np.array([-1.0], dtype=np.float32), np.ones(1, dtype=np.int32))
    monkeypatch.setattr(CALRec, "write", lambda self, queries, progress=False: [said for _ in queries])
    query = Query(history=["i01"])
    found = model.recommend(query, k=1).select("answered_by", "reason").row(0)  # the kind stands in every item, the title in none
    assert found == ("popularity", "what was written for the history fits all items alike")
    words = model.with_settings(tokens="words")
    assert str(words.answered_by(query)) == "history" and words.score([query])[0].argmax() == 0
    assert words.recommend(Query(intent="茶杯"), k=1)["item_id"][0] == "i01"
    assert words.diagnose([query])["self_first_pessimistic"] == 1
    with pytest.raises(InputError, match="tokens"):
        CALRec(tokens="letters")


def test_what_is_written_with_labels_alone_matches_nothing(model: CALRec, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.calrec.writing import Written

    title = model.texts[3]
    assert title.startswith("Title: ")
    texts = {"i01": ["Title: zzzz qqqq.", "Title: Unknown."], "i03": ["Title: zzzz.", title]}
    said = {item: Written(one, np.array([-1.0, -2.0], dtype=np.float32), np.ones(2, dtype=np.int32)) for item, one in texts.items()}
    monkeypatch.setattr(CALRec, "write", lambda self, queries, progress=False: [said[query.history[-1]] for query in queries])
    found = model.recommend(Query(history=["i01"]), k=1).select("answered_by", "reason").row(0)
    assert found == ("popularity", "nothing that was written for the history matches the catalogue")
    one = model.with_settings(n_preds=1)
    assert one.score([Query(history=["i03"])])[0, 3] == pytest.approx(np.exp(-2 / 5000), rel=1e-5)


def test_the_least_of_the_columns_may_tell_nothing(model: CALRec, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.calrec.writing import Written

    said = Written(["apple", "car"], np.array([-1.0, -2.0], dtype=np.float32), np.ones(2, dtype=np.int32))
    monkeypatch.setattr(CALRec, "write", lambda self, queries, progress=False: [said for _ in queries])
    other, query = model.with_settings(pooling="min"), Query(history=["i01"])
    assert all(model.bm25.finds(text) for text in said.texts)
    assert bool(other.answered_by(query)) == bool(other._pooled([said]).any())
    assert str(model.answered_by(query)) == "history"


def test_texts_without_a_known_word_give_zeros(model: CALRec) -> None:
    from lexirec.models.calrec.writing import Written

    one = np.zeros(1, dtype=np.float32)
    found = model._pooled(
        [Written(["", "zzz qqq"], np.zeros(2, dtype=np.float32), np.ones(2, dtype=np.int32)), Written([], one[:0], one[:0])]
    )
    assert found.shape == (2, 20) and not found.any()


def test_titles_in_other_scripts_and_long_histories() -> None:
    data = shop(["電動ドリル 赤", "Пила синяя", "مطرقة خضراء", "Säge 🔨", "लाल दीपक"])
    model = CALRec(**{**TINY, "max_tokens": 120, "max_new_tokens": 60}).fit(data.train_set(), options=TrainingOptions(**FAST))
    assert model.vocabulary.decode([model.pieces.item(i).tolist() for i in range(5)]) == model.texts
    found = model.recommend(Query(history=[f"i{t % 5:02d}" for t in range(300)]), k=5, filter_seen=False)
    assert found.height == 5
    assert int(model.pieces.joined(np.tile(np.arange(5), 60), np.array([300])).lengths[0]) <= 120


def test_nobody_with_two_events() -> None:
    log = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2]})
    data = Dataset(log, pl.DataFrame({"item_id": ["x", "y"], "title": ["red", "blue"]}), name="single")
    with pytest.raises(InputError, match="no user of single has two training events"):
        CALRec(**TINY).fit(data.train_set(), options=TrainingOptions(**FAST))


def test_wrong_starts_and_models(train: TrainSet, tmp_path: Path) -> None:
    from lexirec.models import create

    create("popularity").fit(train).save(tmp_path / "popularity")
    with pytest.raises(InputError, match="is a run of popularity"):
        CALRec(**{**TINY, "start": str(tmp_path / "popularity")}).fit(train, options=TrainingOptions(**FAST))
    with pytest.raises(InputError, match="no multiple of twice lm_heads"):
        CALRec(**{**TINY, "lm_dim": 18, "lm_heads": 4}).fit(train, options=TrainingOptions(**FAST))
    with pytest.raises(InputError, match="no fast tokenizer"):
        CALRec(text="Title=title", lm=str(tmp_path)).fit(train, options=TrainingOptions(**FAST))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lm": "tiny", "tune": "lora"}, "tune = 'lora': lm = 'tiny' is trained whole"),
        ({"lm": "minilm", "tune": "lora"}, "tune = 'lora': lm = 'minilm' is trained whole"),
        ({"lm": "minilm", "lm_dim": 64}, "lm_dim = 64 has no effect with lm = 'minilm'"),
        ({"lm": "some/model", "merges": "words"}, "merges = 'words' has no effect with lm = 'some/model'"),
        ({"lm": "some/model", "vocabulary": 500}, "vocabulary = 500 has no effect"),
        ({"lm": "some/model", "lm_epochs": 3}, "lm_epochs = 3 has no effect with lm = 'some/model'"),
        ({"lm": "some/model", "lm_lr": 0.1}, "lm_lr = 0.1 has no effect"),
        ({"lm": "some/model", "lm_tokens": 100}, "lm_tokens = 100 has no effect"),
        ({"start": "run", "lm_lr": 0.1}, "lm_lr = 0.1 has no effect with start and no lm_epochs"),
        ({"lm_epochs": 0, "lm_alike": 0.1}, "lm_alike = 0.1 has no effect with lm_epochs = 0"),
        ({"lm": "some/model", "lora_r": 4}, "lora_r = 4 has no effect with tune = 'all'"),
        ({"lora_alpha": 4.0}, "lora_alpha = 4.0 has no effect with tune = 'all'"),
        ({"lora_dropout": 0.1}, "lora_dropout = 0.1 has no effect with tune = 'all'"),
        ({"modulate": False, "epsilon": 0.5}, "epsilon = 0.5 has no effect with modulate = False"),
        ({"alpha": 0.0, "beta": 0.0, "tau": 0.1}, "tau = 0.1 has no effect with alpha = 0 and beta = 0"),
        ({"alpha": 0.8, "beta": 0.2}, "alpha = 0.8 and beta = 0.2 leave no weight for the next-item loss"),
        ({"sampling_seed": 2**64 - 1}, "sampling_seed"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CALRec(**settings)


def test_what_a_saved_model_was_made_with_is_accepted(train: TrainSet, tmp_path: Path) -> None:
    """Settings without effect that older versions took: the model is read, and asked in other ways."""
    model = CALRec(**TINY).fit(train, options=TrainingOptions(**{**FAST, "epochs": 0}))
    model.config = model.config.model_copy(update={"lora_r": 4, "alpha": 1.0, "beta": 0.5})
    model.save(tmp_path / "run")
    assert CALRec.load(tmp_path / "run").with_settings(pooling="mean").config.pooling == "mean"
    assert CALRec(lm="some/model", lm_epochs=0).config.lm_epochs == 0  # says what is so


def test_answers_take_no_setting_of_the_training(model: CALRec) -> None:
    for settings in ({"lr": 0.1}, {"max_tokens": 100}, {"valid_samples": 2}, {"lm": "tiny"}):
        with pytest.raises(InputError, match=f"{next(iter(settings))} is fixed by the training; an answer can be had with other samples, "):
            model.with_settings(**settings)
    with pytest.raises(InputError, match="did you mean 'samples'"):
        model.with_settings(sample=3)


def test_dropout_reaches_the_model_and_adapters_keep_theirs(train: TrainSet, tmp_path: Path) -> None:
    pytest.importorskip("peft")

    def rates(network: torch.nn.Module) -> tuple[set[float], set[float]]:
        found: tuple[set[float], set[float]] = (set(), set())
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.Dropout):
                found["lora_" in name].add(module.p)
        return found

    folder = worlds.gpt_folder(tmp_path / "lm", worlds.vocabulary())
    named = {"text": "Title=title", "lm": folder, "tune": "lora", "max_new_tokens": 12, "lora_dropout": 0.3, "lm_dropout": 0.1}
    with pytest.warns(UserWarning, match="has 512 positions: inputs are cut to 500 tokens"):
        model = CALRec(**named).fit(train, options=TrainingOptions(**{**FAST, "epochs": 0}))
    assert rates(model.lm.whole) == ({0.1}, {0.3})
    encoder = CALRec(text="Title=title", lm="minilm", lm_epochs=0, lm_dropout=0.2, max_tokens=300)
    assert rates(encoder.fit(train, options=TrainingOptions(**{**FAST, "epochs": 0})).lm.whole) == ({0.2}, set())
    CALRec(**TINY).fit(train, options=TrainingOptions(**{**FAST, "epochs": 0})).save(tmp_path / "first")
    second = CALRec(**{**TINY, "lm_dropout": 0.25, "start": str(tmp_path / "first")})
    second.fit(train, options=TrainingOptions(**{**FAST, "epochs": 0}))
    assert {block.dropout for block in second.lm.blocks} == {0.25}


def test_diagnostics(model: CALRec, train: TrainSet) -> None:
    found = model.diagnose([Query(user_id=u) for u in train.users.ids.to_list()])
    written = model.write([Query(user_id=u) for u in train.users.ids.to_list()])
    hits = sum(int(count) for one in written for text, count in zip(one.texts, one.counts, strict=True) if text in model.texts)
    assert found["samples_in_catalogue"] == pytest.approx(hits / 160) and hits > 0
    assert found["histories"] == 20 and 1 <= found["distinct_texts"] <= 8 and found["logprob"] < 0
    texts = ["title: red drill. brand: acme.", "title: red drill. brand: acme.", "title: green saw. brand: zed."]
    values = self_retrieval(texts)
    assert values["first_optimistic"] == 1.0 and values["first_pessimistic"] == pytest.approx(1 / 3)
    assert values["twins"] == 2
    assert self_retrieval(["", ""]) == {}
    some = self_retrieval([*texts, *(f"title: number {i}" for i in range(40))], most=5)
    assert some["twins"] == 2 and some["first_optimistic"] == 1.0


def test_a_run_and_its_evaluation_tell_the_diagnostics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lexirec.cli.main import run

    folder, out = write_shop(tmp_path / "data"), tmp_path / "run"
    shown = {**TINY, "epochs": 1, "lm_epochs": 15, "lm_lr": 0.02, "lm_tokens": 300}
    settings = [part for name, value in shown.items() for part in ("--set", f"{name}={value}")]
    assert run(["fit", "calrec", "--data", str(folder), "--split", "leave-one-out", "--out", str(out), *settings]) == 0
    written = json.loads((out / "result.json").read_text())["diagnostics"]
    assert written["histories"] == 20 and written["samples_in_catalogue"] > 0 and written["self_first_optimistic"] == 1
    capsys.readouterr()
    assert run(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["diagnostics"] == pytest.approx(written)
    assert run(["evaluate", str(out)]) == 0
    assert f"diagnostics: histories 20, samples_in_catalogue {written['samples_in_catalogue']:.4g}, " in capsys.readouterr().out
    assert run(["fit", "lir", "--data", str(folder), "--set", "text=Title=title", "--out", str(tmp_path / "lir")]) == 0
    assert "diagnostics" not in json.loads((tmp_path / "lir" / "result.json").read_text())


def test_heldout_without_history_counts_nothing(model: CALRec, train: TrainSet) -> None:
    part = Heldout(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32), "valid")
    assert held_out_losses(model.step, train, part, 8) == {}


def test_a_validation_asks_whole_users(monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.models.calrec import model as place

    split, asked = markov(0.9, users=40, items=12, length=30).split("ratio"), []

    def listen(step: object, train: TrainSet, part: Heldout, size: int) -> dict[str, float]:
        asked.append(part)
        return held_out_losses(step, train, part, size)  # type: ignore[arg-type]

    monkeypatch.setattr(place, "held_out_losses", listen)
    CALRec(**{**TINY, "valid_users": 20}).fit(split.train, split.valid, TrainingOptions(**{**FAST, "epochs": 1, "monitor": "-loss"}))
    users = np.unique(asked[0].user_index)
    assert len(users) == 20
    assert asked[0].user_index.tolist() == split.valid.user_index[np.isin(split.valid.user_index, users)].tolist()


def test_a_history_without_a_text_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    log = pl.DataFrame(
        [("a", "i0", 0), ("a", "i2", 1), ("a", "i0", 2), ("b", "i1", 0), ("b", "i1", 1)], ["user_id", "item_id", "timestamp"], orient="row"
    )
    items = pl.DataFrame({"item_id": ["i0", "i1", "i2"], "title": ["red drill", None, "blue saw"]})
    train = Dataset(log, items, name="shop").train_set()
    model = CALRec(**TINY).fit(train, options=TrainingOptions(**{**FAST, "epochs": 0}))

    def asking(*users: int) -> Heldout:
        return Heldout(np.array(users, dtype=np.int32), np.full(len(users), 2, dtype=np.int32), "valid")

    assert held_out_losses(model.step, train, asking(1), 8) == {}  # what b had has no text
    assert held_out_losses(model.step, train, asking(0, 1), 8) == held_out_losses(model.step, train, asking(0), 8)
    monkeypatch.setattr(CALRec, "build", lambda *_: pytest.fail("built"))
    with pytest.raises(InputError, match=r"none of 1 targets of 1 users has a text by .* and a training history with one"):
        CALRec(**TINY).fit(train, asking(1), TrainingOptions(**{**FAST, "monitor": "-loss"}))


@pytest.mark.parametrize("monitor", ["-loss", "recall@10"])
def test_a_validation_without_a_readable_target_is_refused_before_the_training(monitor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train = shop(["red drill", None, "blue saw", "", "green lamp"]).train_set()
    part = Heldout(np.array([0, 1], dtype=np.int32), np.array([1, 3], dtype=np.int32), "valid")
    monkeypatch.setattr(CALRec, "build", lambda *_: pytest.fail("built"))
    with pytest.raises(InputError, match=r"valid: none of 2 targets of 2 users has .*\(item_id 'i01', 'i03'\)"):
        CALRec(**TINY).fit(train, part, TrainingOptions(**{**FAST, "monitor": monitor}))
