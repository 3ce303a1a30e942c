"""Fine-tuning of encoders: gradients, adapters, views, resume, failures with names, and what it is for."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.cli.main import run
from lexirec.errors import InputError, LexirecError
from lexirec.losses import soft_clip, symmetric_infonce
from lexirec.text import EmbeddingCache, encoder_from_state, load_encoder
from lexirec.text.prompt_vectors import prompt_vectors
from lexirec.text.prompts import attribute_prompts
from lexirec.training.finetune import finetune_items
from lexirec.training.options import TrainingOptions
from lexirec.training.scft import Scft
from lexirec.training.scft_config import ScftConfig
from lexirec.training.tuned_encoder import read_recipe
from lexirec.training.weights import base_encoder, lora_targets, pack_sorted
from tests.text.worlds import WORDS, save_model

FAMILIES = ("bert", "llama", "gpt2", "t5")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save_model(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)


def shop(n: int = 24, seed: int = 0) -> pl.DataFrame:
    """Items with a title and three to five words as tags."""
    rng = np.random.default_rng(seed)
    tags = [rng.choice(WORDS, size=int(rng.integers(3, 6)), replace=False).tolist() for _ in range(n)]
    return pl.DataFrame({"item_id": [f"i{k:02d}" for k in range(n)], "title": [" ".join(t[:2]) for t in tags], "tags": tags})


def made(folder: Path, items: pl.DataFrame | None = None, **settings: object) -> Scft:
    config = ScftConfig.parse({"batch_size": 8, **settings})
    items = shop() if items is None else items
    return Scft(attribute_prompts(items), config, base_encoder(f"hf:{folder}", device="cpu", **config.reading), epochs=config.epochs)


def options(**settings: object) -> TrainingOptions:
    return TrainingOptions(**{"progress": False, "threads": 1, "device": "cpu", **settings})


def gradients(model: Scft, seed: int = 3) -> tuple[float, list[torch.Tensor]]:
    batch = next(model.batches(None, np.random.default_rng(seed)))
    torch.manual_seed(seed)
    model.network.train()
    model.network.zero_grad()
    loss = model.loss(batch)
    loss.backward()
    return loss.item(), [p.grad.clone() for p in model.network.parameters() if p.grad is not None]


@pytest.mark.parametrize("loss", ["soft_clip", "infonce"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_first_step_equals_a_plain_reference(folders, family, loss):
    """Texts one at a time through plain transformers, pooled by hand: loss and gradients."""
    from transformers import AutoModel, AutoTokenizer

    pooling = "last" if family == "llama" else "mean"
    model = made(folders[family], loss=loss, lora=False, pooling=pooling)
    batch = next(model.batches(None, np.random.default_rng(3)))
    value, found = gradients(model)
    tokenizer, plain = AutoTokenizer.from_pretrained(folders[family]), AutoModel.from_pretrained(folders[family], dtype=torch.float32)
    texts = tokenizer.batch_decode(batch.tokens)
    assert all("title is" in text or "tag is" in text or "unk" in text.lower() for text in texts)
    hidden = [plain(input_ids=torch.tensor([ids])).last_hidden_state[0] for ids in batch.tokens]
    vectors = torch.stack([h[-1] if pooling == "last" else h.mean(0) for h in hidden])
    tau = torch.tensor(3.0 if loss == "soft_clip" else 0.05, requires_grad=True)
    expected = (soft_clip if loss == "soft_clip" else symmetric_infonce)(vectors[:8], vectors[8:], tau)
    expected.backward()
    assert value == pytest.approx(expected.item(), abs=2e-5)
    learned = [tau.grad] if loss == "soft_clip" else []
    wanted = [g for g in [*learned, *(p.grad for p in plain.parameters())] if g is not None]
    assert len(wanted) == len(found) > 10
    scale = max(float(g.abs().max()) for g in wanted)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * scale)


def test_the_temperature_has_a_rate_of_its_own(folders) -> None:
    model = made(folders["bert"], lr=1e-5, tau_lr=0.1)
    optimiser, before = model.optimiser(), model.tau.item()
    model.network.train()
    model.loss(next(model.batches(None, np.random.default_rng(0)))).backward()
    optimiser.step()
    assert abs(model.tau.item() - before) == pytest.approx(0.1, rel=1e-3)  # Adam's first step is its rate
    assert [group["lr"] for group in optimiser.param_groups] == [1e-5, 0.1]


@pytest.mark.parametrize(
    "settings", [{"lora": False}, {"lora": False, "dropout": 0.2}, {"lora": True}, {"gradient_checkpointing": True}], ids=str
)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_gradient_caching_equals_plain_gradients(folders, family, settings):
    whole, parts = ({**settings, "batch_tokens": 40, "batch_size": 12}, {"micro_batch": 64})
    plain = gradients(made(folders[family], **whole))
    cached = gradients(made(folders[family], **whole, **parts))
    assert cached[0] == pytest.approx(plain[0], abs=1e-6)
    assert len(plain[1]) == len(cached[1]) > 4
    for a, b in zip(plain[1], cached[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_gradient_caching_with_smaller_parts_and_bfloat16(folders):
    plain = gradients(made(folders["bert"]))
    model = made(folders["bert"], micro_batch=3)
    batch = next(model.batches(None, np.random.default_rng(3)))
    assert max(map(len, model.groups(batch.tokens))) <= 3
    for a, b in zip(plain[1], gradients(model)[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = gradients(model)[1]
    cosine = torch.nn.functional.cosine_similarity(torch.cat([g.flatten() for g in mixed]), torch.cat([g.flatten() for g in plain[1]]), 0)
    assert 0.9 < cosine < 0.999999  # near, and not float32 in disguise


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("llama", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("bert", {"query", "key", "value", "dense"}),
        ("gpt2", {"c_attn", "c_proj", "c_fc"}),
        ("t5", {"q", "k", "v", "o", "wi", "wo"}),
    ],
)
def test_adapters_on_all_projections_and_only_they_change(folders, tmp_path, family, kinds):
    model = made(folders[family], lora=True, attribute_dropout=0.3)
    inner = model.base.load()[1]
    adapted = {n.split(".lora_A")[0].rsplit(".", 1)[-1] for n, p in inner.named_parameters() if p.requires_grad and "lora_A" in n}
    assert adapted == kinds
    assert all("lora_" in n for n, p in inner.named_parameters() if p.requires_grad)
    frozen = {n: p.detach().clone() for n, p in inner.named_parameters() if not p.requires_grad}
    before = [p.detach().clone() for p in model.network.tuned]
    optimiser = model.optimiser()
    for batch in model.batches(None, np.random.default_rng(0)):
        optimiser.zero_grad()
        model.loss(batch).backward()
        optimiser.step()
    assert all(torch.equal(p, frozen[n]) for n, p in inner.named_parameters() if n in frozen)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.network.tuned, strict=True))
    # Merged weights give what the adapters gave, and the folder is an ordinary model.
    texts = model.prompts.texts()
    inner.eval()
    expected = model.base.encode(texts, progress=False)
    model.save(tmp_path, {})
    saved = load_encoder(f"hf:{tmp_path}?pooling=mean&precision=float32")
    np.testing.assert_allclose(saved.encode(texts, progress=False), expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(load_encoder(f"hf:{folders[family]}?pooling=mean&precision=float32").encode(texts), expected, atol=1e-4)
    assert not any("lexirec" in file.read_text() for file in tmp_path.glob("*.json"))


def test_chosen_adapter_layers(folders):
    inner = base_encoder(f"hf:{folders['llama']}", device="cpu", **ScftConfig().reading).load()[1]
    assert {n.rsplit(".", 1)[-1] for n in lora_targets(inner, ["q_proj", "v_proj"])} == {"q_proj", "v_proj"}
    with pytest.raises(InputError, match="did you mean 'q_proj'"):
        lora_targets(inner, ["q_pro"])


def test_auto_takes_adapters_for_language_models_only(folders):
    assert made(folders["llama"]).peft is not None
    assert made(folders["bert"]).peft is None


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("family", FAMILIES)
def test_pooling_is_the_same_in_any_company(folders, family, pooling):
    model = made(folders[family], pooling=pooling, batch_tokens=4096)
    model.network.eval()
    tokens = model.base.tokenize([model.prompts.texts()[0], "red", " ".join(WORDS[:20])])
    with torch.no_grad():
        together = model.base._forward(tokens)
        alone = torch.cat([model.base._forward([ids]) for ids in tokens])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_conformance_11_mean_of_real_tokens_only(folders):
    class Fixed(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> object:
            rows = torch.tensor([[1.0, 1], [3, 3], [9, 9]])[None].repeat(len(input_ids), 1, 1)[:, : input_ids.shape[1]]
            return type("Output", (), {"last_hidden_state": rows})()

    model = made(folders["bert"])
    tokenizer, _ = model.base.load()
    model.base._loaded, model.base._positions = (tokenizer, Fixed()), "model"
    assert model.base._forward([[5, 6, 7], [5, 6]])[1].tolist() == [2, 2]


def test_cached_views_stay_and_redrawn_ones_change(folders):
    rows = np.arange(6)
    cached, redrawn = made(folders["bert"]), made(folders["bert"], views="redrawn")
    rng = np.random.default_rng(0)
    assert cached.batch(rows, rng).tokens == cached.batch(rows, rng).tokens
    first, second = redrawn.batch(rows, rng).tokens, redrawn.batch(rows, rng).tokens
    assert first != second
    assert redrawn.batch(rows, np.random.default_rng(5)).tokens == redrawn.batch(rows, np.random.default_rng(5)).tokens
    # Both views of an item are equally long in attributes and hold its own ones only.
    assert cached._cached is not None
    for phrases, (a, b) in zip(cached.prompts.phrases, cached._cached, strict=True):
        assert len(a) == len(b) == len(phrases) - int(0.4 * len(phrases))
        assert set(a) | set(b) <= set(phrases)


def test_every_item_once_a_pass_and_no_batch_of_one(folders):
    model = made(folders["bert"], shop(17))
    batches = list(model.batches(None, np.random.default_rng(0)))
    assert [len(b.rows) for b in batches] == [8, 8]
    assert model.n_batches() == 2
    assert len(set(np.concatenate([b.rows for b in batches]))) == 16


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_resumed_training_equals_an_uninterrupted_one(folders, tmp_path, family, monkeypatch):
    config = {"epochs": 3, "batch_size": 8, "views": "redrawn", "dropout": 0.1, "lr": 1e-3}
    name = f"hf:{folders[family]}"
    finetune_items(shop(), config, options(), name, out=tmp_path / "whole")
    original = Scft.loss
    calls = 0

    def killed(self: Scft, batch: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:  # in the second epoch
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(Scft, "loss", killed)
    monkeypatch.setattr("lexirec.training.loop.SAVE_SECONDS", -1.0)
    folder = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        finetune_items(shop(), config, options(folder=folder), name, out=tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    monkeypatch.setattr(Scft, "loss", original)
    with pytest.raises(InputError, match="config"):
        finetune_items(shop(), {**config, "lr": 2e-3}, options(folder=folder, resume=True), name, out=tmp_path / "parts")
    with pytest.raises(InputError, match="begun with other clip_norm"):
        finetune_items(shop(), config, options(folder=folder, resume=True, clip_norm=1e-4), name, out=tmp_path / "parts")
    finetune_items(shop(), config, options(folder=folder, resume=True), name, out=tmp_path / "parts")
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert read_recipe(tmp_path / "whole")["tau"] == read_recipe(tmp_path / "parts")["tau"] != 3.0


def test_the_rate_falls_in_a_line_to_zero_and_steps_bound_the_training(folders, tmp_path, monkeypatch):
    rates: list[float] = []
    original = torch.optim.AdamW.step

    def step(self: torch.optim.Optimizer, *args: object, **kwargs: object) -> object:
        done = original(self, *args, **kwargs)
        rates.append(self.param_groups[0]["lr"])
        return done

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    finetune_items(shop(), {"steps": 5, "batch_size": 8, "lr": 1e-3}, options(), f"hf:{folders['bert']}", out=tmp_path / "e")
    assert rates == pytest.approx([1e-3 * (1 - k / 5) for k in range(5)])
    assert read_recipe(tmp_path / "e")["steps"] == 5


def test_an_encoders_name_and_the_tuning_say_the_same_or_are_refused(folders, tmp_path):
    for option in ("pooling=last", "max_length=7", "normalize=true"):
        with pytest.raises(InputError, match=f"has {option} and is tuned with"):
            finetune_items(shop(), {"epochs": 1}, options(), f"hf:{folders['bert']}?{option}", out=tmp_path / "none")
    asked = {"epochs": 1, "normalize": True, "max_length": 7}
    finetune_items(shop(), asked, options(), f"hf:{folders['bert']}?pooling=auto&max_length=7&normalize=1", out=tmp_path / "one")
    assert not (tmp_path / "none").exists()


def test_the_tuned_encoder_is_saved_read_and_told_apart(folders, tmp_path):
    before = load_encoder(f"hf:{folders['bert']}?pooling=mean&prompt=new ")
    fresh = before.fingerprint
    tuned = finetune_items(shop(), {"epochs": 1, "lr": 1e-3}, options(), before, out=tmp_path / "one")
    other = finetune_items(shop(), {"epochs": 1, "lr": 1e-3}, options(seed=2), before, out=tmp_path / "two" / "one")
    same = finetune_items(shop(), {"epochs": 1, "lr": 1e-3}, options(), before, out=tmp_path / "three" / "one")
    assert tuned.prompt == "new "
    assert before.fingerprint == fresh  # what was given is untouched
    assert len({fresh, tuned.fingerprint, other.fingerprint}) == 3
    np.testing.assert_array_equal(same.encode(["red soap"]), tuned.encode(["red soap"]))
    again = encoder_from_state(*tuned.state())
    np.testing.assert_array_equal(again.encode(["red soap"]), tuned.encode(["red soap"]))
    cache = EmbeddingCache()
    assert not np.array_equal(cache.encode(before, ["red soap"]), cache.encode(tuned, ["red soap"]))
    assert prompt_vectors(shop(), tuned).shape == (24, 16)
    with pytest.raises(InputError, match="exists already"):
        finetune_items(shop(), {"epochs": 1}, options(), before, out=tmp_path / "one")
    # Without a folder it goes to the cache, under a hash of what it is.
    assert "encoders" in finetune_items(shop(), {"epochs": 1}, options(), before).name


def test_sentence_transformers_folder(folders, tmp_path):
    import shutil

    folder = tmp_path / "st"
    shutil.copytree(folders["bert"], folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    modules.append({"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"})
    (folder / "modules.json").write_text(json.dumps(modules))
    config = ScftConfig()
    assert base_encoder(f"st:{folder}", device="cpu", **config.reading).folder == folder
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="Dense"):
        base_encoder(f"st:{folder}", device="cpu", **config.reading)
    with pytest.raises(InputError, match="no transformer"):
        base_encoder("lsa", device="cpu", **config.reading)


def test_nan_is_found_at_the_step_with_the_items(folders, tmp_path, monkeypatch):
    model = made(folders["bert"])
    original = type(model.base)._forward
    poisoned = model.base.tokenize([model.prompts.text(view) for view in model._cached[5]])

    def forward(self: object, ids: list) -> torch.Tensor:
        vectors = original(self, ids)
        bad = torch.tensor([tokens in poisoned for tokens in ids])
        return torch.where(bad[:, None], torch.nan, vectors)

    for micro_batch in (None, 3):
        monkeypatch.setattr(type(model.base), "_forward", forward)
        config = {"batch_size": 24, "micro_batch": micro_batch}
        folder = tmp_path / f"work{micro_batch}"
        with pytest.raises(LexirecError, match=r"NaN or infinite vectors in step 1 for 1 of its 24 items \(item_id 'i05'\)"):
            finetune_items(shop(), config, options(folder=folder), f"hf:{folders['bert']}", out=tmp_path / "never")
        assert not (tmp_path / "never").exists()
    monkeypatch.setattr(type(model.base), "_forward", original)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_nan_gradients_change_nothing_and_name_the_items(folders, tmp_path, monkeypatch, micro_batch):
    """Finite vectors, NaN backwards, in the third epoch: the checkpoint of the second stays good."""
    original = Scft._contrast
    calls = 0

    def spoilt(self: Scft, vectors: torch.Tensor, batch: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            row = int(np.flatnonzero(batch.rows == 7)[0])
            mask = torch.ones_like(vectors)
            mask[row] = 0
            vectors = vectors + 0 * torch.sqrt(mask * (vectors.detach() ** 2 + 1) + (1 - mask) * (vectors - vectors.detach()))
        return original(self, vectors, batch)

    monkeypatch.setattr(Scft, "_contrast", spoilt)
    monkeypatch.setattr("lexirec.training.loop.SAVE_SECONDS", -1.0)
    config = {"batch_size": 24, "epochs": 4, "micro_batch": micro_batch}
    with pytest.raises(LexirecError, match=r"gradients in step 3 for 1 of its 24 items \(item_id 'i07'\)"):
        finetune_items(shop(), config, options(folder=tmp_path / "w"), f"hf:{folders['bert']}", out=tmp_path / "out")
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "w" / "checkpoints" / "last.safetensors")
    assert all(bool(torch.isfinite(value.float()).all()) for value in kept.values())
    calls = 10
    finetune_items(shop(), config, options(folder=tmp_path / "w", resume=True), f"hf:{folders['bert']}", out=tmp_path / "out")
    assert read_recipe(tmp_path / "out")["steps"] == 4


def test_overflowing_products_name_the_largest_item(folders):
    model = made(folders["bert"], batch_size=24)
    batch = next(model.batches(None, np.random.default_rng(0)))
    model._step_rows = batch.rows
    vectors = torch.ones(48, 16)
    vectors[3] = 1e25
    with pytest.raises(LexirecError, match=f"item_id '{model.prompts.item_ids[batch.rows[3]]}'"):
        model._contrast(vectors, batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"los": "infonce"}, "did you mean 'loss'"),
        ({"tau": 0}, "tau = 0"),
        ({"attribute_dropout": 1.0}, "attribute_dropout"),
        ({"batch_size": 1}, "at least 2"),
        ({"columns": ["brand"]}, "no column 'brand'"),
        ({"lora": False, "lora_targets": ["nope"]}, "lora_targets = .* has no effect with lora = False"),
        ({"lora_r": 64}, "lora_r: hf:.* is no causal language model, so all its weights are tuned; set lora=true"),
        ({"learn_tau": False, "tau_lr": 0.1}, "tau_lr = 0.1 has no effect with learn_tau = False"),
        ({"loss": "infonce", "learn_tau": False}, "learn_tau = False has no effect with loss = 'infonce'"),
        ({"style": "beauty", "max_characters": 9}, "max_characters = 9 has no effect with style = 'beauty'"),
        ({"epochs": 99, "steps": 3}, "epochs = 99 has no effect with steps = 3"),
    ],
)
def test_bad_settings_are_named(folders, settings, message):
    with pytest.raises(InputError, match=message):
        finetune_items(shop(), settings, options(), f"hf:{folders['bert']}")


def test_too_few_items_or_attributes_and_too_many_tokens(folders):
    name = f"hf:{folders['bert']}"
    with pytest.raises(InputError, match="1 has attributes"):
        finetune_items(shop(1), {}, options(), name)
    with pytest.warns(UserWarning, match="drops nothing from 24 of 24"):
        made(folders["bert"], shop().drop("tags"))
    with pytest.warns(UserWarning, match="24 of 24 prompts fill max_length=6"):
        made(folders["bert"], max_length=6)
    blank = pl.concat([shop(3), pl.DataFrame({"item_id": ["z"], "title": [None], "tags": [None]}, schema=shop(3).schema)])
    with pytest.warns(UserWarning, match="'z'"):
        finetune_items(blank, {"epochs": 1}, options(), name)


def test_passes_are_near_one_length_within_their_budget():
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 60, 256)
    groups = pack_sorted(lengths, 1024, 32)
    assert sorted(np.concatenate(groups).tolist()) == list(range(256))
    assert max(len(g) for g in groups) <= 32
    padded = sum(len(g) * lengths[g].max() for g in groups)
    assert all(len(g) * lengths[g].max() <= 1024 for g in groups)
    assert padded < 1.12 * lengths.sum()
    assert [len(g) for g in pack_sorted(np.array([5000, 4]), 1024, 32)] == [1, 1]  # longer than the budget: alone


def test_equal_attributes_stay_together_and_others_move_apart(tmp_path):
    """The bundled encoder on lists of words, four steps; judged on other items with the same words in another order."""
    rng = np.random.default_rng(1)
    sets = [rng.choice(WORDS[:14], size=4, replace=False).tolist() for _ in range(16)]
    seen, twins = (
        pl.DataFrame({"item_id": [f"{k}" for k in range(16)], "tags": [rng.permutation(words).tolist() for words in sets]})
        for _ in range(2)
    )

    def likeness(encoder: object) -> tuple[float, float]:
        parts = [prompt_vectors(items, encoder, instruction="", cache=False) for items in (seen, twins)]
        a, b = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts)
        similar = a @ b.T
        return float(np.diag(similar).mean()), float((similar.sum() - np.trace(similar)) / (16 * 15))

    same, other = likeness(load_encoder("minilm"))
    config = {"epochs": 4, "batch_size": 16, "lr": 1e-4, "views": "redrawn", "instruction": ""}
    tuned_same, tuned_other = likeness(finetune_items(seen, config, options(precision="bf16"), "minilm", out=tmp_path / "t"))
    assert same > 0.98 and other > 0.7  # where it starts
    assert tuned_same > 0.97
    assert tuned_other < other - 0.15


def test_a_small_encoder_learns_to_find_the_twin(folders, tmp_path):
    rng = np.random.default_rng(1)
    sets = [rng.choice(WORDS, size=5, replace=False).tolist() for _ in range(24)]
    seen, twins = (
        pl.DataFrame({"item_id": [f"{k}" for k in range(24)], "tags": [rng.permutation(words).tolist() for words in sets]})
        for _ in range(2)
    )
    name = f"hf:{folders['bert']}"

    def found(encoder: object) -> float:
        parts = [prompt_vectors(items, encoder, instruction="", cache=False) for items in (seen, twins)]
        a, b = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts)
        return float(((a @ b.T).argmax(axis=1) == np.arange(24)).mean())

    config = {"epochs": 40, "batch_size": 24, "lr": 1e-2, "views": "redrawn", "instruction": "", "loss": "infonce", "tau": 0.1}
    before = found(load_encoder(f"{name}?pooling=mean"))
    assert found(finetune_items(seen, {**config, "micro_batch": 48}, options(), name, out=tmp_path / "t")) > before + 0.15


def test_command(folders, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "tuned"
    data.mkdir()
    shop().write_parquet(data / "items.parquet")
    pl.DataFrame({"user_id": ["u", "u"], "item_id": ["i00", "i01"], "timestamp": [1, 2]}).write_parquet(data / "interactions.parquet")
    call = ["finetune", "--data", str(data), "--encoder", f"hf:{folders['bert']}", "--out", str(out)]
    assert run([*call, "--set", "epoch=2"]) == 2
    assert "did you mean 'epochs'" in capsys.readouterr().err
    assert run([*call, "--set", "epochs=1", "--set", "lr=1e-3", "--set", "threads=1", "--set", "progress=false", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"] == 1 and report["items"] == 24 and report["config"]["lr"] == 1e-3
    assert not out.with_name("tuned.partial").exists()
    assert load_encoder(report["encoder"]).encode(["red soap"]).shape == (1, 16)
    assert run(call) == 2
    assert "exists already" in capsys.readouterr().err
