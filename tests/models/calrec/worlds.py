"""A small language model with its tokens, and causal models of Hugging Face's kind on disk."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lexirec.models.calrec.sequences import Pieces
from lexirec.models.calrec.steps import Batch, Towers
from lexirec.models.calrec.vocabulary import END, Vocabulary
from lexirec.models.layers.decoder import Decoder, Shape, like_llama

TEXTS = [f"Title: {colour} {thing}. Price: ${n}." for n, (colour, thing) in enumerate(
    (colour, thing) for colour in ("Red", "Blue", "Green") for thing in ("Drill", "Saw", "Hammer", "Bright Lamp"))]  # fmt: skip


def vocabulary() -> Vocabulary:
    return Vocabulary.trained(TEXTS, 330, ["Title: ", ". Price: ", "."])


def pieces(max_tokens: int = 256, max_new_tokens: int = 16) -> Pieces:
    return Pieces(vocabulary(), TEXTS, max_tokens, max_new_tokens)


def decoder(found: Pieces, spread: float = 0.1, dropout: float = 0.0) -> Decoder:
    """Weights far enough from their start that every part matters."""
    torch.manual_seed(0)
    model = Decoder(Shape(len(found.vocabulary), 16, 2, 2, 64), dropout)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * spread)
    return model


def towers(reduction: str = "mean", **options: float) -> Towers:
    found = pieces()
    return Towers(decoder(found, **options), found, reduction)


def batch(n: int = 7) -> Batch:
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 5, n)
    return Batch(np.arange(n), rng.integers(0, len(TEXTS), int(counts.sum())), counts, rng.integers(0, len(TEXTS), n))


def _tokenizer(found: Vocabulary, folder: Path) -> None:
    # An end of text and no token for padding, as Llama's and GPT-2's have it.
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(found.tokenizer.to_str()), eos_token=END).save_pretrained(folder)


def llama_folder(folder: Path, model: Decoder, found: Vocabulary) -> str:
    """The decoder's own weights as a Llama on disk."""
    shape = model.shape
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.dim, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, tie_word_embeddings=True, rms_norm_eps=1e-6, max_position_embeddings=1024,
        bos_token_id=None, eos_token_id=found.end, pad_token_id=None, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    other = LlamaForCausalLM(config)
    other.load_state_dict(like_llama(model), strict=False)
    other.tie_weights()
    other.save_pretrained(folder)
    _tokenizer(found, folder)
    return str(folder)


def gpt_folder(folder: Path, found: Vocabulary, seed: int = 0) -> str:
    """A GPT-2 with learned positions."""
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=len(found), n_embd=16, n_layer=2, n_head=2, n_positions=512, bos_token_id=None, eos_token_id=found.end)
    GPT2LMHeadModel(config).save_pretrained(folder)
    _tokenizer(found, folder)
    return str(folder)
