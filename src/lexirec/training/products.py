"""Matrix products in bfloat16 on a CPU: a compiled kernel for every shape, so there should be few shapes."""

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

WHOLE: Final = 256
"""Rows are filled up to a multiple of this where products run in bfloat16 on a CPU. Each new shape of such a product is compiled and kept,
and what is kept lies scattered over the allocator's memory, which then grows with every step: by 7 MB in a decoder, 22 MB in an encoder."""


class WholeLinear(nn.Linear):
    """A linear layer whose bfloat16 products on a CPU have whole blocks of rows; anywhere else it is as it was."""

    def forward(self, rows: Tensor) -> Tensor:
        if rows.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(rows)
        flat = rows.reshape(-1, rows.shape[-1]).to(torch.get_autocast_dtype("cpu"))
        filled = F.pad(flat, (0, 0, 0, -len(flat) % WHOLE))
        return super().forward(filled)[: len(flat)].view(*rows.shape[:-1], self.out_features)


def fill_products(model: nn.Module) -> None:
    """Let the linear layers of a model fill their rows to whole blocks, see :class:`WholeLinear`; values stay as they are."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = WholeLinear


__all__ = ["WHOLE", "WholeLinear", "fill_products"]
