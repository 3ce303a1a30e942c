"""The weights of a text encoder that is being trained: which they are, adapters, precision, packing, and how they are written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec.errors import InputError, nearest, require
from lexirec.files import as_umask_allows, atomic_file, read_json
from lexirec.text.encoders import Encoder, load_encoder
from lexirec.text.encoders.hub import quiet_loading
from lexirec.text.encoders.sentence import SentenceTransformersEncoder
from lexirec.text.encoders.transformer import TransformerEncoder

OVERHEAD = 64
"""Tokens' worth of time that one more pass through a small encoder costs."""


def save_weights(folder: Path, model: Any, weights: dict[str, Tensor]) -> None:
    """A model as safetensors and its configuration; the encoder half of an encoder-decoder under the names its family loads."""
    if type(model).__name__.endswith("Stack") and hasattr(model, "embed_tokens"):
        from safetensors.torch import save_file

        # T5 and the like: loaded as a whole, of which only the encoder is read.
        named = {f"encoder.{name}": value.contiguous() for name, value in weights.items() if name != "embed_tokens.weight"}
        with atomic_file(folder / "model.safetensors") as temporary:
            save_file({**named, "shared.weight": model.embed_tokens.weight.detach().contiguous()}, temporary, {"format": "pt"})
            as_umask_allows(temporary)
        model.config.save_pretrained(folder)
        return
    with quiet_loading():
        model.save_pretrained(folder, state_dict=weights)
    for path in folder.glob("*.safetensors"):  # one, or several of a large model
        as_umask_allows(path)


def pack_sorted(lengths: NDArray[np.int64], budget: int, most: int) -> list[NDArray[np.int64]]:
    """Cut texts, sorted by length, into passes: at most ``budget`` tokens with padding and ``most`` texts; longest first.

    Few passes and little padding pull apart: a pass ends where its padding would cost more than a pass's own overhead (taken as
    ``OVERHEAD`` tokens), by dynamic programming over the sorted lengths.

    >>> [group.tolist() for group in pack_sorted(np.array([3, 300, 3, 4]), 4096, 64)]
    [[1], [0, 2, 3]]
    """
    order = np.argsort(lengths, kind="stable")
    size = lengths[order]
    n = len(size)
    best = np.full(n + 1, np.inf)
    best[0] = 0.0
    cut = np.zeros(n + 1, dtype=np.int64)
    for end in range(1, n + 1):
        # A pass is size[start:end], as wide as its last text.
        width = int(size[end - 1])
        first = max(0, end - min(most, max(1, budget // max(width, 1))))
        cost = best[first:end] + width * (end - np.arange(first, end)) + OVERHEAD
        start = int(np.argmin(cost))
        best[end], cut[end] = cost[start], first + start
    groups, end = [], n
    while end > 0:
        groups.append(order[cut[end] : end])
        end = int(cut[end])
    return groups


def use_float32_attention(model: Any) -> None:
    """Let attention run in float32 where a CPU trains in bfloat16; the matrix products stay as they are.

    torch's fused attention is several times slower backwards in bfloat16 than in float32 on a CPU (2.13, Zen 4: 1.5 s against 0.2 s of a
    step of 4,600 tokens), and attention is a small part of the work.
    """
    if not getattr(model, "_supports_attention_backend", False) or model.config._attn_implementation != "sdpa":
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> tuple[Tensor, None]:
        if query.dtype != torch.bfloat16:
            return sdpa_attention_forward(module, query, key, value, mask, **options)
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.float()
        with torch.autocast("cpu", enabled=False):
            out, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **options)
        return out.to(query.dtype), None

    name = "lexirec_float32"
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    model.set_attn_implementation(name)


def set_dropout(model: nn.Module, p: float) -> None:
    """Set every dropout of a model, those that attention keeps as plain numbers included; low-rank adapters keep theirs."""
    for place, module in model.named_modules():
        if "lora_" in place:
            continue
        if isinstance(module, nn.Dropout):
            module.p = p
        for name, value in list(vars(module).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, p)


def lora_targets(model: nn.Module, names: Sequence[str] = ()) -> list[str]:
    """Full names of the layers that get adapters: the projections inside the model's repeated blocks, or those named.

    For Llama-likes these are q, k, v, o, gate, up and down; for BERT-likes query, key, value and the three dense layers; for GPT-2
    c_attn, c_proj and c_fc.

    Raises:
        InputError: if a name fits no layer (those there are named).
    """
    from transformers.pytorch_utils import Conv1D

    inside = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and any(part.isdigit() for part in name.split("."))
    ]
    for wanted in names:
        if not any(name == wanted or name.endswith(f".{wanted}") for name in inside):
            known = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in inside))
            raise InputError(f"lora_targets: no layer is called {wanted!r}{nearest(wanted, known)}; there are {', '.join(known)}")
    return [name for name in inside if not names or any(name == w or name.endswith(f".{w}") for w in names)]


