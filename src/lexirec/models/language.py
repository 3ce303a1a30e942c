"""Causal language models for the stages before a recommender: a small one from a configuration, or any of Hugging Face by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from lexirec.data.text_files import first_line
from lexirec.errors import InputError
from lexirec.models.backbones import BackboneConfig

SMALL = "small"


class LanguageModelConfig(BackboneConfig):
    """Settings of a system whose first stage trains with a language model."""

    items: Literal["id"] = "id"
    """A table of item vectors, which the first stage makes."""
    freeze: bool = True
    """Whether the vectors of the first stage stay as they are while the recommender is trained; else it starts at them."""
    lm: str = SMALL
    """``small``: a causal transformer of the sizes below with fresh weights; else a folder or name of a causal Hugging Face model."""
    lm_dim: PositiveInt = 128
    """small: width."""
    lm_layers: PositiveInt = 2
    """small: blocks."""
    lm_heads: PositiveInt = 2
    """small: attention heads; must divide ``lm_dim``."""
    tune: Literal["all", "lora", "none"] = "all"
    """Which weights of the language model are trained: ``all``, low-rank adapters (extra ``finetune``), or ``none``."""
    lora_r: PositiveInt = 8
    """lora: rank."""
    lora_alpha: PositiveFloat = 32.0
    """lora: adapters are scaled by ``lora_alpha / lora_r``."""
    lora_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """lora: dropout in front of the adapters."""
    lm_epochs: PositiveInt = 10
    """Passes of the first stage; LLMEmb's leftovers have 4,000 steps of 32, which is as many on Beauty's items."""
    lm_lr: PositiveFloat | None = None
    """Learning rate of the first stage, falling in a line to 0; 1e-3 for ``small`` and 2e-4 for others if not given."""
    lm_tokens: PositiveInt = 4096
    """Most tokens of a batch of the first stage, padding included."""
    lm_std: NonNegativeFloat = 0.02
    """Standard deviation of the first values of the item vectors or item tokens."""

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if self.lm != SMALL:
            found |= dict.fromkeys(("lm_dim", "lm_layers", "lm_heads"), f"lm = {self.lm!r}")
        if self.tune != "lora":
            found |= dict.fromkeys(("lora_r", "lora_alpha", "lora_dropout"), f"tune = {self.tune!r}")
        return found

    @model_validator(mode="after")
    def _heads_of_the_language_model(self) -> "LanguageModelConfig":
        if self.lm == SMALL and self.lm_dim % (2 * self.lm_heads):
            raise ValueError(f"lm_dim = {self.lm_dim} is no multiple of twice lm_heads = {self.lm_heads}; rotary positions need even heads")
        return self

    @property
    def lm_rate(self) -> float:
        """``lm_lr``, or the default of the model."""
        return self.lm_lr or (1e-3 if self.lm == SMALL else 2e-4)

    def stage(self) -> dict[str, Any]:
        """What the result of the first stage depends on."""
        names = ("embedding_dim", "tune", "lm_epochs", "lm_tokens", "lm_std")
        found: dict[str, Any] = {name: getattr(self, name) for name in names} | {"lr": self.lm_rate}
        if self.tune == "lora":
            found |= {"lora": [self.lora_r, self.lora_alpha, self.lora_dropout]}
        if self.lm == SMALL:
            return found | {"lm": [self.lm_dim, self.lm_layers, self.lm_heads]}
        from lexirec.text.encoders.hub import identity

        return found | {"lm": identity(lm_folder(self.lm))}


def lm_folder(name: str) -> Path:
    """Folder of a named language model.

    Raises:
        InputError: if the name is empty, or there is no such folder, no local copy and no network.
    """
    from lexirec.text.encoders.hub import resolve

    if not name:
        raise InputError("lm = '' names no language model; write the folder or name of a causal one, or leave lm out")
    try:
        return resolve(name)
    except InputError as error:
        raise InputError(f"lm = {name!r} can't be had: {error}") from error


@contextmanager
def of_lm(name: str, what: str) -> Iterator[None]:
    """Say which part of a named language model can't be read.

    Raises:
        InputError: in place of what the library said.
    """
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"lm = {name!r}: its {what} can't be read ({first_line(error)}); fetch the model again, or name another causal language model"
        ) from error


def lm_width(config: LanguageModelConfig) -> int:
    """Width of the language model's states, told without its weights."""
    if config.lm == SMALL:
        return config.lm_dim
    from transformers import AutoConfig

    with of_lm(config.lm, "config.json"):
        found = AutoConfig.from_pretrained(lm_folder(config.lm), local_files_only=True, trust_remote_code=False).get_text_config()
    return int(getattr(found, "word_embed_proj_dim", None) or found.hidden_size)  # OPT-350m projects its states


