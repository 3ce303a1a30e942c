"""Affine maps of text vectors."""

import numpy as np
import pytest

from lexirec.errors import InputError
from lexirec.text.reduce import fit_reduction


def vectors(n: int = 500) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((n, 6)) * [3.0, 1.0, 1.0, 0.5, 0.2, 0.1] + 5).astype(np.float32)


def test_none_is_no_map() -> None:
    assert fit_reduction(vectors(), "none") is None


@pytest.mark.parametrize("kind", ["center", "whiten", "pca"])
def test_columns_have_mean_0(kind: str) -> None:
    np.testing.assert_allclose(fit_reduction(vectors(), kind)(vectors()).mean(0), 0, atol=1e-4)


def test_whitening_gives_every_direction_the_same_variance_and_unit_rows() -> None:
    out = fit_reduction(vectors(), "whiten")(vectors())
    np.testing.assert_allclose(out.T @ out / len(out), np.eye(6) / 6, atol=2e-3)
    assert np.square(out).sum(1).mean() == pytest.approx(1.0, abs=1e-2)
    few = fit_reduction(vectors(4), "whiten")(vectors(4))  # fewer items than dimensions: the floor keeps noise from being blown up
    assert np.isfinite(few).all() and np.abs(few).max() < 10


def test_components_come_by_variance_and_keep_distances() -> None:
    x = vectors()
    out = fit_reduction(x, "pca", 6)(x)
    assert (np.diff(out.var(0)) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(out[0] - out[1]), np.linalg.norm(x[0] - x[1]), rtol=1e-4)
    np.testing.assert_allclose(fit_reduction(x, "pca", 2)(x), out[:, :2], atol=1e-5)


def test_random_projection_keeps_lengths_on_average() -> None:
    x = np.random.default_rng(1).standard_normal((200, 400)).astype(np.float32)
    reduction = fit_reduction(x, "random", 200, seed=3)
    assert reduction.dim == 200
    ratio = np.square(reduction(x)).sum(1) / np.square(x).sum(1)
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)
    assert np.array_equal(fit_reduction(x, "random", 200, seed=3)(x), reduction(x))


def test_too_many_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="7 dimensions are wanted"):
        fit_reduction(vectors(), "pca", 7)
    with pytest.raises(InputError, match="can't be fitted on 3 items"):
        fit_reduction(vectors(3), "pca", 5)


@pytest.mark.parametrize("n", [1, 50])
def test_whitening_of_vectors_that_are_all_the_same_is_refused(n: int) -> None:
    same = np.repeat(np.random.default_rng(0).standard_normal((1, 6)).astype(np.float32), n, axis=0)
    with pytest.raises(InputError, match=rf"all {n} items are the same.*text template.*transform='none'"):
        fit_reduction(same, "whiten")
    assert np.abs(fit_reduction(same, "center")(same)).max() < 1e-6
