"""Sequential models against plain references, known answers and the conformance lists."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from lexirec.data.dataset import Dataset
from lexirec.data.mixing import mix
from lexirec.errors import InputError, LexirecError, UnsupportedQueryError
from lexirec.evaluation.evaluate import evaluate
from lexirec.losses import bce, gbce
from lexirec.models import create, load_model
from lexirec.models.layers.adapters import Adapter
from lexirec.models.layers.sequence import FilterBlock, Layout, over_groups, ranges
from lexirec.models.layers.softmax import cross_entropy_over_items
from lexirec.models.sequential import SequentialRecommender
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from lexirec.training.sequences import WindowSampler
from tests.models.toys import markov

BACKBONES = ["sasrec", "bert4rec", "gru4rec", "bsarec", "hstu"]
SMALL = {"embedding_dim": 16, "max_len": 8, "batch_size": 32}
EXACT = {**SMALL, "dropout": 0.0, "init_std": 0.3}
QUIET = {"progress": False, "threads": 1}


def untrained(name: str, data: Dataset | None = None, **settings: object) -> SequentialRecommender:
    data = markov(0.8) if data is None else data
    model = create(name, **{**EXACT, **settings}).fit(data.split("leave-one-out").train, options=TrainingOptions(epochs=0, **QUIET))
    assert isinstance(model, SequentialRecommender)
    return model


def one_batch(model: SequentialRecommender, data: Dataset):
    train = data.split("leave-one-out").train
    return next(iter(model.batches(train, np.random.default_rng(3))))


# --- packing ---------------------------------------------------------------------------------------------------------------------


def test_layout_packs_and_unpacks() -> None:
    lengths = np.array([9, 8, 7, 4, 4, 2, 1, 1])
    layout = Layout(lengths)
    rows = torch.arange(layout.total * 2, dtype=torch.float32).view(-1, 2)
    assert torch.equal(over_groups(layout, lambda group, padded: padded, rows), rows)
    assert sum(g.size for g in layout.groups) == len(lengths)
    assert all(g.length - int(g.lengths.min()) <= g.length // 4 for g in layout.groups)
    assert layout.positions(10, "first")[:3].tolist() == [0, 1, 2] and layout.positions(10, "last")[8].item() == 9
    order, inverse, sizes = layout.by_time
    assert torch.equal(rows[order][inverse], rows) and sizes.tolist() == [8, 6, 5, 5, 3, 3, 3, 2, 1]


def test_windows_of_the_conformance_list() -> None:
    """Items 1..6 of one user: train on 1..4, SASRec reads 1,2,3 and predicts 2,3,4; a GRU with one pair predicts 4."""
    # a second user with three events trains nothing
    log = pl.DataFrame({"user_id": ["u"] * 6 + ["v"] * 3, "item_id": list("123456123"), "timestamp": range(9)})
    split = Dataset.from_frames(log).split("leave-one-out")
    assert split.train.item_map.name(split.train.history(0)).to_list() == list("1234")
    assert split.train.item_map.name(split.valid.item_index)[0] == "5"
    assert split.train.item_map.name(split.test.item_index)[0] == "6"
    for targets, inputs, wanted in (("all", ["123"], "234"), ("last", ["123"], "4"), ("prefixes", ["123", "12", "1"], "432")):
        model = create("sasrec", **SMALL, targets=targets).fit(split.train, options=TrainingOptions(epochs=0, **QUIET))
        (batch,) = model.batches(split.train, np.random.default_rng(0))
        names = split.train.item_map.name
        starts = np.append(batch.layout.starts, batch.layout.total)
        read = ["".join(names(batch.inputs[a:b].numpy()).to_list()) for a, b in pairwise(starts)]
        assert read == inputs and "".join(names(batch.targets.numpy()).to_list()) == wanted
    sampler = WindowSampler(split.train, 4, 2, None, repeat_flagged=True)
    (windows,) = sampler.batches(np.random.default_rng(0))
    assert len(windows.users) == 4 and sorted(windows.flags.tolist()) == [False, False, True, True]  # an epoch is twice the users
    assert windows.lengths.tolist() == [2, 2, 1, 1]
    assert (split.train.item_index[windows.starts[:2]] == split.train.item_map.index(["3"])[0]).all()  # the latest two are kept


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in BACKBONES), ("sasrec", {"causal": False})])
def test_padding_never_leaks_and_batch_equals_single(name: str, settings: dict[str, object]) -> None:
    model = untrained(name, **settings)
    ids = model.item_map.ids.to_list()
    histories = [ids[:1], ids[3:10], ids[2:4], ids[:8] + ids[:6], ids[5:7], ids[1:7], ids[4:10]]
    read = sorted((min(len(history), model.config.max_len) for history in histories), reverse=True)
    assert any(group.gather is not None for group in Layout(np.array(read)).groups)  # lengths 8, 7, 6 and 6 share a group: some are padded
    together = model.encode_queries([Query(history=h) for h in histories])
    alone = torch.cat([model.encode_queries([Query(history=h)]) for h in histories])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    kept = model.config.max_len - (1 if model.cloze else 0)
    torch.testing.assert_close(together[3], model.encode_queries([Query(history=histories[3][-kept:])])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "hstu"])
def test_the_future_is_not_seen(name: str) -> None:
    model = untrained(name)
    layout, table = Layout(np.array([6])), model.table
    items = torch.arange(6)
    before = model.network.states(table, items, None, layout, None)
    after = model.network.states(table, torch.cat([items[:4], torch.tensor([9, 10])]), None, layout, None)
    torch.testing.assert_close(before[:4], after[:4], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(before[4:], after[4:])
    if name == "sasrec":  # LLMEmb's harness looks both ways
        model = untrained(name, causal=False)
        before = model.network.states(table, items, None, layout, None)
        after = model.network.states(table, torch.cat([items[:4], torch.tensor([9, 10])]), None, layout, None)
        assert not torch.allclose(before[:4], after[:4])


# --- plain references ------------------------------------------------------------------------------------------------------------


def plain_sasrec(model: SequentialRecommender, batch) -> torch.Tensor:
    """SASRec's states with left padding to ``max_len`` and explicit masks, one block at a time."""
    config, body = model.config, model.network.body
    size, length = len(batch.layout.lengths), config.max_len
    weight = model.network.items.own.weight
    rows = torch.zeros(size, length, config.embedding_dim)
    real = torch.zeros(size, length, dtype=torch.bool)
    for i, (start, n) in enumerate(zip(batch.layout.starts, batch.layout.lengths, strict=True)):
        items = batch.inputs[start : start + n]
        rows[i, length - n :] = weight[items] * math.sqrt(config.embedding_dim) + body.positions.weight[:n]
        real[i, length - n :] = True
    for block in body.blocks:
        query = block.norm_query(rows)
        attention = block.attention
        q = attention.query(query)
        k, v = attention.key_value(rows).chunk(2, dim=-1)
        scores = q @ k.transpose(1, 2) / math.sqrt(config.embedding_dim)
        hide = (torch.ones(length, length).triu(1).bool() & config.causal)[None] | ~real[:, None, :]
        rows = block.norm(query + attention.out(scores.masked_fill(hide, -1e9).softmax(-1) @ v))
        rows = rows + block.feed_forward.second(F.relu(block.feed_forward.first(rows)))
    return body.norm(rows)[real]


