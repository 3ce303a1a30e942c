"""The models by name.

A new one is a file here and a line in ``MODELS``; other packages register through the entry point ``lexirec.models``.
"""

from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexirec.errors import InputError, RunFolderError, nearest

if TYPE_CHECKING:
    from lexirec.models.contract import Recommender

MODELS = {
    "popularity": "lexirec.models.popularity:Popularity",
    "mf-bpr": "lexirec.models.lightgcn:MFBPR",
    "lightgcn": "lexirec.models.lightgcn:LightGCN",
    "lightgcn-infonce": "lexirec.models.lightgcn:LightGCNInfoNCE",
    "gccf": "lexirec.models.gccf:GCCF",
    "rlmrec": "lexirec.models.rlmrec:RLMRec",
    "alpharec": "lexirec.models.alpharec:AlphaRec",
    "gru4rec": "lexirec.models.gru4rec:GRU4Rec",
    "sasrec": "lexirec.models.sasrec:SASRec",
    "bert4rec": "lexirec.models.bert4rec:BERT4Rec",
    "bsarec": "lexirec.models.bsarec:BSARec",
    "hstu": "lexirec.models.hstu:HSTU",
    "fdsa": "lexirec.models.fdsa:FDSA",
    "s3rec": "lexirec.models.s3rec:S3Rec",
    "unisrec": "lexirec.models.unisrec:UniSRec",
    "recformer": "lexirec.models.recformer:Recformer",
    "llmemb": "lexirec.models.llmemb:LLMEmb",
    "llm2x": "lexirec.models.llm2x:LLM2X",
    "melt": "lexirec.models.melt:MELT",
    "said": "lexirec.models.said:SAID",
    "tslrec": "lexirec.models.tslrec:TSLRec",
    "calrec": "lexirec.models.calrec:CALRec",
    "lir": "lexirec.models.lir:LIR",
    "easyrec": "lexirec.models.easyrec:EasyRec",
    "zero-shot": "lexirec.models.zero_shot:ZeroShot",
}


def available() -> dict[str, str]:
    """Every model's name and where it lives (``module:Class``), those of other installed packages included."""
    return {**{point.name: point.value for point in entry_points(group="lexirec.models")}, **MODELS}


def model_class(name: str) -> "type[Recommender]":
    """The class of a model.

    Raises:
        InputError: for an unknown name (nearest offered).
    """
    known = available()
    if name not in known:
        raise InputError(f"there is no model {name!r}{nearest(name, known)}; there are {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    found: type[Recommender] = getattr(import_module(module), attribute)
    return found


def create(name: str, **settings: Any) -> "Recommender":
    """A model by name, with settings.

    >>> create("alpharec", tau=0.2).config.tau
    0.2
    """
    return model_class(name)(**settings)


def load_model(folder: str | Path) -> "Recommender":
    """The model saved in a folder; runs no code from it.

    Raises:
        RunFolderError: if the folder is none of lexirec's, or damaged.
    """
    from lexirec.models.saving import read_config

    name = read_config(Path(folder))["model"]
    if name not in available():
        raise RunFolderError(
            f"{folder} is a run of the model {name!r}, which no installed package brings; install the one that it was trained with"
        )
    return model_class(name).load(folder)
