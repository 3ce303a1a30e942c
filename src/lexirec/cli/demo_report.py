"""The page that ``lexirec demo`` leaves: what is specific to the simulated shop; the parts are :mod:`lexirec.report.sections`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexirec.report import Section, write_report
from lexirec.report.html import Markup, tiles
from lexirec.report.sections import analysis_section, data_section, leaderboard_section, recommendations_section, reproduce_section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lexirec.data.dataset import TrainSet
    from lexirec.report.plots import Curve

TITLE = "A recommender from words and a log"
SUBTITLE = (
    "Popularity, LightGCN and AlphaRec on lexirec's built-in simulated shop: from titles and a purchase log to recommendations, "
    "with reasons."
)
INTRO = (
    "Three models learned from the same simulated log of {events:,} purchases. Popularity knows counts, LightGCN who bought what, and "
    "AlphaRec reads the titles too: the bundled encoder turns each into a vector once, and a small projector learns from the log what in "
    "these vectors matters."
)
ABOUT = (
    "A generator made up the catalogue, the shoppers' tastes and the purchases. Most of a taste can be read from titles (product type, "
    "brand, style, colour); popularity and a hidden affinity can only be learned from the log."
)
ASKED = "AlphaRec's answers. The shopper is the first with enough purchases, not the one with the best-looking list."


def write_demo_report(
    path: Path,
    summary: Mapping[str, Any],
    curves: Mapping[str, Sequence["Curve"]],
    classes: Mapping[str, Sequence[float]],
    train: "TrainSet",
    vectors: "NDArray[np.floating]",
    *,
    metrics: Sequence[str],
    groups: Sequence[str],
    commands: Sequence[str],
    settings: str,
) -> None:
    """Write the demo's report.

    Args:
        path: file to write.
        summary: what ``demo.json`` holds.
        curves: for each model its runs.
        classes: for each model the first metric by popularity class of the wanted item.
        train: training part, for the long tail and the map.
        vectors: item vectors of the encoder, ``(I, D)``.
        metrics: columns of the leaderboard; the first is the one that is drawn.
        groups: groups of items in the leaderboard.
        commands: how to run it again and what to try next.
        settings: of the models, as YAML.
    """
    examples = train.items.head(8).select("item_id", "title", "brand", "categories", "price").to_dicts()
    examples = [{**item, "categories": item["categories"][0], "price": f"{item['price']:.2f}"} for item in examples]
    departments = train.items["department"].to_list()
    sections = [
        Section("In short", [INTRO.format(events=summary["shop"]["train_events"]), _headline(summary, metrics[0])], simulated=True),
        leaderboard_section(summary["leaderboard"], metrics, groups, protocol=summary["protocol"], simulated=True),
        analysis_section(curves, metrics[0], classes, metrics[0], simulated=True),
        recommendations_section(summary["answers"], intro=ASKED, simulated=True),
        data_section(_facts(summary["shop"]), train.popularity, vectors, departments, examples, simulated=True, intro=ABOUT),
        reproduce_section(commands, summary["versions"] | {"device": summary["device"]}, settings),
    ]
    footer = f"lexirec {summary['versions'].get('lexirec', '')}"
    write_report(path, TITLE, sections, subtitle=SUBTITLE, footer=footer, simulated=True)


def _headline(summary: Mapping[str, Any], metric: str) -> Markup:
    rows = {row["model"]: row for row in summary["leaderboard"]}
    alpha, light, popular = rows["AlphaRec"], rows["LightGCN"], rows["Popularity"]

    def inside(row: Mapping[str, Any], group: str) -> float:
        return float(row["groups"].get(group, {}).get(metric, 0.0))

    others = f"LightGCN {light['test'][metric]:.3f}, Popularity {popular['test'][metric]:.3f}"
    cold = f"LightGCN {inside(light, 'cold_items'):.3f}: it knows an item by its sales alone"
    machine = f"{summary['device']}, peak {summary['peak_memory_mb']:,} MB"
    return tiles(
        [
            (f"{alpha['test'][metric]:.3f}", f"AlphaRec, {metric}", others),
            (f"{inside(alpha, 'tail_items'):.3f}", f"AlphaRec, {metric} on tail items", f"LightGCN {inside(light, 'tail_items'):.3f}"),
            (f"{inside(alpha, 'cold_items'):.3f}", f"AlphaRec, {metric} on cold items", cold),
            (f"{summary['seconds']['total']:.0f} s", "from nothing to this page", machine),
        ]
    )


def _facts(shop: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "items": shop["items"],
        "brand-new items": shop["brand_new_items"],
        "other items never sold in train": shop["never_bought_items"],
        "shoppers": shop["shoppers"],
        "events in train": shop["train_events"],
        "events in validation": shop["valid_events"],
        "events in test": shop["test_events"],
        "density of train": f"{shop['train_events'] / shop['items'] / shop['shoppers']:.3%}",
        "order dial": f"{shop['order']:g} of 1",
        "seed": shop["seed"],
    }
