"""SAID (Hu et al., WWW 2024 companion, doi 10.1145/3589335.3648307): item vectors from which a language model can write the item's text.

No official code is known and the paper's text was not available; the stage follows published summaries and LLMEmb's leftovers, and what
they leave open is our reading: the projector's shape, that the table has the recommender's own width, the loss as the mean over tokens.

stage 1: item vector -> linear, GELU, linear -> first input of a causal language model -> writes the attribute prompt -> cross entropy
stage 2: the table of item vectors, frozen or not -> any sequence encoder -> its loss
"""

from typing import Any, Literal, cast

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import InputError
from lexirec.models.backbones import BackboneRecommender
from lexirec.models.contract import Recommender
from lexirec.models.language import SMALL, LanguageModelConfig, WithLM, lm_folder, load_lm, of_lm
from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.sequence import ranges
from lexirec.models.layers.softmax import cross_entropy_over_items
from lexirec.models.stages import Stage, kept
from lexirec.text.prompts import CUT
from lexirec.training.loop import pick_device, run_training
from lexirec.training.options import TrainingOptions


class SAIDConfig(LanguageModelConfig):
    """Settings of SAID."""

    freeze: bool = True
    """Whether the table stays as stage 1 left it, as the published summaries stress; LLMEmb's script trains it on."""
    prompt: Literal["general", "beauty", "fashion", "yelp"] = "general"
    """Style of the attribute prompts, see :func:`~lexirec.text.prompts.attribute_prompts`."""
    columns: tuple[str, ...] | None = None
    """Attributes in the prompts; all but ids and links if not given."""
    instruction: str | None = None
    """In place of the style's first line."""
    max_characters: PositiveInt = CUT
    """Where the general style cuts a value."""
    max_tokens: PositiveInt = 256
    """Tokens of a prompt that are written at most, the end included."""

    def unread(self) -> dict[str, str]:
        return super().unread() | ({} if self.prompt == "general" else {"max_characters": f"prompt = {self.prompt!r}"})


