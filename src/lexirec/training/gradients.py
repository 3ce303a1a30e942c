"""Gradients: whether all are numbers; and those that were computed part by part, handed to autograd as if the whole had been one graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def gradients_are_finite(network: nn.Module) -> bool:
    """Whether no gradient of a network has NaN or infinity in it.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> layer(torch.tensor([float("inf")])).sum().backward()
    >>> gradients_are_finite(layer)
    False
    """
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    if not gradients or bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients)).sum())):
        return True
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)  # a norm may overflow where every value is a number


class _Known(torch.autograd.Function):
    """A value whose gradients by the weights are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor | None], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, *(None if gradient is None else gradient.mul_(scale) for gradient in gradients)


class Parts:
    """Adds up the gradients of parts of a loss, each part's graph freed as soon as it is done.

    Args:
        network: its weights that are trained.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> parts = Parts(layer)
    >>> for x in (1.0, 2.0):
    ...     parts.add(layer(torch.tensor([x])).sum())
    >>> parts.total().backward()
    >>> layer.weight.grad.tolist()
    [[3.0]]
    """

    def __init__(self, network: nn.Module) -> None:
        self.weights = [weight for weight in network.parameters() if weight.requires_grad]
        self.gradients: list[Tensor | None] = [None] * len(self.weights)
        self.value: Tensor | None = None

    def add(self, part: Tensor, gradient: Tensor | None = None) -> None:
        """Add a part: a scalar of the loss, or vectors with the loss's ``gradient`` by them (then no value is added)."""
        if gradient is None:
            self.value = part.detach() if self.value is None else self.value + part.detach()
        if not part.requires_grad:
            return
        found = torch.autograd.grad(part, self.weights, grad_outputs=gradient, allow_unused=True)
        for at, new in enumerate(found):
            if new is not None:
                old = self.gradients[at]
                self.gradients[at] = new if old is None else old.add_(new)

    def total(self, value: Tensor | None = None) -> Tensor:
        """The sum as a scalar that can be weighted, added and differentiated once; ``value`` where the parts had none."""
        found = self.value if value is None else value.detach()
        assert found is not None  # noqa: S101 (something was added)
        if all(gradient is None for gradient in self.gradients):
            return found
        total: Tensor = _Known.apply(found, self.gradients, *self.weights)
        return total


__all__ = ["Parts"]
