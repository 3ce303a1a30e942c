"""A changed profile moves a person from one kind of items to another, with no training: the picture of docs/easyrec.md.

    python benchmarks/changed_taste.py --out docs/images/changed-taste.png

A small sports shop of invented products and 240 simulated shoppers, an EasyRec trained on it for twenty steps from `minilm`, and ten people
who are no shoppers of it: each has a profile of basketball, then one of swimming. Items and people of both times are drawn in one
t-SNE. The lists of the first person before and after are printed; the weights are compared bit by bit.
"""

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import torch

from lexirec.data.dataset import Dataset
from lexirec.files import atomic_file
from lexirec.models.easyrec import EasyRec
from lexirec.query import Query
from lexirec.report.plots import LIGHT
from lexirec.report.tsne import tsne
from lexirec.training.options import TrainingOptions

SPORTS = {
    "Basketball": ["Indoor Basketball", "Basketball Hoop", "Basketball Shoes", "Basketball Jersey", "Hoop Net", "Court Training Cones"],
    "Swimming": ["Swimming Goggles", "Swim Cap", "Swim Fins", "Pool Kickboard", "Swimming Trunks", "Nose Clip for the Pool"],
    "Cycling": ["Bicycle Helmet", "Bike Lock", "Cycling Gloves", "Road Bike Tyre", "Bicycle Chain", "Cycling Shorts"],
    "Running": ["Running Shoes", "Running Socks", "Running Belt", "Marathon Vest", "Reflective Running Jacket", "Runner's Watch"],
    "Yoga": ["Yoga Mat", "Yoga Block", "Yoga Leggings", "Meditation Cushion", "Stretching Strap", "Pilates Ring"],
    "Tennis": ["Tennis Racket", "Tennis Balls", "Tennis Skirt", "Racket Grip Tape", "Tennis Bag", "Clay Court Shoes"],
    "Climbing": ["Climbing Rope", "Climbing Harness", "Chalk Bag", "Carabiner Set", "Bouldering Pad", "Climbing Shoes"],
}
BRANDS = ("Rallyhouse", "Peakline", "Fleetfoot", "Aquavane")
LEVELS = ("for Beginners", "for Clubs", "for Professionals")
PEOPLE = {
    "A basketball fan who collects jerseys and basketball shoes.": "Has taken up swimming and spends every morning in the pool.",
    "Follows every game of the league and plays indoor basketball with friends.": "Trains laps for a race; needs goggles and a cap.",
    "Shoots hoops in the yard each evening.": "Swims with the children at the weekend and looks for fins and a kickboard.",
    "Coach of a school's basketball team, always short of balls and cones.": "Gives swimming lessons, with kickboards in all sizes.",
    "Wants a new hoop and a net for the driveway.": "Wants trunks and a nose clip for the pool.",
    "Point guard of an amateur club, hard on shoes.": "Long-distance swimmer in open water, picky about goggles.",
    "Grandfather of three young basketball players.": "Does water gymnastics since the operation and swims a little.",
    "Watches professional basketball and buys the jerseys of the players.": "Joined the swim club and likes bright swim caps.",
    "Plays three against three on the street court.": "Dives and snorkels on holiday, with fins.",
    "Practises free throws and dribbling with an indoor ball.": "Practises the butterfly stroke twice a week at the pool.",
}
"""Profile before and after."""
PERPLEXITY, SEED = 20.0, 7


