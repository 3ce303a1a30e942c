"""S3-Rec's four tasks against plain references, and the two stages."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lexirec.data.dataset import Dataset
from lexirec.errors import InputError, NonFiniteLossError
from lexirec.models import create, load_model
from lexirec.models.layers.sequence import Layout
from lexirec.models.s3rec import Pretraining, S3RecConfig, double_sigmoid
from lexirec.query import Query
from lexirec.training.loop import cpu_threads, run_training
from lexirec.training.options import TrainingOptions
from tests.models.test_fdsa import plain_block, world
from tests.models.toys import markov

EXACT = {
    "embedding_dim": 12,
    "inner": 20,
    "max_len": 8,
    "batch_size": 32,
    "dropout": 0.0,
    "init_std": 0.3,
    "pretrain_epochs": 1,
}
QUIET = {"progress": False, "threads": 1}


def pretraining(data: Dataset, **settings: object) -> Pretraining:
    reads = {"encoder": "lsa"} if settings.get("attributes") == "text" else {"min_items": 1}
    model = create("s3rec", **{**EXACT, **reads, **settings})
    train = data.split("leave-one-out").train
    torch.manual_seed(0)
    attributes, text = model.make_attributes(train)
    return Pretraining(model.config, train, attributes, text, torch.device("cpu"))


def test_double_sigmoid_of_the_conformance_list() -> None:
    assert double_sigmoid(torch.tensor(2.0), torch.tensor(0.0)).item() == pytest.approx(0.520766, abs=1e-6)
    assert F.softplus(torch.tensor(-2.0)).item() == pytest.approx(0.126928, abs=1e-6)  # what one sigmoid would give
    assert double_sigmoid(torch.tensor(1e4), torch.tensor(-1e4)).item() == pytest.approx(0.313262, abs=1e-6)
    scores = torch.randn(1000) * 50
    assert double_sigmoid(scores, scores.flip(0)).min() >= math.log1p(math.exp(-1)) - 1e-6


def plain_loss(model: Pretraining, batch: object) -> torch.Tensor:
    """The four tasks with left padding, explicit masks and a matrix of attributes, as the published code computes them."""
    config, network = model.config, model.network
    size, length, dim = len(batch.layout.lengths), config.max_len, config.embedding_dim
    items = network.items.own.weight
    vectors = network.attributes.weight if isinstance(network.attributes, torch.nn.Embedding) else network.attributes()
    table = torch.cat([items, network.mask[None]])  # the last row: the mask
    mask = len(items)
    there = torch.zeros(len(items), len(vectors))
    for item in range(len(items)):
        there[item, model.attributes.values[model.attributes.offsets[item] : model.attributes.offsets[item + 1]]] = 1

    def padded(flat: torch.Tensor, fill: int = 0) -> torch.Tensor:
        rows = torch.full((size, length), fill, dtype=flat.dtype)
        for i, (start, n) in enumerate(zip(batch.layout.starts, batch.layout.lengths, strict=True)):
            rows[i, length - n :] = flat[start : start + n]
        return rows

    real = padded(torch.ones(batch.layout.total, dtype=torch.long)).bool()

    def encode(ids: torch.Tensor) -> torch.Tensor:
        rows = network.body.norm(table[ids] + network.body.positions.weight)
        for block in network.body.blocks:
            rows = both_ways(block, rows, real)
        return rows

    ids, masked = padded(batch.items), padded(batch.masked.long()).bool()
    states = encode(torch.where(masked, mask, ids)).view(-1, dim)

    def attributes(mapped: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return (F.binary_cross_entropy((mapped @ vectors.T).sigmoid(), there[ids.view(-1)], reduction="none") * at.view(-1, 1)).sum()

    aap = attributes(network.aap(states), (real & ~masked).float())
    map_ = attributes(network.map(states), masked.float())
    mapped = network.mip(states)
    right, wrong = ((mapped * items[padded(x).view(-1)]).sum(1).sigmoid() for x in (batch.items, batch.negatives))
    mip = -((right - wrong).sigmoid().log() * masked.view(-1).float()).sum()
    segment = padded(batch.segment.long()).bool()
    alone = torch.from_numpy(batch.layout.lengths == 1)[:, None]
    context = network.sp(encode(torch.where(segment, mask, ids))[:, -1])
    hidden = real & ~segment & ~alone
    scores = [(context * encode(torch.where(hidden, mask, padded(x)))[:, -1]).sum(1).sigmoid() for x in (batch.items, batch.foreign)]
    sp = -((scores[0] - scores[1]).sigmoid().log()).sum()
    return config.aap_weight * aap + config.mip_weight * mip + config.map_weight * map_ + config.sp_weight * sp


def both_ways(block: torch.nn.Module, rows: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """:func:`plain_block` without the causal mask."""
    size, length, dim = rows.shape
    attention = block.attention
    q = attention.query(rows).view(size, length, 2, -1).transpose(1, 2)
    k, v = (x.view(size, length, 2, -1).transpose(1, 2) for x in attention.key_value(rows).chunk(2, -1))
    scores = (q @ k.transpose(-1, -2) / math.sqrt(dim // 2)).masked_fill(~real[:, None, None, :], -1e9)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(size, length, dim)
    rows = block.norm_attention(rows + attention.out(mixed))
    return block.norm(rows + block.feed_forward.second(F.gelu(block.feed_forward.first(rows))))


@pytest.mark.parametrize("settings", [{}, {"pretrain_windows": "users", "mask_end": False}, {"attributes": "text"}])
def test_first_step_equals_a_plain_padded_reference(settings: dict) -> None:
    model = pretraining(world(), pretrain_batch=16, **settings)
    batch = next(iter(model.batches(None, np.random.default_rng(5))))
    value = model.loss(batch)
    value.backward()
    ours = {name: p.grad.clone() for name, p in model.network.named_parameters()}
    model.network.zero_grad()
    reference = plain_loss(model, batch)
    reference.backward()
    torch.testing.assert_close(value, reference, atol=1e-4, rtol=1e-5)
    for name, parameter in model.network.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


def test_means_divide_each_sum_by_its_terms() -> None:
    sums, means = pretraining(world()), pretraining(world(), reduction="mean")
    batch = next(iter(sums.batches(None, np.random.default_rng(0))))
    single = {}
    for name in ("aap_weight", "mip_weight", "map_weight", "sp_weight"):
        only = {f"{task}_weight": 1.0 if f"{task}_weight" == name else 0.0 for task in ("aap", "mip", "map", "sp")}
        for model in (sums, means):
            model.config = model.config.model_copy(update=only)
        means.network.load_state_dict(sums.network.state_dict())
        single[name] = sums.loss(batch).item() / means.loss(batch).item()
    masked, attributes = int(batch.masked.sum()), len(sums.attributes.names)
    assert single["mip_weight"] == pytest.approx(masked, rel=1e-4)
    assert single["map_weight"] == pytest.approx(masked * attributes, rel=1e-4)
    assert single["aap_weight"] == pytest.approx((batch.layout.total - masked) * attributes, rel=1e-4)
    assert single["sp_weight"] == pytest.approx(len(batch.layout.lengths), rel=1e-4)


def test_masks_and_segments() -> None:
    model = pretraining(world(), pretrain_batch=1000)
    (batch,) = model.batches(None, np.random.default_rng(0))
    layout = batch.layout
    ends = layout.starts + layout.lengths - 1
    assert layout.lengths.min() == 2 and batch.masked[ends].all()
    inner = np.setdiff1d(np.arange(layout.total), ends)
    assert 0.1 < batch.masked[inner].float().mean() < 0.3
    sizes = np.add.reduceat(batch.segment.numpy(), layout.starts)
    assert (sizes >= 1).all() and (sizes <= layout.lengths // 2).all() and len(set(sizes)) > 2
    for start, n in zip(layout.starts, layout.lengths, strict=True):  # one stretch
        assert (np.diff(np.flatnonzero(batch.segment[start : start + n])) == 1).all()
    outside = ~batch.segment
    assert torch.equal(batch.foreign[outside], batch.items[outside]) and not torch.equal(batch.foreign, batch.items)
    owners = set(
        zip(np.repeat(np.arange(len(layout.lengths)), layout.lengths)[batch.masked], batch.negatives[batch.masked].tolist(), strict=True)
    )
    for row, item in owners:
        start = layout.starts[row]
        assert item not in batch.items[start : start + layout.lengths[row]].tolist()


def test_attributes_of_few_items_are_left_out() -> None:
    model = pretraining(world(), min_items=4)
    assert "categories=All" in model.attributes.names and "brand=b1" in model.attributes.names
    assert "brand=b0" not in model.attributes.names  # of three items: the fourth has no brand
    assert all(np.bincount(model.attributes.values) >= 4)


def test_a_loss_that_is_no_number_names_the_users_of_the_pretraining() -> None:
    model = pretraining(world(), pretrain_batch=2)
    train = world().split("leave-one-out").train
    batch = next(iter(model.batches(train, np.random.default_rng(0))))
    starts = batch.layout.starts
    for user, start, length in zip(batch.users.tolist(), starts.tolist(), batch.layout.lengths.tolist(), strict=True):
        own = train.item_index[train.offsets[user] : train.offsets[user + 1]].tolist()
        window = batch.items[start : start + length].tolist()
        assert any(own[at : at + length] == window for at in range(len(own)))
    assert model.culprits(batch) == "user_id " + ", ".join(repr(train.users.ids[int(user)]) for user in np.unique(batch.users))
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match=r"the loss is nan in epoch 1, step 1 \(user_id '"):
        run_training(model, train, None, TrainingOptions(epochs=1, **QUIET))  # type: ignore[arg-type]


def test_fine_tuning_starts_at_the_pretrained_weights_and_is_causal() -> None:
    data = world()
    train = data.split("leave-one-out").train
    none = create("s3rec", **{**EXACT, "pretrain_epochs": 0}).fit(train, options=TrainingOptions(epochs=0, **QUIET))
    model = create("s3rec", **EXACT).fit(train, options=TrainingOptions(epochs=0, **QUIET))
    assert not torch.equal(none.table, model.table)
    attributes, text = model.make_attributes(train)
    torch.manual_seed(1)
    stage = Pretraining(model.config, train, attributes, text, torch.device("cpu"))
    with cpu_threads(QUIET["threads"]):
        run_training(stage, train, None, TrainingOptions(epochs=1, **QUIET))
    for name, value in stage.network.state_dict().items():
        if name.startswith(("items.", "body.")):
            torch.testing.assert_close(value, model.network.state_dict()[name])
    layout, items = Layout(np.array([6])), torch.arange(6)
    before = model.network.states(model.table, items, None, layout, None)
    after = model.network.states(model.table, torch.cat([items[:4], torch.tensor([9, 10])]), None, layout, None)
    torch.testing.assert_close(before[:4], after[:4], atol=1e-6, rtol=1e-5)
    # the kept stage is not trained again, and its result is the same
    again = create("s3rec", **EXACT).fit(train, options=TrainingOptions(epochs=0, **QUIET))
    assert torch.equal(again.table, model.table)


def test_fine_tuning_on_all_prefixes_equals_a_plain_reference() -> None:
    data = world()
    train = data.split("leave-one-out").train
    model = create("s3rec", **{**EXACT, "loss": "ce", "targets": "prefixes", "pretrain_epochs": 0})
    model.fit(train, options=TrainingOptions(epochs=0, **QUIET))
    batch = next(iter(model.batches(train, np.random.default_rng(3))))
    body, weight, length = model.network.body, model.network.items.own.weight, model.config.max_len
    size = len(batch.layout.lengths)
    ids, real = torch.zeros(size, length, dtype=torch.long), torch.zeros(size, length, dtype=torch.bool)
    for i, (start, n) in enumerate(zip(batch.layout.starts, batch.layout.lengths, strict=True)):
        ids[i, length - n :], real[i, length - n :] = batch.inputs[start : start + n], True
    rows = body.norm(weight[ids] + body.positions.weight)  # padded at the left: the last event is at the last position
    for block in body.blocks:
        rows = plain_block(block, rows, real, 2)
    torch.testing.assert_close(model.loss(batch), F.cross_entropy(rows[:, -1] @ weight.T, batch.targets), atol=1e-5, rtol=1e-5)


def test_resume_repeats_the_interrupted_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = world().split("leave-one-out")
    settings = {**EXACT, "dropout": 0.3, "pretrain_epochs": 2}
    options = {"eval_every": 2, "monitor": "ndcg@10", **QUIET}
    whole = create("s3rec", **settings).fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "whole", **options))
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "other"))
    create("s3rec", **settings).fit(split.train, split.valid, TrainingOptions(epochs=2, folder=tmp_path / "cut", **options))
    again = create("s3rec", **settings)
    again.fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "cut", resume=True, **options))
    assert torch.equal(again.table, whole.table)
    again.save(tmp_path / "saved")
    asked = [Query(history=again.item_map.ids.to_list()[:3])]
    assert torch.equal(load_model(tmp_path / "saved").score(asked), again.score(asked))


def test_overfits_twenty_sequences() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i:02d}", t) for u in range(20) for t, i in enumerate(rng.permutation(30)[:5])]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{i:02d}" for i in range(30)], "title": "x", "brand": [f"b{i % 5}" for i in range(30)]})
    train = Dataset(log, items).train_set()
    model = create("s3rec", **{**EXACT, "lr": 0.01, "targets": "last", "loss": "ce"}).fit(
        train, options=TrainingOptions(epochs=50, **QUIET)
    )
    hits = 0
    for user in range(20):
        history = train.item_map.name(train.history(user)).to_list()
        hits += model.recommend(Query(history=history[:-1]), k=1)["item_id"][0] == history[-1]
    assert hits >= 19


def test_pretraining_learns_what_goes_together() -> None:
    """Attributes of items that are there, and of masked ones from those around them."""
    model = pretraining(world(), pretrain_lr=0.01, mip_weight=0, sp_weight=0)
    optimiser = model.optimiser()
    losses = []
    for epoch in range(15):
        total = [0.0, 0]
        for batch in model.batches(None, np.random.default_rng(epoch)):
            optimiser.zero_grad()
            loss = model.loss(batch)
            loss.backward()
            optimiser.step()
            total = [total[0] + loss.item(), total[1] + batch.layout.total]
        losses.append(total[0] / total[1])
    assert losses[-1] < 0.55 * losses[0]


def test_bad_input() -> None:
    data = markov(0.8, users=10)
    with pytest.raises(InputError, match="none of the columns"):
        create("s3rec").fit(data.train_set())
    with pytest.raises(InputError, match="did you mean 'title'"):
        create("s3rec", attributes=["titles"]).fit(data.train_set())
    with pytest.raises(InputError, match="shared by 50 items"):
        create("s3rec", min_items=50).fit(world().train_set())
    with pytest.raises(InputError, match="does not divide"):
        create("s3rec", embedding_dim=9)
    assert S3RecConfig().map_weight == 1.0 and S3RecConfig().aap_weight == 0.2 and S3RecConfig().sp_weight == 0.5
