import numpy as np
import pytest

from lexirec.errors import InputError, MissingExtraError
from lexirec.report import tsne as module
from lexirec.report.tsne import draw_items, popularity_of_neighbours, tsne, unit_rows


def clouds(n=60, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 3
    return rng.normal(size=(3, dim))[kinds] * 5 + rng.normal(size=(n, dim)), kinds


def test_neighbours_stay_neighbours_and_the_seed_decides():
    pytest.importorskip("openTSNE", reason="t-SNE needs the extra 'plot'")
    vectors, kinds = clouds()
    places = tsne(vectors, perplexity=10, seed=1)
    assert places.shape == (60, 2)
    distance = ((places[:, None] - places[None]) ** 2).sum(-1) + np.eye(60) * 1e9
    assert (kinds[distance.argmin(1)] == kinds).mean() > 0.95
    assert np.array_equal(places, tsne(vectors, perplexity=10, seed=1))
    # length plays no role, and a perplexity too large for few items is lowered
    scaled = tsne(vectors * np.linspace(1, 9, 60)[:, None], perplexity=10, seed=1)
    assert np.allclose(scaled, places, atol=1e-6)
    assert np.isfinite(tsne(vectors[:12], perplexity=30)).all()


def test_zero_rows_stay_zero():
    assert unit_rows(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0, 0], [0.6, 0.8]]


def test_items_are_drawn_once_and_by_seed():
    drawn = draw_items(100, 30, seed=3)
    assert len(set(drawn.tolist())) == 30
    assert np.array_equal(drawn, draw_items(100, 30, seed=3))
    assert not np.array_equal(drawn, draw_items(100, 30, seed=4))
    assert sorted(draw_items(7, 30)) == list(range(7))


def test_popularity_that_can_be_read_off_the_vectors():
    rng = np.random.default_rng(0)
    popularity = np.arange(400)
    angle = popularity / 400 * np.pi
    told = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert popularity_of_neighbours(told, popularity) > 0.99
    assert abs(popularity_of_neighbours(rng.normal(size=(400, 16)), popularity)) < 0.2
    assert np.isnan(popularity_of_neighbours(told, np.full(400, 2)))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((5, 8)), r"shape \(5, 8\); a map by t-SNE needs at least 10 items of 3 dimensions"),
        (np.zeros((50, 1)), r"shape \(50, 1\)"),
        (np.full((50, 4), np.nan), "50 of 50 vectors hold NaN or infinity"),
    ],
)
def test_what_has_no_map(vectors, message):
    with pytest.raises(InputError, match=message):
        tsne(vectors)


def test_missing_extra_is_named(monkeypatch):
    def missing(name, extra):
        raise MissingExtraError(f"{name} is not installed; pip install 'lexirec[{extra}]'")

    monkeypatch.setattr(module, "require", missing)
    with pytest.raises(MissingExtraError, match=r"openTSNE is not installed; pip install 'lexirec\[plot\]'"):
        tsne(clouds()[0])
