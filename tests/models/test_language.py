"""Named language models that can't be used: what is wrong is said, and that it is the setting ``lm``."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import Llama4ForCausalLM, Llama4TextConfig, LlamaConfig, LlamaForCausalLM, LlamaModel

from lexirec.errors import InputError
from lexirec.models.language import lm_folder, load_lm
from lexirec.models.said import SAIDConfig

SIZES = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def load(folder: Path) -> object:
    return load_lm(SAIDConfig(lm=str(folder), tune="none"), 50, 20)


def test_weights_that_the_files_lack_are_no_random_numbers(tmp_path: Path) -> None:
    LlamaModel(LlamaConfig(**SIZES, tie_word_embeddings=False)).save_pretrained(tmp_path / "headless")
    with pytest.raises(InputError, match=r"lm: 1 weights of .*headless are missing from its files \(first: lm_head.weight\)"):
        load(tmp_path / "headless")
    LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)).save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    load(tmp_path / "tied")  # its head is its embeddings
    weights = load_file(tmp_path / "tied" / "model.safetensors")
    for name in ("model.layers.1.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.weight"):
        del weights[name]
    save_file(weights, tmp_path / "tied" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lm: 2 weights of .*\(first: model.layers.1.mlp.up_proj.weight\); they would be random"):
        load(tmp_path / "tied")


def test_a_model_without_states_apart_from_its_scores_is_refused(tmp_path: Path) -> None:
    shape = Llama4TextConfig(**SIZES, num_key_value_heads=1, head_dim=8, intermediate_size_mlp=16, num_local_experts=2)
    Llama4ForCausalLM(shape).save_pretrained(tmp_path / "lm")
    with pytest.raises(InputError, match=r"lm: .* \(Llama4ForCausalLM\) gives no states apart from its scores; name another"):
        load(tmp_path / "lm")


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "^lm = '' names no language model"), ("/no/such/folder", "^lm = '/no/such/folder' can't be had: .* is no folder")],
)
def test_a_folder_that_is_not_there_names_the_setting(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lm_folder(name)
