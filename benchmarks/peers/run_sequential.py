"""Epochs of SASRec (binary cross entropy, cross entropy over all items) and BERT4Rec of lexirec and RecTools, in turns, in one run.

    python benchmarks/peers/run_sequential.py --data DIR

lexirec trains whole epochs. RecTools does so where an epoch is short; where it takes minutes, it trains on a few batches a turn and
the seconds are scaled to the epoch's sequences. See README.md beside this file.
"""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from prepare import load_split, write_parts
from run import HERE, WORK, Worker, arguments_of, check_equal_work, command_line, environment, machine, parse, ratios, summary

from lexirec.files import write_json

RESULT = HERE.parent / "results" / "speed" / "peers-sequential.json"
SASREC = {"embedding_dim": 64, "max_len": 50, "num_layers": 2, "num_heads": 1, "dropout": 0.5, "batch_size": 512, "lr": 1e-3}
RECTOOLS_SASREC = {
    "n_factors": 64, "session_max_len": 50, "n_blocks": 2, "n_heads": 1, "dropout_rate": 0.5, "batch_size": 512, "lr": 1e-3,
}  # fmt: skip
# Four of five masked events become the mask, one in ten another item, one in ten stays: what RecTools always does.
BERT4REC = {**SASREC, "num_heads": 4, "dropout": 0.2, "mask_prob": 0.2, "mask_random": 0.1, "mask_kept": 0.1}
RECTOOLS_BERT4REC = {**RECTOOLS_SASREC, "n_heads": 4, "dropout_rate": 0.2, "mask_prob": 0.2, "loss": "softmax"}
# Job -> (model, lexirec's settings, RecTools' settings, whether a RecTools epoch takes minutes).
JOBS: dict[str, tuple[str, dict[str, Any], dict[str, Any], bool]] = {
    "SASRec BCE": ("sasrec", {**SASREC, "loss": "bce", "num_negs": 1}, {**RECTOOLS_SASREC, "loss": "BCE", "n_negatives": 1}, False),
    "SASRec CE": ("sasrec", {**SASREC, "loss": "ce"}, {**RECTOOLS_SASREC, "loss": "softmax"}, True),
    "BERT4Rec": ("bert4rec", BERT4REC, RECTOOLS_BERT4REC, True),
}


def sides(job: str, batches: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Who takes part in a job: label -> toolkit and the job as its worker reads it."""
    model, own, theirs, slow = JOBS[job]
    found: dict[str, tuple[str, dict[str, Any]]] = {"lexirec": ("lexirec", {"model": model, "config": own, "precision": "fp32"})}
    if slow:  # products wide enough for bfloat16 are those with all items
        found["lexirec, bf16"] = ("lexirec", {"model": model, "config": own, "precision": "bf16"})
    found["rectools"] = ("rectools", {"model": model, "config": theirs, "batches": batches if slow else 0})
    return found


def main() -> None:
    """Run the jobs one after another and write the result."""
    parser = arguments_of(__doc__, RESULT)
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"which of {', '.join(JOBS)}, separated by commas")
    parser.add_argument("--turns", type=int, default=4, help="turns of each; the first is left out of the median")
    parser.add_argument("--batches", type=int, default=3, help="batches a turn of RecTools where an epoch takes it minutes; 0: all")
    options = parse(parser)
    jobs = [job.strip() for job in options.jobs.split(",") if job.strip()]
    if unknown := [job for job in jobs if job not in JOBS]:
        parser.error(f"no job {unknown[0]!r}; there are {', '.join(JOBS)}")
    if options.turns < 2 or options.batches < 0:
        parser.error("at least 2 turns, the first of each is left out; and no fewer than 0 batches")

    pythons = {"lexirec": Path(sys.executable), "rectools": environment("rectools")}
    name = options.data.name + (f"_{options.users}" if options.users else "")
    split = load_split(options.data, options.users)
    parts = write_parts(split, WORK / "data", name) / "parts.npz"
    facts = {"users": split.train.n_users, "items": split.train.n_items, "train": split.train.n_interactions}
    where = machine(options.threads)
    del split

    threads = str(options.threads)
    arguments = {"lexirec": [str(options.data.resolve()), str(options.users), threads], "rectools": [str(parts), threads]}
    versions: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    epochs: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for job in jobs:
        # A job has processes of its own, so that the peak memory is the job's.
        workers: dict[str, Worker] = {}
        answers: dict[str, list[dict[str, Any]]] = {}
        try:
            for who, (toolkit, request) in sides(job, options.batches).items():
                line = [*arguments[toolkit], json.dumps(request)]
                workers[who], answers[who] = Worker(who, pythons[toolkit], line, options.threads, toolkit), []
            about = {who: worker.ask("describe") for who, worker in workers.items()}
            check_equal_work(about)
            for turn in range(options.turns):
                for who, worker in workers.items():
                    answer = worker.ask("epoch")
                    answers[who].append(scaled(answer, about[who]))
                    print(f"{job}, turn {turn + 1}, {who}: {answer['seconds']:.2f} s an epoch", file=sys.stderr)
        finally:
            for worker in workers.values():
                worker.close()
        table = {who: {**summary(found, 1), "losses": [round(a["loss"], 4) for a in found]} for who, found in answers.items()}
        for who, entry in table.items():
            timed, whole = answers[who][0].get("batches", about[who]["batches"]), about[who]["batches"]
            entry |= {"batches_a_turn": timed, "batches_an_epoch": whole}
            note = f", estimated from {len(entry['values'])} x {timed} of {whole} batches" if timed < whole else ""
            rows.append(
                {
                    "what": f"{job} epoch, {who}{note}",
                    "seconds": entry["median"],
                    "min": entry["min"],
                    "max": entry["max"],
                    "peak MB": entry["peak_memory_mb"],
                    "times lexirec": round(entry["median"] / table["lexirec"]["median"], 3),
                }
            )
        epochs[job] = table
        settings[job] = {who: {key: found[key] for key in ("config", "sequences", "places", "candidates")} for who, found in about.items()}
        versions |= {who: found["versions"] for who, found in about.items() if who in arguments}

    result = {
        "dataset": name,
        "split": "leave-one-out",
        **facts,
        "settings": settings,
        "machine": where,
        "versions": versions,
        "command": shlex.join(["python", "benchmarks/peers/run_sequential.py", *command_line(options, "turns", "batches", "jobs")]),
        "epoch_seconds": epochs,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rows": rows,
        "ratios": {f"{job} epoch, times lexirec": ratios(table, "lexirec") for job, table in epochs.items()},
    }
    target = options.out or (WORK / "peers-sequential-trial.json" if options.users else RESULT)
    write_json(target, result)
    print(json.dumps(result["ratios"], indent=1))
    print(f"written to {target}", file=sys.stderr)


def scaled(answer: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a part of an epoch as those of the whole, by the sequences trained on."""
    if "sequences" in answer:
        answer["seconds"] *= about["sequences"] / answer["sequences"]
    return answer


if __name__ == "__main__":
    main()
