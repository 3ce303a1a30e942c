import re

import numpy as np
import polars as pl
import pytest

from lexirec.report import plots
from lexirec.report.html import render
from lexirec.report.popularity import popularity_section
from tests.report.test_html import PNG


@pytest.fixture
def page(monkeypatch):
    """The section of a log where three of ten classes hold items: the first, the fifth and the last."""
    drawn = []
    monkeypatch.setattr(plots, "deciles", lambda *_: (PNG, PNG))
    monkeypatch.setattr(plots, "shares", lambda *_: drawn.append(_) or (PNG, PNG))
    n_items = np.array([6, 0, 0, 0, 2, 0, 0, 0, 0, 2])
    filled = n_items > 0
    frame = pl.DataFrame(
        {
            "class": np.arange(1, 11),
            "least": [0 if k == 0 else 1 if k == 4 else 5 if k == 9 else None for k in range(10)],
            "most": [0 if k == 0 else 1 if k == 4 else 9 if k == 9 else None for k in range(10)],
            "n_items": n_items,
            "n_users": 3 * filled,
            "n_targets": 3 * filled,
            "ndcg@10": 0.1 * filled,
            "ndcg@10 se": 0.01 * filled,
            "share_items": n_items / 10,
            "share_events": np.where(np.arange(10) == 4, 0.125, np.where(np.arange(10) == 9, 0.875, 0)),
            "share_targets": filled / 3,
            "share_lists": np.where(np.arange(10) == 9, 1.0, 0.0),
        }
    )
    shown = render("t", [popularity_section({"popularity": frame}, [{"model": "popularity", "test": {}}], "ndcg@10")])
    assert len(drawn) == 1
    return shown


def test_the_classes_keep_their_names_beside_their_shares(page):
    table = page.split("Numbers of the classes")[1]
    assert re.findall(r'<th scope="col".*?>(.*?)</th>', table) == [
        "training events", "items", "wanted", "ndcg@10", "share of training events", "share of wanted items", "share of recommendations",
    ]  # fmt: skip
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == ["0", "1", "5–9"]
    assert "12.5\u00a0%" in table


def test_the_text_counts_the_classes_that_are_there(page):
    assert "3 classes of 2 to 6 items" in page
    assert not re.search("ten classes|five classes", page, re.IGNORECASE)
    assert "Rarer half of the items: those with at most 1 training event." in page
    assert "80.0\u00a0%" in page.split("(share of items)")[1]