class Writer(WithLM):
    """Table, projector and language model.

    Args:
        n_items: catalogue size.
        dim: width of an item vector.
        std: standard deviation of the table's first values.
        model: causal language model.
        plain: whether its scores are nothing but products of states and words, so that they need not be held all at once.
    """

    def __init__(self, n_items: int, dim: int, std: float, model: Any, *, plain: bool) -> None:
        super().__init__()
        self.plain = plain
        hidden = model.get_input_embeddings().weight.shape[1]
        self.table = nn.Embedding(n_items, dim)
        nn.init.normal_(self.table.weight, std=std)
        self.projector = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.attach(model)

    def forward(self, items: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Mean cross entropy of the tokens where ``mask`` is set.

        Args:
            items: ``(n,)``.
            tokens: ``(n, L)``, padding at the end.
            mask: ``(n, L)`` which tokens are there.
        """
        first = self.projector(self.table(items))[:, None]  # (n, 1, H)
        vectors = torch.cat([first, self.lm.get_input_embeddings()(tokens[:, :-1])], 1)  # (n, L, H)
        if self.plain:
            states, words = self.last_states(vectors)[mask].float(), self.lm.get_output_embeddings().weight
            low = torch.is_autocast_enabled(states.device.type)
            with torch.autocast(states.device.type, enabled=False):
                return cross_entropy_over_items(states, words, tokens[mask], low=low)
        scores = self.lm(inputs_embeds=vectors).logits  # (n, L, V); padding at the end needs no mask
        return F.cross_entropy(scores[mask].float(), tokens[mask])


class WriteTexts(Stage):
    """Stage 1 as the loop drives it.

    Args:
        tokens: token ids of each prompt, the end included; none of an item without a prompt.
        item_ids: ids of the items.
        vocabulary: number of tokens of a small language model.
        config: settings.
        device: where to train.
    """

    def __init__(
        self, tokens: list[NDArray[np.int64]], item_ids: pl.Series, vocabulary: int, config: SAIDConfig, device: torch.device
    ) -> None:
        lengths = np.array([len(t) for t in tokens])
        self.items = np.flatnonzero(lengths)
        self.lengths = lengths[self.items]
        self.flat = np.concatenate(tokens)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.device = device
        model = load_lm(config, vocabulary, int(lengths.max())).to(device)
        network = Writer(len(tokens), config.embedding_dim, config.lm_std, model, plain=config.lm == SMALL).to(device)
        super().__init__(network, config.lm_rate, config.lm_epochs, self.lengths, config.lm_tokens, item_ids.gather(self.items))

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        lengths = self.lengths[batch]
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        tokens = np.zeros(mask.shape, dtype=np.int64)
        tokens[mask] = self.flat[ranges(self.starts[batch], lengths)]
        arrays = (torch.from_numpy(a).to(self.device) for a in (self.items[batch], tokens, mask))
        loss: Tensor = self.network(*arrays)
        return loss

    def table(self) -> Tensor:
        """Item vectors, ``(I, D)``; the mean of the others for items without a prompt."""
        assert isinstance(self.network, Writer)  # noqa: S101 (made above)
        found = self.network.table.weight.detach().clone()
        without = np.setdiff1d(np.arange(len(found)), self.items)
        found[torch.from_numpy(without).to(found.device)] = found[torch.from_numpy(self.items).to(found.device)].mean(0)
        return found.cpu()


def tokenised(texts: list[str], config: SAIDConfig) -> tuple[list[NDArray[np.int64]], int]:
    """Token ids of each text with an end, none of an empty one, and how many tokens there are.

    A small model's vocabulary is that of the bundled encoder, as far as it occurs.
    """
    if config.lm == SMALL:
        from tokenizers import Tokenizer

        from lexirec.text.encoders.hub import bundled_folder

        tokenizer = Tokenizer.from_file(str(bundled_folder() / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        ids = [found.ids for found in tokenizer.encode_batch(texts, add_special_tokens=False)]
        end = tokenizer.token_to_id("[SEP]")
    else:
        from transformers import AutoTokenizer

        with of_lm(config.lm, "tokenizer"):
            named = AutoTokenizer.from_pretrained(lm_folder(config.lm), local_files_only=True, trust_remote_code=False)
        ids = named(texts, add_special_tokens=False, verbose=False)["input_ids"]
        end = named.eos_token_id
    ended = [[*found[: config.max_tokens - 1], end] if text else [] for text, found in zip(texts, ids, strict=True)]
    if config.lm != SMALL:
        return [np.array([t for t in found if t is not None], dtype=np.int64) for found in ended], 0
    lengths = np.array([len(found) for found in ended])
    known, flat = np.unique(np.concatenate([np.array(found, dtype=np.int64) for found in ended]), return_inverse=True)
    return np.split(flat, np.cumsum(lengths)[:-1]), len(known)


class SAID(BackboneRecommender):
    """A sequence model on item vectors that a language model learned to read.

    >>> SAID(backbone="gru4rec").config.freeze
    True
    """

    name = "said"
    Config = SAIDConfig
    vectors: Tensor | None = None

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        self.check_log(train)  # before hours of stage 1
        self.vectors = self.written_vectors(train.items, options)
        return super().learn(train, valid, options)

    def written_vectors(self, items: pl.DataFrame, options: TrainingOptions) -> Tensor:
        """Stage 1: the table of item vectors, ``(I, D)``. It depends on the catalogue alone, so all encoders share it.

        Raises:
            InputError: if no item has an attribute.
        """
        from lexirec.text.prompt_vectors import warn_of_filled
        from lexirec.text.prompts import attribute_prompts

        config = self.config
        prompts = attribute_prompts(items, config.prompt, config.instruction, columns=config.columns, max_characters=config.max_characters)
        texts = prompts.texts()
        if not any(texts):
            raise InputError("no item has an attribute, so there is no text to write; add columns to the catalogue")
        tokens, vocabulary = tokenised(texts, config)
        lengths = {item: len(found) for item, found in zip(prompts.item_ids, tokens, strict=True) if len(found)}
        warn_of_filled(list(lengths), list(lengths.values()), "max_tokens", config.max_tokens)
        depends = {**config.stage(), "max_tokens": config.max_tokens, "texts": texts, "seed": options.seed, "precision": options.precision}

        def make(stage: TrainingOptions) -> Tensor:
            torch.manual_seed(stage.seed)
            model = WriteTexts(tokens, items[c.ITEM_ID], vocabulary, config, pick_device(stage.device))
            run_training(cast(Any, model), cast(Any, None), None, stage.model_copy(update={"epochs": config.lm_epochs}))
            return model.table()

        return kept(self.name, depends, options, make)

    def make_items(self, train: TrainSet) -> ItemVectors:
        found = ItemVectors(train.n_items, self.config.embedding_dim, None, None, by_id=True, start=self.vectors)
        if self.config.freeze and found.own is not None:
            found.own.weight.requires_grad_(False)
        return found


__all__ = ["SAID", "SAIDConfig"]
