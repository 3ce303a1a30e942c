"""The loop: gradients reset, overfitting, exact resume, selection on validation only, clear failures."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset, Heldout, TrainSet
from lexirec.errors import InputError, LexirecError, NonFiniteLossError
from lexirec.models import create
from lexirec.models.contract import Recommender
from lexirec.models.lightgcn import LightGCN
from lexirec.models.stages import train_plain
from lexirec.training.checkpoint import load_tensors, read_position
from lexirec.training.loop import run_training
from lexirec.training.options import TrainingOptions
from lexirec.training.tracking import read_lines
from tests.models.toys import checkerboard

SMALL = {"lr": 0.02, "embedding_dim": 8, "batch_size": 32, "init_std": 0.1, "reg": 0.0}


def options(**settings: object) -> TrainingOptions:
    return TrainingOptions(**{"epochs": 6, "eval_every": 2, "progress": False, "threads": 1, "monitor": "ndcg@5", **settings})


def parts() -> tuple:
    split = checkerboard()[0].split("leave-one-out")
    return split.train, split.valid


def weights(model: Recommender) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.network.parameters()]


class Quadratic:
    """One weight pulled to 1 by the loss 0.5 (w - 1)^2 under plain gradient descent: w is known after every step."""

    def __init__(self) -> None:
        self.network = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.zeros(1))})

    def batches(self, train: object, rng: np.random.Generator) -> Iterator[int]:
        yield from range(3)

    def n_batches(self, train: object) -> int:
        return 3

    def loss(self, batch: int) -> torch.Tensor:
        return 0.5 * (self.network["w"] - 1).square().sum()

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), lr=0.1)

    def refresh(self) -> None: ...


def test_gradients_reset_between_steps() -> None:
    model = Quadratic()
    run_training(model, None, None, options(epochs=1))
    assert model.network["w"].item() == pytest.approx(1 - 0.9**3, abs=1e-6)  # with gradients carried over it would be 0.47


def test_gradient_clipping_bounds_the_step() -> None:
    model = Quadratic()
    run_training(model, None, None, options(epochs=1, clip_norm=0.5))
    assert model.network["w"].item() == pytest.approx(3 * 0.05, abs=1e-6)


@pytest.mark.parametrize("name", ["mf-bpr", "lightgcn", "lightgcn-infonce", "alpharec"])
def test_twenty_interactions_are_overfitted(name: str) -> None:
    rng = np.random.default_rng(0)
    pairs = sorted({(f"u{u}", f"i{i:02d}") for u, i in zip(rng.integers(0, 5, 40), rng.integers(0, 30, 40), strict=True)})[:20]
    log = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row").with_columns(timestamp=pl.int_range(pl.len()))
    words = [f"w{k} x{k * 7 % 30} y{k * 11 % 30}" for k in range(30)]
    train = Dataset(log, pl.DataFrame({"item_id": [f"i{k:02d}" for k in range(30)], "title": words})).train_set()
    settings = {"lr": 0.05, "embedding_dim": 16, "batch_size": 20} | (
        {"encoder": "lsa", "num_negs": 8} if name == "alpharec" else {"init_std": 0.1, "reg": 0.0}
    )
    model = create(name, **settings).fit(train, options=options(epochs=150))
    own = Heldout(train.user_index, train.item_index, "train")
    from lexirec.evaluation.evaluate import evaluate

    assert evaluate(model, train, own, metrics=["ndcg@20"], mask_seen=False, beyond=False).metrics["ndcg@20"] > 0.99


@pytest.mark.parametrize("name", ["lightgcn", "alpharec"])
def test_resume_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    train, valid = parts()
    settings = SMALL if name == "lightgcn" else {"encoder": "lsa", "embedding_dim": 8, "num_negs": 4, "batch_size": 32}
    whole = create(name, **settings).fit(train, valid, options(epochs=9, patience=9, folder=tmp_path / "whole"))

    class Stop(BaseException):
        """Stands for a kill: not an error that anybody catches."""

    interrupted = create(name, **settings)
    original, calls = interrupted.loss, 0

    def dies(batch: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 5 * interrupted.n_batches(train) + 2:  # inside the sixth epoch, after the checkpoint of the fourth
            raise Stop
        return original(batch)

    interrupted.loss = dies
    with pytest.raises(Stop):
        interrupted.fit(train, valid, options(epochs=9, patience=9, folder=tmp_path / "cut"))
    assert (tmp_path / "cut" / "checkpoints" / "last.safetensors").exists()
    resumed = create(name, **settings).fit(train, valid, options(epochs=9, patience=9, folder=tmp_path / "cut", resume=True))
    for ours, theirs in zip(weights(resumed), weights(whole), strict=True):
        assert torch.equal(ours, theirs)
    lines = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_lines(tmp_path / f / "metrics.jsonl")] for f in ("whole", "cut")
    ]
    assert lines[0] == lines[1]
    assert [line["epoch"] for line in lines[0]] == [2, 4, 6, 8, 9]
    assert resumed.training_result.best_epoch == whole.training_result.best_epoch


def test_resume_after_the_end_changes_nothing(tmp_path: Path) -> None:
    train, valid = parts()
    first = LightGCN(**SMALL).fit(train, valid, options(folder=tmp_path))
    again = LightGCN(**SMALL).fit(train, valid, options(folder=tmp_path, resume=True))
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(again), strict=True))


def test_validation_selects_and_patience_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid = parts()
    model = LightGCN(**SMALL)
    values = iter([0.1, 0.5, 0.5, 0.4, 0.9])
    seen = []

    class Fake:
        def __init__(self, value: float) -> None:
            self.metrics = {"ndcg@5": value}

    def fake(asked: LightGCN, *_: object, **__: object) -> Fake:
        seen.append(weights(asked)[0])
        return Fake(next(values))

    monkeypatch.setattr(sys.modules["lexirec.evaluation.evaluate"], "evaluate", fake)
    model.fit(train, valid, options(epochs=100, patience=2))
    assert (model.training_result.best_epoch, model.training_result.stopped) == (4, "patience")
    assert model.training_result.history[-1]["epoch"] == 8  # 0.5 again is not better
    assert torch.equal(weights(model)[0], seen[1])


def test_the_last_epoch_is_always_validated() -> None:
    train, valid = parts()
    model = LightGCN(**SMALL).fit(train, valid, options(epochs=5, eval_every=4))
    assert [line["epoch"] for line in model.training_result.history] == [4, 5]


def ruin(model: LightGCN, train: TrainSet, epochs: int, after: int, how: Callable[[torch.Tensor], object]) -> None:
    """Let the step that is ``after`` steps from the last one of so many epochs have a loss that ``how`` changed."""
    original, calls = model.loss, 0

    def loss(batch: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        found = original(batch)
        if calls == epochs * model.n_batches(train) + after:
            changed = how(found)
            return changed if isinstance(changed, torch.Tensor) else found
        return found

    model.loss = loss


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    train, valid = parts()
    model = LightGCN(**SMALL)
    ruin(model, train, 3, 1, lambda loss: loss * torch.nan)
    with pytest.raises(LexirecError, match=r"the loss is nan in epoch 4, step 1 \(all rows before the graph are finite\); lower lr"):
        model.fit(train, valid, options(folder=tmp_path))
    assert (tmp_path / "checkpoints" / "last.safetensors").exists()


def test_a_gradient_that_is_not_finite_leaves_nothing_that_is_kept(tmp_path: Path) -> None:
    """The loss is a number and its gradient is none: told at that step, and the weights are as they were before it."""
    train, valid = parts()
    model = LightGCN(**SMALL)
    ruin(model, train, 3, 0, lambda loss: loss.register_hook(lambda gradient: gradient * torch.nan))
    with pytest.raises(NonFiniteLossError, match=r"a gradient is NaN or infinite in epoch 3, step \d+ \(all rows.*\); lower lr"):
        model.fit(train, valid, options(folder=tmp_path))
    assert all(bool(torch.isfinite(value).all()) for value in model.network.parameters())
    kept = load_tensors(tmp_path / "checkpoints" / "last.safetensors")[0]
    assert all(bool(torch.isfinite(value).all()) for value in kept.values() if value.is_floating_point())


def test_a_weight_that_is_lost_in_a_step_leaves_nothing_that_is_kept(tmp_path: Path) -> None:
    """Every gradient is a number, and the step overflows: looked at after each epoch, before anything is kept."""
    train, valid = parts()
    model = LightGCN(**SMALL)

    def lose(loss: torch.Tensor) -> None:
        next(model.network.parameters()).data[0, 0] = torch.inf

    ruin(model, train, 1, 0, lose)
    with pytest.raises(NonFiniteLossError, match=r"weights are NaN or infinite after epoch 1 \(.*\); lower lr"):
        model.fit(train, valid, options(folder=tmp_path))
    assert not (tmp_path / "checkpoints" / "last.safetensors").exists()


def test_a_validation_that_is_no_number_is_no_best(monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid = parts()
    model = LightGCN(**SMALL)
    monkeypatch.setattr(model, "validation", lambda *_: {"ndcg@10": float("nan")})
    with pytest.raises(NonFiniteLossError, match=r"ndcg@10 is nan in the validation after epoch 2; lower lr"):
        model.fit(train, valid, options(monitor="ndcg@10"))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    train, valid = parts()
    LightGCN(**SMALL).fit(train, valid, options(folder=tmp_path))
    with pytest.raises(InputError, match="other settings"):
        LightGCN(**{**SMALL, "embedding_dim": 4}).fit(train, valid, options(folder=tmp_path, resume=True))


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    train, valid = parts()
    LightGCN(**SMALL).fit(train, valid, options(folder=tmp_path))
    path = tmp_path / "checkpoints" / "last.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        LightGCN(**SMALL).fit(train, valid, options(folder=tmp_path, resume=True))


class Clock:
    """Stands for the module ``time`` in the loop: a second goes by with each loss of ``model``."""

    def __init__(self, model: Recommender) -> None:
        self.seconds, self.original = 0.0, model.loss
        model.loss = self.loss

    def loss(self, batch: object) -> torch.Tensor:
        self.seconds += 1
        return self.original(batch)

    def perf_counter(self) -> float:
        return self.seconds


def test_time_limit_ends_within_an_epoch() -> None:
    model = Quadratic()
    result = run_training(model, None, None, options(epochs=10, max_minutes=1e-9))
    assert (result.stopped, result.best_epoch, result.epoch_seconds) == ("max_minutes", 1, 0.0)
    assert model.network["w"].item() == pytest.approx(0.1)  # one step of three


@pytest.mark.parametrize(
    ("epochs", "steps", "stands", "stopped"),
    [
        (0, 1.5, None, "max_minutes"),
        (2, 1.5, 2, "max_minutes"),
        (3, -0.5, 2, "max_minutes"),
        (4, 1.5, 4, "max_minutes"),
        (9, -0.5, 9, "epochs"),
    ],
)
def test_what_a_time_limit_ended_goes_on_with_the_same_bits(
    epochs: int, steps: float, stands: int | None, stopped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit falls ``steps`` after some whole ``epochs``. What it leaves is the best of all there, and must be forgotten later."""
    train, valid = parts()
    planned, known = iter([0.1, 0.5, 0.3, 0.2, 0.2]), {}

    class Fake:
        def __init__(self, value: float) -> None:
            self.metrics = {"ndcg@5": value}

    def fake(asked: LightGCN, *_: object, **__: object) -> Fake:
        key = weights(asked)[0].numpy().tobytes()
        if "whole" not in known and key not in known:
            known[key] = next(planned)
        return Fake(known.get(key, 0.9))

    monkeypatch.setattr(sys.modules["lexirec.evaluation.evaluate"], "evaluate", fake)
    whole = LightGCN(**SMALL).fit(train, valid, options(epochs=9, folder=tmp_path / "whole"))
    known["whole"] = True
    cut = LightGCN(**SMALL)
    clock = Clock(cut)
    monkeypatch.setattr(sys.modules["lexirec.training.loop"], "time", clock)
    seconds = epochs * whole.n_batches(train) + steps
    cut.fit(train, valid, options(epochs=9, max_minutes=seconds / 60, folder=tmp_path / "cut"))
    result, last = cut.training_result, tmp_path / "cut" / "checkpoints" / "last.safetensors"
    assert result.stopped == stopped
    assert clock.seconds == np.ceil(seconds)
    if stopped == "max_minutes":
        there = epochs + (steps > 0)
        assert (result.best_epoch, result.best_value, result.history[-1]["epoch"]) == (there, 0.9, there)
    assert (read_position(last)["epoch"] if last.exists() else None) == stands
    resumed = LightGCN(**SMALL).fit(train, valid, options(epochs=9, folder=tmp_path / "cut", resume=True))
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))
    assert resumed.training_result.best_epoch == whole.training_result.best_epoch == 4
    lines = [[{**line, "seconds": 0} for line in read_lines(tmp_path / f / "metrics.jsonl")] for f in ("whole", "cut")]
    assert lines[0] == lines[1]
    assert [line["epoch"] for line in lines[0]] == [2, 4, 6, 8, 9]


