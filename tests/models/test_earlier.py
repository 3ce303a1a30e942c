"""Runs that a training starts from must not have seen what is held out from it."""

import warnings
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.data.mixing import mix
from lexirec.errors import InputError
from lexirec.models import create
from lexirec.models.contract import Recommender
from lexirec.models.earlier import events_outside, refuse_leaks
from lexirec.training.options import TrainingOptions
from tests.models.toys import markov, write_shop
from tests.text.shops import shop

UNTRAINED = TrainingOptions(epochs=0, progress=False, threads=1)
UNISREC = {"embedding_dim": 8, "inner": 8, "encoder": "lsa", "text": "title", "experts": 2}
RECFORMER = {"embedding_dim": 8, "num_layers": 1, "num_heads": 2, "inner": 16, "window": 8, "max_tokens": 32, "max_len": 4}
CALREC = {"text": "Title=title", "lm_dim": 16, "lm_layers": 1, "lm_heads": 2, "vocabulary": 300, "lm_epochs": 0}
STARTS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("unisrec", UNISREC, "pretrained", UNISREC),
    ("recformer", RECFORMER, "pretrained", RECFORMER),
    ("calrec", CALREC, "start", CALREC),
    ("zero-shot", {"encoder": "lsa", "versions": 0}, "vectors", {"embedding_dim": 4}),
    ("mf-bpr", {"embedding_dim": 4}, "teacher", {"embedding_dim": 4, "inner": 8, "encoder": "lsa", "scft": None}),
]


def trained_on(train: TrainSet) -> Recommender:
    """A model that knows what it was trained on and nothing else of it."""
    return create("popularity").fit(train)


def only(data: Dataset, events: pl.DataFrame) -> TrainSet:
    return Dataset(events, data.items, name=data.name).train_set()


@pytest.mark.parametrize(("kind", "settings", "setting", "own"), STARTS, ids=[f"{kind}-{setting}" for kind, _, setting, _ in STARTS])
def test_a_run_on_all_events_is_no_start_of_a_training_that_holds_some_out(
    kind: str, settings: dict[str, Any], setting: str, own: dict[str, Any], tmp_path: Path
) -> None:
    data = markov(0.8, users=15)
    split = data.split("leave-one-out")
    name = {"vectors": "rlmrec", "teacher": "llmemb"}.get(setting, kind)
    for folder, train in (("all", data.train_set()), ("same", split.train)):
        create(kind, **settings).fit(train, options=UNTRAINED).save(tmp_path / folder)
    with pytest.raises(InputError, match=rf"{setting} = '.*all' was trained on \d+ events of \w+ outside of this training part"):
        create(name, **own, **{setting: str(tmp_path / "all")}).fit(split.train, split.valid, UNTRAINED)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*outside of this training part")
        create(name, **own, **{setting: str(tmp_path / "same")}).fit(split.train, split.valid, UNTRAINED)


def test_events_outside_are_counted_by_hand() -> None:
    data = shop()
    split = data.split("leave-one-out")
    assert events_outside(trained_on(data.train_set()), split.train) == 12  # a validation and a test event of each of six people
    assert events_outside(trained_on(split.train), split.train) == 0
    assert events_outside(trained_on(split.train), data.train_set()) == 0
    known = set(split.train.interactions.select("user_id", "item_id").rows())
    rest = data.interactions.filter(pl.Series([row not in known for row in data.interactions.select("user_id", "item_id").rows()]))
    assert events_outside(trained_on(only(data, rest)), split.train) == 12  # nothing in common with this part


def test_a_mix_is_read_by_its_parts() -> None:
    data, other = shop(), shop()
    other.name = "other"
    split, beside = data.split("leave-one-out"), (markov(0.8, users=5).train_set(), None)
    whole, same = (trained_on(mix([(train, None), beside])[0]) for train in (data.train_set(), split.train))
    assert events_outside(whole, split.train) == 12
    assert events_outside(same, split.train) == 0
    mixed = mix([beside, (split.train, None)])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (same, trained_on(split.train), trained_on(mixed), trained_on(beside[0])):
            refuse_leaks("start = 'RUN'", model, mixed)
        twice = mix([(data.train_set(), None), (other.split("leave-one-out").train, None)])[0]
        refuse_leaks("start = 'RUN'", trained_on(twice), twice)  # the very same training, whatever it mixes
    for model in (whole, trained_on(data.train_set())):
        with pytest.raises(InputError, match=r"12 events of shop outside of this training part .*the same split and filters"):
            refuse_leaks("start = 'RUN'", model, mixed)


def test_a_part_of_a_mix_may_be_this_data_set_under_another_name() -> None:
    data = shop()
    split = data.split("leave-one-out")
    renamed = Dataset(data.interactions, data.items, name="shop_recent")
    model = trained_on(mix([(renamed.train_set(), None), (markov(0.8, users=5).train_set(), None)])[0])
    assert events_outside(model, split.train) == 12
    with pytest.raises(InputError, match="12 events of shop outside"):
        refuse_leaks("start = 'RUN'", model, split.train)


def test_equal_ids_of_other_things_are_another_data_set() -> None:
    data, split = shop(), shop().split("leave-one-out")
    foreign = Dataset(data.interactions, data.items.with_columns(title="Film " + pl.col("title")), name="shop").train_set()
    assert events_outside(trained_on(foreign), split.train) == 0
    assert events_outside(trained_on(markov(0.8).train_set()), split.train) == 0
    revised = data.items.with_columns(title=pl.when(pl.col("item_id") == "b0").then(pl.lit("Ball")).otherwise("title"))
    assert events_outside(trained_on(Dataset(data.interactions, revised, name="shop").train_set()), split.train) == 12
    untitled = data.items.with_columns(title=pl.lit(None, dtype=pl.String))
    log = Dataset(data.interactions, untitled, name="shop")
    assert events_outside(trained_on(log.train_set()), log.split("leave-one-out").train) == 12


def test_a_few_events_are_told() -> None:
    data = markov(0.8)
    train = data.train_set()
    log = data.interactions
    some = pl.concat([log, log.head(1).with_columns(item_id=pl.lit("i99"))])
    items = pl.concat([data.items, pl.DataFrame({"item_id": ["i99"], "title": ["new"]})])
    here, seen = Dataset(log, items, name=data.name).train_set(), Dataset(some, items, name=data.name).train_set()
    assert train.n_interactions > 100
    with pytest.warns(UserWarning, match=rf"teacher = 'RUN' was trained on 1 events of \w+ outside .* \({train.n_interactions:,} events\)"):
        refuse_leaks("teacher = 'RUN'", trained_on(seen), here)


def test_an_evaluation_asks_the_same(tmp_path: Path) -> None:
    from lexirec import runs

    folder = write_shop(tmp_path / "shop")
    runs.fit_run(runs.resolve("popularity", [folder], split="all"), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match=r"20 of 20 test events of shop were in the run's training part; evaluate it with the split"):
        runs.evaluate_run(tmp_path / "run", split="leave-one-out", progress=False)
