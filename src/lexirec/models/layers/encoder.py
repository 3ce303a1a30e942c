"""A bidirectional text encoder that is trained: tokens, pooling, head and masked-word decoder, over any BERT or RoBERTa of Hugging Face.

token ids -> transformer -> first state (or mean) -> (linear -> tanh)
"""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec.errors import InputError
from lexirec.models.layers.softmax import cross_entropy_over_items
from lexirec.query import as_text
from lexirec.text.encoders.transformer import CHARACTERS_PER_TOKEN, cut

Pooling = Literal["first", "mean"]
Decoder = Literal["none", "untied", "tied"]
SIZES: dict[str, tuple[int, int, int, int]] = {
    "tiny": (2, 128, 2, 512),
    "small": (6, 768, 12, 3072),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
}
"""Layers, hidden size, heads and inner size of encoders that start from scratch; the last three are EasyRec's (RoBERTa's)."""
VOCABULARY = 50_265
"""RoBERTa's."""
INIT_STD = 0.02


def scratch_config(size: str, vocab_size: int = VOCABULARY, pad: int = 1) -> Any:
    """The configuration of a RoBERTa of a named size.

    >>> scratch_config("small").num_hidden_layers
    6
    """
    from transformers import RobertaConfig

    layers, hidden, heads, inner = SIZES[size]
    return RobertaConfig(
        vocab_size=vocab_size,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=513 + pad,  # 512 tokens and the positions up to the padding's, which RoBERTa leaves out
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=pad,
    )


class Tokenizer:
    """Texts to token ids, by a tokenizer that is kept as text (a fast tokenizer of Hugging Face).

    Args:
        definition: what ``tokenizers`` reads: JSON.
        special: ids of the special tokens, never masked.
        pad: id of the padding.
        mask: id of the mask, ``None`` where there is none.
        vocab_size: ids are below it.
    """

    def __init__(self, definition: str, special: Sequence[int], pad: int, mask: int | None, vocab_size: int) -> None:
        self.definition = definition
        self.special, self.pad, self.mask, self.vocab_size = sorted(int(i) for i in special), int(pad), mask, int(vocab_size)
        self._made: dict[int, Any] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, tokenizer: Any) -> "Tokenizer":
        """From a tokenizer of transformers.

        Raises:
            InputError: if it is a slow one.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputError(f"{type(tokenizer).__name__} has no fast form (tokenizer.json), which is needed to keep it with the model")
        pad = tokenizer.pad_token_id
        return cls(backend.to_str(), tokenizer.all_special_ids, 0 if pad is None else pad, tokenizer.mask_token_id, len(tokenizer))

    def state(self) -> dict[str, Any]:
        """JSON-able; :meth:`restored` makes the same again."""
        return {
            "definition": self.definition,
            "special": self.special,
            "pad": self.pad,
            "mask": self.mask,
            "vocab_size": self.vocab_size,
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Tokenizer":
        """From :meth:`state`."""
        return cls(str(state["definition"]), state["special"], state["pad"], state["mask"], state["vocab_size"])

    def __call__(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Token ids of each text with special tokens, at most ``max_length`` of them."""
        width = CHARACTERS_PER_TOKEN * max_length
        with self._lock:  # a tokenizer can't be used by two threads at once; a service asks from several
            if max_length not in self._made:
                import tokenizers

                made = tokenizers.Tokenizer.from_str(self.definition)
                made.no_padding()
                made.enable_truncation(max_length)
                self._made[max_length] = made
            return [found.ids for found in self._made[max_length].encode_batch([as_text(cut(text, width)) for text in texts])]


