"""Run folders: one experiment from a resolved configuration to a folder that is whole or absent.

While a run trains, everything is in ``RUN.partial`` (resumable); when all files are written, it is renamed to ``RUN``.
"""

from lexirec.models.reading import read_otherwise
from lexirec.models.saving import read_config, write_manifest
from lexirec.runs.evaluating import evaluate_run, measure, no_test_part, parts_for, retest, trained_on, transferred
from lexirec.runs.experiment import DATA_KEYS, Experiment, Parts, load_parts, parse_options, read_by, read_experiment, resolve
from lexirec.runs.fitting import fit_parts, fit_run
from lexirec.runs.folder import (
    GROUP_METRICS,
    group_table,
    load_run,
    remove_checkpoints,
    verify_run,
    with_test,
)
from lexirec.runs.machine import device_name, own_command, peak_memory_mb, versions
from lexirec.runs.resuming import same_experiment

__all__ = [
    "DATA_KEYS", "GROUP_METRICS", "Experiment", "Parts", "device_name", "evaluate_run", "fit_parts", "fit_run", "group_table",
    "load_parts", "load_run", "measure", "no_test_part", "own_command", "parse_options", "parts_for", "peak_memory_mb", "read_by",
    "read_config", "read_experiment", "read_otherwise", "remove_checkpoints", "resolve", "retest", "same_experiment",
    "trained_on", "transferred", "verify_run", "versions", "with_test", "write_manifest",
]  # fmt: skip
