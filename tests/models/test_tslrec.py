"""TSLRec: latent categories, exact targets, what the language model learns from ids, and the vectors that come of it."""

from importlib import import_module
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.errors import InputError, NonFiniteLossError
from lexirec.models import create, load_model, tslrec
from lexirec.models.tslrec import ReadHistories, TSLRec, TSLRecConfig, histograms, kmeans
from lexirec.query import Query
from lexirec.training.loop import run_training
from lexirec.training.options import TrainingOptions
from tests.models.toys import markov

BACKBONES = ["sasrec", "bert4rec", "gru4rec"]
NAMED = {"embedding_dim": 8, "max_len": 8, "batch_size": 16, "lm_epochs": 2, "categories": 3}
SMALL = {**NAMED, "lm_dim": 16, "lm_layers": 1}
QUIET = {"progress": False, "threads": 1}


def two_tastes(users: int = 40) -> TrainSet:
    """People who take even items, odd ones, or half of each, in random order; the last item has no event."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(users):
        likes = [np.arange(0, 12, 2), np.arange(1, 12, 2), np.arange(12)][user % 3]
        rows += [(f"u{user:02d}", f"i{i:02d}", t) for t, i in enumerate(rng.permutation(likes)[: 4 + user % 3])]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    names = [f"i{i:02d}" for i in range(13)]
    return Dataset(log, pl.DataFrame({"item_id": names, "title": names})).train_set()


def stage(train: TrainSet, **settings: object) -> ReadHistories:
    config = TSLRecConfig(**{**SMALL, **settings})
    torch.manual_seed(0)
    labels = np.arange(train.n_items) % 2
    return ReadHistories(train, histograms(train, labels, 2), config, torch.device("cpu"))


def train_stage(model: ReadHistories, epochs: int) -> None:
    run_training(cast(Any, model), cast(Any, None), None, TrainingOptions(epochs=epochs, **QUIET))


def test_clusters_are_the_known_ones_and_none_is_empty() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, 6)) * 20
    truth = rng.integers(0, 5, 200)
    rows = centres[truth] + rng.standard_normal((200, 6))
    found = kmeans(rows, 5, np.random.default_rng(1))
    assert len({(a, b) for a, b in zip(truth, found, strict=True)}) == 5
    same = np.zeros((6, 3))
    assert sorted(np.bincount(kmeans(same, 4, np.random.default_rng(0)), minlength=4)) == [1, 1, 1, 3]
    assert sorted(kmeans(rows[:7], 7, np.random.default_rng(0))) == list(range(7))


def test_targets_are_exact_histograms() -> None:
    log = pl.DataFrame(
        {"user_id": list("aaaab") + ["c"] * 3, "item_id": list("xyxzyzzz"), "timestamp": range(8)},
    )
    data = Dataset.from_frames(log)
    labels = np.array([2, 0, 1])  # x, y, z
    found = histograms(data.train_set(), labels, 4)
    np.testing.assert_array_equal(found, np.array([[0.25, 0.25, 0.5, 0], [1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.float32))
    without_b = data.train_set((data.interactions["user_id"] != "b").to_numpy())
    assert histograms(without_b, labels, 4)[1].tolist() == [0, 0, 0, 0]


def test_loss_equals_a_plain_reference() -> None:
    train = two_tastes()
    model = stage(train)
    batch = np.array([0, 1, 2, 5])
    ours = model.loss(batch)
    losses = []
    for user in batch:
        items = torch.from_numpy(train.history(int(user)).astype(np.int64))[-8:]
        states = model.network.lm.model(inputs_embeds=model.network.tokens(items)[None]).last_hidden_state[0]
        share = np.bincount(train.history(int(user)) % 2, minlength=2) / len(train.history(int(user)))
        losses.append(-(torch.from_numpy(share) * model.network.head(states.mean(0)).log_softmax(0)).sum())
    torch.testing.assert_close(ours, torch.stack(losses).mean().float(), atol=1e-5, rtol=1e-5)


def test_batches_hold_every_history_once_within_the_budget() -> None:
    model = stage(two_tastes(), lm_tokens=24)
    batches = list(model.batches(None, np.random.default_rng(0)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(40)) and len(batches) == model.n_batches()
    assert all(len(b) * model.lengths[b].max() <= 24 for b in batches)


@pytest.mark.parametrize("tune", ["all", "lora", "none"])
def test_preferences_are_learned_and_only_what_is_configured_is_trained(tune: str) -> None:
    if tune == "lora":
        pytest.importorskip("peft")
    model = stage(two_tastes(), tune=tune, lm_lr=0.02, lm_epochs=30, lm_tokens=64)
    network = model.network
    base = {name: p.detach().clone() for name, p in network.lm.named_parameters()}
    train_stage(model, 30)
    network.eval()
    batch = np.arange(40)
    target = torch.from_numpy(model.targets[model.users])
    entropy = -(target * target.clamp(min=1e-9).log()).sum(1).mean().item()
    with torch.no_grad():
        assert model.loss(batch).item() < entropy + 0.05  # no loss can be below the targets' entropy
    moved = {name for name, p in network.lm.named_parameters() if not torch.equal(base[name], p)}
    if tune == "all":
        assert any("q_proj" in name for name in moved) and any("mlp" in name for name in moved)
    else:
        assert all("lora_" in name for name in moved) and bool(moved) == (tune == "lora")
    assert not any("embed_tokens" in name or "lm_head" in name for name in moved)  # its own words are not read
    # Items alone: those of one taste lie closer to each other than to the other's.
    states = model.item_states()
    even, odd = states[0:12:2].mean(0), states[1:12:2].mean(0)
    assert ((states[0:12:2] - even).norm(dim=1).max() < (states[0:12:2] - odd).norm(dim=1)).all()
    tokens = network.tokens.weight.detach()
    torch.testing.assert_close(tokens[12], tokens[:12].mean(0), atol=1e-6, rtol=1e-5)  # the item without an event


def test_vectors_are_scaled_principal_components() -> None:
    model = TSLRec(**SMALL)
    states = torch.randn(30, 16, generator=torch.Generator().manual_seed(0)) * 7 + 3
    found = model.reduced(states)
    assert found.shape == (30, 8) and found.mean(0).abs().max() < 1e-5
    assert found.square().sum(1).mean().item() == pytest.approx(1.0, abs=1e-5)
    centred = (states - states.mean(0)).double()
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    plain = left[:, :8] * values[:8]
    plain = plain / plain.square().sum(1).mean().sqrt()
    torch.testing.assert_close(found.double() @ found.double().T, plain @ plain.T, atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="raise lm_dim"):
        model.reduced(states[:, :4])


def test_a_wrong_width_is_told_before_any_stage(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import OPTConfig, OPTForCausalLM

    def train(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("something was trained")

    monkeypatch.setattr("lexirec.models.stages.train_plain", train)
    train_set = markov(0.8, users=20).split("leave-one-out").train
    with pytest.raises(InputError, match="16 dimensions where embedding_dim is 32; raise lm_dim"):
        create("tslrec", **{**SMALL, "embedding_dim": 32}).fit(train_set)
    with pytest.raises(InputError, match="14 principal directions can't be fitted on 12 items; lower embedding_dim"):
        create("tslrec", **{**SMALL, "embedding_dim": 14}).fit(train_set)
    # whose states are narrower than its blocks
    config = OPTConfig(vocab_size=9, hidden_size=16, word_embed_proj_dim=8, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16)
    OPTForCausalLM(config).save_pretrained(tmp_path / "opt")
    named = {**NAMED, "lm": str(tmp_path / "opt")}
    with pytest.raises(InputError, match="8 dimensions where embedding_dim is 12"):
        create("tslrec", **{**named, "embedding_dim": 12}).fit(train_set)
    for settings in (SMALL, named):
        with pytest.raises(RuntimeError, match="something was trained"):
            create("tslrec", **settings).fit(train_set)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_stage_two_starts_at_the_vectors_and_is_read_back(backbone: str, tmp_path) -> None:
    split = markov(0.8, users=30).split("leave-one-out")
    for freeze in (False, True):
        model = create("tslrec", **SMALL, backbone=backbone, freeze=freeze)
        model.fit(split.train, split.valid, TrainingOptions(epochs=2, **QUIET))
        assert isinstance(model, TSLRec)
        assert torch.equal(model.table, model.vectors) == freeze
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    queries = [Query(user_id=u) for u in split.train.users.ids]
    assert torch.equal(loaded.score(queries), model.score(queries))
    assert not any("tokens" in name for name in model.network.state_dict())


def test_the_teacher_is_trained_or_read_and_stage_one_is_kept(tmp_path, monkeypatch) -> None:
    split = markov(0.8, users=20).split("leave-one-out")
    teacher = create("gru4rec", embedding_dim=4).fit(split.train, options=TrainingOptions(epochs=1, **QUIET))
    teacher.save(tmp_path / "teacher")
    trained = []
    monkeypatch.setattr(tslrec, "run_training", lambda *args: trained.append(run_training(*args)))
    options = TrainingOptions(epochs=1, folder=tmp_path / "run", **QUIET)
    create("tslrec", **SMALL, teacher=str(tmp_path / "teacher")).fit(split.train, options=options)
    assert not (tmp_path / "run" / "teacher").exists()
    create("tslrec", **SMALL).fit(split.train, options=options)
    assert load_model(tmp_path / "run" / "teacher").name == "sasrec" and len(trained) == 2
    assert not list((tmp_path / "run").glob("tslrec-*"))  # the stage's checkpoints, which are of no more use
    create("tslrec", **SMALL, backbone="gru4rec").fit(split.train, options=options)
    assert len(trained) == 2  # the teacher and the log are the same
    few = Dataset.from_frames(split.train.interactions.head(9).select("user_id", "item_id", "timestamp")).train_set()
    other = create("gru4rec", embedding_dim=4).fit(few, options=TrainingOptions(epochs=0, **QUIET))
    other.save(tmp_path / "other")
    with pytest.raises(InputError, match="items are unknown to it"):
        create("tslrec", **SMALL, teacher=str(tmp_path / "other")).fit(split.train, options=options)
    with pytest.raises(InputError, match="categories = 99 and the catalogue has 12 items"):
        create("tslrec", **{**SMALL, "categories": 99}).fit(split.train, options=options)


def test_resume_repeats_the_interrupted_training(tmp_path, monkeypatch) -> None:
    split = markov(0.8, users=30).split("leave-one-out")
    options = {"eval_every": 2, "monitor": "ndcg@10", "patience": 99, **QUIET}
    whole = create("tslrec", **SMALL).fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "whole", **options))
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache-cut"))
    monkeypatch.setattr("lexirec.training.loop.SAVE_SECONDS", 0.0)
    evaluated = []

    def validate(*args: Any, **kwargs: Any) -> Any:
        evaluated.append(1)
        if len(evaluated) == 4:  # the teacher has two, so this is the second of the model itself, after stage 1
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    module = import_module("lexirec.evaluation.evaluate")
    real = module.evaluate
    monkeypatch.setattr(module, "evaluate", validate)
    cut = TrainingOptions(epochs=4, folder=tmp_path / "cut", **options)
    with pytest.raises(KeyboardInterrupt):
        create("tslrec", **SMALL).fit(split.train, split.valid, cut)
    again = create("tslrec", **SMALL).fit(split.train, split.valid, cut.model_copy(update={"resume": True}))
    queries = [Query(user_id=u) for u in split.train.users.ids]
    assert len(evaluated) == 5 and torch.equal(again.score(queries), whole.score(queries))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_overfits_twenty_sequences(backbone: str) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u:02d}", f"i{i:02d}", t) for u in range(20) for t, i in enumerate(rng.permutation(30)[:5])]
    train = Dataset.from_frames(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")).train_set()
    settings = {"loss": "ce", "lr": 0.01, "embedding_dim": 16, "batch_size": 32, "dropout": 0.0}
    settings |= {"mask_last": 1.0, "inner": 32} if backbone == "bert4rec" else {"targets": "last"}
    model = create("tslrec", **{**SMALL, **settings}, backbone=backbone).fit(train, options=TrainingOptions(epochs=60, **QUIET))
    histories = [train.item_map.name(train.history(user)).to_list() for user in range(20)]
    found = model.recommend([Query(history=h[:-1]) for h in histories], k=1)["item_id"].to_list()
    assert sum(a == h[-1] for a, h in zip(found, histories, strict=True)) >= 18


def test_a_lost_stage_names_its_users_and_its_rate() -> None:
    model = stage(two_tastes())
    model.network.tokens.weight.data.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match=r"take part: user_id 'u\d\d'.*; lower lm_lr$"):
        train_stage(model, 1)
