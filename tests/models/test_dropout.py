"""Dropout by 16 random bits: what it must have in common with the library's."""

import pytest
import torch

from lexirec.models.layers.dropout import dropout


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9, 0.99999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_scale(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n = 1_000_003  # not a multiple of the four that share a draw
    found = dropout(torch.ones(n, dtype=dtype), p)
    assert found.dtype == dtype and len(found.unique()) <= 2
    kept = (found != 0).double().mean().item()
    assert kept == pytest.approx(1 - p, abs=5 * (p * (1 - p) / n) ** 0.5 + 1 / 65536)
    assert found.max().item() == pytest.approx(
        65536 / (65536 - min(round(p * 65536), 65535)), rel=5e-3 if dtype == torch.bfloat16 else 1e-6
    )


def test_neighbours_are_independent() -> None:
    torch.manual_seed(1)
    kept = (dropout(torch.ones(400_000), 0.5) != 0).double() - 0.5
    for distance in (1, 2, 3, 4, 5):  # four neighbours share a draw
        assert abs((kept[distance:] * kept[:-distance]).mean().item()) < 0.25 * 5 / 400_000**0.5


def test_gradient_is_that_of_the_mask_and_shapes_are_kept() -> None:
    rows = torch.randn(3, 4, 5).transpose(0, 2).requires_grad_()  # not contiguous
    found = dropout(rows, 0.3)
    found.sum().backward()
    assert found.shape == rows.shape and rows.grad is not None
    torch.testing.assert_close(found.detach(), rows.detach() * rows.grad)
    assert 0 < (rows.grad == 0).sum() < rows.numel()
    assert dropout(torch.ones(0, 4), 0.3).shape == (0, 4)


def test_nothing_is_drawn_where_nothing_is_dropped() -> None:
    rows = torch.randn(4)
    torch.manual_seed(2)
    assert dropout(rows, 0.0) is rows and dropout(rows, 0.5, training=False) is rows
    left = torch.rand(1)
    torch.manual_seed(2)
    assert torch.equal(left, torch.rand(1))


def test_the_seed_decides() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return dropout(torch.ones(100), 0.5)

    assert torch.equal(drawn(3), drawn(3)) and not torch.equal(drawn(3), drawn(4))
