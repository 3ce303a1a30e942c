"""The page of ``lexirec report``: runs side by side, by data set, with tests, popularity bias and maps of their item vectors."""

import math
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lexirec import results, runs
from lexirec.errors import InputError
from lexirec.evaluation.groups import GROUPS, GroupRules
from lexirec.files import atomic_file, read_json, write_json
from lexirec.models.saving import read_config
from lexirec.progress import track
from lexirec.report.html import Section, code, details, note, number, paragraph, table, tag, write_report
from lexirec.report.interactive import STYLE, script
from lexirec.report.maps import MapOptions, map_section
from lexirec.report.plots import Curve
from lexirec.report.popularity import popularity_section
from lexirec.report.sections import GROUP_NAMES, analysis_section, bare, leaderboard_section, plus_minus
from lexirec.report.tested import Tested, fit_seconds, key_of, mean_popularity, paired_tests, row_of, set_titles, test_of, whole_groups
from lexirec.training.options import TrainingOptions
from lexirec.training.tracking import read_lines

SHOWN = ("ndcg@10", "hr@10", "recall@20")
"""Metrics of the tables; the first is drawn."""
TESTED = ("ndcg@10", "hr@10")
"""Metrics with paired tests."""
FITTING = "Seconds to fit: the training with its validations, and what comes before it, such as encoding texts or tuning a language model."


@dataclass
class Page:
    """What is gathered for the page and the pictures beside it."""

    sections: list[Section] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)


