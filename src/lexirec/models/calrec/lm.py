"""The language model behind CALRec: an own small one, the bundled encoder made to look back only, or any causal one by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

from lexirec.errors import InputError
from lexirec.models.calrec.vocabulary import Vocabulary
from lexirec.models.language import lm_folder, load_lm
from lexirec.models.layers.decoder import Decoder, Shape, inner_width
from lexirec.models.layers.sequence import Layout
from lexirec.models.layers.softmax import cross_entropy_over_items
from lexirec.training.weights import set_dropout

SIZES = {"tiny": (192, 4, 3), "small": (256, 6, 4), "medium": (512, 8, 8)}
"""Width, blocks and heads of the own language models."""
MINILM = "minilm"
ROUNDING = 1e-3
"""Of the largest number, by which two ways of computing the same may differ."""


class HubDecoder(nn.Module):
    """A Hugging Face model behind the same calls as :class:`~lexirec.models.layers.decoder.Decoder`.

    Args:
        body: gives states, ``(n, L) -> last_hidden_state``.
        head: states to scores of all tokens.
        words: output vectors if the scores are nothing but products with them, so that they need not be held all at once.
        dim: width of the states.
        whole: the model that ``body`` and ``head`` are parts of; its weights that need a gradient are this module's state.
        token_bytes: of the keys and values that the body keeps of a token.
    """

    def __init__(
        self,
        body: nn.Module,
        head: Callable[[Tensor], Tensor],
        words: Callable[[], Tensor] | None,
        dim: int,
        whole: nn.Module,
        token_bytes: int,
    ) -> None:
        super().__init__()
        self._parts = (body, head, words, whole)  # in a tuple, so that frozen weights aren't part of the state
        self.dim, self.token_bytes = dim, token_bytes
        self.tuned = nn.ParameterList([p for p in whole.parameters() if p.requires_grad])

    @property
    def body(self) -> Any:
        return self._parts[0]

    @property
    def whole(self) -> nn.Module:
        return self._parts[3]

    @property
    def words(self) -> Tensor | None:
        return None if self._parts[2] is None else self._parts[2]()

    def buffers_of_whole(self) -> dict[str, Tensor]:
        """What the whole model computes with and doesn't train, such as the corrections of a router; nothing for most."""
        weights = {name for name, _ in self.whole.named_parameters(remove_duplicate=False)}
        return {name: value for name, value in self.whole.state_dict().items() if name not in weights}

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "HubDecoder":
        super()._apply(fn, recurse)
        self._parts[3]._apply(fn)
        return self

    def train(self, mode: bool = True) -> "HubDecoder":
        super().train(mode)
        self._parts[3].train(mode)
        return self

    def scores(self, states: Tensor) -> Tensor:
        """Scores of all tokens, ``(M, V)``."""
        return self._parts[1](states)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Last states, ``(T, D)``, of packed tokens; padding stands at the end of each group, where nothing looks at it."""
        found = []
        for group in layout.groups:
            block = group.padded(tokens[:, None])[:, :, 0]  # (n, L)
            states = self.body(input_ids=block, use_cache=False).last_hidden_state
            found.append(group.packed(states))
        return torch.cat(found)


LanguageModel = Decoder | HubDecoder


def readable_tokens(config: Any, shape: dict[str, Any] | None = None) -> int:
    """Most tokens of an input: ``max_tokens``, or what the model's positions leave beside ``max_new_tokens``.

    Args:
        config: a :class:`~lexirec.models.calrec.model.CALRecConfig`.
        shape: of a named model, its ``config.json``; read from its folder if not given.

    Raises:
        InputError: if they leave nothing.
    """
    from lexirec.text.encoders.families import position_limit, read_config
    from lexirec.text.encoders.hub import bundled_folder

    if config.lm in SIZES:  # their positions have no end
        return int(config.max_tokens)
    positions = position_limit(shape or read_config(bundled_folder() if config.lm == MINILM else lm_folder(config.lm)), None)
    if positions is None:
        return int(config.max_tokens)
    if positions <= config.max_new_tokens:
        raise InputError(f"lm: {config.lm} has {positions} positions, and max_new_tokens = {config.max_new_tokens} takes all; lower it")
    return min(int(config.max_tokens), positions - config.max_new_tokens)


def drop(lm: "LanguageModel", p: float) -> None:
    """Set the dropout of a language model; adapters keep theirs."""
    set_dropout(lm if isinstance(lm, Decoder) else lm.whole, p)


def make_lm(config: Any, vocabulary: Vocabulary, shape: dict[str, Any] | None = None) -> LanguageModel:
    """A language model with fresh, warm-started or published weights.

    Args:
        config: a :class:`~lexirec.models.calrec.model.CALRecConfig`.
        vocabulary: its tokens.
        shape: a named model's ``config.json``, to make it without its folder, with fresh weights.

    Raises:
        InputError: as :func:`~lexirec.models.language.load_lm` does, or for a named model that can't be used as it is here.
    """
    if config.lm in SIZES:
        dim, layers, heads = SIZES[config.lm]
        dim, layers, heads = config.lm_dim or dim, config.lm_layers or layers, config.lm_heads or heads
        if dim % (2 * heads):
            raise InputError(f"lm_dim = {dim} is no multiple of twice lm_heads = {heads}; rotary positions need even heads")
        return Decoder(Shape(len(vocabulary), dim, layers, heads, inner_width(dim)), config.lm_dropout)
    if config.lm == MINILM:
        encoder = _from_encoder(vocabulary)
        drop(encoder, config.lm_dropout)
        return encoder
    if shape is None:
        model = load_lm(config, len(vocabulary), readable_tokens(config) + config.max_new_tokens)
    else:
        model = _of_shape(shape)
    model.config.use_cache = False
    set_dropout(model, config.lm_dropout)
    body, head = model.base_model, model.get_output_embeddings()
    if len(vocabulary) > (rows := len(model.get_input_embeddings().weight)):
        raise InputError(
            f"lm: the tokenizer of {config.lm} has {len(vocabulary):,} tokens and its embedding {rows:,} rows; use the tokenizer that"
            f" belongs to the weights, or add rows with resize_token_embeddings({len(vocabulary)}) and save the model again"
        )
    token_bytes = _probed(config.lm, model, body, head)
    plain = isinstance(head, nn.Linear) and head.bias is None
    return HubDecoder(body, head, (lambda: head.weight) if plain else None, int(head.weight.shape[1]), model, token_bytes)


def _of_shape(shape: dict[str, Any]) -> Any:
    """The causal model of a ``config.json`` with fresh weights; no code that it may name is run."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from lexirec.text.encoders.hub import quiet_loading

    with quiet_loading():
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape), dtype=torch.float32, trust_remote_code=False)