def shop() -> Dataset:
    """Seven sports of eighteen items; each shopper buys seven things, most of them of one sport."""
    rng = np.random.default_rng(SEED)
    names = [(sport, thing, level) for sport, things in SPORTS.items() for thing, level in product(things, LEVELS)]
    items = pl.DataFrame(
        {
            "item_id": [f"i{n:03}" for n in range(len(names))],
            "title": [f"{rng.choice(BRANDS)} {thing} {level}" for _, thing, level in names],
            "categories": [[sport] for sport, _, _ in names],
        }
    )
    sport_of = np.array([list(SPORTS).index(sport) for sport, _, _ in names])
    rows = []
    for user in range(240):
        weight = np.where(sport_of == user % len(SPORTS), 12.0, 1.0)
        bought = rng.choice(len(names), 7, replace=False, p=weight / weight.sum())
        rows += [(f"u{user:03}", f"i{item:03}", at) for at, item in enumerate(bought)]
    return Dataset(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"), items, name="sports shop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    data = shop()
    began = time.process_time()
    model = EasyRec(steps=args.steps, batch_size=48, lr=1e-4, person="others", mlm_weight=0.0, frozen_layers=3, max_length=48)
    options = TrainingOptions(progress=False, threads=args.threads, seed=SEED, device="cpu")
    model.fit(data.train_set(), options=options)
    print(f"{args.steps} steps of training: {time.process_time() - began:.0f} s of processor time")

    weights = [parameter.clone() for parameter in model.network.parameters()]
    first, second = list(PEOPLE), list(PEOPLE.values())
    for text in (first[0], second[0]):
        answer = model.recommend(Query(profile=text), k=5).join(data.items, on="item_id", how="left", maintain_order="left")
        print(f"\n{text}\n    " + "\n    ".join(answer["title"]))
    for texts, sport in ((first, "Basketball"), (second, "Swimming")):
        lists = model.recommend([Query(profile=text) for text in texts], k=10).join(data.items, on="item_id", how="left")
        share = lists.select((pl.col("categories").list.first() == sport).mean()).item()
        print(f"{sport} among the first ten of the ten people: {share:.0%}")
    items = model.encode_items().numpy()
    people = [model.encode_texts(texts).numpy() for texts in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(weights, model.network.parameters(), strict=True))

    places = tsne(np.concatenate([items, *people]), PERPLEXITY, SEED)
    draw(args.out, data.items["categories"].list.first().to_list(), *np.split(places, [len(items), len(items) + len(first)]))


def draw(out: Path, sports: list[str], items: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    """Items by sport, people at both times, and an arrow for each of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8.4, 5.8), dpi=130, layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.add_subplot()
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_axis_off()
    axes.margins(0.1)
    label = {"fontsize": 11, "fontweight": "bold", "ha": "center", "va": "center", "zorder": 6}
    people = np.concatenate([before, after])
    gap = 0.05 * np.ptp(items, axis=0).max()
    for colour, sport in zip(LIGHT.series, SPORTS, strict=False):
        own = items[[name == sport for name in sports]]
        axes.scatter(*own.T, s=26, color=colour, alpha=0.75, linewidths=0)
        # The name stands above or below its items, where it is farther from the people.
        x = np.median(own[:, 0])
        sides = own[:, 1].max() + gap, own[:, 1].min() - gap
        y = max(sides, key=lambda side: np.linalg.norm(people - [x, side], axis=1).min())
        axes.text(x, y, sport, color=colour, **label)
    for start, end in zip(before, after, strict=True):
        curve = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=0.15", "color": LIGHT.soft, "alpha": 0.55, "shrinkA": 5, "shrinkB": 5}
        axes.annotate("", end, start, arrowprops=curve, zorder=3)
    marks = {"s": 70, "edgecolors": LIGHT.ground, "linewidths": 0.8, "zorder": 5}
    axes.scatter(*before.T, marker="^", color=LIGHT.ink, label="people by their basketball profile", **marks)
    axes.scatter(*after.T, marker="s", color=LIGHT.ink, label="the same people by their swimming profile", **marks)
    picture.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10, labelcolor=LIGHT.ink)
    how = f"t-SNE (openTSNE, perplexity {PERPLEXITY:g}, seed {SEED})"
    axes.set_title(
        f"Items and people of a simulated sports shop, {how}; same weights before and after", fontsize=9.5, color=LIGHT.soft, loc="left"
    )
    with atomic_file(out) as file:
        picture.savefig(file, format="png", facecolor=LIGHT.ground, metadata={"Software": None})
    print(f"\n{out}: {out.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
