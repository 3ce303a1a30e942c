"""What every model promises (``lexirec.testing``); a new model is covered by its line in ``MODELS``."""

from pathlib import Path

import pytest

from lexirec.models import MODELS, create
from lexirec.testing import CHECKS, Subject

SETTINGS: dict[str, dict] = {
    "popularity": {},
    "mf-bpr": {"lr": 0.05, "embedding_dim": 16, "batch_size": 64, "init_std": 0.1},
    "lightgcn": {"lr": 0.05, "embedding_dim": 16, "batch_size": 64, "init_std": 0.1},
    "lightgcn-infonce": {"lr": 0.05, "embedding_dim": 16, "batch_size": 64, "num_negs": 8, "init_std": 0.1},
    "gccf": {"lr": 0.05, "embedding_dim": 8, "num_layers": 2, "batch_size": 64},
    "rlmrec": {"lr": 0.05, "embedding_dim": 16, "num_layers": 2, "batch_size": 64, "encoder": "lsa"},
    "alpharec": {"lr": 0.01, "embedding_dim": 16, "batch_size": 64, "num_negs": 8, "encoder": "lsa"},
    "gru4rec": {"lr": 0.005, "embedding_dim": 16, "loss": "ce", "batch_size": 4},
    "sasrec": {"lr": 0.01, "embedding_dim": 16, "dropout": 0.2, "batch_size": 4},
    "bert4rec": {"lr": 0.007, "embedding_dim": 32, "inner": 32, "mask_last": 0.5, "batch_size": 4, "init": "xavier", "output": "bias"},
    "bsarec": {
        "lr": 0.01,
        "embedding_dim": 16,
        "inner": 16,
        "num_layers": 1,
        "dropout": 0.2,
        "batch_size": 5,
        "targets": "all",
        "causal_filter": True,
    },
    "hstu": {"lr": 0.01, "embedding_dim": 16, "num_negs": 8, "num_layers": 1, "batch_size": 5},
    "fdsa": {
        "lr": 0.02,
        "embedding_dim": 16,
        "inner": 16,
        "num_layers": 1,
        "batch_size": 5,
        "targets": "all",
        "encoder": "lsa",
        "init_std": 0.1,
        "dropout": 0.2,
    },
    "s3rec": {"lr": 0.02, "embedding_dim": 16, "inner": 16, "num_layers": 1, "dropout": 0.1, "batch_size": 5, "pretrain_epochs": 1},
    "unisrec": {
        "lr": 0.02,
        "embedding_dim": 16,
        "inner": 16,
        "num_layers": 1,
        "batch_size": 10,
        "targets": "all",
        "encoder": "lsa",
        "experts": 2,
    },
    "recformer": {
        "lr": 0.01,
        "embedding_dim": 8,
        "num_heads": 1,
        "num_layers": 1,
        "batch_size": 10,
        "warmup": 5,
        "pretrain_lr": 0.01,
        "second_stage": False,
        "pretrain_epochs": 2,
        "max_tokens": 64,
        "init_std": 0.1,
    },
    "llmemb": {"lr": 0.01, "embedding_dim": 16, "batch_size": 4, "dropout": 0.1, "scft": None, "encoder": "lsa", "causal": True},
    "llm2x": {"lr": 0.01, "embedding_dim": 8, "batch_size": 4, "dropout": 0.1, "encoder": "lsa", "causal": True},
    "melt": {"lr": 0.02, "embedding_dim": 8, "batch_size": 20, "dropout": 0.1, "num_layers": 1, "causal": True, "pretrain_epochs": 5},
    "said": {"lr": 0.02, "embedding_dim": 8, "batch_size": 10, "backbone": "gru4rec", "freeze": False, "lm_dim": 16, "lm_epochs": 3},
    "tslrec": {"lr": 0.02, "embedding_dim": 8, "batch_size": 20, "backbone": "gru4rec", "lm_dim": 16, "lm_epochs": 3, "categories": 4},
    "calrec": {
        "text": "Title=title,Category=categories?",
        "lm_dim": 16,
        "lm_layers": 1,
        "lm_heads": 2,
        "lm_epochs": 10,
        "lm_lr": 0.02,
        "lr": 0.01,
        "warmup": 2,
        "vocabulary": 300,
        "batch_size": 10,
        "samples": 8,
        "max_new_tokens": 20,
    },
    "lir": {"text": "Title=title,Category=categories?"},
    "easyrec": {
        "encoder": "tiny",
        "num_layers": 1,
        "lr": 2e-3,
        "batch_size": 20,
        "epochs": 8,
        "mlm_weight": 0.0,
        "versions": 1,
        "read_precision": "float32",
    },
    "zero-shot": {"encoder": "random"},
}
"""Settings that learn the checkerboard in seconds; a new model adds its line."""
NAMES = sorted(MODELS)
ALIKE = {"popularity"}
"""Models that answer everybody alike."""
NOTHING_RANDOM = {"popularity", "lir"}
TRANSFER = {"alpharec", "popularity", "llmemb", "unisrec", "recformer", "calrec", "easyrec", "zero-shot", "lir"}
"""Models that work on another data set without training; the others must refuse."""


@pytest.fixture(scope="module")
def subjects() -> dict[str, Subject]:
    return {name: Subject(name, SETTINGS[name], personal=name not in ALIKE, transfers=name in TRANSFER) for name in NAMES}


def test_every_model_is_covered() -> None:
    assert set(SETTINGS) == set(MODELS)
    assert set(MODELS) >= ALIKE | TRANSFER
    assert {name for name in NAMES if not create(name, **SETTINGS[name]).seeded} == NOTHING_RANDOM


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, check: str, subjects: dict[str, Subject], tmp_path: Path) -> None:
    CHECKS[check](subjects[name], tmp_path / "files")
