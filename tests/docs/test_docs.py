"""The code in the documentation runs."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.toys import checkerboard

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"


def blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_model_of_the_extending_page_learns_the_checkerboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("metric_learning_of_the_docs")
    exec(compile(blocks(DOCS / "extending.md")[0], "extending.md", "exec"), module.__dict__)  # our own page
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(__import__("lexirec.models", fromlist=["MODELS"]).MODELS, "metric-learning", f"{module.__name__}:MetricLearning")
    from lexirec.models import create, load_model

    train = checkerboard()[0].train_set()
    model = create("metric-learning", embedding_dim=4, batch_size=64, lr=0.02).fit(
        train, options=TrainingOptions(epochs=60, progress=False)
    )
    found = model.recommend(train.users.ids.to_list(), k=1)
    assert np.mean([row["item_id"][1:] == row["user_id"][1:] for row in found.iter_rows(named=True)]) == 1.0
    model.save(tmp_path / "saved")
    assert load_model(tmp_path / "saved").recommend(Query(user_id="u03"), k=3).equals(model.recommend(Query(user_id="u03"), k=3))


def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    code = blocks(README)[0]
    exec(compile(code, "README.md", "exec"), {})
    assert "item_id" in capsys.readouterr().out


def test_the_easyrec_page_moves_from_basketball_to_swimming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    found: dict = {}
    exec(compile(blocks(DOCS / "easyrec.md")[0], "easyrec.md", "exec"), found)
    assert {name[0] for name in found["before"]["item_id"]} == {"b"}
    assert {name[0] for name in found["after"]["item_id"]} == {"s"}
