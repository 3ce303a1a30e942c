"""What must work with the core dependencies alone: import everything, fit AlphaRec, recommend, the command line. Run with ``python -I``."""

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

EXTRAS = (
    "peft",
    "openai",
    "sqlalchemy",
    "usearch",
    "ray",
    "matplotlib",
    "openTSNE",
    "optuna",
    "tensorboard",
    "mlflow",
    "onnx",
    "pytest",
)


def main() -> None:
    """Fail with a message at the first thing that does not work."""
    present = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not present, f"{present} are installed, so this check would prove nothing"

    import lexirec

    assert "site-packages" in (lexirec.__file__ or ""), f"lexirec comes from {lexirec.__file__}, not from the installed package"
    modules = [name for _, name, _ in pkgutil.walk_packages(lexirec.__path__, "lexirec.") if not name.endswith("__main__")]
    for name in modules:
        importlib.import_module(name)

    import polars as pl

    from lexirec import models
    from lexirec.data.dataset import Dataset
    from lexirec.query import Query
    from lexirec.training.options import TrainingOptions

    kinds = ("soap", "brush", "cream", "lamp", "chair")
    items = pl.DataFrame({"item_id": [f"i{n:02d}" for n in range(40)], "title": [f"{kinds[n % 5]} number {n}" for n in range(40)]})
    events = [(f"u{u}", f"i{(u + 5 * step) % 40:02d}", step) for u in range(30) for step in range(6)]
    log = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    split = Dataset.from_frames(log, items).split("leave-one-out")
    with tempfile.TemporaryDirectory() as folder:
        model = models.create("alpharec")
        model.fit(split.train, split.valid, TrainingOptions(epochs=2, eval_every=1, progress=False))
        model.save(Path(folder) / "model")
        loaded = models.load_model(Path(folder) / "model")
    for query in (Query(user_id="u1"), Query(history=("i00", "i05")), Query(intent="a new lamp")):
        best = loaded.recommend([query], k=3)
        assert best.height == 3, f"{query} was answered with {best}"

    command = Path(sysconfig.get_path("scripts")) / "lexirec"
    for arguments in (["--help"], ["doctor"]):
        done = subprocess.run([str(command), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"lexirec {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}"
    print(f"core only: {len(modules)} modules import, alpharec fits, loads and recommends, on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
