"""The code in the documentation runs."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lexirec.cli.main import run
from lexirec.data.dataset import Dataset
from lexirec.models import create, load_model
from lexirec.testing import check_model
from lexirec.training.options import TrainingOptions
from tests.models.toys import checkerboard, write_shop

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"


def blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of the extending page as an installed package of somebody else, known by its entry points alone."""
    own = tmp_path / "site"
    (own / "ofthedocs-1.dist-info").mkdir(parents=True)
    (own / "ofthedocs-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: ofthedocs\nVersion: 1\n")
    names = [("metric-learning", "MetricLearning"), ("aligned-graph", "AlignedGraph"), ("mean-rec", "MeanRec")]
    points = [f"{name} = ofthedocs_{k}:{kind}\n" for k, (name, kind) in enumerate(names)]
    (own / "ofthedocs-1.dist-info" / "entry_points.txt").write_text("".join(["[lexirec.models]\n", *points]))
    for k, code in enumerate(blocks(DOCS / "extending.md")[:3]):
        (own / f"ofthedocs_{k}.py").write_text(code)
        monkeypatch.delitem(sys.modules, f"ofthedocs_{k}", raising=False)
    monkeypatch.syspath_prepend(own)


@pytest.mark.usefixtures("outside")
def test_the_extending_page_holds_its_first_model_to_the_contract() -> None:
    found: dict = {}
    exec(compile(blocks(DOCS / "extending.md")[3], "extending.md", "exec"), found)  # our own page
    found["test_contract"]()


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("aligned-graph", {"lr": 0.05, "embedding_dim": 16, "batch_size": 64, "num_negs": 8}),
        ("mean-rec", {"lr": 0.01, "embedding_dim": 16, "loss": "ce", "batch_size": 4}),
    ],
)
def test_the_other_models_of_the_extending_page_keep_the_contract(name: str, settings: dict) -> None:
    check_model(name, **settings)


@pytest.mark.usefixtures("outside")
def test_the_graph_model_of_the_extending_page_is_fitted_and_asked_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = str(write_shop(tmp_path / "data")), str(tmp_path / "run")
    sets = [part for text in ("epochs=2", "threads=1", "embedding_dim=8") for part in ("--set", text)]
    assert run(["fit", "aligned-graph", "--data", data, "--split", "leave-one-out", "--out", out, *sets]) == 0, capsys.readouterr().err
    assert run(["recommend", out, "--user", "u03"]) == 0, capsys.readouterr().err


def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    code = blocks(README)[0]
    exec(compile(code, "README.md", "exec"), {})
    assert "item_id" in capsys.readouterr().out


def test_the_serving_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    data, items = checkerboard()
    priced = Dataset(data.interactions, items.with_columns(price=pl.int_range(pl.len()) * 4), name="shop")
    settings = {"encoder": "lsa", "embedding_dim": 8, "batch_size": 64, "num_negs": 4}
    model = create("alpharec", **settings).fit(priced.train_set(), options=TrainingOptions(epochs=1, progress=False))
    found = {"model": model, "new_products": pl.DataFrame({"item_id": ["new"], "title": ["red apple fruit"]})}
    for block in blocks(DOCS / "serving.md"):
        exec(compile(block, "serving.md", "exec"), found)
    assert found["cheap"].to_list() == items["item_id"][:13].to_list()
    assert "new" in load_model(tmp_path / "with-new-products").item_map


def test_a_shop_in_six_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [(f"c{u}@example.org" if u else "ann@example.org", f"{i:03}", f"2024-{1 + k:02}-0{1 + u % 9}")
            for u in range(40) for k, i in enumerate(rng.permutation(np.arange(u % 2, 30, 2))[:10])]  # fmt: skip
    pl.DataFrame(rows, schema=["customer_email", "sku", "order_date"], orient="row").write_csv("orders.csv")
    titles = [f"{'Garden spade' if i % 2 else 'Kitchen pan'} no. {i}" for i in range(30)]
    pl.DataFrame({"sku": [f"{i:03}" for i in range(30)], "title": titles}).write_csv("products.csv")
    page = (DOCS / "serving.md").read_text(encoding="utf-8")
    section = page[page.index("## A shop in six commands") : page.index("## Many at once")]
    commands = [shlex.split(line.partition("  #")[0]) for line in section.splitlines() if line.startswith("    lexirec ")]
    assert len(commands) == 6
    for name, command, *arguments in commands:
        assert name == "lexirec"
        fast = ["--set", "epochs=2", "--set", "threads=1"] if command in ("bench", "fit") else []
        assert run([command, *arguments, *fast]) == 0, capsys.readouterr().err
    assert pl.read_csv("recommendations.csv").height == 400


def test_the_easyrec_page_moves_from_basketball_to_swimming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    found: dict = {}
    exec(compile(blocks(DOCS / "easyrec.md")[0], "easyrec.md", "exec"), found)
    assert {name[0] for name in found["before"]["item_id"]} == {"b"}
    assert {name[0] for name in found["after"]["item_id"]} == {"s"}
