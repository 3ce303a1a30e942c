"""Bars: only for what lasts, within one another, and from everything that a training calls."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import lexirec.progress
from lexirec import runs
from lexirec.progress import LINE_EVERY, showing, track
from lexirec.training.loop import run_training
from lexirec.training.options import TrainingOptions
from tests.models.toys import write_shop


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that bars see; nothing is open and no line was written."""
    now = SimpleNamespace(seconds=1000.0)
    now.monotonic = lambda: now.seconds
    monkeypatch.setattr(lexirec.progress, "time", now)
    monkeypatch.setattr(lexirec.progress, "_SCREEN", lexirec.progress._Screen())
    return now


class Slow:
    """A model of one weight; a step takes as long as is said."""

    def __init__(self, clock: SimpleNamespace, step: float) -> None:
        self.clock, self.step = clock, step
        self.network = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.zeros(1))})

    def batches(self, train: object, rng: np.random.Generator) -> Iterator[int]:
        yield from range(30)

    def n_batches(self, train: object) -> int:
        return 30

    def loss(self, batch: int) -> torch.Tensor:
        self.clock.seconds += self.step
        return self.network["w"].sum()

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), lr=0.1)

    def refresh(self) -> None: ...


def written(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_long_epoch_tells_its_steps(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    run_training(Slow(clock, 5.0), None, None, TrainingOptions(epochs=1, device="cpu"))
    lines = written(capsys)
    assert lines[:2] == ["epoch 1 (steps): 1 of 30", "epoch 1 (steps): 3 of 30"]  # after 5 s, and ten later
    assert len(lines) == 15


@pytest.mark.parametrize(("step", "steps_told"), [(0.01, False), (0.2, True)])
def test_short_epochs_do_not_write_a_line_each(
    step: float, steps_told: bool, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run_training(Slow(clock, step), None, None, TrainingOptions(epochs=100, device="cpu"))
    lines = written(capsys)
    assert 1 < len(lines) <= 100 * 30 * step / LINE_EVERY + 1
    assert any("steps" in line for line in lines) == steps_told


def test_a_validation_is_shown_while_training_and_nothing_without_progress(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    def validate() -> dict[str, float]:
        for _ in track(range(3), "evaluating", enabled=False):
            clock.seconds += 20.0
        return {"ndcg@20": 0.5}

    for progress in (True, False):
        run_training(Slow(clock, 0.0), None, validate, TrainingOptions(epochs=1, device="cpu", progress=progress))
        assert written(capsys) == (["evaluating: 1 of 3", "evaluating: 2 of 3"] if progress else [])


def test_showing_ends_with_its_block(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        for _ in track(range(2), "work", enabled=False):
            clock.seconds += 20.0

    with showing(), showing(False):
        work()
    assert written(capsys) == ["work: 1 of 2"]
    work()
    assert written(capsys) == []


def test_bars_within_one_another_on_a_terminal(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    seen = []
    for _ in track(range(2), "outer"):
        clock.seconds += 20.0
        for _ in track(range(3), "inner"):
            clock.seconds += 20.0
            display = lexirec.progress._SCREEN.display
            seen.append([task.description for task in display.tasks] if display else [])
    assert seen == [[], ["inner"], ["inner"], ["outer"], ["outer", "inner"], ["outer", "inner"]]
    assert lexirec.progress._SCREEN.display is None
    assert lexirec.progress._SCREEN.open == 0


def test_the_evaluations_after_a_training_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexirec.progress, "DELAY", -1.0)
    monkeypatch.setattr(lexirec.progress, "LINE_EVERY", 0.0)
    write_shop(tmp_path)
    experiment = runs.resolve("lightgcn", [tmp_path], sets=["epochs=0", "embedding_dim=8", "threads=1"])
    for progress, often in ((True, 3), (False, 0)):  # validation part, popularity on it, test part
        capsys.readouterr()
        runs.fit_run(experiment, tmp_path / f"run-{progress}", progress=progress)
        assert sum(line.startswith("evaluating: ") for line in written(capsys)) == often
    parts = runs.load_parts(experiment.paths, experiment.data)
    model = runs.load_run(tmp_path / "run-True")[0]
    encode = model.encode_items

    def slow(*of: object) -> torch.Tensor:
        return next(encode(*of) for _ in track(range(1), "encoding", enabled=False))

    monkeypatch.setattr(model, "encode_items", slow)
    runs.measure(model, parts, progress=True)
    assert "encoding: 0 of 1" in written(capsys)
