"""The floors: an epoch's sparse products alone, and matrix product with the 20 best alone. A few lines of torch, no toolkit."""

import sys
import warnings

import numpy as np
import torch
from scipy.sparse import coo_array
from worker import peak_memory_mb, serve

data, threads = np.load(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
LAYERS, DIM, BATCH = 3, 64, 2048
n_users, n_items = int(data["n_users"]), int(data["n_items"])
pairs = np.unique(np.stack([data["train_users"], data["train_items"]]), axis=1).astype(np.int64)
rows, cols = np.concatenate([pairs[0], pairs[1] + n_users]), np.concatenate([pairs[1] + n_users, pairs[0]])
degree = np.maximum(np.bincount(rows, minlength=n_users + n_items), 1)
matrix = coo_array(((degree[rows] * degree[cols]) ** -0.5, (rows, cols)), shape=(n_users + n_items,) * 2).tocsr()
# 32-bit indices: with 64-bit ones the library converts them in every product.
adjacency = torch.sparse_csr_tensor(
    torch.from_numpy(matrix.indptr.astype(np.int32)),
    torch.from_numpy(matrix.indices.astype(np.int32)),
    torch.from_numpy(matrix.data.astype(np.float32)),
    size=matrix.shape,
)
dense = torch.randn(n_users + n_items, DIM, generator=torch.Generator().manual_seed(0))
n_batches = -(-pairs.shape[1] // BATCH)
asked = torch.from_numpy(np.unique(data["test_users"]).astype(np.int64))


def describe(_):
    return {"versions": {"torch": torch.__version__}, "batches": n_batches, "threads": torch.get_num_threads()}


def epoch(_):
    for _ in range(n_batches * 2 * LAYERS):  # the adjacency is symmetric: backward is the same product
        adjacency @ dense
    return {"peak_memory_mb": peak_memory_mb()}


def evaluate(_):
    users, items = dense[:n_users], dense[n_users:]
    for start in range(0, len(asked), 1024):
        torch.topk(users[asked[start : start + 1024]] @ items.T, 20)
    return {"peak_memory_mb": peak_memory_mb()}


serve({"describe": describe, "epoch": epoch, "evaluate": evaluate})
