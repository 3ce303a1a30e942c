"""Checkpoint files: who may read them."""

import os
from pathlib import Path

import pytest
import torch

from lexirec.training.checkpoint import load_tensors, save_tensors


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_the_umask_decides_who_reads_a_checkpoint(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(2)}, {"epoch": 1})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask
    assert load_tensors(tmp_path / "a.safetensors")[1] == {"epoch": 1}
