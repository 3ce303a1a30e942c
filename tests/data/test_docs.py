"""The page on your own data: its first example runs, and it names every format, split and rule."""

import re
from pathlib import Path

import polars as pl
import pytest

from lexirec.data import FORMATS, SPLITS
from lexirec.data.filters import CORE_MODES, DUPLICATE_RULES

PAGE = Path(__file__).parents[2] / "docs" / "your-own-data.md"


@pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")
def test_first_example_runs():
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    events = pl.DataFrame({"customer": ["u"] * 5 + ["v"] * 5, "item_id": list("abcde") * 2, "timestamp": range(10)})
    products = pl.DataFrame({"item_id": list("abcde"), "product_name": list("ABCDE")})
    names: dict = {"events": events, "products": products}
    exec(code, names)
    assert (names["split"].train.n_interactions, len(names["split"].test)) == (8, 2)


def test_page_names_everything():
    text = PAGE.read_text(encoding="utf-8")
    for name in [*(set(FORMATS) - {"folder", "file"}), *SPLITS, *DUPLICATE_RULES]:
        assert f"`{name}`" in text, name
    for mode in CORE_MODES:
        assert mode in text
