"""A small shop of sports gear and a tiny encoder that knows its words."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from lexirec.data.dataset import Dataset

SPORTS = {
    "basketball": ["Basketball hoop", "Indoor basketball ball", "Basketball shoes", "Basketball net", "Basketball jersey", "Ball pump"],
    "swimming": ["Swimming goggles", "Swim cap", "Swimming fins", "Pool kickboard", "Swimming trunks", "Pool ladder"],
    "cycling": ["Bicycle helmet", "Bike bell", "Cycling gloves", "Bicycle lock", "Bike tyre", "Bicycle chain"],
}
WORDS = [
    *("basketball", "hoop", "indoor", "ball", "shoes", "net", "jersey", "pump", "swimming", "goggles", "swim", "cap", "fins", "pool"),
    *("kickboard", "trunks", "ladder", "bicycle", "helmet", "bike", "bell", "cycling", "gloves", "lock", "tyre", "chain", "likes"),
    *(
        "recently",
        "chose",
        "for",
        "people",
        "who",
        "like",
        "may",
        "also",
        "this",
        "is",
        ",",
        ".",
        "and",
        ";",
        "red",
        "blue",
        "fruit",
        "car",
    ),
]


def sports(users: int = 24, name: str = "sports") -> Dataset:
    """Each user plays one sport and has five of its six items, in random order; the sixth is the right answer."""
    rng = np.random.default_rng(3)
    kinds = list(SPORTS)
    rows = []
    for user in range(users):
        sport = kinds[user % 3]
        left_out = user // 3 % 6
        rows += [(f"u{user:02d}", f"{sport[0]}{i}", t) for t, i in enumerate(rng.permutation(6)) if i != left_out]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame(
        [(f"{sport[0]}{i}", title, [sport.capitalize()]) for sport, titles in SPORTS.items() for i, title in enumerate(titles)],
        schema=["item_id", "title", "categories"],
        orient="row",
    )
    return Dataset(log, items, name=name)


def tiny_bert(folder: Path, *, mask: bool = True, family: str = "bert") -> Path:
    """A random two-layer BERT or RoBERTa over :data:`WORDS`, as a folder."""
    import transformers as tf
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(["[MASK]"] if mask else [])]
    if family == "roberta":  # the padding is not the first id, so positions start behind it
        marks[0], marks[1] = marks[1], marks[0]
    vocabulary = {word: i for i, word in enumerate([*marks, *dict.fromkeys(WORDS)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(m, vocabulary[m]) for m in ("[CLS]", "[SEP]")]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special, **({"mask_token": "[MASK]"} if mask else {})).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"vocab_size": len(vocabulary), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    size |= {"initializer_range": 0.2}
    if family == "roberta":
        tf.RobertaModel(tf.RobertaConfig(**size, max_position_embeddings=66, pad_token_id=vocabulary["[PAD]"])).save_pretrained(folder)
    else:
        tf.BertModel(tf.BertConfig(**size, max_position_embeddings=64)).save_pretrained(folder)
    return folder