def _alike(found: Tensor, expected: Tensor) -> bool:
    """Whether numbers differ by rounding only: states of real models can be in the hundreds, so the largest is the measure."""
    return bool((found - expected).abs().max() <= ROUNDING * expected.abs().max())


@torch.no_grad()
def _probed(name: str, model: Any, body: Any, head: Any) -> int:
    """Bytes of the keys and values of a token, once five tokens have shown that training and writing can use the model.

    Raises:
        InputError: if scores are not what the head makes of the states, with nothing (a cap, a scale) between or behind; or if the model
            does not go on from keys and values that it keeps.
    """
    probe = torch.arange(1, 6, device=next(model.parameters()).device)[None]
    training = model.training
    model.eval()
    states = body(input_ids=probe).last_hidden_state
    if not _alike(model(input_ids=probe).logits, head(states)):
        raise InputError(f"lm: {name} computes its scores from its states in a way of its own; name another causal language model")
    read = body(input_ids=probe[:, :4], use_cache=True)
    layers = getattr(getattr(read, "past_key_values", None), "layers", [])
    known = bool(layers) and all(isinstance(getattr(layer, "keys", None), Tensor) for layer in layers)
    token_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers) // 4 if known else 0
    if known:
        last = body(input_ids=probe[:, 4:], past_key_values=read.past_key_values, use_cache=True).last_hidden_state
        known = _alike(last[:, 0], states[:, 4])
    if not known:
        raise InputError(
            f"lm: {name} keeps no keys and values of what it has read, as Mamba and its like, so texts can't be written with it here; name"
            " a transformer"
        )
    model.train(training)
    return token_bytes


def _from_encoder(vocabulary: Vocabulary) -> HubDecoder:
    """The bundled encoder's blocks under a causal mask; a token's vector starts as the mean of those of its word pieces."""
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    from lexirec.text.encoders.hub import bundled_folder, quiet_loading

    folder = bundled_folder()
    with quiet_loading():
        encoder = BertModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, add_pooling_layer=False)
    shape = BertConfig.from_pretrained(folder)
    shape.vocab_size, shape.is_decoder, shape.pad_token_id = len(vocabulary), True, None
    model = BertModel(shape, add_pooling_layer=False)
    weights = {name: value for name, value in encoder.state_dict().items() if "word_embeddings" not in name}
    model.load_state_dict(weights, strict=False)
    pieces = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces.no_padding()
    pieces.no_truncation()
    old, new = encoder.get_input_embeddings().weight, model.get_input_embeddings().weight
    with torch.no_grad():
        texts = [vocabulary.tokenizer.decode([i], skip_special_tokens=False) for i in range(len(vocabulary))]
        for token, found in enumerate(pieces.encode_batch(texts, add_special_tokens=False)):
            if found.ids:
                new[token] = old[found.ids].mean(0)
        new[vocabulary.end] = old[pieces.token_to_id("[SEP]")]
    # Scores of an encoder's states against its own embeddings are large and were never trained: divide them to start near even.
    scale = float(new.shape[1]) ** -0.5
    token_bytes = 8 * shape.num_hidden_layers * shape.hidden_size
    return HubDecoder(model, lambda states: states @ (new.T * scale), lambda: new * scale, int(new.shape[1]), model, token_bytes)


def token_losses(lm: LanguageModel, states: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the cross entropy of tokens, ``(M, D), (M,), (M,) -> ()``, a block of positions at a time."""
    words = lm.words
    low = torch.is_autocast_enabled(states.device.type)
    with torch.autocast(states.device.type, enabled=False):
        if words is not None:
            return cross_entropy_over_items(states.float(), words, targets, low=low, weights=weights)
    scores = lm.scores(states).float()
    return (F.cross_entropy(scores, targets, reduction="none") * weights).sum()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without gradients and dropout, and as it was afterwards."""
    before = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(before)


__all__ = ["MINILM", "SIZES", "HubDecoder", "LanguageModel", "drop", "evaluating", "make_lm", "readable_tokens", "token_losses"]