class TextNetwork(nn.Module):
    """The encoder, its head and its decoder of masked words.

    Args:
        backbone: a transformers model without a pooler.
        pooling: the first token's state, or the mean over the tokens.
        head: whether a linear map and tanh follow; part of the vector, in training and later.
        decoder: of masked words: none, with weights of its own, or with those of the word embeddings.
    """

    def __init__(self, backbone: nn.Module, pooling: Pooling, head: bool, decoder: Decoder = "none") -> None:
        super().__init__()
        self.backbone: Any = backbone
        config: Any = backbone.config
        self.pooling, self.decoder_kind = pooling, decoder
        d, vocabulary = int(config.hidden_size), int(config.vocab_size)
        self.dim = d
        self.head = nn.Linear(d, d) if head else None
        self.transform: nn.Sequential | None = None
        self.decoder: nn.Linear | None = None
        self.decoder_bias: nn.Parameter | None = None
        if decoder != "none":
            self.transform = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.LayerNorm(d, eps=getattr(config, "layer_norm_eps", 1e-12)))
            if decoder == "untied":
                self.decoder = nn.Linear(d, vocabulary)
            else:
                self.decoder_bias = nn.Parameter(torch.zeros(vocabulary))
        for part in (self.head, None if self.transform is None else self.transform[0]):
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=INIT_STD)
                nn.init.zeros_(part.bias)
        if self.decoder is not None:
            with torch.no_grad():
                self.decoder.weight.copy_(self.words)  # a good start where the encoder was trained without a decoder
            nn.init.zeros_(self.decoder.bias)

    @property
    def words(self) -> Tensor:
        """The word embeddings, ``(V, D)``."""
        found: Tensor = self.backbone.get_input_embeddings().weight
        return found

    def states(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Last states ``(B, L, D)``; ``mask`` ``(B, L)`` bool where texts are padded on the right."""
        options = {} if mask is None else {"attention_mask": mask.long()}
        found: Tensor = self.backbone(input_ids=ids, **options).last_hidden_state
        return found

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Vectors ``(B, D)`` float32, not normalised.

        Args:
            ids: ``(B, L)`` int64, padded on the right.
            mask: ``(B, L)`` bool, true at tokens; ``None`` where nothing is padded.
        """
        states = self.states(ids, mask)
        if self.pooling == "first":
            pooled = states[:, 0]
        elif mask is None:
            pooled = states.float().mean(1)
        else:
            weights = mask.float() / mask.sum(1, keepdim=True)
            pooled = torch.einsum("bld,bl->bd", states.float(), weights)
        return (pooled if self.head is None else torch.tanh(self.head(pooled))).float()

    def masked_word_loss(self, ids: Tensor, mask: Tensor | None, labels: Tensor) -> Tensor:
        """Mean cross entropy of the words that were masked.

        Args:
            ids: ``(B, L)`` with masks in it.
            mask: see :meth:`forward`.
            labels: ``(B, L)`` the words that were there, -100 where nothing is asked.
        """
        asked = labels >= 0
        states = self.states(ids, mask)[asked]  # (M, D): only these are decoded
        assert self.transform is not None  # noqa: S101 (the caller has a decoder)
        states = self.transform(states).float()
        low = torch.is_autocast_enabled(ids.device.type)
        with torch.autocast(ids.device.type, enabled=False):
            weight = self.words if self.decoder is None else self.decoder.weight
            bias = self.decoder_bias if self.decoder is None else self.decoder.bias
            assert bias is not None  # noqa: S101 (one of the two)
            # The bias as one more dimension, so that the scores of all words are never held at once.
            ones = torch.ones(len(states), 1, device=states.device)
            words = torch.cat([weight, bias[:, None]], dim=1)
            return cross_entropy_over_items(torch.cat([states, ones], dim=1), words, labels[asked], low=low)


def without_pooler(model: nn.Module) -> nn.Module:
    """The same model with its pooler taken off: it is not read, and its weights would get no gradient."""
    whole: Any = model
    if hasattr(whole, "pooler"):
        whole.pooler = None
    return model


HEADS = {
    "mlp.dense": "head",  # EasyRec's released checkpoints
    "lm_head.dense": "transform.0",
    "lm_head.layer_norm": "transform.2",
    "lm_head.decoder": "decoder",
    "cls.predictions.transform.dense": "transform.0",
    "cls.predictions.transform.LayerNorm": "transform.2",
    "cls.predictions.decoder": "decoder",
}
"""Parts beside the encoder, as checkpoints of Hugging Face's kind call them, and here. The decoder's bias may stand outside it."""


def read_heads(network: TextNetwork, folder: Path) -> list[str]:
    """Take head and decoder from a checkpoint that has them; what it lacks stays as it was made.

    Args:
        network: with fresh heads.
        folder: with safetensors.

    Returns:
        Names of the weights that were taken.
    """
    from safetensors import safe_open

    own = network.state_dict()
    taken: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 (not a dict)
                part, _, kind = name.rpartition(".")
                at = (
                    f"{HEADS[part]}.{kind}" if part in HEADS else "decoder.bias" if name in ("lm_head.bias", "cls.predictions.bias") else ""
                )
                at = "decoder_bias" if at == "decoder.bias" and network.decoder_kind == "tied" else at
                if at in own and tuple(handle.get_slice(name).get_shape()) == tuple(own[at].shape):
                    taken[at] = handle.get_tensor(name).float()
    network.load_state_dict(taken, strict=False)
    return sorted(taken)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The repeated blocks of an encoder, lowest first.

    Raises:
        InputError: if it has none that are known.
    """
    for owner in ("encoder", "transformer"):
        for name in ("layer", "layers"):
            found = getattr(getattr(model, owner, None), name, None)
            if isinstance(found, nn.ModuleList):
                return found
    raise InputError(f"{type(model).__name__} has no list of layers that is known here; leave num_layers and frozen_layers unset")


def keep_layers(model: nn.Module, count: int) -> None:
    """Keep the lowest ``count`` layers, in place (EasyRec-small is RoBERTa-base's lowest six).

    Raises:
        InputError: if there are fewer.
    """
    layers = layers_of(model)
    if count > len(layers):
        raise InputError(f"num_layers is {count} and the encoder has {len(layers)} layers")
    del layers[count:]
    whole: Any = model
    whole.config.num_hidden_layers = count


def freeze_lowest(model: nn.Module, count: int) -> None:
    """Keep the embeddings and the lowest ``count`` layers from being trained.

    Raises:
        InputError: if there are fewer layers.
    """
    layers = layers_of(model)
    if count > len(layers):
        raise InputError(f"frozen_layers is {count} and the encoder has {len(layers)} layers")
    whole: Any = model
    for part in (whole.embeddings, *layers[:count]):
        for parameter in part.parameters():
            parameter.requires_grad = False


def backbone_from(config: Mapping[str, Any]) -> nn.Module:
    """A model with fresh weights from a saved configuration (as ``to_dict`` gives it); runs no code but transformers' own."""
    from transformers import AutoConfig, AutoModel

    settings = dict(config)
    kind = settings.pop("model_type")
    made = AutoConfig.for_model(kind, **settings)
    return without_pooler(AutoModel.from_config(made, attn_implementation="sdpa"))


def config_state(model: nn.Module) -> dict[str, Any]:
    """The configuration as JSON-able values; see :func:`backbone_from`."""
    config: Any = model.config
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in found.items() if key not in ("_name_or_path", "transformers_version", "torch_dtype", "dtype")}


def padded(flat: NDArray[np.int64], offsets: NDArray[np.int64], rows: NDArray[np.int64], fill: int) -> tuple[Tensor, Tensor | None]:
    """Some texts of a flat array side by side.

    Args:
        flat: token ids of all texts.
        offsets: text ``i`` is ``flat[offsets[i]:offsets[i + 1]]``.
        rows: which texts.
        fill: id of the padding.

    Returns:
        ``(n, L)`` int64 padded on the right, and ``(n, L)`` bool, true at tokens (``None`` where nothing is padded).

    >>> ids, mask = padded(np.array([5, 6, 7]), np.array([0, 1, 3]), np.array([0, 1]), fill=0)
    >>> ids.tolist(), mask.tolist()
    ([[5, 0], [6, 7]], [[True, False], [True, True]])
    """
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    width = int(lengths.max())
    place = np.arange(width)
    inside = place[None, :] < lengths[:, None]
    at = np.minimum(starts[:, None] + place[None, :], len(flat) - 1)
    ids = torch.from_numpy(np.where(inside, flat[at], fill))
    return ids, None if inside.all() else torch.from_numpy(inside)


__all__ = [
    "SIZES",
    "TextNetwork",
    "Tokenizer",
    "backbone_from",
    "config_state",
    "freeze_lowest",
    "keep_layers",
    "layers_of",
    "padded",
    "read_heads",
    "scratch_config",
    "without_pooler",
]
