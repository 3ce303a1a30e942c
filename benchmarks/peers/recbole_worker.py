"""RecBole: LightGCN epochs by its own Trainer, evaluation by its own Collector and Evaluator. Runs in RecBole's environment."""

import sys

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import LightGCN
from recbole.trainer import Trainer
from recbole.utils import init_seed
from worker import peak_memory_mb, serve

folder, name, threads, users_per_batch, n_items = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
torch.set_num_threads(threads)
sys.argv = sys.argv[:1]  # RecBole parses the command line too
config = Config(
    model="LightGCN",
    dataset=name,
    config_dict={
        "data_path": folder,
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "use_gpu": False,
        "device": "cpu",
        "worker": 0,
        "embedding_size": 64,
        "n_layers": 3,
        "reg_weight": 1e-4,
        "learner": "adam",
        "learning_rate": 1e-3,
        "train_batch_size": 2048,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0},
        # Counted in user-item pairs: one more item than the catalogue (padding) times the users wanted.
        "eval_batch_size": users_per_batch * (n_items + 1),
        "eval_args": {"group_by": "user", "order": "RO", "split": {"LS": "valid_and_test"}, "mode": "full"},
        "metrics": ["Recall", "NDCG"],
        "topk": [10, 20],
        "valid_metric": "NDCG@10",
        "show_progress": False,
        "state": "WARNING",
        "checkpoint_dir": f"{folder}/{name}/recbole_saved",
    },
)
init_seed(config["seed"], config["reproducibility"])
dataset = create_dataset(config)
train_data, valid_data, test_data = data_preparation(config, dataset)
model = LightGCN(config, train_data.dataset).to("cpu")
trainer = Trainer(config, model)
epochs = 0


def describe(_):
    import numpy as np
    import pandas as pd
    import recbole
    import scipy

    versions = {"recbole": recbole.__version__, "torch": torch.__version__, "numpy": np.__version__, "scipy": scipy.__version__}
    return {
        "versions": {**versions, "pandas": pd.__version__, "python": sys.version.split()[0]},
        "train": int(train_data.dataset.inter_num),
        "batches": len(train_data),
        "users": int(dataset.user_num) - 1,  # without the padding id
        "items": int(dataset.item_num) - 1,
        "threads": torch.get_num_threads(),
    }


def epoch(_):
    global epochs
    loss = trainer._train_epoch(train_data, epochs, show_progress=False)
    epochs += 1
    return {"loss": float(loss), "peak_memory_mb": peak_memory_mb()}


def evaluate(_):
    values = trainer.evaluate(test_data, load_best_model=False, show_progress=False)
    return {"metrics": {key: float(value) for key, value in values.items()}, "peak_memory_mb": peak_memory_mb()}


serve({"describe": describe, "epoch": epoch, "evaluate": evaluate})
