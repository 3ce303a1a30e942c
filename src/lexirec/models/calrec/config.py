"""Settings of CALRec."""

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lexirec.models.calrec.lm import MINILM, SIZES
from lexirec.models.calrec.vocabulary import Merges
from lexirec.models.config import LENIENT, ModelConfig
from lexirec.retrieval.bm25 import Tokens
from lexirec.retrieval.hybrid import Fusion

ASKED = ("samples", "temperature", "draws", "sampling_seed", "write_precision", "catalogue_only")
"""Settings that written texts depend on and the training does not."""
POOLED = ("n_preds", "epsilon", "modulate", "pooling", "k1", "b", "tokens", "wish_weight", "fusion")
"""Settings of what is made of written texts."""
TEMPLATE = "Title=title,Category=main_category|categories?,Brand=brand?,Price=price?"


class CALRecConfig(ModelConfig):
    """Settings of CALRec."""

    text: str = TEMPLATE
    """How an item is written, see :class:`~lexirec.models.calrec.texts.ItemTemplate`. The paper's category is the single main one; where an
    item has none, the default writes its whole category path instead."""
    max_tokens: PositiveInt = 1024
    """Most tokens of an input; whole oldest items are left out beyond. Fewer where the model has fewer positions."""
    max_new_tokens: PositiveInt = 80
    """Most tokens that are written, and that a target has in training."""

    lm: str = "tiny"
    """``tiny``, ``small``, ``medium``: own models of these sizes; ``minilm``: the bundled encoder's blocks and embeddings made to look back
    only; else a folder or name of a causal Hugging Face model."""
    lm_dim: PositiveInt | None = None
    """Own models: width, over the size's."""
    lm_layers: PositiveInt | None = None
    """Own models: blocks, over the size's."""
    lm_heads: PositiveInt | None = None
    """Own models: attention heads, over the size's."""
    lm_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout inside the language model."""
    vocabulary: PositiveInt = 8192
    """Own models and ``minilm``: most tokens of the byte-level BPE."""
    merges: Merges = "phrases"
    """Own models and ``minilm``: ``phrases`` lets tokens span several words, which shortens texts by a quarter to a half."""
    tune: Literal["all", "lora"] = "all"
    """Named models: all weights, or low-rank adapters (extra ``finetune``)."""
    lora_r: PositiveInt = 16
    """lora: rank."""
    lora_alpha: PositiveFloat = 32.0
    """lora: adapters are scaled by ``lora_alpha / lora_r``."""
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """lora: dropout in front of the adapters."""
    start: str | None = None
    """Run folder of a CALRec whose language model and vocabulary this training starts from: stage II after stage I. The settings that made
    them (``lm``, sizes, ``vocabulary``, ``merges``, ``tune``, ``lora_*``) must be the same; all others are this training's."""

    lm_epochs: NonNegativeInt | None = None
    """Stage 0, plain language modelling of the training part's item and history texts: passes; 10 if not given. With ``start`` none if not
    given, else stage 0 goes on from that run's weights. Left out for named models."""
    lm_lr: PositiveFloat = 2e-3
    """Stage 0: highest learning rate; it falls in a line to 0."""
    lm_tokens: PositiveInt = 1024
    """Stage 0: most tokens of a batch. A model that starts from nothing gains more by many steps than by large ones."""
    lm_skip: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Stage 0: probability with which an event is left out of a history, drawn anew in each pass (the latest stays): a small log read
    many times is learned by heart less."""
    lm_alike: NonNegativeFloat = 0.0
    """Stage 0: chains of look-alike items, each worded like the one before (BM25), read beside the histories; so many per history. What
    comes next often is worded like what was last, which a pretrained model knows and one that starts from nothing doesn't."""

    alpha: float = Field(default=0.125, ge=0.0, le=1.0)
    """Weight of the contrast between targets with and without their history."""
    beta: float = Field(default=-0.025, ge=-1.0, le=1.0)
    """Weight of the contrast between histories and targets."""
    tau: PositiveFloat = 0.5
    """Temperature of both contrasts."""
    reduction: Literal["mean", "sum"] = "mean"
    """Next-item loss over a target's tokens."""
    shorten: NonNegativeInt = 4
    """Up to this many events are removed from the end of a training sequence (uniformly, one history item remains)."""
    mixing: NonNegativeFloat = 0.3
    """Of several data sets, one is drawn with probability proportional to its users to this power."""
    epoch_users: PositiveInt | None = None
    """Users drawn per epoch; as many as there are if not given."""
    batch_size: PositiveInt = 64
    """Users of a step, which all contrasts run over."""
    micro_tokens: PositiveInt = 8192
    """Most tokens with a graph in memory at a time (gradient caching beyond)."""
    lr: PositiveFloat | None = None
    """Learning rate; 1e-4 for named models and 3e-4 for own ones if not given."""
    warmup: NonNegativeInt = 100
    """Steps over which the learning rate rises."""
    decay_epochs: PositiveInt | None = None
    """Epochs at whose end the learning rate has fallen to 0 in a line; constant if not given."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's, on matrices."""

    samples: PositiveInt = 32
    """Texts written per history."""
    temperature: PositiveFloat = 0.5
    """Of the draw."""
    draws: Literal["even", "independent"] = "even"
    """``even``: samples that have written the same so far are spread evenly over the probabilities of what may follow. A text is expected
    as often as with ``independent`` draws and its number varies less, so that fewer probable texts are missed."""
    sampling_seed: int = Field(default=0, ge=0, le=2**64 - 2)
    """Of the draw; the same history is answered alike under the same seed."""
    write_precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16``: matrix products in bfloat16 while writing. Faster; a draw may then depend on which histories are asked together."""
    catalogue_only: bool = False
    """Write nothing but catalogue texts: an upper bound, no part of CALRec."""
    n_preds: PositiveInt = 10
    """Most distinct texts per history that are looked up."""
    epsilon: NonNegativeFloat = 1 / 5000
    """A column is multiplied by ``exp(epsilon * log-probability)``."""
    modulate: bool = True
    """Whether it is."""
    pooling: Literal["max", "mean", "min"] = "max"
    """Over the columns of a history's texts."""
    k1: PositiveFloat = 1.5
    """BM25."""
    b: float = Field(default=0.75, ge=0.0, le=1.0)
    """BM25."""
    tokens: Tokens = "whitespace"
    """BM25: ``whitespace`` keeps punctuation (the paper's vocabulary counts), ``words`` leaves it out and cuts Chinese and Japanese into
    characters, whose texts have no spaces: set it for these."""
    wish_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of a wish against the person, where a query gives no own."""
    fusion: Fusion = "sum"
    """How wish and person are put together: ``sum`` of scores brought into [0, 1], or reciprocal ranks, ``rrf``."""
    valid_users: PositiveInt = 500
    """Users of a validation during training, always the same."""
    valid_samples: PositiveInt = 8
    """Texts written per history then; none where ``monitor`` is ``-loss``."""

    @model_validator(mode="after")
    def _whole_and_weighed(self) -> "CALRecConfig":
        if self.own and self.tune == "lora":
            raise ValueError(f"tune = 'lora': lm = {self.lm!r} is trained whole, since it never was a language model; use tune='all'")
        if self.alpha + self.beta >= 1 and not LENIENT.get():
            raise ValueError(f"alpha = {self.alpha} and beta = {self.beta} leave no weight for the next-item loss; keep their sum below 1")
        return self

    def unread(self) -> dict[str, str]:
        found = super().unread()
        how = ("lm_lr", "lm_tokens", "lm_skip", "lm_alike")
        stage_zero = (*how, *(("lm_epochs",) if self.lm_epochs else ()))
        if self.own and not self.passes:
            found |= dict.fromkeys(how, "lm_epochs = 0" if self.start is None else "start and no lm_epochs")
        if self.lm not in SIZES:
            found |= dict.fromkeys(("lm_dim", "lm_layers", "lm_heads"), f"lm = {self.lm!r}")
        if not self.own:
            found |= dict.fromkeys(("vocabulary", "merges", *stage_zero), f"lm = {self.lm!r}")
        if self.tune == "all":
            found |= dict.fromkeys(("lora_r", "lora_alpha", "lora_dropout"), "tune = 'all'")
        if not self.alpha and not self.beta:
            found["tau"] = "alpha = 0 and beta = 0"
        if not self.modulate:
            found["epsilon"] = "modulate = False"
        return found

    @property
    def own(self) -> bool:
        """Whether the vocabulary is learned here."""
        return self.lm in SIZES or self.lm == MINILM

    @property
    def passes(self) -> int:
        """Of stage 0."""
        if not self.own:
            return 0
        return (10 if self.start is None else 0) if self.lm_epochs is None else self.lm_epochs

    @property
    def rate(self) -> float:
        """``lr``, or the default of the language model."""
        return self.lr or (3e-4 if self.own else 1e-4)

    def taken_over(self) -> dict[str, Any]:
        """Settings that a training from an earlier run has from that run."""
        names = ["lm", "tune", "lm_dim", "lm_layers", "lm_heads"]
        names += ["vocabulary", "merges"] if self.own else []
        names += ["lora_r", "lora_alpha", "lora_dropout"] if self.tune == "lora" else []
        return {name: getattr(self, name) for name in names}

    def answers(self) -> dict[str, Any]:
        """What written texts depend on besides the weights and the catalogue."""
        return {name: getattr(self, name) for name in (*ASKED, "max_new_tokens", "max_tokens")}


__all__ = ["ASKED", "POOLED", "TEMPLATE", "CALRecConfig"]
