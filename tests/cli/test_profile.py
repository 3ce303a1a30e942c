"""``lexirec profile``: the plain writer, a language model at a local server, dry runs, budgets, and folders whole or absent."""

import json

import pytest

from lexirec.cli.main import run
from lexirec.data.dataset import Dataset
from lexirec.text import llm_requests, read_profiles
from tests.text.llm_server import KEY, Faulty, error, helpful
from tests.text.shops import shop


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder on disk, and no key or cache of this machine's user."""
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(llm_requests, "FIRST_PAUSE", 0.005)
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
        assert "budget" not in shown
        for budget, told in (
            ("calls=28,tokens=100000", "; within the budget, if few are repaired or retried;"),
            ("calls=27,tokens=100000", "; more than the budget of 27 calls;"),
            ("calls=27,tokens=10,cost=0", "; more than the budget of 27 calls and 10 tokens and a cost of 0;"),
        ):
            assert run([*arguments, "--dry-run", "--budget", budget]) == 0
            assert told in capsys.readouterr().out
            assert run([*arguments, "--dry-run", "--json", "--budget", budget]) == 0
            assert json.loads(capsys.readouterr().out)["fits_budget"] is ("within" in told)
        assert not out.exists()
        assert not (folder / "cache" / "llm").exists()
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
        assert (plan["calls"], plan["cached"], plan["fits_budget"]) == (0, 28, None)
    record = json.loads((out / "profiles.json").read_text())
    assert (record["writer"], record["model"], record["family"]) == ("lm", "writer", "product")
    assert record["parameters"]["max_tokens"] == 400
    assert (record["max_history"], record["collaborative"]) == (10, True)
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
        (["--prompts", "general"], "--prompts"),
        (["--concurrency", "16"], "--concurrency"),
        (["--timeout", "60"], "--timeout"),
        (["--max-tokens", "400"], "--max-tokens"),
        (["--temperature", "0"], "--temperature"),
        (["--retry-failed"], "--retry-failed"),
        (["--base-url", "http://127.0.0.1:1"], "--base-url"),
        (["--budget", "calls=1"], "--budget"),
        (["--llm", "w", "--base-url", "localhost:1"], "--base-url"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--no-collaborative"], "--no-collaborative"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--max-tokens", "0"], "max_tokens"),
        (["--data", str(folder / "shop")], "run once for each"),
        (["--set", "data.min_ratin=2"], "data.min_rating"),
        (["--set", "epochs=2"], "no such setting"),
        (["--set", "data.mask_seen=false"], "no such setting"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--budget", "cost=1"], "price"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--budget", "money=1"], "budget"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--budget", ""], "calls=N, tokens=N and cost=MONEY"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--budget", "calls=1.9"], "counted whole"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--price", ""], "price is ''"),
        (["--llm", "w", "--base-url", "http://127.0.0.1:1", "--prompts", "shops"], "prompt family"),
        (["--versions", "13"], "versions"),
        (["--split", "leave-two-out"], "split"),
    ):
        assert run([*base, *extra]) == 2
        assert match in capsys.readouterr().err
    assert not (folder / "p").exists()
    assert not [p for p in folder.iterdir() if ".tmp-" in p.name]


def test_a_server_that_refuses_everything_is_an_error_with_its_reason(folder, capsys):
    pytest.importorskip("openai", reason="the language-model client needs the extra `llm`")
    base = ["profile", "--data", str(folder / "shop"), "--out", str(folder / "p"), "--llm", "writer", "--versions", "0"]
    with Faulty(every=error(422, "Unsupported value: 'temperature'")) as server:
        assert run([*base, "--base-url", server.url, "--temperature", "0.3"]) == 1
        assert "Unsupported value: 'temperature'" in capsys.readouterr().err
    assert not (folder / "p").exists()

    with Faulty(helpful, faults=[error(400, "Unsupported parameter: 'max_tokens'")]) as server:
        assert run([*base, "--base-url", server.url, "--max-tokens", "900", "--concurrency", "1"]) == 0
        assert ["max_tokens" in body for body in server.requests[:2]] == [True, False]
        assert not any("max_tokens" in body for body in server.requests[1:])
        assert {body["max_completion_tokens"] for body in server.requests[1:]} == {900}


def test_no_folder_where_no_text_is_the_models_and_the_budget_names_the_fault(folder, capsys):
    pytest.importorskip("openai", reason="the language-model client needs the extra `llm`")
    base = ["profile", "--data", str(folder / "shop"), "--out", str(folder / "p"), "--llm", "writer", "--versions", "0"]
    with Faulty(every="Sorry, I can't.") as server:
        assert run([*base, "--base-url", server.url]) == 1
        message = capsys.readouterr().err
        assert "none of the first 12 prompts" in message
        assert "take another model, a larger --max-tokens or other --prompts" in message
    with Faulty(every=error(500, "out of memory")) as server:
        assert run([*base, "--base-url", server.url, "--temperature", "1", "--budget", "calls=4"]) == 1
        message = capsys.readouterr().err
        assert "budget of 4 calls" in message
        assert "out of memory" in message
        assert "would end alike" in message
    assert not (folder / "p").exists()


def test_without_a_key_the_cure_is_an_option_of_the_command(folder, capsys, monkeypatch):
    pytest.importorskip("openai", reason="the language-model client needs the extra `llm`")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert run(["profile", "--data", str(folder / "shop"), "--out", str(folder / "p"), "--llm", "writer"]) == 2
    assert "--base-url" in capsys.readouterr().err


def test_profiles_of_a_filtered_log_fit_a_model_of_the_same_filter(folder, capsys):
    import polars as pl

    path = folder / "shop" / "interactions.parquet"
    log = pl.read_parquet(path)
    log.with_columns(rating=pl.Series([1.0 if at % 4 == 0 else 5.0 for at in range(log.height)])).write_parquet(path)
    out, data = folder / "p", ["--data", str(folder / "shop")]
    kept = ["--set", "data.min_rating=2", "--set", "data.duplicates=first"]
    assert run(["profile", *data, "--out", str(out), *kept, "--split", "all"]) == 0
    record = json.loads((out / "profiles.json").read_text())
    assert (record["split"], record["data"]) == ("all", {"min_rating": 2, "duplicates": "first"})
    fit = ["fit", "zero-shot", *data, "--split", "all", "--set", f"profiles={out}", "--set", "encoder=lsa"]
    assert run([*fit, "--out", str(folder / "other")]) == 2  # all of the log: another training part
    assert "another training part" in capsys.readouterr().err
    assert run([*fit, *kept, "--out", str(folder / "run")]) == 0
    assert (folder / "run" / "result.json").is_file()
