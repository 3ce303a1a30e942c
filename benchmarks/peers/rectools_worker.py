"""RecTools: ranking of given vectors by its ImplicitRanker and TorchRanker, metrics by its own functions. Runs in RecTools' environment."""

import sys
import time

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.metrics import NDCG, Recall, calc_metrics
from rectools.models.rank import Distance, ImplicitRanker, TorchRanker
from scipy.sparse import csr_matrix
from worker import peak_memory_mb, serve

data, threads = np.load(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
shape = (int(data["n_users"]), int(data["n_items"]))
rows = np.concatenate([data["train_users"], data["valid_users"]])
seen = csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, np.concatenate([data["train_items"], data["valid_items"]]))), shape=shape)
asked = np.unique(data["test_users"])
test = pd.DataFrame({Columns.User: data["test_users"], Columns.Item: data["test_items"]})
METRICS = {f"{name}@{k}": kind(k=k) for k in (10, 20) for name, kind in (("recall", Recall), ("ndcg", NDCG))}


def describe(_):
    import implicit
    import rectools
    import scipy

    versions = {"rectools": rectools.__version__, "torch": torch.__version__, "implicit": implicit.__version__}
    versions |= {"numpy": np.__version__, "scipy": scipy.__version__, "pandas": pd.__version__, "python": sys.version.split()[0]}
    return {"versions": versions, "threads": threads}


def evaluate(request):
    vectors = np.load(request["vectors"])
    users, items = vectors["users"], vectors["items"]
    if request["ranker"] == "implicit":
        ranker = ImplicitRanker(Distance.DOT, users, items, num_threads=threads)
    else:
        ranker = TorchRanker(Distance.DOT, "cpu", users, items, batch_size=request["batch_size"])
    started = time.perf_counter()
    who, what, scores = ranker.rank(asked, k=20, filter_pairs_csr=seen[asked])
    ranked = time.perf_counter()
    table = pd.DataFrame({Columns.User: who, Columns.Item: what, Columns.Score: scores})
    table[Columns.Rank] = table.groupby(Columns.User, sort=False).cumcount() + 1
    tabled = time.perf_counter()
    values = calc_metrics(METRICS, table, test)
    ended = time.perf_counter()
    parts = {"rank": ranked - started, "table": tabled - ranked, "metrics": ended - tabled}
    # The table is not counted: a caller may well keep the arrays.
    metrics = {key: float(value) for key, value in values.items()}
    return {"seconds": parts["rank"] + parts["metrics"], "parts": parts, "metrics": metrics, "peak_memory_mb": peak_memory_mb()}


serve({"describe": describe, "evaluate": evaluate})
