"""A model in a service: many threads ask while one adds items, files are checked when loaded, what comes in is checked."""

import copy
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from lexirec.data.dataset import TrainSet
from lexirec.data.messages import DataWarning
from lexirec.errors import InputError, RunFolderError
from lexirec.models import create, load_model
from lexirec.models.contract import Recommender
from lexirec.models.hybrid import Hybrid
from lexirec.models.turns import Turns
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.toys import checkerboard


@pytest.fixture(scope="module")
def train() -> TrainSet:
    return checkerboard()[0].split("leave-one-out").train


def trained(train: TrainSet, name: str = "alpharec", **settings: Any) -> Recommender:
    settings = {"encoder": "lsa", **settings} if name == "alpharec" else settings
    return create(name, **settings).fit(train, options=TrainingOptions(epochs=1, progress=False, threads=1))


def new_item(number: int) -> pl.DataFrame:
    return pl.DataFrame({"item_id": [f"new{number}"], "title": ["red apple new"]})


def test_many_threads_ask_while_one_adds_items(train: TrainSet) -> None:
    model = trained(train)
    real, failed, answered = model.append_items, [], []

    def slowly(items: pl.DataFrame) -> None:
        real(items)
        threading.Event().wait(0.02)  # the vectors are there, the catalogue is not yet

    model.append_items = slowly  # type: ignore[method-assign]
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                answered.append(model.recommend(train.users.ids[0], k=3).height)
                model.similar_items([train.items["item_id"][0]], k=2)
            except Exception as error:  # noqa: BLE001 (whatever it is fails the test)
                failed.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(10):
        model.add_items(new_item(number))
    done.set()
    for thread in threads:
        thread.join()
    assert not failed and set(answered) == {3} and model.items.height == train.n_items + 10


def test_who_waits_to_change_goes_before_those_who_come_to_ask() -> None:
    turns, order, inside = Turns(), [], threading.Event()

    def change() -> None:
        inside.set()
        with turns.changing():
            order.append("change")

    def ask() -> None:
        with turns.asking():
            order.append("ask")

    with turns.asking():
        with turns.asking():  # of the same thread
            changing = threading.Thread(target=change)
            changing.start()
            inside.wait()
            while not turns._waiting:
                threading.Event().wait(0.001)
            late = threading.Thread(target=ask)
            late.start()
            late.join(0.05)
            assert order == []
        with turns.asking():  # nested: waits for nobody
            pass
    changing.join()
    late.join()
    assert order == ["change", "ask"]
    with turns.changing(), turns.asking():
        pass
    assert isinstance(copy.deepcopy(turns), Turns)


@pytest.mark.parametrize("ask", ["recommend", "score", "similar_items", "explain", "save_files"])
@pytest.mark.parametrize("kind", ["lir", "hybrid"])
def test_who_asks_an_overridden_method_waits_too(train: TrainSet, kind: str, ask: str, tmp_path: Path) -> None:
    inner = trained(train, "lir", text="Title=title")
    model = inner if kind == "lir" else Hybrid(inner)
    item, query = train.items["item_id"][0], Query(history=[train.items["item_id"][1]], intent="red")
    given = {"recommend": (query,), "score": ([query],), "similar_items": ([item],), "explain": (query, item), "save_files": (tmp_path,)}
    real, done = inner.append_items, []

    def answer() -> None:
        with suppress(InputError):  # a hybrid is not saved
            getattr(model, ask)(*given[ask])
        done.append(ask)

    asking = threading.Thread(target=answer)

    def slowly(items: pl.DataFrame) -> None:
        real(items)
        asking.start()
        asking.join(0.1)  # the index has the item, the catalogue does not yet
        assert not done

    inner.append_items = slowly  # type: ignore[method-assign]
    model.add_items(new_item(1))
    asking.join()
    assert done == [ask]


@pytest.mark.parametrize("k", [-1, 0, 2.5])
@pytest.mark.parametrize("kind", ["lir", "hybrid", "popularity"])
def test_a_bad_list_length_is_refused_by_every_method(train: TrainSet, kind: str, k: Any) -> None:
    model = trained(train, "popularity") if kind == "popularity" else trained(train, "lir", text="Title=title")
    model = Hybrid(model) if kind == "hybrid" else model
    item = train.items["item_id"][0]
    query = Query(history=[item])
    for ask in (
        lambda: model.recommend(query, k=k), lambda: model.similar_items([item], k=k), lambda: model.similar_items([item], k),
        lambda: model.explain(query, item, k=k),
    ):  # fmt: skip
        with pytest.raises(InputError, match=rf"^k = {k}"):
            ask()


