"""Propagation over the user-item graph layer by layer, with self-loops and dropped edges where a model wants them.

:class:`~lexirec.models.layers.graph.Graph` has the mean over layers in one product chain; here every layer can be read, and the matrix of a
training step need not be symmetric.
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from lexirec.data.dataset import TrainSet
from lexirec.models.layers.graph import SparseRows, product_with_gradient


class Propagation:
    """``S = D^-1/2 A D^-1/2`` of the bipartite graph, users first; with ``self_loops`` ``A`` is ``A + I`` and ``D`` its degrees.

    Args:
        train: training set; a pair counts once.
        self_loops: whether every node is its own neighbour.

    Attributes:
        matrix: ``S``, ``(U + I, U + I)``; symmetric.
        mirror: place of entry (c, r) for each entry (r, c), ``(nnz,)`` int64.
    """

    def __init__(self, train: TrainSet, self_loops: bool = False) -> None:
        starts, items = train.pairs
        pairs = sp.csr_matrix((np.ones(len(items)), items, starts), (train.n_users, train.n_items))
        there, items_at = pairs.tocoo(), pairs.indices + train.n_users
        n_nodes = train.n_users + train.n_items
        loops = np.arange(n_nodes if self_loops else 0)
        ends = np.concatenate([there.row, items_at, loops]), np.concatenate([items_at, there.row, loops])
        adjacency = sp.csr_matrix((np.ones(len(ends[0])), ends), (n_nodes, n_nodes))
        adjacency.sort_indices()
        degree = np.diff(adjacency.indptr).astype(np.float64)
        owners = np.repeat(np.arange(len(degree)), np.diff(adjacency.indptr))
        adjacency.data = (degree[owners] * degree[adjacency.indices]) ** -0.5  # only nodes with edges appear here
        self.matrix = SparseRows.from_scipy(adjacency)
        numbered = sp.csr_matrix((np.arange(adjacency.nnz), adjacency.indices, adjacency.indptr), adjacency.shape).T.tocsr()
        numbered.sort_indices()
        self.mirror = torch.from_numpy(numbered.data.astype(np.int64))

    def to(self, device: torch.device) -> "Propagation":
        self.matrix, self.mirror = self.matrix.to(device), self.mirror.to(device)
        return self

    def layers(self, x: Tensor, num_layers: int, keep: float = 1.0) -> list[Tensor]:
        """``S^l x`` for ``l = 0..num_layers``, each ``(U + I, D)``.

        Args:
            x: rows of all nodes.
            num_layers: products.
            keep: probability that an entry of ``S`` stays, without rescaling; the two directions of an edge are drawn apart, and all layers
                share the draw. 1 keeps all.
        """
        rows, transposed = self.matrix, self.matrix
        if keep < 1:
            weights = rows.weights * (torch.rand(len(rows.weights), device=rows.weights.device) < keep)
            rows = SparseRows(rows.starts, rows.columns, weights)
            transposed = SparseRows(rows.starts, rows.columns, weights[self.mirror])
        out = [x]
        for _ in range(num_layers):
            out.append(product_with_gradient(rows, transposed, out[-1]))
        return out


__all__ = ["Propagation"]
