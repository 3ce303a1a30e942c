"""Small encoders, tokenizers and models for the tests of text."""

import hashlib
from pathlib import Path

import numpy as np

from lexirec.text.encoders.base import Encoder

WORDS = [
    *("red", "blue", "hair", "brush", "lip", "stick", "cream", "oil", "nail", "polish", "soap", "rose", "mint", "fresh"),
    *("set", "of", "two", "for", "men", "women", "with", "a", "the", "and", "new"),
]


class HashEncoder(Encoder):
    """Vectors from a hash of the text; counts what it was asked."""

    name = "hash"

    def __init__(self, dim: int = 8, salt: str = "") -> None:
        self._dim, self.salt = dim, salt
        self.asked: list[str] = []

    @property
    def dim(self) -> int:
        return self._dim

    def description(self) -> dict:
        return {"kind": "hash", "dim": self._dim, "salt": self.salt}

    def _encode(self, texts: list[str], progress: bool) -> np.ndarray:
        self.asked += texts
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256((self.salt + text).encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(self._dim).astype(np.float32)


def sentences(count: int, seed: int = 0, shortest: int = 1, longest: int = 24) -> list[str]:
    """Distinct texts of mixed lengths."""
    rng = np.random.default_rng(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        made[" ".join(rng.choice(WORDS, size=int(rng.integers(shortest, longest + 1))))] = None
    return list(made)


def save_tokenizer(folder: Path, kind: str) -> int:
    """A word tokenizer without a padding token (``causal``) or with BERT's or RoBERTa's marks; returns the vocabulary size."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = {"causal": ["<unk>", "<eos>"], "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "roberta": ["<s>", "<pad>", "</s>", "<unk>"]}[kind]
    vocabulary = {word: i for i, word in enumerate([*marks, *WORDS])}
    unknown = next(mark for mark in marks if "unk" in mark.lower())
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "causal":
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown, eos_token="<eos>")
    else:
        first, last, pad = ("[CLS]", "[SEP]", "[PAD]") if kind == "bert" else ("<s>", "</s>", "<pad>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])]
        )
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown, pad_token=pad, cls_token=first, sep_token=last)
    fast.save_pretrained(folder)
    return len(vocabulary)


def save_model(folder: Path, family: str) -> Path:
    """A tiny random model of a family with its tokenizer, as a folder."""
    import torch
    import transformers as tf

    kind = {"bert": "bert", "t5": "bert", "roberta": "roberta", "mpnet": "roberta"}.get(family, "causal")
    size = save_tokenizer(folder, kind)
    torch.manual_seed(0)
    # Wide initial weights, so that a wrong position or an unmasked pad moves the vector far beyond rounding.
    wide = {"initializer_range": 0.4}
    bert_like = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    made = {
        "gpt2": lambda: tf.GPT2Model(tf.GPT2Config(vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=40, **wide)),
        "gpt_neo": lambda: tf.GPTNeoModel(
            tf.GPTNeoConfig(
                vocab_size=size,
                hidden_size=16,
                num_layers=2,
                num_heads=2,
                intermediate_size=24,
                max_position_embeddings=40,
                window_size=6,
                attention_types=[[["global", "local"], 1]],
                **wide,
            )
        ),
        "opt": lambda: tf.OPTModel(
            tf.OPTConfig(
                vocab_size=size,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                ffn_dim=24,
                max_position_embeddings=40,
                word_embed_proj_dim=16,
                pad_token_id=1,
                bos_token_id=1,
                eos_token_id=1,
                init_std=0.4,
            )
        ),
        "llama": lambda: tf.LlamaModel(
            tf.LlamaConfig(
                vocab_size=size, **bert_like, num_key_value_heads=1, max_position_embeddings=40, bos_token_id=1, eos_token_id=1, **wide
            )
        ),
        "bert": lambda: tf.BertModel(tf.BertConfig(vocab_size=size, **bert_like, max_position_embeddings=40, **wide)),
        "roberta": lambda: tf.RobertaModel(
            tf.RobertaConfig(vocab_size=size, **bert_like, max_position_embeddings=42, pad_token_id=1, **wide)
        ),
        "mpnet": lambda: tf.MPNetModel(tf.MPNetConfig(vocab_size=size, **bert_like, max_position_embeddings=42, **wide)),
        "t5": lambda: tf.T5Model(
            tf.T5Config(vocab_size=size, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0)
        ),
    }[family]()
    made.save_pretrained(folder)
    return folder
