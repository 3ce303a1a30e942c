"""Settings of Recformer."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lexirec.models.contract import ModelConfig

OF_PRETRAINING = ("pretrain_lr", "mlm_weight", "mlm_prob")
"""Settings that the pretraining alone reads."""


class RecformerConfig(ModelConfig):
    """Settings of Recformer; tokens, temperature, weights and batches are the official ones, the size is small."""

    stage: Literal["finetune", "pretrain"] = "finetune"
    """``pretrain``: contrast within the batch and hidden words, on one data set or several. ``finetune``: over all items."""
    pretrained: str | None = None
    """Run folder of a pretrained Recformer to start from."""
    pretrain_epochs: NonNegativeInt = 20
    """Passes of the pretraining over the same training part that come first where ``pretrained`` is not given. Without any, the items'
    vectors hardly differ at first, and fine-tuning, which holds them fixed within an epoch, can't tell them apart."""
    second_stage: bool = True
    """Whether fine-tuning goes on with the best epoch's item vectors held fixed. Each stage has the training's epochs and patience."""

    embedding_dim: PositiveInt = 128
    """Width of the states; Longformer-base has 768."""
    num_layers: PositiveInt = 2
    """Blocks; Longformer-base has 12."""
    num_heads: PositiveInt = 4
    """Attention heads; must divide ``embedding_dim``."""
    inner: PositiveInt | None = None
    """Width inside the feed-forward part; four times ``embedding_dim`` if not given."""
    window: PositiveInt = Field(default=64, multiple_of=2)
    """Tokens of a window, half of them on either side."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Dropout of the input, inside the blocks and of the attention weights."""

    columns: tuple[str, ...] | None = None
    """Attributes of an item, in order; if not given ``title`` and the first there of ``brand``, ``author`` ... and of
    ``categories``, ``genres`` ...."""
    max_attributes: PositiveInt = 3
    """Attributes of an item that are read."""
    attribute_tokens: PositiveInt = 32
    """Tokens of an attribute at most, its name included."""
    max_len: PositiveInt = 50
    """Latest events of a history that are looked at."""
    max_tokens: PositiveInt = Field(default=512, ge=2)
    """Tokens of a history at most, the latest; official 1,024, which its README says costs little to lower."""

    tau: PositiveFloat = 0.05
    """Temperature that divides cosines."""
    mlm_weight: NonNegativeFloat = 0.1
    """Weight of the hidden words in the pretraining."""
    mlm_prob: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of tokens hidden, by whole words."""
    fix_words: bool = False
    """Whether the token embeddings stay as they are: published for weights that were pretrained on other text."""

    init_std: PositiveFloat = 0.02
    """Standard deviation of the first weights."""
    lr: PositiveFloat = 1e-4
    """Learning rate of the fine-tuning after the warm-up; official 5e-5 for a Longformer-base with weights. A high one lets the encoder
    move away from the item vectors that it is trained against within an epoch."""
    pretrain_lr: PositiveFloat = 5e-4
    """Learning rate of the pretraining after the warm-up; official 5e-5 for a Longformer-base with weights."""
    warmup: NonNegativeInt = 100
    """Steps over which the rate rises."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay, apart from the gradient."""
    batch_size: PositiveInt = 32
    """People per step; official 16, and 64 within one contrast of the pretraining."""
    alpha: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of a wish against the person, where a query gives no own."""

    @model_validator(mode="after")
    def _fits(self) -> "RecformerConfig":
        if self.embedding_dim % self.num_heads:
            raise ValueError(f"num_heads = {self.num_heads} does not divide embedding_dim = {self.embedding_dim}")
        if self.stage == "pretrain" and self.pretrained is not None:
            raise ValueError("stage='pretrain' starts from scratch; give pretrained to stage='finetune'")
        return self

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if self.stage == "pretrain":
            found |= dict.fromkeys(("lr", "pretrain_epochs", "second_stage"), "stage = 'pretrain'")
        elif self.pretrained is not None:
            found |= dict.fromkeys(("pretrain_epochs", *OF_PRETRAINING), "pretrained, whose run had a pretraining of its own")
        elif not self.pretrain_epochs:
            found |= dict.fromkeys(OF_PRETRAINING, "pretrain_epochs = 0")
        return found if self.mlm_weight else {"mlm_prob": "mlm_weight = 0", **found}

    @property
    def has_text(self) -> bool:
        """Everything is text."""
        return True

    @property
    def cosine(self) -> bool:
        """Scores are cosines."""
        return True


__all__ = ["RecformerConfig"]
