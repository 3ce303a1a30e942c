"""Unknown ids among those to be left out."""

import polars as pl

from lexirec.data.dataset import Dataset
from lexirec.models.popularity import Popularity


def test_an_unknown_id_that_is_excluded_takes_no_known_item_away():
    log = pl.DataFrame({"user_id": ["u", "v", "v"], "item_id": ["a", "a", "b"], "timestamp": [1, 2, 3]})
    data = Dataset(log, pl.DataFrame({"item_id": list("abc"), "title": list("ABC")}))
    found = Popularity().fit(data.train_set()).recommend("u", exclude=["nobody", "b"])
    assert found["item_id"].to_list() == ["c"]
