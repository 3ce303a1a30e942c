"""UniSRec: adaptor, pretraining on several data sets, and what is carried over."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.data.mixing import mix
from lexirec.errors import InputError, RunFolderError, UnsupportedQueryError
from lexirec.models import create, load_model
from lexirec.models.unisrec import ContrastBatch, ExpertsAdaptor, UniSRec, batch_contrast, thinned
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.test_fdsa import plain_block
from tests.models.toys import markov, of_others

SHAPE = {"embedding_dim": 12, "inner": 20, "max_len": 8, "encoder": "lsa", "experts": 3}
EXACT = {**SHAPE, "batch_size": 32, "dropout": 0.0, "adapter_dropout": 0.0, "init_std": 0.3}
QUIET = {"progress": False, "threads": 1}


def untrained(train: TrainSet, **settings: object) -> UniSRec:
    model = create("unisrec", **{**EXACT, **settings}).fit(train, options=TrainingOptions(epochs=0, **QUIET))
    assert isinstance(model, UniSRec)
    return model


def two_sets() -> TrainSet:
    one, other = markov(0.8, users=15), of_others(markov(0.5, users=10))
    return mix([(one.train_set(), None), (other.train_set(), None)], "both")[0]


# --- adaptor ---------------------------------------------------------------------------------------------------------------------


def test_adaptor_at_first_is_the_mean_of_its_experts() -> None:
    torch.manual_seed(0)
    adaptor = ExpertsAdaptor(10, 4, 8, 0.2).eval()
    with torch.no_grad():
        adaptor.bias.normal_()
    x = torch.randn(5, 10)
    plain = torch.stack([(x - adaptor.bias[g]) @ adaptor.weight[g] for g in range(8)])
    torch.testing.assert_close(adaptor(x), plain.mean(0), atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        adaptor.gate.normal_()
    gates = (x @ adaptor.gate).softmax(1)
    torch.testing.assert_close(adaptor(x), torch.einsum("ng,gnd->nd", gates, plain), atol=1e-6, rtol=1e-5)
    assert torch.equal(adaptor(x), adaptor(x))
    adaptor.train()
    adaptor.dropout = 0.0
    assert not torch.equal(adaptor(x), adaptor(x))  # noise of the gate, in training only


def test_gate_noise_has_the_published_size() -> None:
    adaptor = ExpertsAdaptor(6, 3, 2, 0.0).train()
    x = torch.randn(1, 6)
    torch.manual_seed(3)
    noise = torch.randn(1, 2)
    gates = (noise * (math.log(2) + 0.01)).softmax(1)  # softplus(0) + .01
    plain = sum(gates[:, g : g + 1] * (x @ adaptor.weight[g]) for g in range(2))
    torch.manual_seed(3)
    torch.testing.assert_close(adaptor(x), plain, atol=1e-6, rtol=1e-5)


def test_each_expert_drops_other_numbers_of_the_text() -> None:
    adaptor = ExpertsAdaptor(12, 12, 2, 0.5).train()
    with torch.no_grad():
        adaptor.weight[0], adaptor.weight[1] = torch.eye(12), 10 * torch.eye(12)
        adaptor.noise.fill_(-50.0)  # gates of nearly one half, which the scale of the dropout, two, makes up for
    found = adaptor(torch.ones(200, 12)).detach()
    second = found > 5
    first = found - 10.0 * second > 0.5
    for a in (False, True):
        for b in (False, True):
            assert ((first == a) & (second == b)).double().mean().item() == pytest.approx(0.25, abs=0.05)


def test_scores_are_bounded_by_one_over_tau() -> None:
    model = untrained(markov(0.8).train_set())
    scores = model.score([Query(user_id=u) for u in model.users.ids.to_list()]) / model.config.tau
    assert scores.abs().max() <= 1 / 0.07 + 1e-4 and pytest.approx(14.2857, abs=1e-4) == 1 / model.config.tau


# --- pretraining -----------------------------------------------------------------------------------------------------------------


def test_same_targets_are_neutralised_with_a_score_of_zero() -> None:
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(4, 3), dim=1) for _ in range(2))
    targets, tau = torch.tensor([7, 2, 7, 5]), 0.07
    total = 0.0
    for i in range(4):
        mass = 0.0
        for j in range(4):
            score = (a[i] @ b[j]).item() / tau
            mass += math.exp(0.0 if i != j and targets[i] == targets[j] else score)
        total -= (a[i] @ b[i]).item() / tau - math.log(mass)
    assert batch_contrast(a, b, targets, tau).item() == pytest.approx(total / 4, rel=1e-5)


def plain_states(model: UniSRec, vectors: list[torch.Tensor]) -> torch.Tensor:
    """Last states of sequences of item vectors, padded at the end with explicit masks."""
    body, length = model.network.body, model.config.max_len
    rows, real = torch.zeros(len(vectors), length, model.config.embedding_dim), torch.zeros(len(vectors), length, dtype=torch.bool)
    for i, sequence in enumerate(vectors):
        rows[i, : len(sequence)], real[i, : len(sequence)] = sequence, True
    rows = body.norm(rows + body.positions.weight)
    for block in body.blocks:
        rows = plain_block(block, rows, real, 2)
    return rows[torch.arange(len(vectors)), real.sum(1) - 1]


@pytest.mark.parametrize("item_drop", [0.0, 1.0])
def test_first_step_of_the_pretraining_equals_a_plain_padded_reference(item_drop: float) -> None:
    train = two_sets()
    model = untrained(train, stage="pretrain", item_drop=item_drop, seq_weight=0.5)
    model.network.eval()  # no noise in the gates
    batch = next(iter(model.batches(train, np.random.default_rng(3))))
    assert isinstance(batch, ContrastBatch)
    value = model.loss(batch)
    value.backward()
    ours = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    model.network.zero_grad()
    adaptor = model.network.items.adapter
    plain = adaptor(model.network.items.text[batch.rows])
    both = plain if item_drop else torch.cat([plain, adaptor(model.thin[batch.rows])])

    def cut(flat: torch.Tensor, layout: object, table: torch.Tensor) -> list[torch.Tensor]:
        return [table[flat[start : start + n]] for start, n in zip(layout.starts, layout.lengths, strict=True)]

    states = F.normalize(plain_states(model, cut(batch.inputs, batch.layout, plain)), dim=1)
    second = F.normalize(plain_states(model, cut(batch.other_inputs, batch.other_layout, both))[batch.back], dim=1)
    wanted = F.normalize(plain[batch.targets], dim=1)
    same = (batch.targets[:, None] == batch.targets[None, :]) & ~torch.eye(len(batch.targets), dtype=torch.bool)

    def contrast(others: torch.Tensor) -> torch.Tensor:
        scores = states @ others.T / 0.07
        positive = (states * others).sum(1) / 0.07
        return -(positive.exp() / torch.where(same, torch.zeros(()), scores).exp().sum(1)).log().mean()

    reference = contrast(wanted) + 0.5 * contrast(second)
    reference.backward()
    torch.testing.assert_close(value, reference, atol=1e-4, rtol=1e-4)
    parameters = dict(model.network.named_parameters())
    assert set(parameters) - set(ours) == {"items.adapter.noise"}  # no noise, no gradient
    for name, grad in ours.items():
        torch.testing.assert_close(grad, parameters[name].grad, atol=1e-3, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


def test_events_are_dropped_in_order_and_the_first_stays() -> None:
    train = markov(0.8).train_set()
    model = untrained(train, stage="pretrain", batch_size=5000, item_drop=1.0)
    (batch,) = model.batches(train, np.random.default_rng(0))
    (words,) = untrained(train, stage="pretrain", batch_size=5000, item_drop=0.0).batches(train, np.random.default_rng(0))
    kept = batch.other_layout.total / batch.layout.total
    assert 0.75 < kept < 0.95 and (np.diff(batch.other_layout.lengths) <= 0).all()
    for row in range(0, len(batch.layout.lengths), 37):
        start, n = batch.layout.starts[row], batch.layout.lengths[row]
        place = int(batch.back[row])
        first, m = batch.other_layout.starts[place], batch.other_layout.lengths[place]
        whole, left = batch.inputs[start : start + n].tolist(), batch.other_inputs[first : first + m].tolist()
        assert left[0] == whole[0]
        position = -1
        for item in left:
            position = whole.index(item, position + 1)
    thinned_share = (words.other_inputs >= len(words.rows)).float().mean()
    assert 0.15 < thinned_share < 0.25 and torch.equal(words.other_inputs % len(words.rows), words.inputs)


def test_thinned_texts() -> None:
    texts = [f"word{i} " * 40 for i in range(50)]
    found = thinned(texts)
    share = 1 - sum(len(t.split()) for t in found) / (40 * 50)
    assert 0.12 < share < 0.18 and found == thinned(texts)
    assert thinned(["one", ""]) == ["one", ""]


# --- fine-tuning -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", ["text", "id+text"])
def test_first_step_of_the_fine_tuning_equals_a_plain_padded_reference(items: str) -> None:
    train = markov(0.8, users=20).train_set()
    model = untrained(train, items=items)
    model.network.eval()
    batch = next(iter(model.batches(train, np.random.default_rng(3))))
    value = model.loss(batch)
    value.backward()
    ours = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    model.network.zero_grad()
    table = model.network.items.adapter(model.network.items.text)
    if items == "id+text":
        table = table + model.network.items.own.weight
    rows = [table[batch.inputs[a : a + n]] for a, n in zip(batch.layout.starts, batch.layout.lengths, strict=True)]
    scores = F.normalize(plain_states(model, rows), dim=1) @ F.normalize(table, dim=1).T / 0.07
    reference = F.cross_entropy(scores, batch.targets)
    reference.backward()
    torch.testing.assert_close(value, reference, atol=1e-4, rtol=1e-4)
    parameters = dict(model.network.named_parameters())
    assert set(parameters) - set(ours) == {"items.adapter.noise"}  # no noise, no gradient
    for name, grad in ours.items():
        torch.testing.assert_close(grad, parameters[name].grad, atol=1e-3, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    model = create("unisrec", **SHAPE, stage="pretrain", batch_size=64).fit(two_sets(), options=TrainingOptions(epochs=2, **QUIET))
    model.save(tmp_path / "pretrained")
    return tmp_path / "pretrained"


@pytest.mark.parametrize("items", ["text", "id+text"])
def test_pretrained_weights_are_taken_over_and_the_encoder_stays(items: str, pretrained: Path, tmp_path: Path) -> None:
    train = markov(0.8).train_set()
    source = load_model(pretrained).network.state_dict()
    model = create("unisrec", **SHAPE, items=items, pretrained=str(pretrained), batch_size=64, lr=0.01)
    model.fit(train, options=TrainingOptions(epochs=2, **QUIET))
    now = model.network.state_dict()
    for name, value in source.items():
        frozen = name.startswith(("body.blocks.", "body.positions."))
        assert torch.equal(now[name], value) == frozen, name
    free = create("unisrec", **SHAPE, items=items, pretrained=str(pretrained), freeze=False, batch_size=64)
    free.fit(train, options=TrainingOptions(epochs=1, **QUIET))
    assert not torch.equal(free.network.state_dict()["body.positions.weight"], source["body.positions.weight"])
    model.save(tmp_path / "tuned")  # and is loaded without the pretrained run
    for file in pretrained.iterdir():
        file.unlink()
    asked = [Query(user_id=train.users.ids[0])]
    assert torch.equal(load_model(tmp_path / "tuned").score(asked), model.score(asked))


def test_items_read_otherwise_than_in_the_pretraining_are_told(pretrained: Path) -> None:
    data = markov(0.8)
    items = data.items.with_columns(name=pl.col("title"))
    train = Dataset(data.interactions, items, name=data.name).train_set()
    with pytest.warns(UserWarning, match="read items as 'title' and this training reads them as 'title,name'"):
        create("unisrec", **SHAPE, text="title,name", pretrained=str(pretrained)).fit(train, options=TrainingOptions(epochs=0, **QUIET))


def test_columns_that_a_data_set_of_a_mix_lacks_are_left_out() -> None:
    """As of ``configs/mix/unisrec-pretrain.yaml``, whose data sets have not all of title, categories and brand."""
    one, other = markov(0.8, users=15), markov(0.5, users=10)
    items = other.items.with_columns(categories=pl.lit(["Shop > Things"], dtype=pl.List(pl.String)), brand=pl.lit("Acme"))
    train = mix([(one.train_set(), None), (Dataset(other.interactions, items, name="other").train_set(), None)], "both")[0]
    model = untrained(train, stage="pretrain", text="title,categories,brand", item_drop=1.0)
    assert torch.isfinite(model.loss(next(iter(model.batches(train, np.random.default_rng(0))))))


def test_the_pretrained_encoder_is_kept(pretrained: Path) -> None:
    """``lsa`` fitted on other texts is another space: the one that was pretrained on is asked."""
    train = markov(0.8, items=8).train_set()
    model = create("unisrec", **SHAPE, pretrained=str(pretrained)).fit(train, options=TrainingOptions(epochs=0, **QUIET))
    assert model.reader.encoder.fingerprint == load_model(pretrained).reader.encoder.fingerprint
    for other in ("minilm", "lsa?dim=5"):  # the default is no more taken for another than any is
        with pytest.raises(InputError, match=r"reads texts with encoder = 'lsa', which is kept, not '.*'; set encoder=lsa"):
            create("unisrec", **{**SHAPE, "encoder": other}, pretrained=str(pretrained)).fit(train)
    model.config = model.config.model_copy(update={"encoder": "minilm"})  # as an older version wrote it down
    model.save(pretrained.parent / "older")
    for name in ("lsa", "lsa?dim=256"):
        again = create("unisrec", **{**SHAPE, "encoder": name}, pretrained=str(pretrained.parent / "older"))
        again.fit(train, options=TrainingOptions(epochs=0, **QUIET))
        assert again.reader.encoder.fingerprint == model.reader.encoder.fingerprint
    with pytest.raises(InputError, match="has embedding_dim = 12"):
        create("unisrec", **{**SHAPE, "embedding_dim": 8}, pretrained=str(pretrained)).fit(train)
    with pytest.raises(RunFolderError):
        create("unisrec", **SHAPE, pretrained="nowhere").fit(train)


def test_a_pretrained_model_answers_elsewhere_without_training(pretrained: Path) -> None:
    other = load_model(pretrained).transfer(markov(0.8, items=8).train_set())
    assert other.recommend("u001", k=3).height == 3
    with pytest.raises(UnsupportedQueryError, match="items='text'"):
        untrained(markov(0.8).train_set(), items="id+text").transfer(markov(0.8).train_set())


def test_new_items_are_candidates_and_history() -> None:
    train = markov(0.8).train_set()
    model = create("unisrec", **SHAPE, batch_size=64, lr=0.01).fit(train, options=TrainingOptions(epochs=3, **QUIET))
    twin = pl.DataFrame({"item_id": ["new"], "title": ["candle"]})  # the words of i02
    model.add_items(twin)
    rows = model.score([Query(history=["i01", "new"]), Query(history=["i01", "i02"])])
    torch.testing.assert_close(rows[0], rows[1])
    torch.testing.assert_close(rows[:, 2], rows[:, -1])


def test_learns_an_order_from_text_alone() -> None:
    split = markov(0.9, users=120).split("leave-one-out")
    model = create("unisrec", **{**SHAPE, "batch_size": 64, "dropout": 0.1, "lr": 0.01, "embedding_dim": 16})
    model.fit(split.train, split.valid, TrainingOptions(epochs=10, eval_every=5, monitor="hr@1", mask_seen=False, **QUIET))
    assert model.training_result.best_value > 0.7


def test_overfits_twenty_sequences() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i:02d}", t) for u in range(20) for t, i in enumerate(rng.permutation(30)[:5])]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    words = ["red", "blue", "green", "old", "new", "tall"]
    items = pl.DataFrame(
        {"item_id": [f"i{i:02d}" for i in range(30)], "title": [f"{words[i % 6]} thing{i} {words[i // 6]}" for i in range(30)]}
    )
    train = Dataset(log, items).train_set()
    model = create("unisrec", **{**EXACT, "lr": 0.01, "targets": "last", "init_std": 0.02})
    model.fit(train, options=TrainingOptions(epochs=80, **QUIET))
    hits = 0
    for user in range(20):
        history = train.item_map.name(train.history(user)).to_list()
        hits += model.recommend(Query(history=history[:-1]), k=1)["item_id"][0] == history[-1]
    assert hits >= 19


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_resume_repeats_the_interrupted_training(stage: str, tmp_path: Path) -> None:
    split = markov(0.8, users=20).split("leave-one-out")
    settings = {**SHAPE, "stage": stage, "batch_size": 32}
    options = {"eval_every": 2, "monitor": "ndcg@10", **QUIET}
    whole = create("unisrec", **settings).fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "whole", **options))
    create("unisrec", **settings).fit(split.train, split.valid, TrainingOptions(epochs=2, folder=tmp_path / "cut", **options))
    again = create("unisrec", **settings)
    again.fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "cut", resume=True, **options))
    assert torch.equal(again.table, whole.table)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seq_weight": 0.5}, "seq_weight = 0.5 has no effect with stage = 'finetune'"),
        ({"item_drop": 0.5}, "item_drop = 0.5 has no effect with stage = 'finetune'"),
        ({"drop_ratio": 0.5, "pretrained": "run"}, "drop_ratio = 0.5 has no effect with stage = 'finetune'"),
        ({"freeze": False}, "freeze = False has no effect with pretrained = None"),
        ({"stage": "pretrain", "freeze": False}, "freeze = False has no effect with pretrained = None"),
        ({"stage": "pretrain", "targets": "all"}, "targets = 'all' has no effect with stage = 'pretrain'"),
        ({"num_negs": 5}, "num_negs = 5 has no effect with loss = 'ce'"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create("unisrec", **settings)


def test_bad_input(tmp_path: Path) -> None:
    data = markov(0.8, users=10)
    with pytest.raises(InputError, match="stage='pretrain' learns from texts alone"):
        create("unisrec", stage="pretrain", items="id+text")
    with pytest.raises(InputError, match="starts from scratch"):
        create("unisrec", stage="pretrain", pretrained="run")
    silent = Dataset(data.interactions, data.items.with_columns(title=pl.lit(None, dtype=pl.String)))
    with pytest.raises(InputError, match="no item is left"):
        create("unisrec", **SHAPE).fit(silent.train_set())
    vectors = tmp_path / "vectors.parquet"
    pl.DataFrame({"item_id": data.items["item_id"], "vector": np.eye(data.n_items).tolist()}).write_parquet(vectors)
    with pytest.raises(InputError, match="item_drop=1"):
        create("unisrec", **{**SHAPE, "encoder": f"file:{vectors}"}, stage="pretrain").fit(data.train_set())
    untrained(data.train_set(), encoder=f"file:{vectors}", stage="pretrain", item_drop=1.0)
    with pytest.raises(InputError, match="mixes 2 data sets"):
        create("unisrec", **SHAPE).fit(two_sets())
    untrained(data.train_set()).save(tmp_path / "run")
    create("sasrec", embedding_dim=4).fit(data.train_set(), options=TrainingOptions(epochs=0, **QUIET)).save(tmp_path / "other")
    with pytest.raises(InputError, match="is a sasrec"):
        create("unisrec", **SHAPE, pretrained=str(tmp_path / "other")).fit(data.train_set())