def test_a_resumed_training_that_has_no_time_left_keeps_its_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid = parts()
    first = LightGCN(**SMALL).fit(train, valid, options(epochs=4, folder=tmp_path))
    again = LightGCN(**SMALL)
    clock = Clock(again)
    clock.seconds = 100.0
    monkeypatch.setattr(sys.modules["lexirec.training.loop"], "time", clock)
    again.fit(train, valid, options(epochs=9, folder=tmp_path, resume=True, max_minutes=1e-9))
    assert (clock.seconds, again.training_result.stopped) == (100.0, "max_minutes")  # no step
    assert again.training_result.best_epoch == first.training_result.best_epoch
    assert all(torch.equal(a, b) for a, b in zip(weights(again), weights(first), strict=True))


def test_more_epochs_than_at_first_give_the_bits_of_the_longer_training(tmp_path: Path) -> None:
    train, valid = parts()
    whole = LightGCN(**SMALL).fit(train, valid, options(epochs=9, eval_every=4, folder=tmp_path / "whole"))
    LightGCN(**SMALL).fit(train, valid, options(epochs=5, eval_every=4, folder=tmp_path / "short"))
    longer = LightGCN(**SMALL).fit(train, valid, options(epochs=9, eval_every=4, folder=tmp_path / "short", resume=True))
    assert all(torch.equal(a, b) for a, b in zip(weights(longer), weights(whole), strict=True))
    assert [line["epoch"] for line in longer.training_result.history] == [4, 8, 9]


