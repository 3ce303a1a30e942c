"""``lexirec profile``: the plain writer, a language model at a local server, dry runs, budgets, and folders whole or absent."""

import json

import pytest

from lexirec.cli.main import run
from lexirec.data.dataset import Dataset
from lexirec.text import llm, read_profiles
from tests.text.llm_server import KEY, Faulty, error, helpful
from tests.text.shops import shop


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder on disk, and no key or cache of this machine's user."""
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(llm, "FIRST_PAUSE", 0.005)
    data = shop(True)
    (tmp_path / "shop").mkdir()
    data.interactions.write_parquet(tmp_path / "shop" / "interactions.parquet")
    data.items.write_parquet(tmp_path / "shop" / "items.parquet")
    return tmp_path


def test_plain(folder, capsys):
    out = folder / "p"
    assert run(["profile", "--data", str(folder / "shop"), "--out", str(out), "--versions", "2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {k: facts[k] for k in ("items", "users", "versions", "writer")} == {"items": 8, "users": 6, "versions": 2, "writer": "plain"}
    record = json.loads((out / "profiles.json").read_text())
    train = Dataset.read(folder / "shop").split("leave-one-out").train
    assert record["content_hash"] == train.content_hash
    assert (record["dataset"], record["split"], record["writer"]) == ("shop", "leave-one-out", "plain")
    assert read_profiles(out, train).n_versions == 2
    assert sorted(p.name for p in out.iterdir()) == ["items.parquet", "profiles.json", "users.parquet"]
    # Another split's folder is another one; an existing folder is only replaced on request.
    assert run(["profile", "--data", str(folder / "shop"), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["profile", "--data", str(folder / "shop"), "--out", str(out), "--split", "all", "--replace", "--no-collaborative"]) == 0
    assert "8 items and 6 users, 4 versions" in capsys.readouterr().out
    assert json.loads((out / "profiles.json").read_text())["collaborative"] is False


def test_a_language_model_and_no_key_in_any_file(folder, capsys):
    pytest.importorskip("openai", reason="the language-model client needs the extra `llm`")
    out = folder / "p"
    arguments = [
        "profile",
        "--data",
        str(folder / "shop"),
        "--out",
        str(out),
        "--llm",
        "writer",
        "--versions",
        "1",
        "--prompts",
        "product",
        "--split",
        "all",
    ]
    with Faulty(helpful) as server:
        arguments += ["--base-url", server.url.replace("http://", "http://me:secret-word@"), "--concurrency", "3", "--price", "1,2"]
        assert run([*arguments, "--dry-run"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("28 calls (0 answers known)")
        assert "cost 0.0" in shown
        assert not out.exists()
        assert run([*arguments, "--budget", "calls=10"]) == 1
        assert "budget of 10 calls" in capsys.readouterr().err
        assert not out.exists()
        assert run([*arguments, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["calls"] == 18
        assert facts["cost"] == pytest.approx(18 * (4 * 1 + 2 * 2) / 1e6)
        assert len(server.requests) == 28
        assert run([*arguments, "--replace", "--dry-run", "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert (plan["calls"], plan["cached"]) == (0, 28)
    record = json.loads((out / "profiles.json").read_text())
    assert (record["writer"], record["model"], record["family"]) == ("lm", "writer", "product")
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert KEY.encode() not in content
            assert b"secret-word" not in content


def test_errors_leave_nothing(folder, capsys):
    pytest.importorskip("openai", reason="the language-model client needs the extra `llm`")
    base = ["profile", "--data", str(folder / "shop"), "--out", str(folder / "p")]
    with Faulty(every=error(401, f"bad key {KEY}")) as server:
        assert run([*base, "--llm", "writer", "--base-url", server.url]) == 1
        message = capsys.readouterr().err
        assert "OPENAI_API_KEY" in message
        assert KEY not in message
    for extra, match in (
        (["--price", "1,2"], "--price"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--budget", "cost=1"], "price"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--budget", "money=1"], "budget"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--prompts", "shops"], "prompt family"),
        (["--versions", "13"], "versions"),
        (["--split", "leave-two-out"], "split"),
    ):
        assert run([*base, *extra]) == 2
        assert match in capsys.readouterr().err
    assert not (folder / "p").exists()
    assert not [p for p in folder.iterdir() if ".tmp-" in p.name]
