"""The committed results: pages show what lies there, and what was set out to be reached is reached or known to be missed."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

FLOORS = [
    ("amazon2014_beauty/lightgcn", "recall@20", 0.081),
    ("amazon2014_beauty/lightgcn-infonce", "recall@20", 0.080),
    ("amazon2014_beauty/alpharec", "recall@20", 0.0895),
    ("amazon2014_beauty/alpharec", "ndcg@20", 0.0392),
    ("amazon2014_beauty/alpharec-rich", "recall@20", 0.0980),
    ("movielens_1m/lightgcn", "recall@20", 0.197),
    ("amazon2014_beauty/sasrec", "ndcg@10", 0.0345),
    ("amazon2014_beauty/sasrec", "hr@10", 0.0650),
    ("amazon2014_beauty/bert4rec", "ndcg@10", 0.0390),
    ("amazon2014_beauty/bert4rec-own", "ndcg@10", 0.0390),
    ("amazon2014_beauty/gru4rec", "ndcg@10", 0.0198),
    ("amazon2014_beauty/sasrec-softmax", "ndcg@10", 0.0543),
    ("amazon2014_beauty/bsarec-text", "ndcg@10", 0.0610),
    ("amazon2014_toys/sasrec", "ndcg@10", 0.0415),
    ("amazon2014_toys/gru4rec", "ndcg@10", 0.0215),
    ("amazon2014_toys/bert4rec", "ndcg@10", 0.0388),
    ("amazon2014_toys/sasrec", "hr@10", 0.0735),
    ("amazon2014_toys/sasrec-softmax", "ndcg@10", 0.0598),
    ("amazon2014_toys/bsarec-text", "ndcg@10", 0.0663),
    ("amazon2018_scientific/lir", "recall@10", 0.095),
    ("amazon2018_scientific/sasrec", "ndcg@10", 0.050),
    ("amazon2018_scientific/bert4rec", "ndcg@10", 0.038),
    ("amazon2018_scientific/fdsa", "ndcg@10", 0.054),
    ("amazon2018_scientific/s3rec", "ndcg@10", 0.038),
    ("amazon2018_scientific/unisrec-text", "recall@10", 0.105),
    ("amazon2018_scientific/unisrec-id-text", "recall@10", 0.112),
    ("amazon2018_scientific/calrec-tiny-alike", "ndcg@10", 0.0600),
]
"""Result, metric (ties settled for the target where nothing is masked, as the sources have it), and the least that was aimed at."""
MISSED = {"amazon2014_beauty/bert4rec", "zero-shot/mean-gain"}
"""Said first on their pages; the test fails once they are reached, so that the pages are mended."""


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def measured(name: str, metric: str) -> float:
    runs = result(name)["runs"]
    unmasked = "nothing masked" in result(name)["protocol"]
    values = [run["test_optimistic" if unmasked else "test"][metric] for run in runs]
    return float(sum(values) / len(values))


@pytest.mark.parametrize(("name", "metric", "floor"), FLOORS)
def test_what_was_aimed_at(name: str, metric: str, floor: float) -> None:
    assert (measured(name, metric) >= floor) == (name not in MISSED)


def test_words_matter_and_help() -> None:
    for dataset, shuffled, words in (("amazon2014_beauty", 0.5, 1.05), ("amazon2014_toys", 0.5, 1.05)):
        ids = measured(f"{dataset}/lightgcn", "recall@20")
        assert measured(f"{dataset}/alpharec-shuffled", "recall@20") < shuffled * ids
        assert measured(f"{dataset}/alpharec-linear", "recall@20") > words * ids
    (test,) = [t for t in result("amazon2014_beauty/alpharec")["tests"] if t["metric"] == "recall@20" and "group" not in t]
    assert test["against"] == "lightgcn" and test["p_holm"] < 0.01
    assert measured("movielens_1m/alpharec-tuned", "recall@20") > measured("movielens_1m/lightgcn", "recall@20")


@pytest.mark.parametrize("kind", ["joined", "profiles"])
@pytest.mark.parametrize("data", ["amazon2014_beauty", "yelp"])
@pytest.mark.parametrize("encoder", ["sasrec", "gru4rec", "bert4rec"])
def test_generated_vectors_beside_ids(kind: str, data: str, encoder: str) -> None:
    """Above ids overall and 1.5 times on tail items, p < .01 each (one comparison); what is missed is said first on the page."""
    ours, ids = f"{data}/llmemb-{encoder}-{kind}", f"{data}/{encoder}-harness"
    if kind == "profiles" and data == "yelp":
        ours += "" if encoder == "sasrec" else "-ids"

    def tail(name: str) -> float:
        values = [run["groups"]["tail_items"]["ndcg@10"] for run in result(name)["runs"]]
        return float(sum(values) / len(values))

    found = {t.get("group"): t["p"] for t in result(ours)["tests"] if t["metric"] == "ndcg@10" and t["against"] == f"{encoder}-harness"}
    reached = measured(ours, "ndcg@10") > measured(ids, "ndcg@10") and tail(ours) >= 1.5 * tail(ids)
    reached = reached and found[None] < 0.01 and found["tail_items"] < 0.01
    missed = data == "yelp" or encoder == "bert4rec"
    assert reached == (not missed)


def test_each_part_of_llmemb_counts() -> None:
    """Beauty, SASRec, three seeds: without alignment or adapter it is worse for sure, without two passes of stage 1 not."""
    whole = measured("amazon2014_beauty/llmemb-sasrec-joined", "ndcg@10")
    for part, sure in (("scft", False), ("alignment", True), ("adapter", True)):
        name = f"amazon2014_beauty/llmemb-sasrec-joined-without-{part}"
        (test,) = [t for t in result(name)["tests"] if t["metric"] == "ndcg@10" and "group" not in t]
        assert test["against"] == "llmemb-sasrec-joined" and len(result(name)["runs"]) == 3
        assert measured(name, "ndcg@10") < whole and (test["p_holm"] < 0.01) == sure


def test_llmemb_beside_the_systems_with_three_seeds() -> None:
    """Level with LLM2X overall, above MELT, SAID and TSLRec, and far above all on the tail."""
    above_all = ("melt-sasrec", "said-sasrec-trained-on", "tslrec-sasrec")
    for name, above in (("llm2x-sasrec-joined", False), *((name, True) for name in above_all)):
        found = {t.get("group"): t for t in result(f"amazon2014_beauty/{name}")["tests"] if t["metric"] == "ndcg@10"}
        assert len(result(f"amazon2014_beauty/{name}")["runs"]) == 3
        assert (found[None]["p"] < 0.01) == above
        assert found["tail_items"]["mean_against"] > 2 * found["tail_items"]["mean"] and found["tail_items"]["p_holm"] < 0.01


def test_a_trained_encoder_helps_where_it_was_not_trained() -> None:
    gains, sure = [], 0
    for dataset in ("yelp", "steam_sample", "movielens_1m", "amazon2018_scientific"):
        raw, trained = (measured(f"zero-shot/{dataset}/{name}", "recall@20") for name in ("minilm", "easyrec-longer"))
        gains.append(trained / raw - 1)
        found = result(f"zero-shot/{dataset}/easyrec-longer")["tests"]
        sure += any(t["against"] == "minilm" and t["metric"] == "recall@20" and t["p_holm"] < 0.01 for t in found)
    assert sum(gain > 0 for gain in gains) == 4 and sure == 3
    mean = sum(gains) / len(gains)
    assert (mean >= 0.25) == ("zero-shot/mean-gain" not in MISSED)
    assert f"**{100 * mean:.0f} %** on the mean" in (ROOT / "docs" / "easyrec.md").read_text(encoding="utf-8")
    assert measured("zero-shot/yelp_profiles_xrec/easyrec", "recall@20") > measured("zero-shot/yelp_profiles_xrec/lsa", "recall@20")


def test_pages_show_the_committed_results() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{done.stderr}run python benchmarks/tables.py"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_result_says_how_it_was_made(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["command"]
    assert found.get("runs") or found.get("rows") or found.get("settings") or found.get("curve") or found.get("results"), sorted(found)


LOCAL = re.compile(r'(?<=[" =])/[a-z]+/\S*|benchmarks/scratch\S*')
"""Absolute paths and the folder of trials, which tell a reader nothing: a run that another one needs is named RUN_OF_<ITS NAME>."""


def test_results_name_no_path_of_a_machine() -> None:
    assert LOCAL.search("lexirec fit sasrec --data /data/beauty")
    found = {f"{p.parent.name}/{p.name}": LOCAL.search(p.read_text(encoding="utf-8")) for p in RESULTS.glob("*/*.json")}
    assert {name: hit[0] for name, hit in found.items() if hit} == {}
