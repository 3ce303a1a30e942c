"""Settings and draws that training reads: dropout where it belongs, rates, temperatures, first values, lengths and places drawn."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.models import create
from lexirec.models.layers.adapters import AdapterKind, ItemVectors
from lexirec.models.layers.sequence import Attention, Layout
from lexirec.models.melt import MELT, MELTBatch
from lexirec.models.sequence_batches import SequenceBatch
from lexirec.models.sequence_config import SequenceConfig
from lexirec.models.sequence_network import SequenceNetwork, initialise
from lexirec.models.sequential import SequentialRecommender
from lexirec.models.stages import Stage
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.test_melt import causal as melt_backbone
from tests.models.test_melt import fitted as melt
from tests.models.test_melt import uneven
from tests.models.test_s3rec import pretraining
from tests.models.test_said import stage as said_stage
from tests.models.test_sequential import QUIET, SMALL, untrained
from tests.models.test_tslrec import stage as tslrec_stage
from tests.models.test_tslrec import two_tastes
from tests.models.toys import markov

DROPOUT = "lexirec.models.layers.sequence.dropout"
LENGTHS = np.array([5, 4, 4, 1])  # two groups, of which the first is padded
GROUPS = 2
LAYERS = 2


# --- dropout ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [True, False])
def test_attention_that_trains_computes_what_attention_that_answers_does(causal: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(8, 2, 1e-9, causal)  # so rare that nothing is dropped, yet the path is that of dropout
    layout, rows = Layout(LENGTHS), torch.randn(14, 8)
    assert len(layout.groups) == GROUPS and layout.groups[0].gather is not None
    toward = torch.randn(14, 8)
    found = []
    for training in (True, False):
        attention.train(training)
        query, source = rows.clone().requires_grad_(), rows.flip(0).clone().requires_grad_()
        out = attention(query, source, layout)
        found.append([out, *torch.autograd.grad((out * toward).sum(), [query, source, *attention.parameters()])])
    for trained, asked in zip(*found, strict=True):
        torch.testing.assert_close(trained, asked, atol=1e-5, rtol=1e-5)


def test_attention_drops_weights_while_training_alone() -> None:
    torch.manual_seed(0)
    attention, layout, rows = Attention(8, 2, 0.5, True), Layout(LENGTHS), torch.randn(14, 8)
    asked = attention.eval()(rows, rows, layout)
    assert torch.equal(asked, attention(rows, rows, layout))
    attention.train()
    first, second = attention(rows, rows, layout), attention(rows, rows, layout)
    assert not torch.allclose(first, asked) and not torch.allclose(first, second)
    with torch.no_grad():  # weights are dropped and not values: the last event has one weight, all or nothing
        attention.out.weight.copy_(torch.eye(8))
        attention.out.bias.zero_()
    last = attention.key_value(rows)[-1, 8:].view(2, 4)
    for head, value in zip(attention(rows, rows, layout)[-1].view(2, 4), last, strict=True):
        assert torch.equal(head, torch.zeros(4)) or torch.allclose(head, 2 * value, atol=1e-6)


REST, WEIGHTS = 0.3, 0.2
"""Dropout, and that of attention weights."""
INPUT, HIDDEN, OUT = ("rows", REST), ("hidden", REST), ("rows", REST)
ATTENTION = [("weights", WEIGHTS)] * GROUPS
FEED_FORWARD = [HIDDEN, OUT]  # the rectifier is dropped before as well
PLACES: dict[str, tuple[dict[str, object], list[tuple[str, float]]]] = {
    "sasrec": ({"attention_dropout": WEIGHTS, "inner": 12}, [INPUT, *[*ATTENTION, *FEED_FORWARD] * LAYERS]),
    "bert4rec": ({"attention_dropout": WEIGHTS, "inner": 12}, [INPUT, *[*ATTENTION, OUT, OUT] * LAYERS]),
    "bsarec": ({"attention_dropout": WEIGHTS, "inner": 12}, [INPUT, *[OUT, *ATTENTION, OUT, OUT] * LAYERS]),  # first: the filter
    "hstu": ({}, [INPUT, *[OUT] * LAYERS]),
    "gru4rec": ({}, [INPUT]),
}


def encoder(name: str, dropout: float = REST) -> tuple[nn.Module, Callable[[], Tensor]]:
    """An encoder, and what runs it over the same rows."""
    settings = {"embedding_dim": 8, "max_len": 6, "num_layers": LAYERS, "dropout": dropout, **PLACES[name][0]}
    model = create(name, **settings)
    assert isinstance(model, SequentialRecommender)
    torch.manual_seed(0)
    body, rows = model.make_body(), torch.randn(14, 8)
    for norm in body.modules():  # else what is dropped as a whole may be what a norm leaves of it
        if isinstance(norm, nn.LayerNorm):
            nn.init.normal_(norm.bias, std=0.3)
    return body, lambda: body(rows, Layout(LENGTHS))


@pytest.mark.parametrize("name", PLACES)
def test_every_encoder_drops_where_it_should(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body, run = encoder(name)
    calls: list[tuple[str, float]] = []
    zeroed = -1

    def recorded(rows: Tensor, p: float, training: bool = True) -> Tensor:
        if not training:
            return rows
        calls.append(("weights" if rows.ndim == 4 else "hidden" if rows.shape[1] == 12 else "rows", p))
        return rows * (len(calls) - 1 != zeroed)

    monkeypatch.setattr(DROPOUT, recorded)
    body.train()
    untouched = run()
    assert calls == PLACES[name][1]
    for zeroed in range(len(calls)):  # what each call gives is gone on with
        calls.clear()
        assert not torch.allclose(run(), untouched, atol=1e-4), (zeroed, PLACES[name][1][zeroed])
    calls.clear()
    body.eval()
    torch.testing.assert_close(run(), untouched, atol=1e-5, rtol=1e-5)
    assert not calls


@pytest.mark.parametrize("name", PLACES)
def test_training_passes_differ_and_answers_do_not(name: str) -> None:
    body, run = encoder(name)
    body.train()
    assert not torch.allclose(run(), run())
    body.eval()
    assert torch.equal(run(), run())


@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "bsarec"])
@pytest.mark.parametrize(("given", "wanted"), [(0.3, 0.3), (0.0, 0.0), (None, 0.1)])
def test_dropout_of_attention_weights_is_its_own_setting_or_the_common_one(name: str, given: float | None, wanted: float) -> None:
    settings = {} if given is None else {"attention_dropout": given}
    model = create(name, embedding_dim=8, dropout=0.1, **settings)
    assert isinstance(model, SequentialRecommender)
    body = model.make_body()
    found = [module.dropout for module in body.modules() if isinstance(module, Attention)]
    assert found == [wanted] * model.config.num_layers and body.dropout == 0.1
    assert all(block.feed_forward.dropout == 0.1 for block in body.blocks)


# --- optimiser, loss, adapter, first values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_optimiser_rate_and_weight_decay_are_those_asked_for(name: str, kind: type[torch.optim.Optimizer]) -> None:
    model = untrained("sasrec", items="text", encoder="lsa", freeze_text=False, optimiser=name, weight_decay=0.25, lr=0.003)
    optimiser = model.optimiser()
    assert type(optimiser) is kind  # AdamW is an Adam, too
    others, text = optimiser.param_groups
    assert [others["weight_decay"], text["weight_decay"], others["lr"], text["lr"]] == [0.25, 0.0, 0.003, 0.003]
    asked = {id(weight) for group in optimiser.param_groups for weight in group["params"]}
    assert asked == {id(weight) for weight in model.network.parameters()} and len(text["params"]) == 1


@pytest.mark.parametrize(("name", "wanted"), [("adam", 1.0 - 0.1), ("adamw", 1.0 - 0.1 * 0.5)])
def test_adamw_decays_apart_from_the_gradient(name: str, wanted: float) -> None:
    model = untrained("sasrec", optimiser=name, weight_decay=0.5, lr=0.1)
    weight = model.network.items.own.weight
    with torch.no_grad():
        weight.fill_(1.0)
    weight.grad = torch.zeros_like(weight)
    model.optimiser().step()  # the decay alone: adam's step has the length of the rate, adamw's is in proportion
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, wanted), atol=1e-5, rtol=0.0)


def asked(targets: list[int], negatives: Tensor) -> SequenceBatch:
    """A batch of which only targets and negatives are read."""
    return SequenceBatch(Layout(np.array([len(targets)])), torch.tensor(targets), None, None, torch.tensor(targets), negatives, None)


def plain(loss: str, positive: list[float], negatives: list[list[float]], n_slots: int, n_items: int, calibration: float) -> float:
    """Losses row by row, of scores that were divided by the temperature; a row has the negatives that count in it."""
    if loss == "softmax":
        return float(
            np.mean([math.log(math.exp(p) + sum(math.exp(n) for n in row)) - p for p, row in zip(positive, negatives, strict=True)])
        )
    right = [math.log1p(math.exp(-p)) for p in positive]
    wrong = [sum(math.log1p(math.exp(n)) for n in row) for row in negatives]
    if loss == "bce":
        return float(np.mean(right) + np.sum(wrong) / (len(wrong) * n_slots))
    rate = n_slots / (n_items - 1)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    return float(np.mean([(beta * r + w) / (n_slots + 1) for r, w in zip(right, wrong, strict=True)]))


TARGETS = [0, 1, 2, 1]


@pytest.mark.parametrize("negatives", ["shared", "per-sample"])
@pytest.mark.parametrize("loss", ["bce", "gbce", "softmax"])
def test_scores_are_divided_by_tau_and_a_shared_negative_says_nothing_where_it_is_the_target(loss: str, negatives: str) -> None:
    calibration = {"calibration": 0.6} if loss == "gbce" else {}
    model = untrained("sasrec", loss=loss, num_negs=3, negatives=negatives, tau=0.4, **calibration)
    torch.manual_seed(1)
    states, table = torch.randn(4, 16, requires_grad=True), torch.randn(model.n_items, 16, requires_grad=True)
    drawn = torch.tensor([1, 5, 2]) if negatives == "shared" else torch.tensor([[3, 4, 5], [6, 7, 8], [9, 9, 3], [4, 5, 6]])
    found = model.recommendation_loss(states, table, asked(TARGETS, drawn), False)
    scores = (states @ table.T / 0.4).tolist()
    rows = [drawn.tolist()] * 4 if negatives == "shared" else drawn.tolist()
    counted = [[scores[row][item] for item in items if item != TARGETS[row]] for row, items in enumerate(rows)]
    positive = [scores[row][target] for row, target in enumerate(TARGETS)]
    assert found.item() == pytest.approx(plain(loss, positive, counted, 3, model.n_items, 0.6), rel=1e-5)
    found.backward()
    assert states.grad.isfinite().all() and table.grad.isfinite().all()


def test_gbce_counts_the_items_that_negatives_come_from() -> None:
    split = markov(0.8).split("cold-items", share=0.3)
    model = create("sasrec", **SMALL, items="text", encoder="lsa", loss="gbce", num_negs=2, calibration=0.6)
    model.fit(split.train, options=TrainingOptions(epochs=0, **QUIET))
    assert isinstance(model, SequentialRecommender)
    known = np.flatnonzero(~split.train.new_items)
    assert 3 < len(known) < model.n_items
    torch.manual_seed(1)
    states, table = torch.randn(2, 16), torch.randn(model.n_items, 16)
    targets, drawn = known[:2].tolist(), torch.from_numpy(known[2:4])[None].repeat(2, 1)
    scores = (states @ table.T).tolist()
    positive = [scores[row][target] for row, target in enumerate(targets)]
    wanted = plain("gbce", positive, [[scores[row][item] for item in drawn[row].tolist()] for row in range(2)], 2, len(known), 0.6)
    assert model.recommendation_loss(states, table, asked(targets, drawn), False).item() == pytest.approx(wanted, rel=1e-5)


ACTIVATIONS: dict[AdapterKind, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "relu": lambda x: x.clamp(min=0),
    "two-linear": lambda x: x,
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_adapter_has_the_width_and_the_function_asked_for(kind: AdapterKind) -> None:
    model = untrained("sasrec", items="text", encoder="lsa", adapter=kind, adapter_dim=5)
    adapter, text = model.network.items.adapter, model.network.items.text
    first, second = adapter.first, adapter.second
    assert first.weight.shape == (5, text.shape[1]) and second.weight.shape == (16, 5)
    nn.init.normal_(first.weight, std=2.0)  # so that hidden values leave the part where the functions are alike
    nn.init.normal_(first.bias)
    nn.init.normal_(second.bias)
    wanted = ACTIVATIONS[kind](text @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(model.network.items(), wanted, atol=1e-5, rtol=1e-5)


def test_adapter_is_half_as_wide_as_the_text_unless_told() -> None:
    model = untrained("sasrec", items="text", encoder="lsa", adapter="tanh")
    assert model.network.items.adapter.first.out_features == model.network.items.text.shape[1] // 2


def matrices(body: nn.Module, **settings: object) -> tuple[SequenceNetwork, list[Tensor]]:
    """A network after its first values were drawn, and its matrices: of the table, then of the body."""
    torch.manual_seed(0)
    network = SequenceNetwork(ItemVectors(300, 64, None, None, by_id=True), body, 64)
    initialise(network, SequenceConfig(**settings))
    return network, [weight.detach() for weight in network.parameters() if weight.ndim == 2]


@pytest.mark.parametrize("body", [nn.Linear(400, 200), nn.GRU(64, 64, 2)], ids=["linear", "gru"])
def test_xavier_is_normal_and_reaches_every_matrix(body: nn.Module) -> None:
    _, found = matrices(body, init="xavier")
    assert len(found) == (5 if isinstance(body, nn.GRU) else 2)
    for weight in found:
        std = math.sqrt(2 / sum(weight.shape))
        assert weight.std().item() == pytest.approx(std, rel=0.03) and abs(weight.mean().item()) < 0.05 * std
        assert weight.abs().max() > 3 * std  # uniform values end at 1.73


def test_normal_has_the_deviation_asked_for_and_zero_biases() -> None:
    network, found = matrices(nn.Linear(400, 200), init="normal", init_std=0.07)
    for weight in found:
        assert weight.std().item() == pytest.approx(0.07, rel=0.03) and weight.abs().max() > 0.21
    assert not network.body.bias.any()
    # Recurrent matrices are Xavier uniform all the same, as wide as their own sizes say.
    _, found = matrices(nn.GRU(64, 64, 2), init="normal", init_std=0.07)
    for weight in found[1:]:
        std = math.sqrt(2 / sum(weight.shape))
        assert weight.std().item() == pytest.approx(std, rel=0.03) and weight.abs().max() <= 1.7321 * std


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_models_start_with_the_first_values_asked_for(name: str) -> None:
    data = markov(0.8)
    for settings, std in (({"init": "xavier"}, math.sqrt(2 / (64 + 12))), ({"init_std": 0.3}, 0.3)):
        model = create(name, embedding_dim=64, max_len=8, **settings)
        model.fit(data.split("leave-one-out").train, options=TrainingOptions(epochs=0, **QUIET))
        assert model.network.items.own.weight.std().item() == pytest.approx(std, rel=0.1)


# --- MELT ------------------------------------------------------------------------------------------------------------------------


def few_lengths(model: MELT, train: TrainSet, draws: int) -> list[list[int]]:
    """Events that each draw leaves of long histories, a list a batch."""
    found = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        (plain_batch,) = super(MELT, model).batches(train, rng)
        batch = model.joined(plain_batch, model.long_users, model.frequent_items[:1], 0, rng)
        assert batch.histories is not None
        places = batch.histories.back[: len(model.long_users)].numpy()
        found.append((batch.histories.layout.lengths[places] - model.cloze).tolist())
    return found


@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec"])
def test_long_histories_are_cut_to_every_length_of_short_ones_but_the_longest(backbone: str) -> None:
    train = uneven().train_set()
    model = melt(train, backbone=backbone, batch_size=64)
    assert model.short > 3 and len(model.long_users) > 2
    found = few_lengths(model, train, 60)
    assert {length for batch in found for length in batch} == set(range(1, model.short))
    assert any(len(set(batch)) > 1 for batch in found)  # each person has a draw of its own
    counts = np.bincount(np.concatenate(found))[1:]
    assert counts.min() > 0.5 * counts.mean()  # alike often
    for short in (1, 2):  # nothing is shorter than one event
        model.short = short
        assert {length for batch in few_lengths(model, train, 10) for length in batch} == {1}


def test_a_branch_for_people_that_is_off_touches_neither_contexts_nor_answers() -> None:
    train = uneven().train_set()
    queries = [Query(history=train.item_map.name(np.arange(length)).to_list()) for length in (1, 2, 8)]
    found = {}
    for weight in (0.0, 0.1):
        model = melt(train, lambda_users=weight, **melt_backbone())
        batch = next(iter(model.batches(train, np.random.default_rng(0))))
        assert isinstance(batch, MELTBatch) and batch.contexts is not None and batch.histories is not None
        model.network.eval()
        contexts, values = replace(batch, histories=None), []
        for _ in range(2):
            with torch.no_grad():
                values.append([model.extra_loss(model.table, b) for b in (batch, contexts)] + [model.encode_queries(queries)])
                nn.init.normal_(model.network.user_branch.weight, std=3.0)
        model.extra_loss(model.table, batch).backward()
        same = [torch.equal(one, other) for one, other in zip(*values, strict=True)]
        found[weight] = [*same, model.network.user_branch.weight.grad is None]
        assert model.network.item_branch.weight.grad.any()
    assert found == {0.0: [True] * 4, 0.1: [False] * 4}


# --- S3-Rec ----------------------------------------------------------------------------------------------------------------------


def test_segments_and_foreign_stretches_begin_anywhere() -> None:
    users, events = 5, 6  # no item twice, so that a foreign item tells where in the log it stood
    rows = [(f"u{u}", f"i{u * events + t:02d}", t) for u in range(users) for t in range(events)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    names = sorted(log["item_id"].to_list())
    data = Dataset(log, pl.DataFrame({"item_id": names, "title": names, "brand": [f"b{i % 3}" for i in range(len(names))]}))
    model = pretraining(data, pretrain_windows="users", pretrain_batch=users)
    place = {int(item): at for at, item in enumerate(model.log)}
    n = len(model.log) // users
    assert n >= 4 and len(place) == len(model.log)
    rng, own, foreign, together = np.random.default_rng(0), set(), set(), []
    for _ in range(200):
        (batch,) = model.batches(None, rng)
        draws = []
        for start in batch.layout.starts.tolist():
            at = np.flatnonzero(batch.segment[start : start + n].numpy())
            stretch = [place[int(item)] for item in batch.foreign[start + at]]
            assert stretch == list(range(stretch[0], stretch[0] + len(at)))  # as it stood in the log
            draws.append((len(at), int(at[0]), stretch[0]))
        own |= {draw[:2] for draw in draws}
        foreign |= {(draw[0], draw[2]) for draw in draws}
        together.append(len(set(draws)))
    assert own == {(size, start) for size in range(1, n // 2 + 1) for start in range(n - size + 1)}
    assert foreign == {(size, start) for size in range(1, n // 2 + 1) for start in range(len(model.log) - size + 1)}
    assert np.mean(together) > 4  # each window has a draw of its own


@pytest.mark.parametrize("std", [0.02, 0.3])
def test_the_mask_starts_as_wide_as_other_vectors(std: float) -> None:
    data = markov(0.8, users=8)
    branded = Dataset(data.interactions, data.items.with_columns(brand=pl.lit("b")))
    network = pretraining(branded, embedding_dim=1024, num_layers=1, init_std=std).network
    assert network.mask.std().item() == pytest.approx(std, rel=0.12) and abs(network.mask.mean().item()) < 0.2 * std
    assert network.items.own.weight.std().item() == pytest.approx(std, rel=0.05)
    assert network.mip.weight.std().item() == pytest.approx(std, rel=0.05) and not network.mip.bias.any()


# --- stages before the recommender -----------------------------------------------------------------------------------------------


def test_the_rate_of_a_stage_falls_in_a_line_to_zero() -> None:
    network = nn.Linear(3, 1)
    stage = Stage(network, 0.2, 3, np.array([3, 3, 3, 3]), 6, pl.Series("item_id", list("abcd")))
    assert stage.n_batches() == 2 and stage.total_steps == 6
    optimiser = stage.optimiser()
    assert type(optimiser) is torch.optim.AdamW and optimiser.param_groups[0]["weight_decay"] == 0.0
    rates = [optimiser.param_groups[0]["lr"]]
    moved = []
    for _ in range(8):
        before = network.weight.detach().clone()
        network.weight.grad = torch.ones_like(network.weight)  # equal gradients: a step is as long as the rate
        network.bias.grad = torch.ones_like(network.bias)
        optimiser.step()
        rates.append(optimiser.param_groups[0]["lr"])
        moved.append((before - network.weight.detach()).mean().item())
    wanted = [0.2 * (1 - done / 6) for done in range(7)] + [0.0]  # behind the end it stays there
    assert rates == pytest.approx([0.2, *wanted]) and moved == pytest.approx(wanted, abs=1e-5)


def test_rate_and_first_values_of_the_language_stage_are_those_asked_for() -> None:
    train = two_tastes()
    for rate in (None, 0.03):
        given = {} if rate is None else {"lm_lr": rate}
        for stage in (said_stage(**given), tslrec_stage(train, **given)):
            assert [group["lr"] for group in stage.optimiser().param_groups] == [rate or 1e-3]
    for std in (0.02, 0.4):
        table = said_stage(embedding_dim=1024, lm_std=std).network.table
        tokens = tslrec_stage(train, lm_dim=256, lm_std=std).network.tokens
        for weight in (table.weight, tokens.weight):
            assert weight.numel() > 3000 and weight.std().item() == pytest.approx(std, rel=0.08)