def test_a_hybrid_tells_that_the_model_inside_was_given_items(train: TrainSet) -> None:
    hybrid = Hybrid(trained(train), "rrf")
    hybrid.model.add_items(new_item(1))
    with pytest.raises(InputError, match="hybrid's add_items"):
        hybrid.recommend(Query(intent="red"))
    hybrid = Hybrid(trained(train), "rrf").add_items(new_item(1))
    assert hybrid.recommend(Query(intent="red apple new"), k=3).height == 3


def test_known_items_of_a_feed_are_refused_or_skipped(train: TrainSet) -> None:
    model = trained(train)
    first = train.items.head(1).select("item_id", "title")
    feed = pl.concat([first, new_item(1)])
    with pytest.raises(InputError, match=r"1 of 2 item ids exist already in the catalogue .*skip_known"):
        model.add_items(feed)
    with pytest.raises(InputError, match="1 item ids are given more than once"):
        model.add_items(pl.concat([new_item(1), new_item(1)]), skip_known=True)
    before = model.encode_items()[:1].clone()
    with pytest.warns(DataWarning, match="they stay as they are"):
        model.add_items(feed, skip_known=True)
    assert model.items.height == train.n_items + 1 and torch.equal(model.encode_items()[:1], before)
    with pytest.warns(DataWarning, match="1 of 1"):
        model.add_items(first, skip_known=True)
    assert model.items.height == train.n_items + 1


def test_a_struct_where_the_catalogue_has_text_is_refused(train: TrainSet) -> None:
    model = trained(replace(train, items=train.items.with_columns(brand=pl.lit("Acme"))))
    with pytest.raises(InputError, match="'brand' is Struct"):
        model.add_items(pl.DataFrame({"item_id": ["x"], "title": ["Soap"], "brand": [{"de": "Seife"}]}))


@pytest.mark.parametrize("k", [3.5, 2.0, "3", None])
def test_a_list_length_is_a_whole_number(train: TrainSet, k: Any) -> None:
    model = trained(train, "popularity")
    for ask in (lambda: model.recommend("u", k=k), lambda: model.explain("u", train.items["item_id"][0], k=k)):
        with pytest.raises(InputError, match="whole number"):
            ask()


def test_an_empty_stock_has_nothing_to_show(train: TrainSet) -> None:
    model = trained(train, "popularity")
    with pytest.warns(DataWarning, match="list of candidates is empty"):
        assert model.recommend("u", candidates=[]).height == 0
    with pytest.raises(InputError, match="none of 1 candidates"):
        model.recommend("u", candidates=["nope"])


@pytest.mark.parametrize("name", ["model.safetensors", "items.parquet", "history.parquet"])
def test_a_flipped_byte_is_noticed_when_a_model_is_loaded(train: TrainSet, tmp_path: Path, name: str) -> None:
    folder = trained(train).save(tmp_path / "model")
    load_model(folder)
    content = bytearray((folder / name).read_bytes())
    content[-20] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(RunFolderError, match=f"{name} is not the file that was written"):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(RunFolderError, match=f"{name} is missing"):
        load_model(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(RunFolderError, match="damaged"):
        load_model(folder)


@pytest.mark.parametrize("item_text", ["profile", "title"])
def test_an_item_without_words_is_neither_first_nor_last(train: TrainSet, tmp_path: Path, item_text: str) -> None:
    model = trained(train, "zero-shot", item_text=item_text, encoder="minilm")
    with pytest.warns(DataWarning, match="1 of 2 new items have no text .*'mute'"):
        model.add_items(pl.DataFrame({"item_id": ["mute", "new"], "title": [None, "red apple fruit"]}))
    wishes = [Query(intent=text) for text in ("something nice", "unknown", "surprise me", "gift", "an item that nothing is known of")]
    found = model.score(wishes)
    mute = found[:, train.n_items]
    torch.testing.assert_close(mute, found[:, : train.n_items].mean(1), atol=1e-5, rtol=1e-4)
    assert ((found < mute[:, None]).sum(1) > 0).all() and ((found > mute[:, None]).sum(1) > 0).all()
    again = load_model(model.save(tmp_path / "model"))
    torch.testing.assert_close(again.score(wishes), found)