def test_without_validation_the_end_of_the_training_counts_and_stays(tmp_path: Path) -> None:
    train, _ = parts()
    first = LightGCN(**SMALL).fit(train, None, options(epochs=4, folder=tmp_path))
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [first.training_result.best_epoch] == [4]
    again = LightGCN(**SMALL).fit(train, None, options(epochs=4, folder=tmp_path, resume=True))
    assert again.training_result.best_epoch == 4
    assert [{**line, "seconds": 0} for line in read_lines(tmp_path / "metrics.jsonl")] == [{**line, "seconds": 0} for line in lines]
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(again), strict=True))


def test_epochs_that_would_change_what_was_trained_are_refused(tmp_path: Path) -> None:
    model = Quadratic()
    model.total_steps = 12
    run_training(model, None, None, options(epochs=4, folder=tmp_path))
    with pytest.raises(InputError, match="stands at epoch 4 and epochs = 2"):
        run_training(model, None, None, options(epochs=2, folder=tmp_path, resume=True))
    model.total_steps = 24
    with pytest.raises(InputError, match=r"stands at epoch 4 of a training whose learning rate falls over 12 steps, .* over 24"):
        run_training(model, None, None, options(epochs=8, folder=tmp_path, resume=True))
    assert model.network["w"].item() == pytest.approx(1 - 0.9**12, abs=1e-6)  # neither trained


