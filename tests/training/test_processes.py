"""Several processes that share a training: the weights of one process on batches as large as theirs together, and all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lexirec import runs
from lexirec.errors import InputError
from lexirec.training.processes import Processes, check_shared

SCRIPT = """
import json, sys, torch
from lexirec.training.loop import run_training
from lexirec.training.options import TrainingOptions

class Line:
    '''w is pulled to each batch's number; v takes part in some batches alone.'''
    def __init__(self):
        self.network = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.zeros(1)), "v": torch.nn.Parameter(torch.zeros(1))})
        self.steps = 0
    def batches(self, train, rng):
        yield from (1.0, 3.0, 5.0, 7.0, 9.0)
    def n_batches(self, train):
        return 5
    def loss(self, batch):
        self.steps += 1
        w, v = self.network["w"], self.network["v"]
        return 0.5 * ((w - batch).square() + ((v - batch).square() if batch == 3.0 else 0.0)).sum()
    def optimiser(self):
        return torch.optim.SGD(self.network.parameters(), lr=0.1)
    def refresh(self): ...

model = Line()
result = run_training(model, None, None, TrainingOptions(epochs=1, progress=False, threads=1))
print(json.dumps({"w": model.network["w"].item(), "v": model.network["v"].item(), "steps": model.steps}))
"""


def test_two_processes_train_like_one_on_batches_twice_as_large() -> None:
    port = str(20_000 + os.getpid() % 20_000)
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if sys.platform == "linux":
        shared["GLOO_SOCKET_IFNAME"] = "lo"  # no name of this machine has to be found
    variables = {**os.environ, **shared, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    found = []
    for process in started:
        printed, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
        found.append(json.loads(printed.splitlines()[-1]))
    w = v = 0.0
    for pair in ((1.0, 3.0), (5.0, 7.0)):  # the fifth batch has no partner
        w -= 0.1 * float(np.mean([w - number for number in pair]))
        v -= 0.1 * float(np.mean([v - number if number == 3.0 else 0.0 for number in pair]))
    assert found == [pytest.approx({"w": w, "v": v, "steps": 2})] * 2


def test_what_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="falls over the steps of one"):
        check_shared(2, 10, 100)
    with pytest.raises(InputError, match="2 processes share 1 batches"):
        check_shared(2, 1, None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="several processes can't write one run folder"):
        runs.fit_run(runs.resolve("popularity", [tmp_path]), tmp_path / "out")


def test_each_training_has_its_own_device() -> None:
    """Whatever the first training of a Python process ran on."""
    for name in ("cpu", "meta", "cpu"):
        processes = Processes(torch.device(name))
        assert processes.device == torch.device(name) and (processes.count, processes.rank) == (1, 0)
