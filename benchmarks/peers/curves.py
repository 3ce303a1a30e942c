"""Validation curves of SASRec and BERT4Rec of lexirec and RecTools: the same events, the settings that are timed.

    python benchmarks/peers/curves.py --data DIR [--users 5000] [--jobs "SASRec BCE" --at 2,5,10,20]

Speed says something only where both learn alike: run_sequential.py times the epochs, this holds what they lead to. Both start from
Xavier normal matrices, as RecTools does. See README.md beside this file.
"""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from prepare import load_split, write_parts
from run import HERE, WORK, Worker, arguments_of, check_equal_work, command_line, environment, machine, parse
from run_sequential import JOBS

from lexirec.files import read_json, write_json

RESULT = HERE.parent / "results" / "speed" / "peers-curves.json"


def main() -> None:
    """Train both sides of each job and add their curves to the result."""
    parser = arguments_of(__doc__, RESULT)
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"which of {', '.join(JOBS)}, separated by commas")
    parser.add_argument("--at", default="2,5,10,20", help="epochs after which the validation part is asked")
    options = parse(parser)
    jobs = [job.strip() for job in options.jobs.split(",") if job.strip()]
    if unknown := [job for job in jobs if job not in JOBS]:
        parser.error(f"no job {unknown[0]!r}; there are {', '.join(JOBS)}")
    try:
        at = sorted({int(number) for number in options.at.split(",")})
    except ValueError:
        parser.error(f"--at {options.at!r} is no list of epochs, such as 2,5,10")
    if at[0] < 1:
        parser.error("epochs count from 1")

    pythons = {"lexirec": Path(sys.executable), "rectools": environment("rectools")}
    name = options.data.name + (f"_{options.users}" if options.users else "")
    split = load_split(options.data, options.users)
    parts = write_parts(split, WORK / "data", name) / "parts.npz"
    facts = {"dataset": name, "users": split.train.n_users, "items": split.train.n_items, "train": split.train.n_interactions}
    del split
    threads = str(options.threads)
    arguments = {"lexirec": [str(options.data.resolve()), str(options.users), threads], "rectools": [str(parts), threads]}

    target = options.out or RESULT
    result: dict[str, Any] = read_json(target) if target.exists() else {"split": "leave-one-out", "jobs": {}}
    for job in jobs:
        model, own, theirs, _ = JOBS[job]
        requests = {
            "lexirec": {"model": model, "config": {**own, "init": "xavier"}, "precision": "fp32"},
            "rectools": {"model": model, "config": theirs, "batches": 0},
        }
        curves: dict[str, Any] = {}
        about: dict[str, Any] = {}
        for who, request in requests.items():  # one after the other: quality is compared here, not speed
            worker = Worker(who, pythons[who], [*arguments[who], json.dumps(request)], options.threads)
            try:
                about[who] = worker.ask("describe")
                curves[who] = worker.ask("curve", at=at)
            finally:
                worker.close()
            shown = ", ".join(f"{point['epoch']}: {point['ndcg@10']:.4f}" for point in curves[who]["points"])
            print(f"{job}, {who}, validation ndcg@10 by epoch: {shown} ({curves[who]['seconds']:.0f} s)", file=sys.stderr)
        check_equal_work(about)
        result["jobs"][job] = {
            **facts,
            "curves": {who: found["points"] for who, found in curves.items()},
            "train_seconds": {who: round(found["seconds"], 1) for who, found in curves.items()},
            "versions": {who: found["versions"] for who, found in about.items()},
            "machine": machine(options.threads),
            "command": shlex.join(["python", "benchmarks/peers/curves.py", *command_line(options, "jobs", "at")]),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
    result["rows"] = [
        {"what": f"{job}, {found['users']:,} users", "after epochs": " ".join(str(point["epoch"]) for point in found["curves"]["lexirec"])}
        | {f"{who}, ndcg@10": " ".join(f"{point['ndcg@10']:.4f}" for point in points) for who, points in found["curves"].items()}
        for job, found in result["jobs"].items()
    ]
    result |= {key: result["jobs"][jobs[-1]][key] for key in ("machine", "command", "date")}  # of the latest; each job has its own
    write_json(target, result)
    print(f"written to {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