def test_a_model_on_the_way_is_whole_whatever_the_time_limit(tmp_path: Path) -> None:
    train, valid = parts()
    settings = {"embedding_dim": 8, "num_layers": 1, "num_heads": 1}
    model = train_plain("sasrec", settings, train, valid, options(epochs=2, max_minutes=1e-9, folder=tmp_path), "teacher")
    assert model.training_result.stopped == "epochs"
    assert (tmp_path / "teacher" / "config.yaml").exists()


def test_trackers_write_their_logs(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train, valid = parts()
    LightGCN(**SMALL).fit(train, valid, options(folder=tmp_path, track=["tensorboard"]))
    assert list((tmp_path / "tensorboard").iterdir())
    with pytest.raises(InputError, match="needs a folder"):
        LightGCN(**SMALL).fit(train, valid, options(track=["tensorboard"]))


def test_mlflow_writes_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train, valid = parts()
    LightGCN(**SMALL).fit(train, valid, options(folder=tmp_path / "run", track=["mlflow"]))
    assert list((tmp_path / "run").glob("mlruns*"))


def test_metrics_file_is_one_object_per_validation(tmp_path: Path) -> None:
    train, valid = parts()
    LightGCN(**SMALL).fit(train, valid, options(folder=tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [2, 4, 6]
    assert all({"loss", "seconds", "ndcg@5", "recall@20"} <= line.keys() for line in lines)


@pytest.mark.parametrize("changed", [{"seed": 2}, {"precision": "bf16"}, {"clip_norm": 1.0}, {"eval_every": 1}])
def test_a_checkpoint_of_other_options_is_not_gone_on_with(tmp_path: Path, changed: dict[str, object]) -> None:
    train, valid = parts()
    LightGCN(**SMALL).fit(train, valid, options(epochs=2, folder=tmp_path))
    with pytest.raises(InputError, match=f"last.safetensors was made with other settings or data \\({next(iter(changed))}\\)"):
        LightGCN(**SMALL).fit(train, valid, options(folder=tmp_path, resume=True, **changed))


def test_a_checkpoint_of_other_settings_or_data_is_not_gone_on_with(tmp_path: Path) -> None:
    """Of the same shapes: nothing but its record tells that it has seen what is held out now."""
    data = checkerboard()[0]
    small = {"embedding_dim": 8, "num_heads": 1, "batch_size": 32}
    create("sasrec", **small).fit(data.split("all").train, None, options(epochs=1, folder=tmp_path))
    with pytest.raises(InputError, match=r"\(training part\)"):
        create("sasrec", **small).fit(data.split("leave-one-out").train, None, options(folder=tmp_path, resume=True))
    with pytest.raises(InputError, match=r"\(config.loss, config.tau\)"):
        create("sasrec", **small, loss="ce", tau=0.5).fit(data.split("all").train, None, options(folder=tmp_path, resume=True))
    create("sasrec", **small).fit(data.split("all").train, None, options(epochs=2, folder=tmp_path, resume=True))


def test_a_model_on_the_way_has_the_options_of_the_whole(tmp_path: Path) -> None:
    train, valid = parts()
    settings = {"embedding_dim": 8, "num_heads": 1, "batch_size": 32}
    train_plain("sasrec", settings, train, valid, options(epochs=2, folder=tmp_path), "teacher")
    again = options(epochs=2, folder=tmp_path, resume=True)
    train_plain("sasrec", settings, train, valid, again, "teacher")
    with pytest.raises(InputError, match="teacher has other settings or another training part"):
        train_plain("sasrec", settings, train, valid, again.model_copy(update={"epochs": 3}), "teacher")


def test_what_helps_against_nan_is_what_there_is(tmp_path: Path) -> None:
    class Lost(Quadratic):
        def loss(self, batch: int) -> torch.Tensor:
            return super().loss(batch) * torch.nan

    for more, cure in (({}, "; lower lr$"), ({"precision": "bf16", "folder": tmp_path}, r"; lower lr or use precision='fp32' \(the last")):
        with pytest.raises(NonFiniteLossError, match=cure):
            run_training(Lost(), None, None, options(epochs=1, **more))  # type: ignore[arg-type]
