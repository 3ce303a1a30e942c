"""FDSA against a plain padded reference, and its features."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lexirec.data.dataset import Dataset
from lexirec.errors import InputError
from lexirec.models import create, load_model
from lexirec.models.fdsa import FDSA
from lexirec.models.layers.features import FIELDS, bags, present_columns
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.toys import markov

EXACT = {"embedding_dim": 12, "inner": 20, "max_len": 8, "batch_size": 32, "dropout": 0.0, "init_std": 0.3}
QUIET = {"progress": False, "threads": 1}


def world() -> Dataset:
    """The ring with brands (one missing) and category paths."""
    data = markov(0.8, users=20)
    n = data.n_items
    items = data.items.with_columns(
        brand=pl.Series([None if i == 3 else f"b{i % 3}" for i in range(n)], dtype=pl.String),
        categories=pl.Series([[f"All > Part {i % 4}", "All > Sale"] if i % 2 else ["All"] for i in range(n)]),
    )
    return Dataset(data.interactions, items, name="world")


def text_of(settings: dict[str, object]) -> dict[str, object]:
    """The encoder, where it is read."""
    return {} if settings.get("features") == "fields" else {"encoder": "lsa"}


def untrained(data: Dataset, **settings: object) -> FDSA:
    model = create("fdsa", **{**EXACT, **text_of(settings), **settings}).fit(
        data.split("leave-one-out").train, options=TrainingOptions(epochs=0, **QUIET)
    )
    assert isinstance(model, FDSA)
    return model


def plain_block(block: torch.nn.Module, rows: torch.Tensor, real: torch.Tensor, heads: int) -> torch.Tensor:
    """A post-norm block over ``(B, L, D)`` with explicit masks."""
    size, length, dim = rows.shape
    attention = block.attention
    q = attention.query(rows).view(size, length, heads, -1).transpose(1, 2)
    k, v = (x.view(size, length, heads, -1).transpose(1, 2) for x in attention.key_value(rows).chunk(2, -1))
    scores = q @ k.transpose(-1, -2) / math.sqrt(dim // heads)
    hide = torch.ones(length, length).triu(1).bool()[None] | ~real[:, None, :]
    mixed = (scores.masked_fill(hide[:, None], -1e9).softmax(-1) @ v).transpose(1, 2).reshape(size, length, dim)
    rows = block.norm_attention(rows + attention.out(mixed))
    return block.norm(rows + block.feed_forward.second(F.gelu(block.feed_forward.first(rows))))


def plain_features(model: FDSA, data: Dataset) -> torch.Tensor:
    """Feature vectors item by item."""
    module = model.network.features
    if model.config.features == "text":
        return F.relu(module.linear(torch.from_numpy(model.reader.reduce(model.item_text(data.items)))))
    found = []
    for row in data.items.iter_rows(named=True):
        fields = []
        for field, column in zip(module.fields, ("categories", "brand"), strict=True):
            names = bags(data.items, [column]).names
            values = row[column] if isinstance(row[column], list) else [row[column]]
            parts = dict.fromkeys(part for value in values if value is not None for part in value.split(" > "))
            numbers = [names.index(f"{column}={part}") for part in parts] or [len(names)]
            fields.append(field.table.weight[numbers].mean(0))
        stacked = torch.stack(fields)
        weights = module.weight(F.relu(module.hidden(stacked))).softmax(0)
        found.append((weights * stacked).sum(0))
    return torch.stack(found)


@pytest.mark.parametrize("loss", ["bce", "softmax", "gbce"])
def test_features_are_those_of_the_window_whatever_the_loss(loss: str) -> None:
    """Losses with negatives number the items of a batch anew."""
    data = world()
    model = untrained(data, loss=loss, batch_size=1, num_negs=1)
    batches = model.batches(data.split("leave-one-out").train, np.random.default_rng(3))
    batch = next(one for one in batches if not torch.equal(one.rows, torch.arange(len(one.rows))))
    network, rows = model.network, batch.rows
    network.finished = None
    found = network.states(model._items(rows), batch.inputs, None, batch.layout, batch.at, rows)
    with torch.no_grad():
        network.finished = plain_features(model, data)
        whole = network.states(model._items(), rows[batch.inputs], None, batch.layout, batch.at)
    network.finished = None
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
    asked: list[torch.Tensor] = []
    model.network.features.register_forward_pre_hook(lambda _, given: asked.append(given[0]))
    model.loss(batch)
    assert torch.equal(asked[0], rows[batch.inputs].unique())


@pytest.mark.parametrize("features", ["text", "fields"])
def test_first_step_equals_a_plain_padded_reference(features: str) -> None:
    data = world()
    model = untrained(data, features=features)
    train = data.split("leave-one-out").train
    batch = next(iter(model.batches(train, np.random.default_rng(3))))
    value = model.loss(batch)
    value.backward()
    ours = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    model.network.zero_grad()
    body, items = model.network.body, model.network.items.own.weight
    size, length = len(batch.layout.lengths), model.config.max_len
    ids, real = torch.zeros(size, length, dtype=torch.long), torch.zeros(size, length, dtype=torch.bool)
    for i, (start, n) in enumerate(zip(batch.layout.starts, batch.layout.lengths, strict=True)):
        ids[i, :n], real[i, :n] = batch.inputs[start : start + n], True
    last = torch.from_numpy(batch.layout.lengths) - 1
    states = []
    for table, blocks in ((items, body.items), (plain_features(model, data), body.features)):
        rows = body.norm(table[ids] + body.positions.weight[:length])
        for block in blocks:
            rows = plain_block(block, rows, real, 2)
        states.append(rows[torch.arange(size), last])
    joined = body.norm(body.merge(torch.cat(states, 1)))
    reference = F.cross_entropy(joined @ items.T, batch.targets)
    reference.backward()
    torch.testing.assert_close(value, reference, atol=1e-5, rtol=1e-5)
    assert {name for name, p in model.network.named_parameters() if p.grad is not None} == set(ours)
    for name, parameter in model.network.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("features", ["text", "fields"])
def test_batch_equals_single_and_loading_needs_no_features(features: str, tmp_path: Path) -> None:
    data = world()
    train = data.split("leave-one-out").train
    model = create("fdsa", **{**EXACT, **text_of({"features": features}), "features": features}).fit(
        train, options=TrainingOptions(epochs=2, **QUIET)
    )
    ids = model.item_map.ids.to_list()
    histories = [ids[:1], ids[3:8], ids[2:4], ids[:8] + ids[:6], ids[5:7]]
    together = model.encode_queries([Query(history=h) for h in histories])
    alone = torch.cat([model.encode_queries([Query(history=h)]) for h in histories])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert torch.equal(loaded.encode_queries([Query(history=h) for h in histories]), together)
    loaded.save(tmp_path / "again")
    assert torch.equal(load_model(tmp_path / "again").encode_items(), model.encode_items())
    again = loaded.fit(train, options=TrainingOptions(epochs=2, **QUIET))  # a loaded model can be trained anew
    torch.testing.assert_close(again.encode_items(), model.encode_items())


@pytest.mark.parametrize("features", ["text", "fields"])
def test_overfits_twenty_sequences(features: str) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i:02d}", t) for u in range(20) for t, i in enumerate(rng.permutation(30)[:5])]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{i:02d}" for i in range(30)], "title": [f"thing {i}" for i in range(30)]})
    items = items.with_columns(brand=pl.Series([f"b{i % 5}" for i in range(30)]))
    train = Dataset(log, items).train_set()
    model = create("fdsa", **{**EXACT, **text_of({"features": features}), "features": features, "lr": 0.01, "targets": "last"})
    model.fit(train, options=TrainingOptions(epochs=50, **QUIET))
    hits = 0
    for user in range(20):
        history = train.item_map.name(train.history(user)).to_list()
        hits += model.recommend(Query(history=history[:-1]), k=1)["item_id"][0] == history[-1]
    assert hits >= 19


def test_features_speak_where_ids_are_silent() -> None:
    """Two untouched id rows of equal value: only the features tell the histories apart."""
    model = untrained(world(), features="fields")
    with torch.no_grad():
        model.network.items.own.weight[1] = model.network.items.own.weight[5]
    model.refresh()
    ids = model.item_map.ids
    found = model.encode_queries([Query(history=[ids[1]]), Query(history=[ids[5]])])
    assert not torch.allclose(found[0], found[1])


def test_resume_repeats_the_interrupted_training(tmp_path: Path) -> None:
    split = world().split("leave-one-out")
    settings = {**EXACT, "encoder": "lsa", "dropout": 0.3}
    options = {"eval_every": 2, "monitor": "ndcg@10", **QUIET}
    whole = create("fdsa", **settings).fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "whole", **options))
    create("fdsa", **settings).fit(split.train, split.valid, TrainingOptions(epochs=2, folder=tmp_path / "cut", **options))
    again = create("fdsa", **settings)
    again.fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "cut", resume=True, **options))
    assert torch.equal(again.table, whole.table) and torch.equal(again.network.finished, whole.network.finished)


@pytest.mark.parametrize(
    ("columns", "read"),
    [
        (["title", "brand", "categories"], ["categories", "brand"]),
        (["category", "manufacturer", "year"], ["category", "manufacturer"]),
        (["tags", "genres"], ["genres"]),
    ],
)
def test_a_shops_own_names_of_kind_and_maker_are_read(columns: list[str], read: list[str]) -> None:
    shop = pl.DataFrame({"item_id": ["a"], **{column: ["x"] for column in columns}})
    assert present_columns(shop, None, FIELDS, "fields=[...]") == read


def test_bad_input() -> None:
    data = markov(0.8, users=10)
    train = data.train_set()
    with pytest.raises(InputError, match="none of the columns categories, brand"):
        create("fdsa", features="fields").fit(train)
    with pytest.raises(InputError, match="did you mean 'title'"):
        create("fdsa", features="fields", fields=["titel"]).fit(train)
    with pytest.raises(InputError, match=r"no column is named; set fields=\[...\] or features=text \(items have title\)"):
        create("fdsa", features="fields", fields=[]).fit(train)
    empty = Dataset(data.interactions, data.items.with_columns(title=pl.lit(None, dtype=pl.String), brand=pl.lit(None, dtype=pl.String)))
    with pytest.raises(InputError, match="no attributes"):
        create("fdsa", features="fields").fit(empty.train_set())
    with pytest.raises(InputError, match="no item is left"):
        create("fdsa", encoder="lsa").fit(empty.train_set())
