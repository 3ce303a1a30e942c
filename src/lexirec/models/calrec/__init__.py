"""CALRec: a language model writes the next item's text, and BM25 finds the items that fit."""

from lexirec.models.calrec.config import CALRecConfig
from lexirec.models.calrec.model import CALRec

__all__ = ["CALRec", "CALRecConfig"]
