"""Linear layers whose bfloat16 products have few shapes."""

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lexirec.training.products import WHOLE, fill_products


def test_products_have_whole_blocks_and_the_same_values():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 8))
    filled = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 8))
    filled.load_state_dict(plain.state_dict())
    fill_products(filled)
    rows = set()

    class Recorded(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
                rows.update(size for matrix in args for size in getattr(matrix, "shape", ()))
            return function(*args, **(kwargs or {}))

    for shape in [(3, 7, 24), (5, 60, 24), (1, 24)]:
        given, same = torch.randn(shape).requires_grad_(), None
        with torch.autocast("cpu", torch.bfloat16):
            expected = plain(given)
            expected.float().pow(2).sum().backward()
            same = given.grad.clone()
            given.grad = None
            with Recorded():
                found = filled(given)
                found.float().pow(2).sum().backward()
        assert found.shape == expected.shape and found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
        torch.testing.assert_close(given.grad, same, atol=0.05, rtol=0.05)
    for mine, theirs in zip(filled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=0.1, rtol=0.02)
    assert rows - {24, 40, 8} <= {WHOLE, 2 * WHOLE}


def test_nothing_changes_without_bfloat16():
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    rows = torch.randn(5, 6)
    expected = layer(rows)
    fill_products(layer)
    assert torch.equal(layer(rows), expected)
    assert [name for name, _ in layer.state_dict().items()] == ["weight", "bias"]
