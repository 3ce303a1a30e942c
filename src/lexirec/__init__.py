"""lexirec: a recommender from a catalogue's own words and an interaction log.

>>> import lexirec
>>> lexirec.Query(history=["B001"]).history
['B001']
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lexirec.data.dataset import Dataset, Split, TrainSet
    from lexirec.data.mixing import mix
    from lexirec.errors import InputError, LexirecError
    from lexirec.evaluation.evaluate import evaluate
    from lexirec.models import available, create, load_model
    from lexirec.models.alpharec import AlphaRec
    from lexirec.models.bert4rec import BERT4Rec
    from lexirec.models.bsarec import BSARec
    from lexirec.models.calrec import CALRec
    from lexirec.models.easyrec import EasyRec
    from lexirec.models.gru4rec import GRU4Rec
    from lexirec.models.hstu import HSTU
    from lexirec.models.lightgcn import MFBPR, LightGCN, LightGCNInfoNCE
    from lexirec.models.llmemb import LLMEmb
    from lexirec.models.popularity import Popularity
    from lexirec.models.sasrec import SASRec
    from lexirec.query import Query
    from lexirec.training.options import TrainingOptions

try:
    __version__ = version("lexirec")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

_HOMES = {
    "Dataset": "data.dataset", "Split": "data.dataset", "TrainSet": "data.dataset", "mix": "data.mixing",
    "evaluate": "evaluation.evaluate", "available": "models", "create": "models", "load_model": "models",
    "AlphaRec": "models.alpharec", "LightGCN": "models.lightgcn", "LightGCNInfoNCE": "models.lightgcn", "MFBPR": "models.lightgcn",
    "BERT4Rec": "models.bert4rec", "BSARec": "models.bsarec", "GRU4Rec": "models.gru4rec", "HSTU": "models.hstu", "LLMEmb": "models.llmemb",
    "CALRec": "models.calrec", "EasyRec": "models.easyrec", "InputError": "errors", "LexirecError": "errors",
    "SASRec": "models.sasrec", "Popularity": "models.popularity", "Query": "query", "TrainingOptions": "training.options",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # Names are loaded when they are used: importing lexirec costs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'lexirec' has no attribute {name!r}")
    return getattr(import_module(f"lexirec.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


__all__ = [
    "HSTU", "MFBPR", "AlphaRec", "BERT4Rec", "BSARec", "CALRec", "Dataset", "EasyRec", "GRU4Rec", "InputError", "LLMEmb", "LexirecError",
    "LightGCN", "LightGCNInfoNCE", "Popularity", "Query",
    "SASRec", "Split", "TrainSet", "TrainingOptions",
    "__version__", "available", "create", "evaluate", "load_model", "mix",
]  # fmt: skip
