import numpy as np
import pytest

from lexirec.errors import InputError, MissingExtraError
from lexirec.report import plots

pytest.importorskip("matplotlib", reason="plots need the extra 'plot'")

ROWS = [
    {
        "model": "a",
        "test": {"recall@20": 0.1},
        "interval95_users": {"recall@20": [0.08, 0.12]},
        "groups": {"tail_items": {"recall@20": 0.0}},
    },
    {"model": "b", "test": {"recall@20": 0.2}},
]
LINES = [{"epoch": e, "seconds": float(e), "recall@20": 0.1 * e, "ndcg@20": 0.3 - 0.1 * e} for e in range(1, 4)]
CURVES = {"none": [plots.Curve([])], "a": [plots.Curve(LINES, best_epoch=2)]}


def drawn(pair):
    assert len(pair) == 2
    assert pair[0] != pair[1]
    for picture in pair:
        assert picture.startswith(b"\x89PNG")
        assert 2_000 < len(picture) < 1_500_000
    return pair


def test_each_plot_is_drawn_for_light_and_dark():
    drawn(plots.leaderboard_bars(ROWS, "recall@20", ["tail_items"]))
    drawn(plots.learning_curves(CURVES, "recall@20"))
    drawn(plots.learning_curves(CURVES, "recall@20", over="epoch"))
    drawn(plots.long_tail(np.array([9, 5, 1, 0, 0])))
    drawn(plots.deciles({"a": [0.1, float("nan"), 0.3]}, "recall@20"))
    rng = np.random.default_rng(0)
    drawn(plots.item_map(rng.normal(size=(50, 8)), [f"kind {i % 15}" for i in range(50)]))


@pytest.fixture
def axes(monkeypatch):
    """Draws a plot's light picture and gives what is on it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def shown(call, *arguments, **options):
        made = []

        def draw(paint, width, height):
            figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
            FigureCanvasAgg(figure)
            made.append(figure.add_subplot())
            paint(made[0], plots.LIGHT)
            figure.canvas.draw()

        monkeypatch.setattr(plots, "_draw", draw)
        call(*arguments, **options)
        return made[0]

    return shown


def rings(axes):
    return [
        (line.get_xdata()[0], line.get_ydata()[0], line.get_markeredgecolor())
        for line in axes.lines
        if line.get_markerfacecolor() == "none"
    ]


def test_rings_mark_the_epochs_that_were_kept(axes):
    shown = axes(plots.learning_curves, CURVES, "recall@20", over="epoch")
    assert [ring[:2] for ring in rings(shown)] == [(2, pytest.approx(0.2))]  # not the top of the curve
    assert not rings(axes(plots.learning_curves, {"a": [plots.Curve(LINES)]}, "recall@20"))
    losses = [{"epoch": e, "seconds": float(e), "-loss": -1.0 / e} for e in range(1, 4)]
    shown = axes(plots.learning_curves, {"a": [plots.Curve(losses, best_epoch=3)]}, "-loss")
    assert shown.get_ylim()[0] < -1  # a value below zero is in the picture


def test_all_seeds_are_drawn_in_one_colour(axes):
    runs = {"one": [plots.Curve(LINES, 3)], "two": [plots.Curve(LINES[:n], n, seed=n) for n in (1, 2, 3)]}
    shown = axes(plots.learning_curves, runs, "ndcg@20")
    lines = [line for line in shown.lines if line.get_markerfacecolor() != "none"]
    assert len(lines) == 4
    assert len({line.get_color() for line in lines[1:]}) == 1 and lines[0].get_color() != lines[1].get_color()
    assert lines[1].get_linewidth() < lines[0].get_linewidth()
    assert [text.get_text() for text in shown.get_legend().get_texts()] == ["one", "two"]
    assert [ring[0] for ring in rings(shown)] == [3, 1, 2, 3]
    assert [ring[2] for ring in rings(shown)] == [line.get_color() for line in lines]


@pytest.mark.parametrize("n", [2, 4, 8])
def test_labels_of_bars_do_not_overlap(axes, n):
    groups = ["head_items", "tail_items", "long_users", "short_users"]
    rows = [
        {
            "model": f"model {k}",
            "test": {"ndcg@10": 0.19},
            "interval95_users": {"ndcg@10": [0.17, 0.22]},
            "groups": {group: {"ndcg@10": 0.0 if k % 2 else 0.0004} for group in groups},
        }
        for k in range(n)
    ]
    shown = axes(plots.leaderboard_bars, rows, "ndcg@10", groups)
    boxes = [text.get_window_extent() for text in shown.texts]
    assert len(boxes) == 5 * n
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    legend = shown.get_legend().get_window_extent()
    assert not [box for box in boxes if legend.overlaps(box)]


def test_the_shares_say_how_many_classes_there_are(axes):
    shown = axes(plots.shares, {"a": [0.5, 0.3, 0.2]}, {"share of training events": [0.2, 0.3, 0.5]}, ["0", "1–4", "5–9"])
    assert shown.get_xlabel() == "training events of the items, 3 classes, rarest first"


def test_same_data_same_file():
    first, again = (plots.leaderboard_bars(ROWS, "recall@20") for _ in range(2))
    assert first == again


def test_no_global_state():
    import sys

    before = set(sys.modules)
    plots.long_tail(np.array([3, 1]))
    assert "matplotlib.pyplot" not in set(sys.modules) - before


def test_map_of_many_items_is_thinned():
    rng = np.random.default_rng(0)
    drawn(plots.item_map(rng.normal(size=(plots.MAX_POINTS + 500, 2)), ["x"] * (plots.MAX_POINTS + 500)))


def test_pca_finds_the_wide_direction():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    points = rng.normal(size=(400, 6)) * np.array([9, 4, 1, 0.1, 0.1, 0.1]) @ basis.T
    place = plots.pca(points)
    assert place.shape == (400, 2)
    centred = points - points.mean(0)
    assert np.allclose(np.abs(place), np.abs(np.linalg.svd(centred, full_matrices=False)[0][:, :2] * np.linalg.svd(centred)[1][:2]))
    assert abs(np.corrcoef(place.T)[0, 1]) < 1e-6
    assert np.array_equal(place, plots.pca(points))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.leaderboard_bars(ROWS, "ndcg@5"), "holds 'ndcg@5'; the first holds"),
        (lambda: plots.learning_curves(CURVES, "hr@1"), "no line of the training curves holds 'hr@1'"),
        (lambda: plots.long_tail(np.zeros(3, dtype=int)), "no item has an event"),
        (lambda: plots.deciles({"a": [1.0], "b": [1.0, 2.0]}, "m"), r"the models have \[1, 2\] values"),
        (lambda: plots.deciles({}, "m"), r"the models have \[\] values"),
        (lambda: plots.item_map(np.zeros((5, 3)), ["a"]), "5 vectors and 1 labels"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_missing_extra_is_named(monkeypatch):
    def missing(module, extra):
        raise MissingExtraError(f"{module} is not installed; it comes with an extra: pip install 'lexirec[{extra}]'")

    monkeypatch.setattr(plots, "require", missing)
    with pytest.raises(MissingExtraError, match=r"lexirec\[plot\]"):
        plots.long_tail(np.array([1]))
