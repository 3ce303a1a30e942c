"""Where item vectors come from: a table by id, frozen text through an adapter, or both. Any of them fits any sequence encoder."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

AdapterKind = Literal["two-linear", "linear", "tanh", "gelu", "relu"]


class Adapter(nn.Module):
    """Text vectors to item vectors: ``(n, D) -> (n, d)``.

    ``two-linear`` is LLMEmb's: ``D -> D // 2 -> d`` without activation, so one affine map of rank ``d``. It is applied as the product of
    its two matrices, ``d`` columns wide, which is the same map (products are associative) for about ``D / 2d`` times less work per item,
    with the same gradients for both. ``tanh``, ``gelu`` and ``relu`` put that function between the two; ``linear`` is one layer.

    Args:
        text_dim: ``D``.
        dim: ``d``.
        kind: see above.

    >>> sum(p.numel() for p in Adapter(1536, 128).parameters())
    1278848
    """

    def __init__(self, text_dim: int, dim: int, kind: AdapterKind = "two-linear", hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or max(text_dim // 2, 1)
        self.kind = kind
        self.first = None if kind == "linear" else nn.Linear(text_dim, hidden)
        self.second = nn.Linear(text_dim if kind == "linear" else hidden, dim)

    def forward(self, text: Tensor) -> Tensor:
        if self.first is None:
            return self.second(text)
        if self.kind == "two-linear":
            return F.linear(text, self.second.weight @ self.first.weight, self.second(self.first.bias))
        hidden = self.first(text)
        return self.second(torch.tanh(hidden) if self.kind == "tanh" else F.gelu(hidden) if self.kind == "gelu" else F.relu(hidden))


def _without(rows: Tensor) -> Callable[[Tensor], Tensor]:
    """A gradient with these rows at 0."""

    def hook(gradient: Tensor) -> Tensor:
        nonlocal rows
        rows = rows.to(gradient.device)  # once: the weights have their device by now
        return gradient.index_fill(0, rows, 0.0)

    return hook


class ItemVectors(nn.Module):
    """Trainable item vectors.

    Args:
        n_items: catalogue size.
        dim: width ``d``.
        text: ``(I, D)`` frozen text vectors; ``None``: ids only.
        adapter: the map of the text vectors; ``None`` with text: they are used as they are (``D`` must be ``d``).
        by_id: whether each item also has a vector of its own, added to the adapter's.
        start: ``(I, d)`` first values of the items' own vectors.
        frozen: whether the text vectors stay as they are; else they are trained like the rest.
    """

    text: Tensor | None

    def __init__(
        self, n_items: int, dim: int, text: Tensor | None, adapter: Adapter | None, *, by_id: bool, start: Tensor | None = None,
        frozen: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if frozen or text is None:
            # What a text encoder made aren't weights: these rows are not saved, and new items bring their own.
            self.register_buffer("text", text, persistent=False)
        else:
            self.text = nn.Parameter(text)
        self.adapter = adapter
        self.own = nn.Embedding(n_items, dim) if by_id else None
        self.start = start

    def set_start(self) -> None:
        """Put the given first values in place, after all weights were initialised."""
        if self.own is not None and self.start is not None:
            with torch.no_grad():
                self.own.weight.copy_(self.start)
        self.start = None

    def never_learn(self, items: Tensor) -> None:
        """Items ``(n,)`` whose own vectors are 0 and stay so, and whose text vectors stay as they are where others' are trained.

        To be called once, before the training.
        """
        if not len(items):
            return
        if self.own is not None:
            with torch.no_grad():
                self.own.weight[items.to(self.own.weight.device)] = 0.0
        for table in (self.own.weight if self.own is not None else None, self.text):
            if table is not None and table.requires_grad:
                table.register_hook(_without(items))

    def of_text(self, text: Tensor) -> Tensor:
        """Vectors of items known by their text alone, ``(n, D) -> (n, d)``."""
        return text if self.adapter is None else self.adapter(text)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Vectors of all items, or of the ``rows`` named: ``(n, d)``."""
        found = None
        if self.text is not None:
            found = self.of_text(self.text if rows is None else self.text.index_select(0, rows))
        if self.own is not None:
            own = self.own.weight if rows is None else F.embedding(rows, self.own.weight)
            found = own if found is None else found + own
        assert found is not None  # noqa: S101 (one of the two is there by construction)
        return found
