"""The weights of a sequential model: item vectors, a sequence encoder and what a cloze model has besides."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.sequence import Attention, Layout
from lexirec.models.sequence_config import SequenceConfig


class SequenceNetwork(nn.Module):
    """All weights of a sequential model.

    Args:
        items: item vectors.
        body: sequence encoder, called with rows ``(T, D)`` and a layout.
        masked: whether there is a vector for masked events.
        head: module between state and scores, or none.
    """

    def __init__(self, items: ItemVectors, body: nn.Module, dim: int, masked: bool = False, head: nn.Module | None = None) -> None:
        super().__init__()
        self.items, self.body = items, body
        self.mask = nn.Parameter(torch.randn(dim) * 0.1) if masked else None
        self.head = head or nn.Identity()

    def states(
        self, table: Tensor, inputs: Tensor, masked: Tensor | None, layout: Layout, at: Tensor | None, rows: Tensor | None = None
    ) -> Tensor:
        """States at the rows ``at`` (all if not given), ``(M, D)``; ``inputs`` are places in ``table``, of the items ``rows`` (all)."""
        vectors = F.embedding(inputs, table)
        if masked is not None and self.mask is not None:
            vectors = torch.where(masked[:, None], self.mask, vectors)
        found = self.body(vectors, layout)
        return self.head(found if at is None else found.index_select(0, at))


@torch.no_grad()
def initialise(network: SequenceNetwork, config: SequenceConfig) -> None:
    """First values of every matrix, see ``init``."""
    xavier, cut = config.init == "xavier", config.init == "clipped"
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            if xavier:
                nn.init.xavier_normal_(module.weight)
                continue
            if cut:
                nn.init.xavier_normal_(module.weight).clamp_(-config.init_std, config.init_std)
            else:
                nn.init.normal_(module.weight, std=config.init_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GRU):
            for parameter in module.parameters():
                if parameter.ndim >= 2:
                    (nn.init.xavier_normal_ if xavier else nn.init.xavier_uniform_)(parameter)
    for module in network.modules() if cut else ():
        if isinstance(module, Attention):
            bound = math.sqrt(6 / (4 * module.out.in_features))  # queries, keys and values are one matrix of three times the width there
            nn.init.uniform_(module.query.weight, -bound, bound)
            nn.init.uniform_(module.key_value.weight, -bound, bound)
    network.items.set_start()


__all__ = ["SequenceNetwork", "initialise"]
