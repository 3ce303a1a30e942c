"""SAID: what stage 1 trains and learns, that it runs once, and what stage 2 keeps."""

import math
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lexirec.data.dataset import Dataset
from lexirec.data.messages import DataWarning
from lexirec.errors import InputError, NonFiniteLossError
from lexirec.models import create, load_model, said
from lexirec.models.language import load_lm
from lexirec.models.said import SAID, SAIDConfig, WriteTexts, tokenised
from lexirec.query import Query
from lexirec.text.encoders.hub import bundled_folder
from lexirec.training.loop import run_training
from lexirec.training.options import TrainingOptions
from tests.models.toys import markov

BACKBONES = ["sasrec", "bert4rec", "gru4rec"]
NAMED = {"embedding_dim": 8, "max_len": 8, "batch_size": 16, "lm_epochs": 2}
SMALL = {**NAMED, "lm_dim": 16, "lm_layers": 1}
QUIET = {"progress": False, "threads": 1}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory) -> str:
    """A tiny causal model with a tokenizer, as it would lie in a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = ["<end>", "<unk>", "title", "is", ":", ";", "item", "has", "the", "following", "attributes", "The", "apple", "brush", "lamp"]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("gpt2")
    PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=64, n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
    return str(folder)


TEXTS = ["The item: title is red apple", "", "The item: title is blue brush; brand is a longer one", "The item: title is lamp"]


def stage(texts: list[str] = TEXTS, **settings: object) -> WriteTexts:
    config = SAIDConfig(**{**(NAMED if settings.get("lm", "small") != "small" else SMALL), **settings})
    torch.manual_seed(0)
    tokens, vocabulary = tokenised(texts, config)
    return WriteTexts(tokens, pl.Series("item_id", [f"i{n}" for n in range(len(texts))]), vocabulary, config, torch.device("cpu"))


def train_stage(model: WriteTexts, epochs: int) -> None:
    run_training(cast(Any, model), cast(Any, None), None, TrainingOptions(epochs=epochs, **QUIET))


def test_texts_are_of_the_attributes_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    data = markov(0.8)
    train = Dataset(data.interactions, data.items.with_columns(colour=pl.lit("red"))).split("leave-one-out").train
    written: list[list[str]] = []

    def seen(texts: list[str], config: SAIDConfig):
        written.append(texts)
        return tokenised(texts, config)

    monkeypatch.setattr(said, "tokenised", seen)
    for settings in ({}, {"columns": ("title",), "instruction": "Item: ", "max_characters": 3}):
        create("said", **SMALL, **settings).fit(train, options=TrainingOptions(epochs=0, **QUIET))
    assert "colour is red" in written[0][0] and written[1][0].startswith("Item: title is ")
    assert max(map(len, written[1])) <= len("Item: title is abc")


def test_tokens_end_and_a_small_vocabulary_holds_what_occurs() -> None:
    tokens, size = tokenised(TEXTS, SAIDConfig())
    assert [len(t) for t in tokens][1] == 0 and {int(t) for found in tokens for t in found} == set(range(size))
    assert len({int(found[-1]) for found in tokens if len(found)}) == 1  # the end
    cut, _ = tokenised(TEXTS, SAIDConfig(max_tokens=4))
    assert [len(t) for t in cut] == [4, 0, 4, 4] and cut[0][-1] == cut[2][-1]


@pytest.mark.parametrize("lm", ["small", "gpt2"])
def test_loss_equals_a_plain_reference(lm: str, request) -> None:
    """Each text alone, token by token: the mean over all tokens of -log p(token | item vector, tokens before)."""
    model = stage(lm=request.getfixturevalue("gpt2") if lm == "gpt2" else lm)
    network = model.network.eval()
    batch = np.array([0, 1, 2])
    ours = model.loss(batch)
    losses = []
    for place in batch:
        start = model.starts[place]
        tokens = torch.from_numpy(model.flat[start : start + model.lengths[place]])
        first = network.projector(network.table.weight[model.items[place]])[None]
        for t in range(len(tokens)):
            inputs = torch.cat([first, network.lm.get_input_embeddings()(tokens[:t])])[None]
            losses.append(F.cross_entropy(network.lm(inputs_embeds=inputs).logits[0, -1], tokens[t]))
    torch.testing.assert_close(ours, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tune", ["all", "lora", "none"])
def test_only_what_is_configured_is_trained_and_the_loss_falls(tune: str, gpt2: str) -> None:
    if tune == "lora":
        pytest.importorskip("peft")
    model = stage(lm=gpt2, tune=tune, lm_lr=0.01, lm_epochs=20)
    network = model.network
    base = {name: p.detach().clone() for name, p in network.lm.named_parameters()}
    others = {name: p.detach().clone() for name, p in network.named_parameters() if not name.startswith("tuned")}
    batch = np.arange(3)
    with torch.no_grad():
        before = model.loss(batch).item()
    train_stage(model, 20)
    network.eval()
    with torch.no_grad():
        # beside random weights that stay, table and projector alone can do little
        assert model.loss(batch).item() < {"all": 0.8, "lora": 0.97, "none": 0.99}[tune] * before
    assert set(others) == {"table.weight", "projector.0.weight", "projector.0.bias", "projector.2.weight", "projector.2.bias"}
    for name, value in others.items():
        assert not torch.equal(value, dict(network.named_parameters())[name]), name
    moved = {name for name, p in network.lm.named_parameters() if not torch.equal(base[name], p)}
    if tune == "all":
        assert moved == set(base)
    elif tune == "none":
        assert not moved and len(network.tuned) == 0
    else:
        assert moved and all("lora_" in name for name in moved)
        assert all("lora_" in name for name, p in network.lm.named_parameters() if p.requires_grad)
    # the item without a prompt has no loss; its row is the mean of the others
    assert torch.equal(network.table.weight[1].detach(), others["table.weight"][1])
    torch.testing.assert_close(model.table()[1], model.table()[[0, 2, 3]].mean(0))


def test_vectors_learn_their_texts() -> None:
    """From the item vector alone the first word of the own title is told, so the table holds meaning."""
    texts = [f"{word} thing" for word in ("apple", "brush", "lamp", "apple", "brush", "lamp")]
    model = stage(texts, lm_lr=0.02, lm_epochs=60)
    train_stage(model, 60)
    with torch.no_grad():
        assert model.network.eval() is not None and model.loss(np.arange(6)).item() < 0.1 * math.log(5)


def test_batches_hold_every_text_once_within_the_budget() -> None:
    texts = [" ".join(["apple"] * n) for n in (1, 2, 3, 9, 30, 30, 4, 2, 2)]
    model = stage(texts, lm_tokens=40)
    batches = list(model.batches(None, np.random.default_rng(0)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(9)) and len(batches) == model.n_batches()
    assert all(len(b) * model.lengths[b].max() <= 40 for b in batches)
    again = list(model.batches(None, np.random.default_rng(1)))
    assert [b.tolist() for b in again] != [b.tolist() for b in batches]


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_stage_two_starts_at_the_table_and_freezes_it_or_not(backbone: str, freeze: bool, tmp_path) -> None:
    split = markov(0.8, users=30).split("leave-one-out")
    model = create("said", **SMALL, backbone=backbone, freeze=freeze)
    model.fit(split.train, split.valid, TrainingOptions(epochs=2, **QUIET))
    assert isinstance(model, SAID)
    assert torch.equal(model.table, model.vectors) == freeze
    assert (model.table - model.vectors).abs().max() < 0.1
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    queries = [Query(user_id=u) for u in split.train.users.ids]
    assert torch.equal(loaded.score(queries), model.score(queries))
    assert not any("lm" in name or "projector" in name for name in model.network.state_dict())  # no language model in what is kept


def test_stage_one_runs_once_for_all_encoders_and_anew_for_other_settings(monkeypatch, gpt2: str) -> None:
    split = markov(0.8, users=20).split("leave-one-out")
    trained = []
    monkeypatch.setattr(said, "run_training", lambda *args: trained.append(run_training(*args)))
    options = TrainingOptions(epochs=1, **QUIET)
    found = [cast(SAID, create("said", **SMALL, backbone=b).fit(split.train, options=options)).vectors for b in BACKBONES]
    assert len(trained) == 1 and all(torch.equal(found[0], other) for other in found)
    create("said", **{**SMALL, "lm_epochs": 3}).fit(split.train, options=options)
    create("said", **SMALL).fit(split.train, options=options.model_copy(update={"seed": 2}))
    create("said", **NAMED, lm=gpt2).fit(split.train, options=options)
    assert len(trained) == 4


def test_prompts_longer_than_what_is_written_are_told() -> None:
    train = markov(0.8, users=20).split("leave-one-out").train
    for _ in range(2):  # the second time the kept table is taken up
        with pytest.warns(DataWarning, match=r"12 of 12 prompts fill max_tokens=4 tokens \(item_id 'i00'.*raise max_tokens"):
            create("said", **SMALL, max_tokens=4).fit(train, options=TrainingOptions(epochs=0, **QUIET))


def test_resume_repeats_an_interrupted_first_stage_and_training(tmp_path, monkeypatch) -> None:
    split = markov(0.8, users=30).split("leave-one-out")
    options = {"eval_every": 2, "monitor": "ndcg@10", **QUIET}

    def fit(place: str, epochs: int, resume: bool = False) -> SAID:
        monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / f"cache-{place}"))
        model = create("said", **{**SMALL, "lm_epochs": 4})
        model.fit(split.train, split.valid, TrainingOptions(epochs=epochs, folder=tmp_path / place, resume=resume, **options))
        return cast(SAID, model)

    whole = fit("whole", 4)
    monkeypatch.setattr("lexirec.training.loop.SAVE_SECONDS", 0.0)
    stop = WriteTexts.loss
    steps = []

    def loss(self: WriteTexts, batch: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) > 2:
            raise KeyboardInterrupt
        return stop(self, batch)

    monkeypatch.setattr(WriteTexts, "loss", loss)
    with pytest.raises(KeyboardInterrupt):
        fit("cut", 4)
    monkeypatch.setattr(WriteTexts, "loss", stop)
    resumed = fit("cut", 2, resume=True)
    assert torch.equal(resumed.vectors, whole.vectors)
    again = fit("cut", 4, resume=True)
    queries = [Query(user_id=u) for u in split.train.users.ids]
    assert torch.equal(again.score(queries), whole.score(queries))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_overfits_twenty_sequences(backbone: str) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u:02d}", f"i{i:02d}", t) for u in range(20) for t, i in enumerate(rng.permutation(30)[:5])]
    train = Dataset.from_frames(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")).train_set()
    train = Dataset(train.interactions, train.items.with_columns(title=pl.col("item_id"))).train_set()
    settings = {"loss": "ce", "lr": 0.01, "embedding_dim": 16, "batch_size": 32, "dropout": 0.0, "freeze": False}
    settings |= {"mask_last": 1.0, "inner": 32} if backbone == "bert4rec" else {"targets": "last"}
    model = create("said", **{**SMALL, **settings}, backbone=backbone).fit(train, options=TrainingOptions(epochs=60, **QUIET))
    histories = [train.item_map.name(train.history(user)).to_list() for user in range(20)]
    found = model.recommend([Query(history=h[:-1]) for h in histories], k=1)["item_id"].to_list()
    assert sum(a == h[-1] for a, h in zip(found, histories, strict=True)) >= 18


def test_bad_input_is_named(tmp_path, gpt2: str) -> None:
    log = pl.DataFrame({"user_id": list("aabb"), "item_id": list("xyyx"), "timestamp": range(4)})
    train = Dataset(log, pl.DataFrame({"item_id": list("xyz"), "title": ["x", "y", "z"]})).train_set()
    with pytest.raises(InputError, match="rotary positions"):
        create("said", lm_dim=10, lm_heads=4)
    with pytest.raises(InputError, match="is no folder"):
        create("said", **NAMED, lm=str(tmp_path / "none")).fit(train)
    with pytest.raises(InputError, match="writes no text from left to right"):
        create("said", **NAMED, lm=str(bundled_folder())).fit(train)
    with pytest.raises(InputError, match="no item has an attribute"), pytest.warns(DataWarning, match="3 of 3 have no attribute"):
        create("said", **SMALL).fit(Dataset(log, pl.DataFrame({"item_id": list("xyz"), "title": ["", None, ""]})).train_set())
    with pytest.raises(InputError, match="has 64 positions and 65 are needed"):
        load_lm(SAIDConfig(lm=gpt2), 0, 65)
    with pytest.raises(InputError, match="did you mean 'lm_dim'"):
        create("said", lm_dims=3)


def test_a_lost_stage_names_its_items_and_its_rate() -> None:
    model = stage()
    model.network.table.weight.data.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match=r"take part: item_id 'i\d'.*; lower lm_lr$"):
        train_stage(model, 1)
