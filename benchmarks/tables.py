"""Write the result tables of README.md and docs/*.md from benchmarks/results/*/*.json: everything between the markers of a table is made
here.

    python benchmarks/tables.py            # write
    python benchmarks/tables.py --check    # exit 1 if a page is not up to date

A marker is ``<!-- results: DATASET [name,name,...] -->`` and is closed by ``<!-- end -->``;
``<!-- speed: FILE [PART] -->`` shows a speed result.
Names without a result are said below the table.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from lexirec.evaluation.statistics import holm

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
METRICS = {"leave-one-out": ("hr@10", "ndcg@10", "hr@20", "ndcg@20")}
"""Metrics shown, by split; the first two of the others' are what the graph models are compared by."""
OTHERS = ("recall@20", "ndcg@20", "hr@20", "ndcg@10")
UNMASKED = ("ndcg@10", "recall@1", "recall@10", "mrr")
"""Metrics of the protocol that masks nothing (CALRec's), whose ties are told: optimistic / pessimistic where they differ."""
TESTED = {"leave-one-out": "ndcg@10"}
"""Metric of the groups and of the paired tests, by split."""
MARKER = re.compile(r"(<!-- (results|speed): ([^>]*?) -->\n)(.*?)(<!-- end -->)", flags=re.DOTALL)


def number(value: float) -> str:
    """Four decimals without the leading zero, as the papers print it."""
    return f"{value:.4f}".lstrip("0") if abs(value) < 1 else f"{value:.2f}"


def shown(result: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """Metrics of a result's table, and the one of its groups and tests."""
    split = result["split"]
    metrics = UNMASKED if "nothing masked" in result["protocol"] else METRICS.get(split, OTHERS)
    return metrics, TESTED.get(split, "recall@20")


def value_cell(result: dict[str, Any], metric: str) -> str:
    """Mean over the seeds with its standard deviation; of an unmasked result the values with ties settled for and against the target."""
    if "nothing masked" in result["protocol"]:
        sides = []
        for side in ("test_optimistic", "test_pessimistic"):
            values = [run[side][metric] for run in result["runs"]]
            sides.append(number(sum(values) / len(values)))
        return " / ".join(dict.fromkeys(sides))
    if metric not in result["mean"]:  # the zero-shot table has fewer metrics
        return ""
    values = [run["test"][metric] for run in result["runs"]]
    return number(result["mean"][metric]) + (f" ± {number(statistics.stdev(values))}" if len(values) > 1 else "")


def shown_test(result: dict[str, Any]) -> dict[str, Any] | None:
    """The paired test that a line of a results table shows."""
    _, tested = shown(result)
    return next((t for t in result["tests"] if t["metric"] == tested and "group" not in t), None)


def result_row(name: str, result: dict[str, Any], p: float | None, several: bool = False) -> list[str]:
    """One line of a results table with the corrected ``p`` of its test, which tells the baseline where the table has several."""
    runs = result["runs"]
    metrics, tested = shown(result)
    cells = [name, *(value_cell(result, metric) for metric in metrics)]
    for group in ("tail_items", "cold_items"):
        values = [run["groups"][group][tested] for run in runs if group in run.get("groups", {})]
        cells.append(number(sum(values) / len(values)) if values else "")
    test = shown_test(result)
    found = f"{test['relative']:+.1%} (p {p:.1g})" if test and test["relative"] is not None else ""
    cells.append(f"{found} `{test['against']}`" if test and found and several else found)
    if "trained_on" not in result:
        seconds = sum(run["seconds"] for run in runs) / len(runs)
        return [*cells, str(len(runs)), "/".join(str(run["best_epoch"]) for run in runs), f"{seconds / 60:.1f}"]
    return [*cells, str(len(runs)), "", ""]


def results_table(argument: str) -> str:
    """Table of a data set's results; names may be given after it."""
    dataset, _, names = argument.partition(" ")
    folder = RESULTS / dataset
    wanted = [n for n in names.split(",") if n] or sorted(p.stem for p in folder.glob("*.json"))
    results = {name: json.loads((folder / f"{name}.json").read_text()) for name in wanted if (folder / f"{name}.json").exists()}
    missing = [name for name in wanted if name not in results]
    unmeasured = f"\nNot measured yet: {', '.join(f'`{name}`' for name in missing)}.\n" if missing else ""
    tests = {name: test for name, test in zip(results, map(shown_test, results.values()), strict=True) if test}
    # Rows of a table may have been published by several calls: what is told here is a family of its own.
    corrected = dict(zip(tests, holm([test["p"] for test in tests.values()]), strict=True))
    tested_against = list(dict.fromkeys(test["against"] for test in tests.values()))
    several = len(tested_against) > 1
    rows = [result_row(name, result, corrected.get(name), several) for name, result in results.items() if "mean" in result]
    if not rows:
        return f"(no results yet)\n{unmeasured}"
    metrics, tested = shown(next(iter(results.values())))
    head = ["model", *metrics, f"tail {tested}", f"cold {tested}", "against the baseline", "seeds", "best epoch", "minutes"]
    keep = [k for k in range(len(head)) if any(row[k] for row in rows)]
    lines = [[head[k] for k in keep], ["---"] * len(keep), *[[row[k] for k in keep] for row in rows]]
    first = next(iter(results.values()))
    users = f"{first['runs'][0]['users']:,} users"
    note = f"Split `{first['split']}`, {first['protocol']}, {users}"
    if "trained_on" not in first:
        note += (
            ", test at the best validation epoch; minutes of the last stage (those before it and encoding are not in it), with one thread"
            " beside other trainings"
        )
    if any(len(result["runs"]) > 1 for result in results.values()):
        note += "; ±: standard deviation over the seeds"
    if tested_against:
        named = ", ".join(
            f"`{name}`" + ("" if name in results else ", a run of other settings that is not in this table") for name in tested_against
        )
        note += f"; baseline{'s' if several else ''} of the paired t-tests ({tested}, Holm over this table): {named}"
    note += ".\n"
    return "".join("| " + " | ".join(line) + " |\n" for line in lines) + "\n" + note + unmeasured


def speed_table(argument: str) -> str:
    """Table of one speed result: its ``rows``, or another list that is named after it."""
    name, _, part = argument.partition(" ")
    path = RESULTS / "speed" / f"{name}.json"
    if not path.exists():
        return "(not measured yet)\n"
    result = json.loads(path.read_text())
    rows = result[part or "rows"]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        columns,
        ["---"] * len(columns),
        *[[f"{row[c]:.3g}" if isinstance(row.get(c), float) else str(row.get(c, "")) for c in columns] for row in rows],
    ]
    return (
        "".join("| " + " | ".join(line) + " |\n" for line in lines)
        + f"\n{_machine(result['machine'])}, {result['date']}: `{result['command']}`\n"
    )


def _machine(facts: str | dict[str, Any]) -> str:
    return (
        facts
        if isinstance(facts, str)
        else ", ".join(f"{key} {value}" for key, value in facts.items() if key in ("cpu", "threads", "instructions"))
    )


def render(text: str) -> str:
    """A page with all its tables made anew."""
    makers = {"results": results_table, "speed": speed_table}
    return MARKER.sub(lambda m: m[1] + "\n" + makers[m[2]](m[3].strip()) + "\n" + m[5], text)


def main() -> int:
    """Write or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        old = page.read_text(encoding="utf-8")
        new = render(old)
        if new != old:
            stale.append(page.name)
            if not check:
                page.write_text(new, encoding="utf-8")
    print(("stale: " if check else "written: ") + (", ".join(stale) or "none"), file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
