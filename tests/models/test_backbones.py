"""Systems on any sequence encoder: each with each, and what an encoder does not read."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lexirec.data.dataset import Dataset
from lexirec.errors import InputError
from lexirec.models import create, load_model, model_class
from lexirec.models.backbones import BODIES, NOT_OF, OF_ONE
from lexirec.models.config import LENIENT
from lexirec.models.sequence_config import TEXT
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.toys import markov

SMALL = {"embedding_dim": 8, "max_len": 8, "batch_size": 32}
ALIGNMENT = {"align_tau": 1.0, "align_loss": "infonce", "align_unique": True, "align_cap": 3}
STAGE = {"lm_dim": 16, "lm_layers": 1, "lm_epochs": 1}
SYSTEMS: dict[str, dict[str, object]] = {
    "llmemb": {"scft": None, "encoder": "lsa"},
    "llm2x": {"encoder": "lsa"},
    "melt": {"tail_share": 0.5},
    "said": STAGE,
    "tslrec": {**STAGE, "categories": 3},
}
TEACHERS = {"causal", "num_heads", "inner", "attention_dropout", "activation", "positions"}
"""Read by a SASRec teacher, whatever the backbone."""
QUIET = {"progress": False, "threads": 1}


@pytest.mark.parametrize("backbone", BODIES)
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_trains_on_every_encoder(system: str, backbone: str, tmp_path: Path) -> None:
    data = markov(0.8, users=16, length=6)
    # Some histories are longer than others, and some items more frequent, as MELT needs.
    train = Dataset(data.interactions.filter((pl.col("timestamp") < 4) | (pl.col("user_id") < "u008")), data.items).train_set()
    model = create(system, **SMALL, **SYSTEMS[system], backbone=backbone)
    model.fit(train, options=TrainingOptions(epochs=1, folder=tmp_path / "run", **QUIET))
    assert np.isfinite(model.score([Query(user_id="u000")]).numpy()).all()
    teacher = tmp_path / "run" / "teacher"
    assert teacher.exists() == (system in ("llmemb", "tslrec"))
    if teacher.exists():  # the same for every encoder
        found = load_model(teacher)
        kept = {"block": "original", "num_layers": 2, "dropout": 0.5, "causal": False, "items": "id", "targets": "all", "init": "xavier"}
        assert found.name == "sasrec" and {name: getattr(found.config, name) for name in kept} == kept
        assert found.config.encoder == "minilm"  # not read, so not taken over
    if system == "melt":
        assert load_model(tmp_path / "run" / "backbone").name == backbone


@pytest.mark.parametrize("backbone", BODIES)
def test_what_an_encoder_does_not_read_is_refused(backbone: str) -> None:
    other = {
        "causal": True, "mask_prob": 0.5, "mask_random": 0.3, "mask_kept": 0.3, "mask_last": 0.5, "last_pass": False, "head": True,
        "hidden": 9, "gate_bias": True, "cutoff": 3, "causal_filter": False, "filter_share": 0.5, "num_heads": 2, "inner": 9,
        "attention_dropout": 0.3, "activation": "gelu", "block": "post-norm", "positions": "last",
    }  # fmt: skip
    assert set(other) == {name for names in OF_ONE.values() for name in names} | {name for names in NOT_OF.values() for name in names}
    unread = {name for encoder, names in OF_ONE.items() if encoder != backbone for name in names} | set(NOT_OF.get(backbone, ()))
    for name, value in other.items():
        settings = {name: value, "backbone": backbone} | ({"targets": "last"} if name == "causal_filter" else {})
        for system in SYSTEMS:
            if name not in unread or (system in ("llmemb", "tslrec") and name in TEACHERS):
                assert getattr(create(system, **settings).config, name) == value
                continue
            with pytest.raises(InputError, match=f"{name} = .* has no effect with backbone = '{backbone}'"):
                create(system, **settings)
    model_class("melt").Config.parse(create("melt", backbone=backbone).config.model_dump())  # what is written is read


def test_the_filters_block_is_of_one_kind() -> None:
    assert create("melt", backbone="bsarec").config.block == "post-norm"
    with pytest.raises(InputError, match="'post-norm'"):
        create("melt", backbone="bsarec", block="original")
    token = LENIENT.set(True)  # as it stands in runs made before
    try:
        create("melt", backbone="bsarec", block="original")
    finally:
        LENIENT.reset(token)


def test_without_a_teacher_nothing_else_reads_its_settings() -> None:
    create("llmemb", backbone="gru4rec", num_heads=2)
    for settings in ({"teacher": None}, {"align_weight": 0.0}, {"teacher": "some/folder"}):
        with pytest.raises(InputError, match="num_heads = 2 has no effect with backbone = 'gru4rec'"):
            create("llmemb", backbone="gru4rec", num_heads=2, **settings)
    with pytest.raises(InputError, match="num_heads = 2 has no effect"):
        create("tslrec", backbone="gru4rec", num_heads=2, teacher="some/folder")


UNREAD: list[tuple[str, dict[str, object], dict[str, object], str]] = [
    ("sasrec", {"items": "id"}, {"encoder": "lsa", "text": "brand", "transform": "whiten"}, "items = 'id'"),
    ("sasrec", {"items": "id"}, {"adapter": "linear", "adapter_dim": 3, "freeze_text": False, "alpha": 0.3}, "items = 'id'"),
    ("sasrec", {"items": "text-start", "transform": "pca"}, {"text_dim": 9, "adapter": "gelu", "alpha": 0.1}, "items = 'text-start'"),
    ("sasrec", {"items": "text-start", "transform": "pca"}, {"adapter_dim": 9, "freeze_text": False}, "items = 'text-start'"),
    ("sasrec", {"items": "text", "adapter": "none"}, {"adapter_dim": 9}, "adapter = 'none'"),
    ("sasrec", {"items": "text", "adapter": "linear"}, {"adapter_dim": 9}, "adapter = 'linear'"),
    ("unisrec", {}, {"adapter_dim": 9, "num_negs": 3}, ".*"),
    ("sasrec", {"loss": "ce"}, {"num_negs": 9, "negatives": "shared", "calibration": 0.5}, "loss = 'ce'"),
    ("sasrec", {"loss": "bce"}, {"calibration": 0.5}, "loss = 'bce'"),
    ("hstu", {}, {"calibration": 0.5}, "loss = 'softmax'"),
    ("gru4rec", {"init": "xavier"}, {"init_std": 0.3}, "init = 'xavier'"),
    ("s3rec", {}, {"encoder": "lsa", "text": "brand", "transform": "center", "alpha": 0.2}, "items = 'id'"),
    ("s3rec", {"attributes": "text"}, {"alpha": 0.2, "adapter": "linear"}, "items = 'id'"),
    ("s3rec", {"pretrain_epochs": 0}, {"encoder": "lsa"}, "items = 'id'"),
    ("s3rec", {"init": "xavier", "pretrain_epochs": 0}, {"init_std": 0.3}, "init = 'xavier'"),
    ("fdsa", {"features": "fields"}, {"encoder": "lsa", "text": "brand", "transform": "center"}, "items = 'id'"),
    ("s3rec", {"attributes": "text"}, {"min_items": 9}, "attributes = 'text'"),
    ("s3rec", {"pretrain_epochs": 0}, {"attributes": "text", "mask_prob": 0.4, "sp_weight": 0.1}, "pretrain_epochs = 0"),
    ("fdsa", {}, {"freeze_text": False, "alpha": 0.2}, "items = 'id'"),
    ("fdsa", {}, {"fields": ("brand",)}, "features = 'text'"),
    ("said", {"lm": "some/model"}, {"lm_dim": 8, "lm_layers": 1}, "lm = 'some/model'"),
    ("tslrec", {}, {"lora_r": 3, "lora_dropout": 0.5}, "tune = 'all'"),
    ("melt", {}, {"encoder": "lsa", "init_std": 0.3, "alpha": 0.3}, ".*"),
    ("said", {}, {"encoder": "lsa", "text": "brand", "transform": "whiten", "freeze_text": False, "init_std": 0.3}, ".*"),
    ("tslrec", {}, {"encoder": "lsa", "text": "brand", "transform": "whiten", "adapter": "linear", "alpha": 0.1}, ".*"),
    ("llm2x", {}, {"alpha": 0.3, "adapter": "linear", "text_dim": 7}, "items = 'text-start'"),
    ("llmemb", {"teacher": None}, {**ALIGNMENT, "align_weight": 0.5}, "teacher = None"),
    ("llmemb", {"align_weight": 0.0}, {**ALIGNMENT, "teacher": "some/run"}, "align_weight = 0"),
    ("llmemb", {"adapter": "none"}, {**ALIGNMENT, "align_weight": 0.5, "teacher": "some/run"}, "adapter = 'none'"),
    ("said", {"prompt": "beauty"}, {"max_characters": 30}, "prompt = 'beauty'"),
    ("llmemb", {"prompt": "beauty"}, {"max_characters": 30}, "prompt = 'beauty'"),
    ("bert4rec", {"mask_last": 1.0}, {"mask_prob": 0.7, "mask_random": 0.3, "mask_kept": 0.1}, "mask_last = 1"),
    ("melt", {"lambda_users": 0.0, "lambda_items": 0.0}, {"tail_share": 0.3}, "lambda_users = 0 and lambda_items = 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "unread", "where"), UNREAD)
def test_a_setting_that_nothing_reads_is_refused(name: str, settings: dict, unread: dict, where: str) -> None:
    create(name, **settings)
    for setting, value in unread.items():
        with pytest.raises(InputError, match=f"{setting} = .* has no effect with {where}"):
            create(name, **settings, **{setting: value})
        token = LENIENT.set(True)  # a saved model keeps what was accepted when it was made
        try:
            assert getattr(create(name, **settings, **{setting: value}).config, setting) == value
        finally:
            LENIENT.reset(token)


def test_settings_that_are_read_elsewhere_are_accepted() -> None:
    text = {"encoder": "lsa", "text": "brand", "transform": "pca", "text_dim": 9}
    assert set(text) == TEXT
    create("s3rec", attributes="text", **text)
    create("fdsa", **text)
    create("s3rec", init="xavier", init_std=0.3)  # of the pre-training
    create("said", init="xavier", lm_std=0.3)


@pytest.mark.parametrize("name", ["bert4rec", *SYSTEMS])
def test_targets_of_models_that_fill_in(name: str) -> None:
    own = {**SYSTEMS.get(name, {}), **({} if name == "bert4rec" else {"backbone": "bert4rec"})}
    with pytest.raises(InputError, match="mask_last=1"):
        create(name, **own, targets="last")
    token = LENIENT.set(True)
    try:
        create(name, **own, targets="last")
    finally:
        LENIENT.reset(token)


def test_every_encoder_that_fills_in_does_so_over_prefixes() -> None:
    train = markov(0.8, users=20).split("leave-one-out").train
    settings = {"embedding_dim": 8, "max_len": 8, "batch_size": 1000, "encoder": "lsa", "mask_last": 1.0}
    model = create("llm2x", **settings, backbone="bert4rec", targets="prefixes", last_pass=False)
    model.fit(train, options=TrainingOptions(epochs=0, **QUIET))
    (batch,) = model.batches(train, np.random.default_rng(0))
    assert len(batch.targets) == (np.diff(train.offsets) - 1).sum()  # every event but the first of each person, once