def uneven() -> Dataset:
    """Histories of several lengths, so that some windows are padded."""
    ring = markov(0.8)
    return Dataset(ring.interactions.filter(pl.col("timestamp") < 4 + pl.col("user_id").str.slice(1).cast(pl.Int64) % 6), ring.items)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("loss", ["bce", "ce", "softmax", "gbce"])
def test_first_step_equals_a_plain_reference(loss: str, causal: bool) -> None:
    data = uneven()
    few = {"num_negs": 1 if loss in ("bce", "ce") else 3, "tau": 0.5 if loss in ("ce", "softmax") else 1.0}
    model = untrained("sasrec", data, loss=loss, causal=causal, **few)
    batch = one_batch(model, data)
    assert any(group.gather is not None for group in batch.layout.groups)
    value = model.loss(batch)
    value.backward()
    ours = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    model.network.zero_grad()
    states, weight = plain_sasrec(model, batch), model.network.items.own.weight
    # the plain reference keeps the order of the windows, row by row
    scores = states @ weight.T
    positive = scores.gather(1, batch.targets[:, None])[:, 0]
    if loss == "ce":
        reference = F.cross_entropy(scores / 0.5, batch.targets)
    else:
        negative = scores.gather(1, batch.negatives)
        if loss == "bce":
            reference = F.binary_cross_entropy_with_logits(positive, torch.ones_like(positive)) + F.binary_cross_entropy_with_logits(
                negative, torch.zeros_like(negative)
            )
        elif loss == "softmax":
            reference = F.cross_entropy(torch.cat([positive[:, None], negative], 1) / 0.5, torch.zeros(len(positive), dtype=torch.long))
        else:
            rate = 3 / (data.n_items - 1)
            beta = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
            reference = -(beta * positive.sigmoid().log() + (1 - negative.sigmoid()).log().sum(1)).mean() / 4
    reference.backward()
    torch.testing.assert_close(value, reference, atol=1e-5, rtol=1e-5)
    for name, parameter in model.network.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def left_padded(model: SequentialRecommender, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Item vectors, or the mask's, with positions in windows of ``max_len`` places padded at the left, and which places are real."""
    config, body, network = model.config, model.network.body, model.network
    size, length = len(batch.layout.lengths), config.max_len
    rows, real = torch.zeros(size, length, config.embedding_dim), torch.zeros(size, length, dtype=torch.bool)
    scale = math.sqrt(config.embedding_dim) if model.name == "hstu" else 1.0
    for i, (start, n) in enumerate(zip(batch.layout.starts, batch.layout.lengths, strict=True)):
        vectors = network.items.own.weight[batch.inputs[start : start + n]]
        if batch.masked is not None:
            vectors = torch.where(batch.masked[start : start + n, None], network.mask, vectors)
        places = body.positions.weight[:n] if config.positions == "first" else body.positions.weight[length - n :]
        rows[i, length - n :] = vectors * scale + places
        real[i, length - n :] = True
    return rows, real


def hidden_pairs(real: torch.Tensor, causal: bool) -> torch.Tensor:
    """``(B, 1, L, L)`` pairs that may not look at each other."""
    later = torch.ones(real.shape[1], real.shape[1]).triu(1).bool() & causal
    return (later[None] | ~real[:, None, :])[:, None]


def in_heads(rows: torch.Tensor, heads: int) -> torch.Tensor:
    return rows.unflatten(-1, (heads, -1)).transpose(1, 2)


def plain_attention(module: nn.Module, rows: torch.Tensor, hide: torch.Tensor, heads: int) -> torch.Tensor:
    keys, values = module.key_value(rows).chunk(2, dim=-1)
    q, k, v = (in_heads(x, heads) for x in (module.query(rows), keys, values))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(hide, -1e9).softmax(-1)
    return module.out((weights @ v).transpose(1, 2).flatten(2))


def plain_feed_forward(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    return module.second(F.gelu(module.first(rows)))


def plain_bert4rec(model: SequentialRecommender, batch) -> torch.Tensor:
    """Attention both ways, a norm after each residual, the head."""
    rows, real = left_padded(model, batch)
    rows = model.network.body.norm(rows)
    for block in model.network.body.blocks:
        rows = block.norm_attention(rows + plain_attention(block.attention, rows, hidden_pairs(real, False), 2))
        rows = block.norm(rows + plain_feed_forward(block.feed_forward, rows))
    linear, _, norm = model.network.head
    return norm(F.gelu(linear(rows)))[real][batch.at]


def plain_bsarec(model: SequentialRecommender, batch) -> torch.Tensor:
    """Causal attention, and beside it a Fourier filter over the window with zeros in its empty places."""
    rows, real = left_padded(model, batch)
    config, rows = model.config, model.network.body.norm(rows)
    for block in model.network.body.blocks:
        spectrum = torch.fft.rfft(rows * real[:, :, None], dim=1)
        slow = torch.arange(spectrum.shape[1]) < config.cutoff // 2 + 1
        low = torch.fft.irfft(spectrum * slow[None, :, None], n=config.max_len, dim=1)
        filtered = block.norm_filter(rows + low + block.scale**2 * (rows - low))
        attended = block.norm_attention(rows + plain_attention(block.attention, rows, hidden_pairs(real, True), 2))
        rows = 0.8 * filtered + 0.2 * attended
        rows = block.norm(rows + plain_feed_forward(block.feed_forward, rows))
    return rows[real][batch.at]


def plain_hstu(model: SequentialRecommender, batch) -> torch.Tensor:
    """``x + linear(norm(silu(q k' + bias) v / n) * u)``."""
    rows, real = left_padded(model, batch)
    body, dim = model.network.body, model.config.embedding_dim
    step = torch.arange(model.config.max_len)
    for block in body.blocks:
        u, v, q, k = F.silu(block.projection(block.norm(rows))).split(dim, dim=-1)
        v, q, k = (in_heads(x, 2) for x in (v, q, k))
        weights = F.silu(q @ k.transpose(-1, -2) + block.bias[:, (step[:, None] - step).clamp(min=0)]) / model.config.max_len
        mixed = (weights.masked_fill(hidden_pairs(real, True), 0.0) @ v).transpose(1, 2).flatten(2)
        rows = rows + block.out(block.norm_inner(mixed) * u)
    return body.norm(rows)[real]


def plain_gru4rec(model: SequentialRecommender, batch) -> torch.Tensor:
    """One window at a time through the cells, a linear map behind."""
    body, rows = model.network.body, model.network.items.own.weight[batch.inputs]
    windows = [rows[start : start + n] for start, n in zip(batch.layout.starts, batch.layout.lengths, strict=True)]
    return torch.cat([body.out(body.cells(window)[0]) for window in windows])


PLAIN = {
    "bert4rec": (plain_bert4rec, {"mask_prob": 0.5, "mask_random": 0.2, "mask_kept": 0.2, "inner": 24, "num_heads": 2}),
    "bsarec": (plain_bsarec, {"filter_share": 0.8, "inner": 24, "num_heads": 2}),
    "hstu": (plain_hstu, {"num_negs": 3, "num_layers": 2, "num_heads": 2}),
    "gru4rec": (plain_gru4rec, {"hidden": 24, "num_layers": 2, "loss": "ce"}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_first_step_of_other_encoders_equals_a_plain_reference(name: str) -> None:
    states_of, settings = PLAIN[name]
    data = uneven()
    model = untrained(name, data, **settings)
    for parameter in model.network.parameters():  # norms and biases start at ones and zeros, which would hide mistakes
        if parameter.ndim == 1 or name == "hstu":
            nn.init.normal_(parameter, 0.5, 0.3)
    batch = one_batch(model, data)
    assert any(group.gather is not None for group in batch.layout.groups)  # some windows are padded
    value = model.loss(batch)
    value.backward()
    ours = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    model.network.zero_grad()
    states, weight = states_of(model, batch), model.network.items.own.weight
    if name == "hstu":  # cosine against three sampled items, temperature .1
        scores = F.normalize(states, dim=1) @ F.normalize(weight, dim=1).T
        positive, negative = scores.gather(1, batch.targets[:, None]), scores.gather(1, batch.negatives)
        reference = F.cross_entropy(torch.cat([positive, negative], 1) / 0.1, torch.zeros(len(positive), dtype=torch.long))
    else:
        reference = F.cross_entropy(states @ weight.T, batch.targets)
    reference.backward()
    torch.testing.assert_close(value, reference, atol=1e-5, rtol=1e-5)
    plain = {name: p.grad for name, p in model.network.named_parameters() if p.grad is not None}
    assert plain.keys() == ours.keys() and len(plain) == len(list(model.network.parameters()))
    for parameter, grad in plain.items():
        torch.testing.assert_close(ours[parameter], grad, atol=2e-5, rtol=1e-4, msg=lambda text, at=parameter: f"{at}: {text}")


def test_recurrent_states_equal_a_plain_gru() -> None:
    model = untrained("gru4rec", hidden=24)
    ids = torch.tensor([4, 2, 7, 1])
    gru, out = model.network.body.cells, model.network.body.out
    plain = out(gru(model.table[ids][:, None, :])[0][-1, 0])
    asked = model.encode_queries([Query(history=model.item_map.name(ids.numpy()).to_list())])[0]
    torch.testing.assert_close(asked, plain, atol=1e-6, rtol=1e-5)


def test_llmemb_gru_has_the_published_number_of_weights() -> None:
    model = create("gru4rec", embedding_dim=128, gate_bias=False)
    assert sum(p.numel() for p in model.make_body().parameters()) == 98_304


def test_filter_equals_a_fourier_transform_over_a_zero_padded_window() -> None:
    torch.manual_seed(0)
    block = FilterBlock(4, 1, 8, 0.0, 0.0, True, "gelu", max_len=10, cutoff=3, share=0.7, causal_filter=False).eval()
    rows = torch.randn(5, 4)
    window = torch.cat([torch.zeros(5, 4), rows])  # left-padded, as the official code does
    spectrum = torch.fft.rfft(window, dim=0, norm="ortho")
    spectrum[3 // 2 + 1 :] = 0
    low = torch.fft.irfft(spectrum, n=10, dim=0, norm="ortho")[5:]
    torch.testing.assert_close(over_groups(Layout(np.array([5])), block._smooth, rows), low, atol=1e-6, rtol=1e-5)


def test_causal_filter_of_one_block_equals_the_published_one_on_every_prefix() -> None:
    settings = {"num_layers": 1, "targets": "last", "positions": "first"}
    published, causal = untrained("bsarec", **settings), untrained("bsarec", **settings, causal_filter=True)
    items, table = torch.tensor([3, 1, 4, 1, 5]), published.table
    whole = causal.network.states(table, items, None, Layout(np.array([5])), None)
    for n in range(1, 6):
        prefix = published.network.states(table, items[:n], None, Layout(np.array([n])), None)
        torch.testing.assert_close(whole[n - 1], prefix[-1], atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="causal_filter"):
        create("bsarec", targets="all")


@pytest.mark.parametrize("low", [False, True])
def test_chunked_cross_entropy_equals_the_plain_one(low: bool) -> None:
    torch.manual_seed(0)
    states, items, targets = torch.randn(300, 8), torch.randn(50, 8), torch.randint(0, 50, (300,))
    grads = []
    for function in (
        lambda s, i: cross_entropy_over_items(s, i, targets, 0.7, low=low),
        lambda s, i: F.cross_entropy(s @ i.T / 0.7, targets),
    ):
        s, i = states.clone().requires_grad_(), items.clone().requires_grad_()
        value = function(s, i)
        (3 * value).backward()
        grads.append((value.detach(), s.grad, i.grad))
    tolerance = {"atol": 2e-3, "rtol": 3e-2} if low else {"atol": 1e-6, "rtol": 1e-5}
    for ours, plain in zip(*grads, strict=True):
        torch.testing.assert_close(ours, plain, **tolerance)


def test_losses_of_the_conformance_list() -> None:
    assert bce(torch.zeros(1), torch.zeros(1, 1)).item() == pytest.approx(1.386294, abs=1e-6)
    assert bce(torch.tensor([1.0, 2.0]), torch.tensor([[-1.0], [0.0]])).item() == pytest.approx(0.723299, abs=1e-6)
    full = gbce(torch.tensor([1.0]), torch.tensor([[0.0, 0.0]]), n_items=3, calibration=1.0)
    assert full.item() == pytest.approx((math.log1p(math.exp(-1)) + 2 * math.log(2)) / 3, abs=1e-6)  # every other item drawn: beta is 1


# --- adapters --------------------------------------------------------------------------------------------------------------------


def test_adapter_of_the_conformance_list() -> None:
    assert sum(p.numel() for p in Adapter(1536, 128).parameters()) == 1_278_848
    assert sum(p.numel() for p in Adapter(4096, 128).parameters()) == 8_652_928
    adapter = Adapter(2, 1, hidden=2)
    with torch.no_grad():
        adapter.first.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        adapter.first.bias.copy_(torch.tensor([0.5, 0.0]))
        adapter.second.weight.copy_(torch.tensor([[1.0, -1.0]]))
        adapter.second.bias.copy_(torch.tensor([0.25]))
        x = torch.tensor([[1.0, -1.0]])
        assert adapter(x).item() == pytest.approx(-1.25)
        adapter.kind = "relu"
        assert adapter(x).item() == pytest.approx(-0.75)


def test_adapter_is_affine_and_equals_its_two_layers_with_gradients() -> None:
    torch.manual_seed(0)
    adapter = Adapter(12, 4)
    x, y = torch.randn(3, 12), torch.randn(3, 12)
    zero = adapter(torch.zeros(1, 12))
    torch.testing.assert_close(adapter(x + y) - adapter(y), adapter(x) - zero, atol=1e-5, rtol=1e-5)
    ours = torch.autograd.grad(adapter(x).square().sum(), list(adapter.parameters()))
    plain = torch.autograd.grad(adapter.second(adapter.first(x)).square().sum(), list(adapter.parameters()))
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("items", ["text", "id+text"])
@pytest.mark.parametrize("name", BACKBONES)
def test_vectors_of_the_batch_alone_give_the_same_step(name: str, items: str) -> None:
    """Adapter on the distinct items of the batch against adapter on the whole catalogue: same loss, same gradients."""
    data, targets = markov(0.8), "all" if name == "bert4rec" else "last"
    model = untrained(name, data, items=items, encoder="lsa", loss="bce", num_negs=2, cosine=False, negatives="per-sample", targets=targets)
    batch = one_batch(model, data)
    assert batch.rows is not None
    grads = []
    for rows in (batch, None):
        if rows is None:
            whole = {k: batch.rows[getattr(batch, k)] for k in ("inputs", "targets", "negatives")}
            rows = type(batch)(**{**vars(batch), **whole, "rows": None})
        model.network.zero_grad()
        model.network.eval()
        value = model.loss(rows)
        value.backward()
        grads.append((value.detach(), {n: p.grad.clone() for n, p in model.network.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(grads[0][0], grads[1][0])
    for parameter, grad in grads[0][1].items():
        torch.testing.assert_close(grad, grads[1][1][parameter], atol=1e-5, rtol=1e-4)


def test_frozen_text_stays_and_trained_text_moves() -> None:
    data = markov(0.8)
    split = data.split("leave-one-out")
    for frozen in (True, False):
        model = create("sasrec", **SMALL, items="text", encoder="lsa", freeze_text=frozen)
        model.fit(split.train, options=TrainingOptions(epochs=0, **QUIET))
        before = model.network.items.text.detach().clone()
        model.loss(one_batch(model, data)).backward()
        step = model.optimiser()
        step.step()
        assert torch.equal(model.network.items.text, before) == frozen
        model.refresh()


def test_text_start_is_the_principal_components_and_is_trained() -> None:
    data = markov(0.8)
    split = data.split("leave-one-out")
    model = create("sasrec", **{**SMALL, "embedding_dim": 8}, items="text-start", transform="pca", encoder="lsa")
    model.fit(split.train, options=TrainingOptions(epochs=0, **QUIET))
    start = model.network.items.own.weight.detach().clone()
    torch.testing.assert_close(start, torch.from_numpy(model.reader.reduce(model.item_text(split.train.items))))
    assert start.mean(0).abs().max() < 1e-6
    model.fit(split.train, options=TrainingOptions(epochs=1, **QUIET))
    assert not torch.equal(model.network.items.own.weight, start)


def test_more_dimensions_than_the_text_has_is_refused() -> None:
    with pytest.raises(InputError, match="dimensions are wanted"):
        untrained("sasrec", items="text", encoder="lsa", transform="pca", text_dim=100_000)
    with pytest.raises(InputError, match="adapter = 'none'"):
        untrained("sasrec", items="text", encoder="minilm", adapter="none")
    with pytest.raises(InputError, match="text-start"):
        create("sasrec", items="text-start")
    with pytest.raises(InputError, match="does not divide"):
        create("sasrec", num_heads=7)


# --- known answers ---------------------------------------------------------------------------------------------------------------

LEARN = {
    "sasrec": {"lr": 0.01, "dropout": 0.1, "loss": "ce"},
    "bert4rec": {"lr": 0.005, "dropout": 0.0, "inner": 32, "mask_last": 0.5, "init": "xavier", "batch_size": 16},
    "gru4rec": {"lr": 0.02, "loss": "ce"},
    "bsarec": {"lr": 0.01, "dropout": 0.1, "inner": 32, "batch_size": 256},
    "hstu": {"lr": 0.01, "dropout": 0.1, "num_negs": 16, "negatives": "shared", "num_layers": 2},
}


@pytest.mark.parametrize("name", BACKBONES)
def test_order_that_can_be_learned_and_order_that_cannot(name: str) -> None:
    scores = {}
    for dial in (0.0, 0.9):
        data = markov(dial, users=150)
        split = data.split("leave-one-out")
        options = TrainingOptions(epochs=25, eval_every=5, monitor="hr@1", **QUIET)
        model = create(name, **{**SMALL, **LEARN[name]}).fit(split.train, split.valid, options)
        scores[dial] = evaluate(model, split.train, split.test, seen=(split.valid,), metrics=["hr@1"], mask_seen=False).metrics["hr@1"]
    assert scores[0.9] > 0.7  # the next item is the successor nine times of ten
    assert scores[0.0] < 0.2  # one of twelve by chance


@pytest.mark.parametrize("name", BACKBONES)
def test_overfits_twenty_sequences(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", t) for u in range(20) for t, i in enumerate(rng.permutation(30)[:5])]
    data = Dataset.from_frames(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))
    train = data.train_set()
    settings = {**EXACT, "loss": "ce", "lr": 0.01, "cosine": False, "tau": 1.0}
    settings |= {"mask_last": 1.0, "inner": 32} if name == "bert4rec" else {"targets": "last"}
    model = create(name, **settings).fit(train, options=TrainingOptions(epochs=60, **QUIET))
    hits = 0
    for user in range(20):
        history = data.item_map.name(train.history(user)).to_list()
        found = model.recommend(Query(history=history[:-1]), k=1)["item_id"][0]
        hits += found == history[-1]
    assert hits >= 19


def test_gradients_are_reset() -> None:
    """Two epochs of one batch: the second step's gradient must not hold the first one's."""
    data = markov(0.8, users=20)
    split = data.split("leave-one-out")
    model = create("sasrec", **{**EXACT, "batch_size": 64}).fit(split.train, options=TrainingOptions(epochs=2, **QUIET))
    plain = untrained("sasrec", data, batch_size=64)
    optimiser = plain.optimiser()
    for epoch in (1, 2):
        rng = np.random.default_rng([1, epoch])
        torch.manual_seed(1 * 1_000_003 + epoch)
        plain.network.train()
        for batch in plain.batches(split.train, rng):
            optimiser.zero_grad()
            plain.loss(batch).backward()
            optimiser.step()
    plain.refresh()
    torch.testing.assert_close(plain.table, model.table)


@pytest.mark.parametrize("name", BACKBONES)
def test_resume_repeats_the_interrupted_training(name: str, tmp_path) -> None:
    data = markov(0.8, users=40)
    split = data.split("leave-one-out")
    options = {"eval_every": 2, "monitor": "ndcg@10", **QUIET}
    whole = create(name, **SMALL).fit(split.train, split.valid, TrainingOptions(epochs=6, folder=tmp_path / "whole", **options))
    create(name, **SMALL).fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "cut", **options))
    again = create(name, **SMALL)
    again.fit(split.train, split.valid, TrainingOptions(epochs=6, folder=tmp_path / "cut", resume=True, **options))
    assert torch.equal(again.table, whole.table)


# --- asking ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_a_user_and_the_same_history_agree_exactly(name: str) -> None:
    model = untrained(name)
    users = model.users.ids.to_list()[:5]
    histories = [model.item_map.name(model.history_items[a:b]).to_list() for a, b in pairwise(model.history_offsets[:6])]
    by_user = model.encode_queries([Query(user_id=u) for u in users])
    by_history = model.encode_queries([Query(history=h) for h in histories])
    assert torch.equal(by_user, by_history)
    assert torch.allclose(model.user_vectors()[:5], by_user, atol=1e-6)


def test_unknown_items_in_a_history_are_skipped() -> None:
    model = untrained("sasrec")
    first, second = model.item_map.ids[0], model.item_map.ids[1]
    found = model.encode_queries([Query(history=[first, "gone", second]), Query(history=[first, second])])
    torch.testing.assert_close(found[0], found[1])
    # a known user whose given history holds nothing known is answered from the stored one
    user = model.users.ids[0]
    torch.testing.assert_close(model.encode_queries([Query(user_id=user, history=["gone"])]), model.encode_queries([Query(user_id=user)]))
    with pytest.raises(UnsupportedQueryError, match="popularity"):
        model.encode_queries([Query(history=["gone"])])


def test_users_with_one_item_train_nothing_and_are_answered() -> None:
    log = pl.DataFrame({"user_id": ["a", "b", "b", "c"], "item_id": ["x", "x", "y", "y"], "timestamp": [1, 1, 2, 1]})
    items = pl.DataFrame({"item_id": ["x", "y", "z"], "title": ["x", "y", "z"]})
    train = Dataset.from_frames(log, items).train_set()
    model = create("sasrec", **SMALL).fit(train, options=TrainingOptions(epochs=1, **QUIET))
    assert model.sampler.n_batches == 1 and len(model.sampler.windows.users) == 1
    assert model.recommend("c", k=1, filter_seen=False).height == 1
    with pytest.raises(InputError, match="no order to learn"):
        create("sasrec", **SMALL).fit(Dataset.from_frames(log.filter(pl.col("user_id") != "b"), items).train_set())


def test_repeated_items_are_events_like_others() -> None:
    log = pl.DataFrame({"user_id": ["u"] * 6 + ["v"] * 3, "item_id": list("xxyxxyxyx"), "timestamp": range(9)})
    train = Dataset.from_frames(log, pl.DataFrame({"item_id": list("xyz"), "title": list("xyz")})).train_set()
    model = create("sasrec", **SMALL).fit(train, options=TrainingOptions(epochs=2, **QUIET))
    assert model.recommend(Query(history=["x", "x", "x"]), k=3, filter_seen=False).height == 3


def test_new_items_are_no_candidates_while_training() -> None:
    data = markov(0.8)
    split = data.split("cold-items", share=0.2)
    model = create("sasrec", **{**SMALL, "loss": "ce", "items": "text", "encoder": "lsa"})
    model.fit(split.train, options=TrainingOptions(epochs=1, **QUIET))
    assert len(model.candidates) == data.n_items - split.train.new_items.sum()
    assert evaluate(model, split.train, split.test, metrics=["hr@5"]).n_users > 0


def test_a_loss_that_is_not_finite_is_named() -> None:
    data = markov(0.8)
    split = data.split("leave-one-out")
    with pytest.raises(LexirecError, match="the loss is"):
        create("sasrec", **{**EXACT, "lr": 1e20, "init_std": 1e10}).fit(split.train, options=TrainingOptions(epochs=3, **QUIET))


def test_cosine_ranks_by_unit_vectors() -> None:
    model = untrained("hstu")
    torch.testing.assert_close(model.encode_items().norm(dim=1), torch.ones(model.n_items))
    torch.testing.assert_close(model.encode_queries([Query(history=[model.item_map.ids[0]])]).norm(dim=1), torch.ones(1))


def test_hstu_answers_alike_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained("hstu")
    ids = model.item_map.ids.to_list()
    queries = [Query(history=ids[:n]) for n in (1, 2, 3, 4, 5, 6)]
    whole = model.encode_queries(queries)
    monkeypatch.setattr("lexirec.models.layers.sequence.WEIGHTS", 1)
    torch.testing.assert_close(model.encode_queries(queries), whole, atol=1e-6, rtol=1e-5)


def test_cloze_fates() -> None:
    data = markov(0.8, users=200)
    model = untrained("bert4rec", data, mask_prob=0.6, mask_random=0.1, mask_kept=0.1, last_pass=True, batch_size=1000)
    batch = one_batch(model, data)
    size = len(batch.layout.lengths)
    assert size == 400
    hidden = batch.masked[batch.at].float().mean().item()
    assert 0.78 < hidden < 0.95  # 80 % of the random ones, all of the last pass
    kept = (batch.inputs[batch.at] == batch.targets).float().mean().item()
    assert kept > 0.8  # masks keep the item below; only random items differ
    ends = set((batch.layout.starts + batch.layout.lengths - 1).tolist())
    assert len(ends & set(batch.at.tolist())) >= 200


def test_masked_events_become_other_items_or_stay() -> None:
    data = markov(0.8, users=200)
    settings = {"mask_prob": 0.6, "last_pass": True, "batch_size": 1000}
    asked = {}
    for share in ("mask_random", "mask_kept"):
        batch = one_batch(untrained("bert4rec", data, **settings, **{share: 1.0}), data)
        ends = torch.from_numpy(batch.layout.starts + batch.layout.lengths - 1)
        whole = torch.isin(batch.at, ends[torch.bincount(torch.bucketize(batch.at, ends), minlength=len(ends)) == 1])
        alone = batch.at[whole]  # last events of windows without another mask: those of the last pass, and a few besides
        assert 200 <= len(alone) < 260 and batch.masked.sum() == 200 and torch.isin(batch.masked.nonzero()[:, 0], alone).all()
        inner = ~batch.masked[batch.at]
        asked[share] = (batch.inputs[batch.at] != batch.targets)[inner].float().mean().item()
        assert (batch.inputs[batch.at] == batch.targets)[~inner].all()
        assert int(inner.sum()) > 500
    assert asked["mask_kept"] == 0.0
    n = data.n_items
    assert asked["mask_random"] == pytest.approx((n - 1) / n, abs=0.03)  # a random item is the right one once in n


def test_cloze_over_prefixes_hides_every_event_in_turn() -> None:
    data = markov(0.8, users=20)
    train = data.split("leave-one-out").train
    model = untrained("bert4rec", data, targets="prefixes", mask_last=1.0, batch_size=1000)
    (batch,) = model.batches(train, np.random.default_rng(0))
    count = np.diff(train.offsets)
    assert len(batch.targets) == (count - 1).sum()  # every event but the first of each person, once
    assert sorted(batch.targets.tolist()) == sorted(np.concatenate([train.history(u)[1:] for u in range(20)]).tolist())
    assert batch.layout.lengths.min() == 2 and batch.layout.lengths.max() == min(count.max(), 8)
    assert torch.equal(batch.at, torch.from_numpy(batch.layout.starts + batch.layout.lengths - 1))


def test_ranges_and_modules_are_ordinary_tensors() -> None:
    assert ranges(np.array([2]), np.array([0])).tolist() == []
    assert isinstance(create("sasrec").make_body(), nn.Module)


@pytest.mark.parametrize("init", ["xavier", "normal"])
def test_trained_text_starts_at_the_encoders_vectors(init: str) -> None:
    model = untrained("sasrec", items="text", encoder="lsa", freeze_text=False, init=init, init_std=0.02)
    torch.testing.assert_close(model.network.items.text.detach(), torch.from_numpy(model.reader.reduce(model.item_text(model.items))))


def test_an_item_without_events_is_known_by_its_words_alone() -> None:
    data = markov(0.8)
    split = data.split("cold-items", share=0.3)
    model = create("sasrec", **SMALL, items="id+text", encoder="lsa").fit(split.train, options=TrainingOptions(epochs=2, **QUIET))
    cold = torch.from_numpy(np.flatnonzero(split.train.new_items))
    torch.testing.assert_close(model.encode_items()[cold], model.encode_items(split.train.items[cold.tolist()]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"loss": "ce"}, {"weight_decay": 0.1, "optimiser": "adamw"}])
def test_an_item_that_nobody_took_learns_nothing_as_a_negative(settings: dict) -> None:
    data = markov(0.8)
    alone = pl.DataFrame({"item_id": ["alone"], "title": ["apple"]})
    train = Dataset(data.interactions, pl.concat([data.items, alone], how="diagonal")).split("leave-one-out").train
    model = create("sasrec", **SMALL, items="id+text", encoder="lsa", **settings).fit(train, options=TrainingOptions(epochs=3, **QUIET))
    at = int(train.item_map.index(["alone"])[0])
    assert not model.network.items.own.weight[at].any() and model.network.items.own.weight.any(1).sum() == train.n_items - 1
    by_words = model.encode_items(train.items[[at]])[0]
    torch.testing.assert_close(model.encode_items()[at], by_words, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"items": "text"}, {"items": "id+text"}, {"items": "text", "weight_decay": 0.1, "loss": "ce"}])
def test_trained_text_of_an_item_that_nobody_took_stays_the_encoders(settings: dict) -> None:
    data = markov(0.8)
    alone = pl.DataFrame({"item_id": ["alone"], "title": ["apple"]})
    train = Dataset(data.interactions, pl.concat([data.items, alone], how="diagonal")).split("leave-one-out").train
    before, after = (
        create("sasrec", **SMALL, encoder="lsa", freeze_text=False, **settings).fit(train, options=TrainingOptions(epochs=epochs, **QUIET))
        for epochs in (0, 3)
    )
    moved = (before.network.items.text != after.network.items.text).any(1)
    assert moved.sum() == train.n_items - 1 and not moved[int(train.item_map.index(["alone"])[0])]


def test_ids_say_that_they_read_no_words() -> None:
    with pytest.raises(UnsupportedQueryError, match="sasrec knows items by id only here"):
        untrained("sasrec").encode_items(markov(0.8).items)


def test_mixed_data_keep_to_a_users_own_catalogue() -> None:
    one, other = markov(0.8), markov(0.5, users=30)
    other.name = "other"
    train, _ = mix([(one.train_set(), None), (other.train_set(), None)], "both")
    model = create("sasrec", **SMALL).fit(train, options=TrainingOptions(epochs=1, **QUIET))
    batch = next(iter(model.batches(train, np.random.default_rng(0))))
    border = train.item_domains[1]
    assert ((batch.targets >= border) == (batch.negatives[:, 0] >= border)).all()
    for settings in ({"loss": "ce"}, {"negatives": "shared"}, {"loss": "gbce"}):
        with pytest.raises(InputError, match="mixes 2 data sets"):
            create("sasrec", **SMALL, **settings).fit(train)
    with pytest.raises(InputError, match="mask_random=0"):
        create("bert4rec", **SMALL, loss="bce", mask_random=0.1).fit(train)


def test_random_masks_are_items_that_exist() -> None:
    split = markov(0.8).split("cold-items", share=0.3)
    model = create("bert4rec", **SMALL, mask_prob=0.9, mask_random=1.0).fit(split.train, options=TrainingOptions(epochs=0, **QUIET))
    batch = next(iter(model.batches(split.train, np.random.default_rng(0))))
    assert not split.train.new_items[batch.inputs.numpy()].any()
    with pytest.raises(InputError, match="max_len = 1"):
        create("bert4rec", max_len=1)


def test_loading_needs_no_encoder_until_words_are_read(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.parquet"
    data = markov(0.8)
    rng = np.random.default_rng(0)
    pl.DataFrame({"item_id": data.items["item_id"], "vector": rng.standard_normal((data.n_items, 6)).tolist()}).write_parquet(vectors)
    model = create("sasrec", **SMALL, items="text", encoder=f"file:{vectors}").fit(
        data.train_set(), options=TrainingOptions(epochs=1, **QUIET)
    )
    model.save(tmp_path / "saved")
    vectors.unlink()
    loaded = load_model(tmp_path / "saved")
    asked = Query(history=data.item_map.ids.to_list()[:3])
    torch.testing.assert_close(loaded.score([asked]), model.score([asked]))
    loaded.save(tmp_path / "again")  # the encoder's description goes along unread
    with pytest.raises(InputError, match="can't be had"):
        loaded.recommend(Query(intent="a drum"))


def test_text_models_move_to_another_catalogue_and_others_say_why_not() -> None:
    data, other = markov(0.8), markov(0.8, items=10)
    model = create("sasrec", **SMALL, items="text", encoder="lsa").fit(data.train_set(), options=TrainingOptions(epochs=2, **QUIET))
    moved = model.transfer(other.train_set())
    assert moved.encode_items().shape[0] == 10 and model.encode_items().shape[0] == 12
    torch.testing.assert_close(moved.encode_items(), model.encode_items()[:10], atol=1e-6, rtol=1e-5)  # the same titles
    with pytest.raises(UnsupportedQueryError, match="items='text'"):
        untrained("sasrec", items="id+text", encoder="lsa").transfer(other.train_set())


def test_a_user_with_every_item_needs_no_own_negatives() -> None:
    log = pl.DataFrame({"user_id": ["a"] * 3 + ["b"] * 2, "item_id": list("xyzxy"), "timestamp": range(5)})
    train = Dataset.from_frames(log).train_set()
    with pytest.raises(InputError, match="loss='ce'"):
        create("sasrec", **SMALL).fit(train)
    for settings in ({"loss": "ce"}, {"loss": "softmax", "negatives": "shared", "num_negs": 4}):
        create("sasrec", **SMALL, **settings).fit(train, options=TrainingOptions(epochs=1, **QUIET))


def test_heads_must_divide_in_every_model() -> None:
    with pytest.raises(InputError, match=r"num_heads = 2 does not divide embedding_dim = 9"):
        create("hstu", embedding_dim=9)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_negs": 12},
        {"negatives": "shared", "loss": "softmax", "num_negs": 12},
        {"loss": "ce"},
        {"items": "id+text", "encoder": "lsa", "num_negs": 12},
    ],
)
def test_items_with_bad_vectors_are_named(settings: dict[str, object]) -> None:
    """Also one that the batch has as a negative only."""
    log = pl.DataFrame([(user, f"i{i:02d}", i) for user in "uv" for i in range(6)], ["user_id", "item_id", "timestamp"], orient="row")
    data = Dataset(log, markov(0.8).items)
    model = untrained("sasrec", data, **settings)
    batch = one_batch(model, data)
    spoken = torch.cat([batch.inputs, batch.targets])
    spoken = set((spoken if batch.rows is None else batch.rows[spoken]).tolist())
    negative = next(item for item in (range(model.n_items) if batch.rows is None else batch.rows.tolist()) if item not in spoken)
    if batch.negatives is not None:
        batch.negatives.view(-1)[0] = negative if batch.rows is None else int((batch.rows == negative).nonzero()[0, 0])
    assert model.culprits(batch).startswith("all vectors and states are finite; ")
    for item in (min(spoken), negative):
        with torch.no_grad():
            before = model.network.items.own.weight[item].clone()
            model.network.items.own.weight[item] = torch.nan
            assert f"1 items of the batch have vectors with NaN or infinity (item_id {model.item_map.ids[item]!r})" in model.culprits(batch)
            model.network.items.own.weight[item] = before


@pytest.mark.parametrize("settings", [{}, {"items": "id+text", "encoder": "lsa"}])
def test_a_network_that_gives_nan_names_what_was_asked_for(settings: dict[str, object]) -> None:
    """A bad position is read by the longer history alone: the items that it is asked for are named, and no others."""
    log = pl.DataFrame(
        [(f"u{user}", f"i{item:02d}", t) for user, items in enumerate(([0, 1, 2, 3], [4, 5])) for t, item in enumerate(items)],
        schema=["user_id", "item_id", "timestamp"], orient="row",
    )  # fmt: skip
    train = Dataset(log, markov(0.8).items).train_set()
    model = create("sasrec", **EXACT, **settings).fit(train, options=TrainingOptions(epochs=0, **QUIET))
    (batch,) = model.batches(train, np.random.default_rng(0))
    with torch.no_grad():
        model.network.body.positions.weight[2] = torch.nan
    assert model.culprits(batch) == (
        "all vectors of the batch's items are finite, but 3 of 4 states are not; these are asked for 3 items (item_id 'i01', 'i02', 'i03')"
    )


def test_a_training_goes_on_with_the_vectors_that_it_began_with(tmp_path: Path) -> None:
    """A file of vectors may hold others under the same name."""
    data = markov(0.9, users=30)
    train, valid = data.train_set(), None
    file, rng = tmp_path / "v.parquet", np.random.default_rng(1)
    options = TrainingOptions(epochs=1, threads=1, folder=tmp_path, progress=False)

    def fit(epochs: int) -> None:
        model = create("sasrec", items="text", encoder=f"file:{file}", embedding_dim=8)
        model.fit(train, valid, options.model_copy(update={"epochs": epochs, "resume": epochs > 1}))

    def write() -> None:
        vectors = pl.Series(rng.normal(size=(train.n_items, 4)).astype(np.float32).tolist(), dtype=pl.List(pl.Float32))
        pl.DataFrame({"item_id": train.items["item_id"], "vector": vectors}).write_parquet(file)

    write()
    fit(1)
    fit(2)
    write()
    with pytest.raises(InputError, match="what the encoder is made of"):
        fit(3)
