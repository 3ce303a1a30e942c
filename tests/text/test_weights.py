"""Last-token vectors of two real causal models, where their folders are at hand (LEXIREC_WEIGHTS)."""

import os
from pathlib import Path

import numpy as np
import pytest

from lexirec.text import load_encoder

TEXTS = [
    "Once upon a time there was a little dog named Spot.",
    "Spot was a dog.",
    "A small cat.",
    "Prada Candy Eau De Parfum Spray 1.7 Oz",
    "X",
]


@pytest.fixture(params=["stories260k", "tinystories-instruct-3m-chat"])
def folder(request):
    weights = os.environ.get("LEXIREC_WEIGHTS")
    if not weights or not (Path(weights) / request.param).is_dir():
        pytest.skip(f"LEXIREC_WEIGHTS names no folder with {request.param}")
    return Path(weights) / request.param


@pytest.mark.parametrize("padding", ["right", "left"])
def test_last_token_of_a_real_model(folder, padding):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = np.stack([model(input_ids=torch.tensor([tokenizer(t)["input_ids"]])).last_hidden_state[0, -1].numpy() for t in TEXTS])
    encoder = load_encoder(f"hf:{folder}?max_length=128&padding={padding}", precision="float32")
    assert encoder.pooling == "last"
    vectors = encoder.encode(TEXTS * 2)
    error = np.abs(vectors[: len(TEXTS)] - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert error.max() < 1e-4
    half = load_encoder(f"hf:{folder}", precision="bfloat16").encode(TEXTS)
    cosine = (half * expected).sum(axis=1) / np.linalg.norm(half, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.99