def report_runs(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    data: Sequence[str] = (),
    split: str | None = None,
    groups: GroupRules | None = None,
    sampled: int | None = None,
    seed: int = 0,
    maps: MapOptions | None = MapOptions(),  # noqa: B008 (frozen)
    progress: bool = True,
) -> dict[str, Any]:
    """Write a report on runs: one HTML file, PNG files and the numbers as JSON beside it.

    A run's own files say how it was tested. It is tested again where they don't hold all that the report shows (runs
    of older versions), and always with ``data``, ``split``, ``groups`` or ``sampled``. Runs of one model and settings are seeds: averaged.

    Args:
        folders: run folders; the first on each data set is what the others are compared with.
        out: a folder (``report.html`` in it) or a file ending in ``.html``.
        data: where the data are, or other data (zero-shot).
        split: another split.
        groups: cuts of head, tail, short and long.
        sampled: rank among so many random items.
        seed: of the random items.
        maps: how maps of the item vectors are drawn; ``None``: not at all.
        progress: a bar on stderr.

    Returns:
        What ``report.json`` holds: ``report``, ``pictures``, ``datasets`` (leaderboard, tests, popularity by model), ``notes``.

    Raises:
        InputError: if there is no run or one has no test part, or data that were named can't be read.
    """
    if not folders:
        raise InputError("there is no run to report on; give at least one run folder")
    options = {"groups": groups, "sampled": sampled, "seed": seed}
    again = bool(data or split or groups is not None or sampled is not None)
    labelled = results.label_runs(list(dict.fromkeys(map(Path, folders))))
    todo = [(name, folder) for name, members in labelled.items() for folder in members]
    tested: dict[str, list[Tested]] = {name: [] for name in labelled}
    for name, folder in track(todo, "testing", len(todo), progress):
        tested[name].append(test_of(folder, data, split, again, options))
    page = Page()
    sets: dict[str, dict[str, list[Tested]]] = {}
    for name, members in tested.items():
        sets.setdefault(members[0].entry["data_hash"] + members[0].entry["protocol"], {})[name] = members
    rules = groups or GroupRules()
    titles = set_titles(sets)
    page.sections.append(_runs_section(tested))
    found = []
    for (_, models), title in zip(sets.items(), titles, strict=True):
        found.append(_set_sections(page, models, title, rules, several=len(sets) > 1))
    drawn: list[dict[str, Any]] = []
    if maps is not None:
        firsts = {name: members[0] for name, members in labelled.items()}
        section, drawn = map_section(firsts, maps, kept=page.pictures, progress=progress)
        page.sections.append(section)
    page.sections.append(_again_section(tested))
    out = Path(out)
    if (out / "manifest.json").exists():
        raise InputError(f"{out} is a run folder, and a report is none of its files; choose another --out")
    file = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
    prefix = f"{file.stem}-" if file == out else ""
    pictures = {f"{prefix}{_file_name(name)}.png": picture for name, picture in page.pictures.items()}
    document = {
        "report": file.name,
        "pictures": sorted(pictures),
        "datasets": found,
        "maps": drawn,
        "notes": [f"{one.folder.name}: {one.note}" for members in tested.values() for one in members if one.note],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    _remove_earlier(file.with_suffix(".json"), but=pictures)
    for name, picture in pictures.items():
        with atomic_file(file.parent / name) as temporary:
            temporary.write_bytes(picture)
    write_json(file.with_suffix(".json"), _plain(document))
    subtitle = (
        f"{len(todo)} run{'s' if len(todo) > 1 else ''} of {len(tested)} model{'s' if len(tested) > 1 else ''} on {', '.join(titles)}."
    )
    heading = " and ".join(tested) if len(tested) <= 2 else f"{len(tested)} models compared"
    footer = f"lexirec {runs.versions().get('lexirec', '')}. Pictures and numbers lie beside this file; it needs none of them."
    write_report(file, heading, page.sections, subtitle=subtitle, footer=footer, script=script(), style=STYLE)
    plain: dict[str, Any] = _plain(document)
    return plain | {"report": str(file)}


def _remove_earlier(record: Path, but: Container[str]) -> None:
    """Delete the pictures that an earlier report in the same place names as its own: they don't belong to the new page."""
    try:
        before = read_json(record)["pictures"]
    except (InputError, KeyError, TypeError):
        return
    for name in before:
        if isinstance(name, str) and Path(name).name == name and name.endswith(".png") and name not in but:
            (record.parent / name).unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """NaN becomes ``None``: JSON has no word for it."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "picture"


# --- sections ----------------------------------------------------------------------------------------------------------------------------


def _runs_section(tested: Mapping[str, Sequence[Tested]]) -> Section:
    rows = []
    for name, members in tested.items():
        for one in members:
            entry = one.entry
            rows.append(
                {
                    "model": name,
                    "run": one.folder.name,
                    "data": entry["dataset"] + (", zero-shot" if entry.get("zero_shot") else ""),
                    "split": entry.get("split", ""),
                    "seed": str(entry["seed"]),
                    "best epoch": entry.get("best_epoch"),
                    "seconds to fit": None if (seconds := fit_seconds(entry)) is None else round(seconds),
                    "users": entry["users"],
                    "how tested": entry["protocol"],
                }
            )
    notes = [note(f"{one.folder.name}: {one.note}.") for members in tested.values() for one in members if one.note]
    return Section("The runs", [table(rows, caption=FITTING), *notes])


def _set_sections(page: Page, models: Mapping[str, list[Tested]], title: str, rules: GroupRules, *, several: bool) -> dict[str, Any]:
    """Leaderboard, tests, popularity and curves of the models tested on one data set."""
    first = next(iter(models.values()))[0].entry
    keys = [key for metric in SHOWN if (key := key_of(first, metric))]
    if not keys:
        raise InputError(
            f"{next(iter(models.values()))[0].folder} holds none of {', '.join(SHOWN)}; test it again with the present version"
        )
    tested = [key for metric in TESTED if (key := key_of(first, metric))]
    whole = [group for group in GROUPS if any(group in whole_groups(one.entry) for members in models.values() for one in members)]
    rows = [row_of(name, members, keys, [group for group in GROUPS if group not in whole]) for name, members in models.items()]
    groups = [group for group in GROUPS if group != "cold_users" and any(group in row["groups"] for row in rows)]
    at = f", {title}" if several else ""
    mark = f"-{title}" if several else ""
    slim = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]  # the table of runs has them
    board = leaderboard_section(
        slim,
        tested,
        groups,
        protocol=_protocol(rows, first, rules, whole),
        title=f"Leaderboard{at}",
        kept=page.pictures,
        name=f"leaderboard{mark}",
    )
    right = {"model": "model", "of": "of", **{key: tag("div", bare(key), class_="number") for key in keys}}
    caption = "Means over seeds where a model has several runs, ± their standard deviation."
    extra = details("All numbers of the groups", table(_group_rows(rows, keys), right, caption=caption))
    page.sections.append(Section(board.title, [*board.body, extra]))
    tests: list[dict[str, Any]] = []
    if len(models) > 1:
        tests = paired_tests(models, groups, tested)
        page.sections.append(_tests_section(tests, next(iter(models)), first["protocol"], f"Paired tests{at}"))
    by_class = {name: frame for name, members in models.items() if (frame := mean_popularity(members)) is not None}
    if by_class:
        page.sections.append(popularity_section(by_class, rows, keys[0], title=f"Popularity{at}", kept=page.pictures, suffix=mark))
    curves = {name: [_curve(one.folder) for one in members] for name, members in models.items()}
    monitor = _monitor([run for runs_ in curves.values() for run in runs_])
    if monitor:
        page.sections.append(analysis_section(curves, monitor, title=f"How they learned{at}", kept=page.pictures, name=f"curves{mark}"))
    return {
        "dataset": first["dataset"],
        "split": first.get("split", ""),
        "protocol": first["protocol"],
        "data_hash": first["data_hash"],
        "groups": rules.describe(),
        "leaderboard": rows,
        "tests": tests,
        "by_popularity": {name: frame.to_dicts() for name, frame in by_class.items()},
    }


def _protocol(rows: Sequence[Mapping[str, Any]], first: Mapping[str, Any], rules: GroupRules, whole: Sequence[str]) -> str:
    sizes: Mapping[str, Mapping[str, int]] = next((row["group_sizes"] for row in rows if row["group_sizes"]), {})
    shown = ", ".join(
        f"{size['targets']:,} wanted {GROUP_NAMES[group]}" if group.endswith("items") else f"{size['users']:,} {GROUP_NAMES[group]}"
        for group, size in sizes.items()
    )
    text = f"{first['protocol']}, {first['users']:,} users; {rules.describe()}"
    text += f" ({shown})" if shown else ""
    names = ", ".join(GROUP_NAMES[group] for group in whole)
    return text + (f". Not shown apart, since all that was tested lies in them: {names}" if whole else "")


def _group_rows(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    flat = []
    for row in rows:
        parts = [("overall", row["test"], row["sd"])]
        parts += [(group, values, row["group_sd"][group]) for group, values in row["groups"].items()]
        for group, values, spread in parts:
            cells = {key: tag("div", number(values.get(key)), plus_minus(spread.get(key)), class_="number") for key in keys}
            flat.append({"model": row["model"], "of": GROUP_NAMES[group], **cells})
    return flat


def _tests_section(tests: Sequence[Mapping[str, Any]], first: str, protocol: str, title: str) -> Section:
    rows = [
        {
            "model": row["model"],
            "among": GROUP_NAMES[row["group"]],
            "metric": bare(row["metric"]),
            "difference": f"{row['difference']:+.4f}",
            "95 % interval": f"{row['interval95'][0]:+.4f}\u00a0to\u00a0{row['interval95'][1]:+.4f}",
            "relative": None if row["relative"] is None else f"{100 * row['relative']:+.0f}\u00a0%",
            "p": _p(row["p"]),
            "p, Holm": _p(row["p_holm"]),
            "users": row["n"],
        }
        for row in tests
    ]
    intro = (
        f"Each model against {first}, user by user ({protocol}): paired t test, seeds of a model averaged per user first, intervals by "
        f"bootstrap over users. Holm's correction is over all {len(rows)} tests of this part. Inside a group of items a user counts with "
        "the wanted items of that group."
    )
    main = rows[0]["metric"]
    others = [row for row in rows if row["metric"] != main]
    blocks: list[Any] = [paragraph(intro), table([row for row in rows if row["metric"] == main])]
    return Section(title, [*blocks, *([details("The other metric", table(others))] if others else [])])


def _p(value: float) -> str:
    text = "<\u00a01e-15" if value < 1e-15 else f"{value:.2g}"
    return text.replace("-", "\u2011")  # a hyphen that no line ends at


def _curve(folder: Path) -> Curve:
    """How a run learned: a second stage of its training goes on where the first ended, as its epochs are counted."""
    lines = read_lines(folder / "metrics.jsonl")
    last = lines[-1] if lines else {"epoch": 0, "seconds": 0.0}
    for line in read_lines(folder / "stage-2" / "metrics.jsonl"):
        lines.append({**line, "epoch": line["epoch"] + last["epoch"], "seconds": line["seconds"] + last["seconds"]})
    entry = read_json(folder / "result.json")
    monitor = (read_config(folder).get("training") or {}).get("monitor", TrainingOptions().monitor)
    return Curve(lines, entry.get("best_epoch"), monitor, entry.get("seed"))


def _monitor(runs_: Sequence[Curve]) -> str | None:
    """The validation metric by which most of the runs that have one chose their epoch."""
    counts = Counter(run.monitor for run in runs_ if any(run.monitor in line for line in run.lines))
    return counts.most_common(1)[0][0] if counts else None


def _again_section(tested: Mapping[str, Sequence[Tested]]) -> Section:
    made = [read_json(one.folder / "result.json").get("command") for members in tested.values() for one in members]
    commands = list(dict.fromkeys(command for command in made if command))  # one bench makes many runs
    settings = {name: (members[0].folder / "config.yaml").read_text(encoding="utf-8") for name, members in tested.items()}
    blocks: list[Any] = [paragraph("How the runs were made:"), code(commands)] if commands else []
    blocks += [details(f"Settings of {name}", code(text)) for name, text in settings.items()]
    blocks += [paragraph("This report:"), code(runs.own_command())]
    return Section("Run it again", blocks)


__all__ = ["report_runs"]
