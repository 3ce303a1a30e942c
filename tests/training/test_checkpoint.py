"""Files of weights: who may read them."""

import os
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, T5Config, T5EncoderModel

from lexirec.training.checkpoint import load_tensors, save_tensors
from lexirec.training.weights import save_weights


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_the_umask_decides_who_reads_a_checkpoint(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(2)}, {"epoch": 1})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask
    assert load_tensors(tmp_path / "a.safetensors")[1] == {"epoch": 1}


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("family", ["bert", "t5"])
def test_the_umask_decides_who_reads_a_tuned_encoder(family: str, tmp_path: Path) -> None:
    shape = {"vocab_size": 30, "num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 8, "intermediate_size": 8}
    if family == "bert":
        model = BertModel(BertConfig(**shape))
    else:
        model = T5EncoderModel(T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1)).encoder
    save_weights(tmp_path, model, dict(model.state_dict()))
    (tmp_path / "other").touch()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes["model.safetensors"] == modes["other"] == modes["config.json"]
    loaded = (BertModel if family == "bert" else T5EncoderModel).from_pretrained(tmp_path, use_safetensors=True)
    weights = loaded.state_dict() if family == "bert" else loaded.encoder.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(weights[name], value), name
