"""LLM2X (Harte et al., RecSys 2023, arXiv 2309.09261; Boz et al., arXiv 2402.01339): LLM2SASRec, LLM2BERT4Rec, LLM2GRU4Rec.

Official code: dh-r/LLM-Sequential-Recommendation. How this differs: the bundled encoder instead of hosted embeddings by default (``encoder:
api:text-embedding-ada-002`` has the published ones), and the settings around it are those of LLMEmb's harness, as in its comparison.

text vectors -> principal components (or a random projection) -> first values of the item table -> everything is trained
"""

from typing import Literal

from lexirec.models.backbones import BackboneConfig, BackboneRecommender
from lexirec.text.reduce import Kind


class LLM2XConfig(BackboneConfig):
    """Settings of LLM2X."""

    items: Literal["text-start"] = "text-start"
    """A learned table that starts at the reduced text vectors."""
    transform: Kind = "pca"
    """``pca`` as in LLMEmb's comparison; ``random`` projection; ``whiten``. For LSA: ``encoder: lsa``."""
    text: str = "title"
    """Text template, such as ``title,brand,categories``."""


class LLM2X(BackboneRecommender):
    """A sequence model whose item table starts at reduced text vectors.

    >>> LLM2X(backbone="bert4rec").cloze
    True
    """

    name = "llm2x"
    Config = LLM2XConfig


__all__ = ["LLM2X", "LLM2XConfig"]
