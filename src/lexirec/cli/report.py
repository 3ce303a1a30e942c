"""``lexirec report``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lexirec.cli.models import AsJson, SplitName
from lexirec.cli.results import GroupCuts, Sampled, SampleSeed


def report(
    run: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders; the first on each data set is what the others are compared with. Seeds of one model are averaged."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="A folder for report.html, report.json and PNG files, or a file ending in .html.")],
    data: Annotated[
        list[Path], typer.Option("--data", help="Where the data are now, or another data set (zero-shot). Default: where each run says.")
    ] = [],  # noqa: B006 (typer reads the default)
    split: SplitName = None,
    groups: GroupCuts = None,
    sampled: Sampled = None,
    seed: SampleSeed = 0,
    maps: Annotated[
        bool, typer.Option("--maps/--no-maps", help="Maps of the item vectors by t-SNE, some ten seconds for each model.")
    ] = True,
    map_items: Annotated[
        int, typer.Option("--map-items", min=10, help="Items of a map at most; more are thinned by a seeded draw.")
    ] = 3000,
    perplexity: Annotated[
        float, typer.Option("--perplexity", min=1.0, help="Of t-SNE: about how many neighbours an item looks at.")
    ] = 30.0,
    map_seed: Annotated[int, typer.Option("--map-seed", help="Seed of the items drawn for the maps and of t-SNE.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare runs in one HTML file: leaderboard, head and tail, paired tests, popularity bias, curves and maps."""
    from lexirec.evaluation.groups import GroupRules
    from lexirec.report.compare import report_runs
    from lexirec.report.maps import MapOptions

    rules = GroupRules.parse(groups) if groups is not None else None
    drawing = MapOptions(map_items, perplexity, map_seed) if maps else None
    paths = [str(path) for path in data]
    found = report_runs(run, out, data=paths, split=split, groups=rules, sampled=sampled, seed=seed, maps=drawing)
    if as_json:
        print(json.dumps(found))
        return
    for line in found["notes"]:
        print(f"note: {line}", file=sys.stderr)
    print(f"{found['report']} and {len(found['pictures'])} PNG files beside it")