def add_adapters(model: nn.Module, r: int, alpha: float, dropout: float, names: Sequence[str] = ()) -> Any:
    """Put low-rank adapters into ``model`` in place and freeze the rest.

    Args:
        model: any transformer of Hugging Face.
        r: rank.
        alpha: adapters are scaled by ``alpha / r``.
        dropout: in front of the adapters.
        names: of layers, see :func:`lora_targets`.

    Returns:
        The model inside peft's; ``model`` itself can be called as before.
    """
    peft = require("peft", "finetune")
    from transformers.pytorch_utils import Conv1D

    transposed = any(isinstance(module, Conv1D) for module in model.modules())  # GPT-2 keeps its weights transposed
    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=r, lora_alpha=alpha, lora_dropout=dropout, bias="none", fan_in_fan_out=transposed, target_modules=lora_targets(model, names)
        ),
    )


def can_fuse(weights: Sequence[Tensor]) -> bool:
    """Whether the optimiser has a fused step for these weights."""
    return all(w.device.type in ("cpu", "cuda") and w.is_floating_point() for w in weights)


def base_encoder(
    encoder: str | Encoder, *, pooling: str, max_length: int | None, normalize: bool, device: str, precision: str = "float32"
) -> TransformerEncoder:
    """A fresh copy of an encoder's model, pooled as the training pools it.

    Args:
        encoder: ``minilm``, ``hf:``, or ``st:`` with nothing but pooling and unit length behind its transformer; a name or an encoder.
        pooling: see ``docs/encoders.md``.
        max_length: longest text, tokens; ``None``: what the model takes.
        normalize: whether vectors have unit length.
        device: torch device.
        precision: of the weights.

    Raises:
        InputError: if the encoder has no transformer that can be tuned.
    """
    if isinstance(encoder, str):
        encoder = load_encoder(encoder)
    options: dict[str, Any] = {"pooling": pooling, "max_length": max_length, "normalize": normalize}
    options |= {"device": device, "precision": precision}
    if isinstance(encoder, TransformerEncoder):
        known: dict[str, Any] = {"sha256": encoder.sha256, "name": encoder.name, "label": encoder.label}
        return TransformerEncoder(str(encoder.folder), prompt=encoder.prompt, **known, **options)
    if isinstance(encoder, SentenceTransformersEncoder):
        return TransformerEncoder(str(_transformer_folder(encoder.folder)), prompt=encoder.prompt, name=encoder.name, **options)
    raise InputError(f"encoder {encoder.name!r} has no transformer to fine-tune; use minilm, hf:<model> or st:<model>")


def pooling_of(encoder: Encoder) -> str:
    """How a sentence-transformers model pools, as its folder says: ``cls``, ``mean``, ...; several are joined by ``+``."""
    if not isinstance(encoder, SentenceTransformersEncoder):
        raise InputError(f"encoder {encoder.name!r} has no sentence-transformers folder that says how it pools")
    modules = read_json(encoder.folder / "modules.json") if (encoder.folder / "modules.json").exists() else []
    for module in modules:
        if str(module["type"]).endswith(".Pooling"):
            said = read_json(encoder.folder / str(module["path"]) / "config.json")
            if "pooling_mode" in said:  # newer versions of sentence-transformers; one flag per mode before
                modes = said["pooling_mode"]
                return "+".join(modes) if isinstance(modes, list) else str(modes)
            names = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
            flags = [name for name, on in said.items() if name.startswith("pooling_mode_") and on is True]
            return "+".join(names.get(name, name.removeprefix("pooling_mode_")) for name in flags)
    return "mean"  # what sentence-transformers puts behind a bare transformer


def _transformer_folder(folder: Path) -> Path:
    """Where a sentence-transformers model keeps its transformer."""
    if not (folder / "modules.json").exists():
        return folder
    modules = read_json(folder / "modules.json")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    further = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if further or "Transformer" not in kinds:
        raise InputError(f"{folder} has further layers ({', '.join(further) or 'no Transformer'}) that can't be tuned; use hf:{folder}")
    return folder / str(modules[kinds.index("Transformer")]["path"])


__all__ = [
    "add_adapters",
    "base_encoder",
    "can_fuse",
    "lora_targets",
    "pack_sorted",
    "pooling_of",
    "save_weights",
    "set_dropout",
    "use_float32_attention",
]
