"""The part of a report that shows the item vectors: t-SNE coloured by training popularity, to be zoomed and asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec import runs
from lexirec.errors import InputError, MissingExtraError
from lexirec.evaluation.popularity import popularity_classes
from lexirec.models.contract import Recommender
from lexirec.progress import track
from lexirec.report import plots
from lexirec.report.html import Section, note, number, paragraph, tag
from lexirec.report.interactive import map_items, point_map
from lexirec.report.sections import plot_or_note
from lexirec.report.tested import class_names
from lexirec.report.tsne import MAX_ITEMS, PERPLEXITY, SEED, draw_items, popularity_of_neighbours, tsne


@dataclass(frozen=True)
class MapOptions:
    """How maps are drawn: at most so many items, perplexity and seed of t-SNE (the seed draws the items too)."""

    items: int = MAX_ITEMS
    perplexity: float = PERPLEXITY
    seed: int = SEED

    def __post_init__(self) -> None:
        if self.items < 10 or self.perplexity < 1:
            raise InputError(
                f"a map of {self.items} items with perplexity {self.perplexity:g} can't be drawn; give at least 10 items and perplexity 1"
            )


def map_section(
    folders: Mapping[str, Path], options: MapOptions, *, kept: dict[str, bytes] | None = None, progress: bool = False
) -> tuple[Section, list[dict[str, Any]]]:
    """t-SNE of the item vectors of each model, coloured by training popularity.

    Args:
        folders: model -> its run; every run is checked and loaded.
        options: how the maps are drawn.
        kept: the pictures are put here as ``map-<model>``.
        progress: a bar on stderr.

    Returns:
        The section, and for each map what it was drawn of.
    """
    intro = (
        f"t-SNE (openTSNE, perplexity {options.perplexity:g}, seed {options.seed}) of the item vectors with which each model ranks, "
        f"brought to length 1; at most {options.items:,} items, drawn by the same seed. Of several seeds of a model the first run is "
        "shown; the line below a map names it. Colour: training events, in the classes of the legend. Distances between far groups mean "
        "little in such a map, and its empty space nothing; the number above a map is measured on the vectors themselves. Point at an "
        "item for its title. The buttons, a double click, or the wheel with Ctrl zoom; the class buttons hide."
    )
    blocks: list[Any] = []
    done: list[dict[str, Any]] = []
    without: list[str] = []
    written: dict[str, str] = {}
    for name, folder in track(list(folders.items()), "maps", len(folders), progress):
        model, _, entry = runs.load_run(folder)
        vectors = model.encode_items().detach().float().cpu().numpy() if model.vector_scores else np.zeros((0, 0))
        if vectors.shape[1] < 3 or len(vectors) < 10:
            without.append(name)
            continue
        try:
            blocks += _one_map(name, folder.name, model, vectors, str(entry["data_hash"]), options, kept, written, done)
        except MissingExtraError as error:
            return Section("Maps of the item vectors", [note(f"The maps are left out: {error}.")]), done
    if done:
        blocks.insert(0, paragraph(intro))
    if without:
        blocks.append(paragraph(f"No map: {', '.join(without)} (no item vectors, or fewer than 10 items or 3 dimensions)."))
    return Section("Maps of the item vectors", blocks), done


def _one_map(
    name: str,
    run: str,
    model: Recommender,
    vectors: NDArray[np.floating],
    catalogue: str,
    options: MapOptions,
    kept: dict[str, bytes] | None,
    written: dict[str, str],
    done: list[dict[str, Any]],
) -> list[Any]:
    """One map; ``written`` holds the catalogues whose titles are in the page already."""
    chosen = draw_items(len(vectors), options.items, options.seed)
    popularity = model.popularity
    classes = popularity_classes(popularity)
    here = vectors[chosen]
    near = min(options.perplexity, (len(here) - 1) / 3)
    places = tsne(here, options.perplexity, options.seed)
    likeness = popularity_of_neighbours(here, popularity[chosen])
    inside = [k for k in range(10) if (classes == k).any()]
    legend = dict(
        zip(
            inside,
            class_names([int(popularity[classes == k].min()) for k in inside], [int(popularity[classes == k].max()) for k in inside]),
            strict=True,
        )
    )
    how = (
        f"{name}, run {run}: t-SNE of {len(chosen):,} of {len(vectors):,} items, {vectors.shape[1]} dimensions, perplexity {near:g}, "
        f"seed {options.seed}"
    )
    label = f"map of the item vectors of {name} by t-SNE, coloured by training events"
    still = plot_or_note(plots.class_map, places, classes[chosen], legend, how, alt=label, kept=kept, name=f"map-{name}")
    blocks: list[Any] = [tag("h3", name)]
    if catalogue not in written:
        written[catalogue] = f"items-{len(written)}"
        names = pl.col(c.ITEM_ID) if "title" not in model.items.columns else pl.coalesce("title", c.ITEM_ID)
        shown = model.items.select(names.alias("name"))["name"].gather(pl.Series(chosen)).to_list()
        blocks.append(map_items(written[catalogue], shown, popularity[chosen], classes[chosen]))
    blocks += [
        paragraph(f"Popularity of an item against that of its 10 nearest items: rank correlation {number(likeness, 2)} (0: none)."),
        point_map(f"places-{len(done)}", written[catalogue], places, legend, still, label=label, caption=f"{how}."),
    ]
    drawn = {"items": len(chosen), "of": len(vectors), "dimensions": vectors.shape[1], "perplexity": near, "seed": options.seed}
    done.append({"model": name, "run": run, **drawn, "popularity_of_neighbours": likeness})
    return blocks