def load_lm(config: LanguageModelConfig, vocabulary: int, longest: int) -> Any:
    """The language model with the weights that are to be trained marked as such.

    Args:
        config: settings.
        vocabulary: tokens of a small one.
        longest: positions needed.

    Raises:
        InputError: if the named model is not there, not causal, too short, lacks weights, has pickled ones, or gives no states.
        MissingExtraError: for adapters without the extra.
    """
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    if config.lm == SMALL:
        shape = LlamaConfig(
            vocab_size=vocabulary, hidden_size=config.lm_dim, intermediate_size=4 * config.lm_dim, num_hidden_layers=config.lm_layers,
            num_attention_heads=config.lm_heads, max_position_embeddings=longest, tie_word_embeddings=True, use_cache=False,
            bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )  # fmt: skip
        model: Any = LlamaForCausalLM(shape)
    else:
        from safetensors import SafetensorError

        from lexirec.text.encoders.families import is_causal, position_limit, read_config
        from lexirec.text.encoders.hub import quiet_loading

        folder = lm_folder(config.lm)
        found = read_config(folder)
        if not is_causal(found):
            raise InputError(f"lm: {config.lm} writes no text from left to right; name a causal language model, or lm=small")
        positions = position_limit(found, None)
        if positions is not None and positions < longest:
            raise InputError(
                f"lm: {config.lm} has {positions} positions and {longest} are needed; lower max_tokens (said) or max_len (tslrec)"
            )
        try:
            with quiet_loading():
                options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True}
                loaded: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, output_loading_info=True, **options)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise InputError(f"lm: {folder} can't be loaded as a causal language model with safetensors weights: {error}") from error
        model, report = loaded
        missing = sorted(report["missing_keys"])  # a head that is tied to the embeddings is not among them
        if missing:
            raise InputError(
                f"lm: {len(missing):,} weights of {config.lm} are missing from its files (first: {missing[0]}); they would be random"
                " numbers: name a model that was saved whole, with its output head"
            )
        if model.base_model is model:
            raise InputError(
                f"lm: {config.lm} ({type(model).__name__}) gives no states apart from its scores; name another causal language model"
            )
        model.config.use_cache = False
    if config.tune == "lora":
        from lexirec.training.weights import add_adapters

        add_adapters(model, config.lora_r, config.lora_alpha, config.lora_dropout)
    elif config.tune == "none":
        model.requires_grad_(False)
    return model


class WithLM(nn.Module):
    """Base of networks beside a language model: its trained weights are part of the state, frozen ones are read from their own folder."""

    tuned: nn.ParameterList

    def attach(self, model: nn.Module) -> None:
        """Set the language model; called once."""
        self._lm = [model]  # in a list, so that its frozen weights aren't part of the state
        self.tuned = nn.ParameterList([p for p in model.parameters() if p.requires_grad])

    @property
    def lm(self) -> Any:
        return self._lm[0]

    def train(self, mode: bool = True) -> "WithLM":
        super().train(mode)
        self.lm.train(mode)
        return self

    def last_states(self, vectors: Tensor) -> Tensor:
        """Last hidden states over input vectors, both ``(n, L, H)``.

        Padding belongs at the end and needs no mask: nothing that is there looks ahead.
        """
        found: Tensor = self.lm.base_model(inputs_embeds=vectors).last_hidden_state
        return found


__all__ = ["SMALL", "LanguageModelConfig", "WithLM", "lm_folder", "lm_width", "load_lm"]
