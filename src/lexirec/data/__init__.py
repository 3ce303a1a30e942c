"""Data: readers, checks, filters and splits; ends in :class:`Dataset`, :class:`TrainSet` and :class:`Split`."""

from lexirec.data.convert import convert_dataset
from lexirec.data.dataset import Dataset, Heldout, Split, TrainSet
from lexirec.data.description import describe
from lexirec.data.filters import drop_duplicates, filter_rating, interacted_only, k_core
from lexirec.data.formats import FORMATS, Tables
from lexirec.data.ids import IdMap
from lexirec.data.messages import DataWarning
from lexirec.data.mixing import mix
from lexirec.data.quality import Problem, problems
from lexirec.data.readers import from_frames, read_dataset, read_tables
from lexirec.data.splits import SPLITS, FutureLeakWarning, split_dataset

__all__ = [
    "FORMATS",
    "SPLITS",
    "DataWarning",
    "Dataset",
    "FutureLeakWarning",
    "Heldout",
    "IdMap",
    "Problem",
    "Split",
    "Tables",
    "TrainSet",
    "convert_dataset",
    "describe",
    "drop_duplicates",
    "filter_rating",
    "from_frames",
    "interacted_only",
    "k_core",
    "mix",
    "problems",
    "read_dataset",
    "read_tables",
    "split_dataset",
]
