"""The contrasts of views: numbers computed outside (numpy, float64), written into the specification."""

import pytest
import torch
from torch import Tensor

from lexirec.losses import soft_clip, soft_targets, symmetric_infonce

I2 = torch.eye(2)
X, Y = torch.tensor([[1.0, 0], [0, 2]]), torch.tensor([[0.5, 0.5], [1, 0]])


def near(value: Tensor, expected: float, tolerance: float = 2e-6) -> None:
    assert value.item() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("tau", "unit", "mixed"), [(1, 0.582203, 0.990264), (2, 0.533678, 0.857075), (3, 0.556114, 0.808090)])
def test_conformance_1_and_2(tau, unit, mixed):
    near(soft_clip(I2, I2, tau), unit)
    near(soft_clip(X, Y, tau), mixed)
    near(soft_clip(X, Y, torch.tensor(float(tau))), mixed)


def test_conformance_2_and_4_soft_targets():
    torch.testing.assert_close(soft_targets(X, Y, 2), torch.tensor([[0.731059, 0.268941], [0.010987, 0.989013]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(X @ Y.T / 2, torch.tensor([[0.25, 0.5], [0.5, 0.0]]))
    rows = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    found = soft_targets(rows, rows, 2)
    expected = [[0.468311, 0.468311, 0.063379], [0.468311, 0.468311, 0.063379], [0.106507, 0.106507, 0.786986]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("scale", "expected"), [(1, 0.556114), (2, 0.233971), (3, 0.048587), (4, 0.004816)])
def test_conformance_3_vectors_are_not_normalised(scale, expected):
    near(soft_clip(scale * I2, scale * I2, 3), expected)


def test_conformance_4_duplicates_share_the_target():
    rows = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    near(soft_clip(rows, rows, 2), 0.962453)
    logits = rows @ rows.T / 2
    near(torch.nn.functional.cross_entropy(logits, torch.arange(3)), 0.903472)


def test_conformance_5_order_matters():
    x, y = torch.tensor([[1.0, 0], [0, 1], [1, 1]]), torch.tensor([[0.5, 0], [0, 0.5], [0, 1]])
    near(soft_clip(x, y, 2), 1.051553)
    near(soft_clip(y, x, 2), 1.053652)
    near(0.01 * soft_clip(x, y, 2), 0.010516, 1e-6)


@pytest.mark.parametrize(("tau", "expected"), [(2, 0.474077), (1, 0.313262), (0.1, 4.54e-5)])
def test_conformance_6_infonce_by_cosine(tau, expected):
    near(symmetric_infonce(I2, I2, tau), expected)
    near(symmetric_infonce(7 * I2, 3 * I2, tau), expected)


def test_conformance_6_on_case_2():
    near(symmetric_infonce(X, Y, 1), 0.991157)
    near(symmetric_infonce(X, Y, 2), 0.830435)


def test_targets_and_temperature_get_gradients():
    x, y, tau = X.clone().requires_grad_(), Y.clone().requires_grad_(), torch.tensor(2.0, requires_grad=True)
    soft_clip(x, y, tau).backward()
    eps = 1e-3
    for tensor, place in ((x, (1, 1)), (y, (0, 1)), (tau, ())):
        moved = tensor.detach().clone()
        moved[place] += eps
        high = soft_clip(*(moved if t is tensor else t.detach() for t in (x, y, tau)))
        moved[place] -= 2 * eps
        low = soft_clip(*(moved if t is tensor else t.detach() for t in (x, y, tau)))
        assert tensor.grad is not None
        assert tensor.grad[place].item() == pytest.approx((high - low).item() / (2 * eps), rel=0.02)


def test_half_precision_comes_in_as_float32():
    big = 300 * torch.eye(3, dtype=torch.float16)  # the product, 90,000, is beyond float16
    assert torch.isfinite(soft_clip(big, big, 3.0))
    assert symmetric_infonce(big, big, 0.1).dtype == torch.float32
