"""What differs between families of transformers models: direction, positions, padding token."""

import json
import sys
from pathlib import Path
from typing import Any

from lexirec.errors import InputError


def default_device() -> str:
    """``cuda`` if torch can use it, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def read_config(folder: Path) -> dict[str, Any]:
    """A model's ``config.json``."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read ({error}); {folder} is no transformers model") from error
    return config if isinstance(config, dict) else {}


def is_causal(config: dict[str, Any]) -> bool:
    """Whether a model reads left to right: its family writes text and has no masked-language form."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

    kind = config.get("model_type")
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def position_offset(model: Any) -> int:
    """Where positions start: padding index + 1 in RoBERTa's families (MPNet, XLM-R, CamemBERT, ...), 0 in all others."""
    embeddings = getattr(model, "embeddings", None)
    index = getattr(embeddings, "padding_idx", None)
    if index is None:
        return 0
    maker = "create_position_ids_from_input_ids"
    return int(index) + 1 if hasattr(embeddings, maker) or hasattr(sys.modules[type(embeddings).__module__], maker) else 0


def pad_token(tokenizer: Any) -> int:
    """Token id to fill with: the padding token, else the end token, else 0 (masked in any case)."""
    for value in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if value is not None:
            return int(value)
    return 0


def position_limit(config: dict[str, Any], model: Any) -> int | None:
    """Most tokens that the model has positions for; ``None`` where its positions have no end."""
    for key in ("max_position_embeddings", "n_positions", "n_ctx"):
        if isinstance(config.get(key), int):
            return int(config[key]) - position_offset(model)
    return None
