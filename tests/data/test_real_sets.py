"""The sets of the results: their counts as docs/data-sets.md has them, and AlphaRec's own split; needs their folder in LEXIREC_DATA."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from lexirec.data import describe, interacted_only, read_dataset, split_dataset

ROOT = Path(os.environ.get("LEXIREC_DATA", "/nowhere"))
PAGE = Path(__file__).parents[2] / "docs" / "data-sets.md"
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| (\d+) \| (\d+)(?: \(\+(\d+)\))? \| (\d+) \| ([\d.]+) \| (\d+) \|", re.MULTILINE)
SETS = ROW.findall(PAGE.read_text(encoding="utf-8"))
pytestmark = pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")


def needs(name):
    return pytest.mark.skipif(not (ROOT / name).is_dir(), reason=f"LEXIREC_DATA does not name a folder with {name}")


def test_the_page_names_every_set_of_the_results():
    assert len(SETS) == 14
    results = {path.name for path in (PAGE.parents[1] / "benchmarks" / "results").iterdir()}
    assert {name for name in results if name.startswith(("amazon", "movielens", "steam", "yelp"))} <= {row[0] for row in SETS}


@pytest.mark.parametrize("row", [pytest.param(row, marks=needs(row[0]), id=row[0]) for row in SETS])
def test_counts_equal_the_page(row):
    name, users, items, extra, interactions, mean, repeats = row
    facts = describe(read_dataset(ROOT / name))
    assert facts["users"] == int(users)
    assert facts["items_with_interactions"] == int(items)
    assert facts["items"] == int(items) + int(extra or 0)
    assert facts["interactions"] == int(interactions)
    assert facts["user_length"]["mean"] == pytest.approx(float(mean), abs=0.0051)
    assert facts["repeated_pairs"] == int(repeats)


@needs("movielens_1m")
def test_movielens_given_split_is_alpharecs_own():
    split = split_dataset(read_dataset(ROOT / "movielens_1m"), "given:split_alpharec")
    train = np.diff(split.train.offsets)
    valid, test = (np.bincount(part.user_index, minlength=split.train.n_users) for part in (split.valid, split.test))
    n = train + valid + test
    assert (split.train.n_users, split.train.n_items, int(n.sum())) == (6040, 3043, 995_492)
    assert np.array_equal(train, np.rint(0.4 * n))
    assert np.array_equal(valid, np.rint(0.5 * (n - train)))
    # Lists are random, not chronological: mean item popularity is equal over the parts (819.96 / 820.27 / 819.95).
    popularity = np.bincount(np.concatenate([split.train.item_index, split.valid.item_index, split.test.item_index]))
    means = [popularity[part.item_index].mean() for part in (split.train, split.valid, split.test)]
    assert means == pytest.approx([819.96, 820.27, 819.95], abs=0.006)


@needs("amazon2014_beauty")
def test_beauty_ratio_split():
    data = read_dataset(ROOT / "amazon2014_beauty")
    assert interacted_only(data) is data
    split = split_dataset(data, "ratio")
    lengths = np.diff(data.offsets)
    left = np.maximum(np.floor(0.8 * lengths), 1)
    right = np.maximum(np.floor(0.9 * lengths), left)
    assert np.array_equal(np.diff(split.train.offsets), left)
    assert np.array_equal(np.bincount(split.valid.user_index, minlength=22363), right - left)
    assert np.array_equal(np.bincount(split.test.user_index, minlength=22363), lengths - right)
    assert split.train.n_interactions + len(split.valid) + len(split.test) == 198_502
