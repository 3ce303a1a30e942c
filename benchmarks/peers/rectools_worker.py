"""RecTools, in its own environment: ranking of given vectors by its ImplicitRanker and TorchRanker with metrics by its own functions, or,
where a job is given, epochs of its sequential models by its own Lightning trainer.
"""

import json
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
job = json.loads(sys.argv[3]) if len(sys.argv) > 3 else None
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


def sequential():
    """Commands of a sequential model: ``epoch`` trains on ``job["batches"]`` batches (0: all) and gives the seconds of those alone."""
    import pytorch_lightning as lightning
    from pytorch_lightning import Callback, Trainer
    from rectools.dataset import Dataset
    from rectools.models import BERT4RecModel, SASRecModel

    class Clock(Callback):
        """From the start of an epoch to its end: loading of the data and setup of the trainer are left out, batching is not."""

        def on_train_epoch_start(self, trainer, module):
            self.sequences = self.batches = 0
            self.started = time.perf_counter()

        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            self.sequences += len(batch["x"])
            self.batches += 1
            self.ended = time.perf_counter()

    def trainer():
        limits = {"limit_train_batches": job["batches"]} if job["batches"] else {}
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}
        return Trainer(accelerator="cpu", devices=1, callbacks=[Clock()], **limits, **quiet)

    # The log holds each user's events oldest first, users one after another: the row number orders them in time.
    log = pd.DataFrame({Columns.User: data["train_users"], Columns.Item: data["train_items"], Columns.Weight: 1.0})
    log[Columns.Datetime] = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(log)), unit="s")
    dataset = Dataset.construct(log)
    kinds = {"sasrec": SASRecModel, "bert4rec": BERT4RecModel}
    model = kinds[job["model"]](**job["config"], get_trainer_func=trainer)
    prepared = model.data_preparator
    prepared.process_dataset_train(dataset)  # only to say what it keeps: every fit does so again
    sequences = prepared.train_dataset.user_id_map.size
    shift = prepared.train_session_max_len_addition  # SASRec's first event is no target

    def describe_job(request):
        found = describe(request)
        found["versions"]["pytorch-lightning"] = lightning.__version__
        return {
            **found,
            "train": len(log),
            "users": shape[0],
            "sequences": sequences,
            "places": len(prepared.train_dataset.interactions.df) - shift * sequences,
            "batches": len(prepared.get_dataloader_train()),
            "candidates": prepared.item_id_map.size - prepared.n_item_extra_tokens,  # it knows the items of the training part only
            "threads": torch.get_num_threads(),
            "config": job["config"],
        }

    def epoch(_):
        model.fit_partial(dataset, min_epochs=1, max_epochs=1)
        clock = next(callback for callback in model.fit_trainer.callbacks if isinstance(callback, Clock))
        return {
            "seconds": clock.ended - clock.started,
            "batches": clock.batches,
            "sequences": clock.sequences,
            "loss": float(model.fit_trainer.callback_metrics["train_loss"]),
            "peak_memory_mb": peak_memory_mb(),
        }

    def curve(request):
        """Rank of the validation item after some epochs of one training: weights are kept on the way and asked at the end."""
        kept, at = {}, request["at"]

        class Keep(Callback):
            def on_train_epoch_end(self, trainer, module):
                if trainer.current_epoch + 1 in at:
                    kept[trainer.current_epoch + 1] = {name: value.clone() for name, value in module.torch_model.state_dict().items()}

        def with_keep():
            made = trainer()
            made.callbacks.append(Keep())
            return made

        torch.manual_seed(1)
        model = kinds[job["model"]](**job["config"], get_trainer_func=with_keep)
        started = time.perf_counter()
        model.fit_partial(dataset, min_epochs=max(at), max_epochs=max(at))
        trained = time.perf_counter() - started
        held = pd.DataFrame({Columns.User: data["valid_users"], Columns.Item: data["valid_items"]})
        points = []
        for number, weights in kept.items():
            model.lightning_model.torch_model.load_state_dict(weights)
            lists = model.recommend(users=held[Columns.User].unique(), dataset=dataset, k=10, filter_viewed=True)
            ranks = held.merge(lists, on=[Columns.User, Columns.Item], how="left")[Columns.Rank].to_numpy()
            gain = np.nan_to_num(1 / np.log2(ranks + 1))  # no rank: not in the list
            values = {"recall@10": float((gain > 0).mean()), "ndcg@10": float(gain.mean())}
            points.append({"epoch": number, **values})
        return {"points": points, "seconds": trained}

    return {"describe": describe_job, "epoch": epoch, "curve": curve}


serve({"describe": describe, "evaluate": evaluate} if job is None else sequential())
