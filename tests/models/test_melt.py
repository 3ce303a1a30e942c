"""MELT against the conformance list and plain references, one sequence at a time."""

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.data.messages import DataWarning
from lexirec.errors import InputError
from lexirec.models import create, load_model
from lexirec.models.layers.sequence import Layout
from lexirec.models.melt import MELT, MELTBatch, item_contexts, item_weights, sample_contexts, user_weights
from lexirec.query import Query
from lexirec.training.options import TrainingOptions

BACKBONES = ["sasrec", "bert4rec", "gru4rec"]
SMALL = {"embedding_dim": 8, "max_len": 12, "batch_size": 8, "tail_share": 0.6, "e_max": 10, "pretrain_epochs": 2}
QUIET = {"progress": False, "threads": 1}


def uneven(users: int = 16, items: int = 14, longest: int = 10) -> Dataset:
    """Histories of 1 to ``longest`` events; low item numbers are frequent, the last item has no event."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(users):
        for t in range(1 + user % longest):
            rows.append((f"u{user:02d}", f"i{int((items - 1) * rng.random() ** 2):02d}", t))
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    names = [f"i{i:02d}" for i in range(items)]
    return Dataset(log, pl.DataFrame({"item_id": names, "title": names}), name="uneven")


@pytest.fixture
def train() -> TrainSet:
    return uneven().train_set()


def causal(backbone: str = "sasrec") -> dict[str, object]:
    """An encoder that looks back only, where there is a choice."""
    return {"backbone": backbone, **({"causal": True} if backbone == "sasrec" else {})}


def fitted(train: TrainSet, epochs: int = 0, backbone: str = "sasrec", **settings: object) -> MELT:
    options = TrainingOptions(epochs=epochs, **QUIET)
    model = create("melt", **{**SMALL, **causal(backbone), "dropout": 0.0, **settings}).fit(train, options=options)
    assert isinstance(model, MELT)
    return model


def test_weights_of_the_conformance_list() -> None:
    for epoch, users, items in (
        (0, [0, 0.692724, 1], [0, 0.661312, 0.999507]),
        (90, [0.707107, 0.999797, 0.707107], [0.707107, 0.998027, 0.728969]),
        (180, [1, 0.721202, 0], [1, 0.750111, 0.031411]),
    ):
        np.testing.assert_allclose(user_weights(np.array([11, 30, 50]), 10, epoch, 180, 50), users, atol=1e-6)
        np.testing.assert_allclose(item_weights(np.array([7, 30, 100]), 6, epoch, 180), items, atol=1e-6)


def plain_contexts(train: TrainSet, item: int, longest: int) -> list[list[int]]:
    found = []
    for user in range(train.n_users):
        history = train.history(user).tolist()
        for place, other in enumerate(history):
            if other == item:
                found.append(history[: place + 1][-longest:])
                if len(history) > 1:
                    found.append(history[place:][::-1][-longest:])
    return found


@pytest.mark.parametrize("longest", [3, 50])
def test_contexts_are_all_stretches_that_end_at_the_item(train: TrainSet, longest: int) -> None:
    contexts, offsets = item_contexts(train, longest)
    assert offsets[-1] == len(contexts)
    for item in range(train.n_items):
        own = contexts[offsets[item] : offsets[item + 1]]
        events = np.split(train.item_index[own.events()], np.cumsum(own.lengths)[:-1]) if len(own) else []
        assert sorted(e.tolist() for e in events) == sorted(plain_contexts(train, item, longest))


def test_sampled_contexts_are_distinct_and_of_any_number(train: TrainSet) -> None:
    _, offsets = item_contexts(train, 12)
    rng = np.random.default_rng(0)
    items = np.array([5, 0, 2])
    numbers = set()
    for _ in range(200):
        chosen, owners = sample_contexts(offsets, items, 3, rng)
        assert len(set(chosen.tolist())) == len(chosen)
        assert (offsets[items[owners]] <= chosen).all() and (chosen < offsets[items[owners] + 1]).all()
        numbers |= set(np.bincount(owners).tolist())
    assert numbers == {1, 2, 3}
    seen = {int(c) for _ in range(200) for c in sample_contexts(offsets, items[1:2], 3, rng)[0]}
    assert seen == set(range(int(offsets[0]), int(offsets[1])))  # each context can be drawn


def test_split_by_quantiles(train: TrainSet) -> None:
    model = fitted(train)
    counts, frequency = np.diff(train.offsets), train.popularity
    assert set(model.long_users) == set(np.flatnonzero(counts > np.quantile(counts, 0.6)))
    border = np.quantile(frequency[frequency > 0], 0.58)
    assert set(model.frequent_items) == set(np.flatnonzero(frequency > border))
    assert set(model.rare_items) == set(np.flatnonzero((frequency <= border) & (frequency > 0)))
    assert frequency[-1] == 0 and len(model.rare_items) and len(model.frequent_items) and len(model.long_users)


def state_of(model: MELT, table: torch.Tensor, history: list[int]) -> torch.Tensor:
    """State after one sequence, alone; for a cloze model that of a mask put after it."""
    items, masked = torch.tensor(history), None
    if model.cloze:
        items = torch.cat([items, torch.zeros(1, dtype=torch.int64)])
        masked = torch.arange(len(items)) == len(items) - 1
    return model.network.states(table, items, masked, Layout(np.array([len(items)])), None)[-1]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_branch_losses_equal_a_plain_reference(backbone: str, train: TrainSet) -> None:
    model = fitted(train, backbone=backbone, lambda_users=0.3, lambda_items=0.7, max_len=12, e_max=10)
    network = model.network
    network.epoch += 4
    batch = next(iter(model.batches(train, np.random.default_rng(5))))
    assert isinstance(batch, MELTBatch) and batch.histories is not None and batch.contexts is not None

    def sequences(packed) -> list[list[int]]:
        lengths = packed.layout.lengths - model.cloze
        found = []
        for place in packed.back.tolist():
            start = packed.layout.starts[place]
            found.append(packed.inputs[start : start + lengths[place]].tolist())
        return found

    read = sequences(batch.histories)
    n = len(read) // 2
    people = [u for u in range(train.n_users) if any(train.history(u)[-model.places :].tolist() == r for r in read[n:])]
    assert len(people) >= n and all(len(train.history(u)) > model.short for u in people)
    table = network.items.own.weight
    total = torch.zeros(())
    losses = []
    for few, full in zip(read[:n], read[n:], strict=True):
        assert full[-len(few) :] == few and 1 <= len(few) < model.short
        weight = float(user_weights(np.array([len(full)]), model.short, 4, 10, model.places)[0])
        losses.append(weight * (network.user_branch(state_of(model, table, few)) - state_of(model, table, full)) ** 2)
    total = total + 0.3 * torch.stack(losses).mean()
    losses, contexts = [], sequences(batch.contexts)
    for number, item in enumerate(batch.frequent.tolist()):
        own = [c for c, owner in zip(contexts, batch.owners.tolist(), strict=True) if owner == number]
        possible = plain_contexts(train, item, model.places)
        assert 1 <= len(own) <= min(len(possible), model.rare) and all(c in possible for c in own)
        states = [state_of(model, table, c) for c in own]
        mean = torch.stack([s + network.user_branch(s) for s in states]).mean(0)
        weight = float(item_weights(train.popularity[[item]], model.rare, 4, 10)[0])
        losses.append((weight * (network.item_branch(mean) - table[item])) ** 2)
    total = total + 0.7 * torch.stack(losses).mean()

    network.train()
    ours = model.extra_loss(table, batch)
    torch.testing.assert_close(ours, total, atol=1e-6, rtol=1e-5)
    first = torch.autograd.grad(ours, list(network.parameters()), allow_unused=True)
    second = torch.autograd.grad(total, list(network.parameters()), allow_unused=True)
    for a, b in zip(first, second, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    plain = (model.loss(batch) - ours).item()
    model.config = model.config.model_copy(update={"lambda_users": 0.0, "lambda_items": 0.0})
    assert model.loss(batch).item() == pytest.approx(plain, abs=1e-5)  # added to the recommendation loss


@pytest.mark.parametrize("backbone", BACKBONES)
def test_rare_rows_are_rewritten_at_the_start_of_an_epoch(backbone: str, train: TrainSet) -> None:
    model = fitted(train, backbone=backbone, dropout=0.5)
    network = model.network
    network.train()  # as the loop leaves it: dropout must not touch the new rows
    before = network.items.own.weight.detach().clone()
    batches = model.batches(train, np.random.default_rng(0))
    assert torch.equal(network.items.own.weight, before)
    next(batches)
    assert network.training and int(network.epoch) == 1
    after = network.items.own.weight.detach().clone()
    network.eval()
    for item in range(train.n_items):
        if item in model.rare_items:
            states = torch.stack([state_of(model, before, c) for c in plain_contexts(train, item, model.places)])
            torch.testing.assert_close(after[item], network.item_branch(states.mean(0)).detach(), atol=1e-5, rtol=1e-4)
        else:  # frequent, or without any event
            assert torch.equal(after[item], before[item])


def test_every_long_history_and_frequent_item_passes_once_in_an_epoch(train: TrainSet) -> None:
    model = fitted(train, batch_size=3)
    batches = list(model.batches(train, np.random.default_rng(0)))
    items = torch.cat([b.frequent for b in batches])
    assert sorted(items.tolist()) == sorted(model.frequent_items)
    assert sum(len(b.user_weights) for b in batches) == len(model.long_users)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_short_histories_are_mended_when_asked(backbone: str, train: TrainSet, tmp_path) -> None:
    model = fitted(train, backbone=backbone)
    names = train.item_map.name
    for length in (1, model.short, model.short + 1, model.places):
        history = (np.arange(length) % 5).tolist()
        with torch.no_grad():
            state = state_of(model, model.table, history)
            wanted = state + model.network.user_branch(state) if length <= model.short else state
        asked = model.encode_queries([Query(history=names(np.array(history)).to_list())])[0]
        torch.testing.assert_close(asked, wanted, atol=1e-6, rtol=1e-5)
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    queries = [Query(user_id=u) for u in train.users.ids]
    assert torch.equal(loaded.score(queries), model.score(queries))


def test_pretraining_is_the_start_of_the_joint_training(train: TrainSet, tmp_path) -> None:
    options = {"epochs": 3, "folder": tmp_path / "run", **QUIET}
    model = create(
        "melt", **{k: v for k, v in SMALL.items() if k != "tail_share"}, **causal(), lambda_users=0.0, lambda_items=0.0, lr=1e-8
    ).fit(train, options=TrainingOptions(**options))
    plain = load_model(tmp_path / "run" / "backbone")
    assert plain.name == "sasrec" and plain.training_result is None
    alone = create("sasrec", **{k: v for k, v in model.config.model_dump().items() if k in type(plain.config).model_fields})
    alone.fit(train, options=TrainingOptions(epochs=2, **QUIET))
    assert torch.equal(plain.table, alone.table)
    # Without the branches nothing is mended: rare items and short histories are as the encoder has them.
    torch.testing.assert_close(model.table, alone.table, atol=1e-6, rtol=0.0)
    names = train.item_map.name
    for length in (1, model.short + 1):
        query = [Query(history=names(np.arange(length) % 5).to_list())]
        torch.testing.assert_close(model.encode_queries(query), alone.encode_queries(query), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.network.body.positions.weight, alone.network.body.positions.weight, atol=1e-6, rtol=0.0)
    # a fit without resume starts anew
    create("melt", **SMALL, **causal()).fit(train, options=TrainingOptions(**{**options, "seed": 2}))
    assert not torch.equal(load_model(tmp_path / "run" / "backbone").table, plain.table)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_resume_repeats_the_interrupted_training(backbone: str, tmp_path) -> None:
    split = uneven().split("leave-one-out")
    settings = {**SMALL, **causal(backbone), "max_len": 12}
    options = {"eval_every": 2, "monitor": "ndcg@10", "patience": 99, **QUIET}
    whole = create("melt", **settings).fit(split.train, split.valid, TrainingOptions(epochs=6, folder=tmp_path / "whole", **options))
    create("melt", **settings).fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "cut", **options))
    again = create("melt", **settings)
    again.fit(split.train, split.valid, TrainingOptions(epochs=6, folder=tmp_path / "cut", resume=True, **options))
    assert torch.equal(again.table, whole.table) and int(again.network.epoch) == int(whole.network.epoch)


def test_the_joint_training_ends_with_its_curriculum(train: TrainSet) -> None:
    assert int(fitted(train, epochs=9, e_max=3).network.epoch) == 3


def test_equal_histories_leave_everything_as_is() -> None:
    log = pl.DataFrame({"user_id": list("aabbcc"), "item_id": list("xyyzzx"), "timestamp": range(6)})
    with pytest.warns(DataWarning, match="no training history is longer"), pytest.warns(DataWarning, match="no item has more"):
        model = fitted(Dataset.from_frames(log).train_set(), epochs=1)
    assert model.short == 0 and not len(model.rare_items)
    history = model.encode_queries([Query(history=["x", "y"])])[0]
    torch.testing.assert_close(history, state_of(model, model.table, [0, 1]).detach())


def test_a_window_too_short_for_long_histories_is_refused(train: TrainSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("lexirec.models.melt.train_plain")  # before anything is trained
    with pytest.raises(InputError, match="raise max_len or lower tail_share"):
        fitted(train, max_len=3)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_overfits_twenty_sequences(backbone: str) -> None:
    """Nearly all are long and frequent here, so that both branches train beside the loss without mending what is asked."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u:02d}", f"i{i:02d}", t) for u in range(22) for t, i in enumerate(rng.permutation(30)[: 5 if u < 20 else 2])]
    train = Dataset.from_frames(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")).train_set()
    settings = {"loss": "ce", "lr": 0.01, "embedding_dim": 16, "tail_share": 0.05, "batch_size": 32, "e_max": 60}
    settings |= {"mask_last": 1.0, "inner": 32} if backbone == "bert4rec" else {"targets": "last"}
    model = fitted(train, epochs=60, backbone=backbone, **settings)
    assert len(model.long_users) == 20 and len(model.frequent_items) > 15 and len(model.rare_items)
    histories = [train.item_map.name(train.history(user)).to_list() for user in range(20)]
    found = model.recommend([Query(history=h[:-1]) for h in histories], k=1)["item_id"].to_list()
    assert sum(a == h[-1] for a, h in zip(found, histories, strict=True)) >= 18
