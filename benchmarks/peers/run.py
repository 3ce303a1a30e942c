"""LightGCN epochs and full-ranking evaluation of lexirec, RecBole and RecTools, in turns, in one run. See README.md beside this file."""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

from prepare import load_split, write_parts

from lexirec.files import write_json

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / "scratch"
RESULT = HERE.parent / "results" / "speed" / "peers.json"
# First alone, then with the rest: see the Makefile. RecBole 1.2.1 uses names that NumPy 2, SciPy 1.13 and pandas 3 have dropped.
TORCH = "torch==2.13.0"
REQUIREMENTS = {
    "recbole": [TORCH, "recbole==1.2.1", "numpy<2", "scipy==1.12.*", "pandas==2.2.*"],
    "rectools": [TORCH, "rectools[torch]==0.19.0"],
}
METRICS = ["recall@10", "ndcg@10", "recall@20", "ndcg@20"]
USERS_PER_BATCH = 1024


def environment(peer: str) -> Path:
    """The Python of a peer's own environment, made on first use."""
    folder = WORK / peer
    python = folder / "bin" / "python"
    stamp = folder / "requirements.sha256"
    wanted = hashlib.sha256("\n".join(REQUIREMENTS[peer]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {peer} into {folder} (once)", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, TORCH], check=True)
    subprocess.run([*install, *REQUIREMENTS[peer]], check=True)
    stamp.write_text(wanted)
    return python


class Worker:
    """A toolkit's process: works only while asked."""

    def __init__(self, name: str, python: Path, arguments: list[str], threads: int, toolkit: str = "") -> None:
        self.name = name
        toolkit = toolkit or name
        limits = {key: str(threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")}
        # implicit brings its own threads and asks for a single-threaded BLAS below them.
        limits["OPENBLAS_NUM_THREADS"] = "1" if toolkit == "rectools" else str(threads)
        path = f"{HERE}{os.pathsep}{HERE.parents[1] / 'src'}" if toolkit == "lexirec" else str(HERE)
        log = WORK / f"{name.replace(', ', '-')}.log"
        self.log = log
        self.process = subprocess.Popen(
            [str(python), str(HERE / f"{toolkit}_worker.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            cwd=WORK,
            env={**os.environ, **limits, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
        )

    def ask(self, command: str, **arguments: object) -> dict:
        """Send a command and wait for the answer."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            self.close()
            raise SystemExit(f"{self.name}, {command}: {answer['error']}; its log: {self.log}\n{self.log.read_text()[-2000:]}")
        return answer

    def close(self) -> None:
        """End the process by closing its input."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it ended before; that is reported by ask
            self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def machine(threads: int) -> dict:
    """What it ran on."""
    import torch

    found = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = next((line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")), found)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": found,
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(memory, 1),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
    }


def summary(answers: list[dict], drop: int) -> dict:
    """Median and all values, the first ``drop`` left out of the median."""
    values = [round(answer["seconds"], 4) for answer in answers]
    kept = values[drop:] or values
    found = {"median": round(statistics.median(kept), 4), "min": min(kept), "max": max(kept), "first": values[0], "values": kept}
    return {**found, "peak_memory_mb": round(max(answer["peak_memory_mb"] for answer in answers))}


def arguments_of(description: str | None, result: Path) -> argparse.ArgumentParser:
    """A parser with the options of every run beside other toolkits."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("LEXIREC_DATA")
    parser.add_argument(
        "--data", type=Path, default=Path(default) / "amazon2014_beauty" if default else None, help="folder with the log and the items"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--users", type=int, default=0, help="a trial on so many users; written beside the environments, not published")
    parser.add_argument("--out", type=Path, default=None, help=f"default: {result.relative_to(HERE.parents[1])}")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options as given, the data folder checked."""
    options = parser.parse_args()
    if options.data is None or not options.data.is_dir():
        parser.error(f"--data {options.data} is no folder; give one with interactions and items, or set LEXIREC_DATA")
    return options


def command_line(options: argparse.Namespace, *names: str) -> list[str]:
    """The options as given, without this machine's paths: ``names`` beside those of every run."""
    words = ["--data", options.data.name]
    for name in (*names, "threads"):
        words += [f"--{name}", str(getattr(options, name))]
    return words + (["--users", str(options.users)] if options.users else [])


def main() -> None:
    """Run the rounds and write the result."""
    parser = arguments_of(__doc__, RESULT)
    parser.add_argument("--peers", default="recbole,rectools", help="which other toolkits, separated by commas")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each; the first is left out of the median")
    parser.add_argument("--evaluations", type=int, default=4, help="evaluations of each; the first is left out of the median")
    options = parse(parser)
    peers = [peer for peer in options.peers.split(",") if peer]
    if unknown := [peer for peer in peers if peer not in REQUIREMENTS]:
        parser.error(f"no peer {unknown[0]!r}; there are {', '.join(REQUIREMENTS)}")
    if options.epochs < 2 or options.evaluations < 2:
        parser.error("at least 2 epochs and 2 evaluations: the first of each is left out")

    pythons = {peer: environment(peer) for peer in peers}
    name = options.data.name + (f"_{options.users}" if options.users else "")
    split = load_split(options.data, options.users)
    folder = write_parts(split, WORK / "data", name)
    parts, n_items = folder / "parts.npz", split.train.n_items
    where = machine(options.threads)
    del split

    own, threads = Path(sys.executable), str(options.threads)
    arguments = {
        "lexirec": [str(options.data.resolve()), str(options.users), threads],
        "plain": [str(parts), threads],
        "recbole": [str(folder.parent), name, threads, str(USERS_PER_BATCH), str(n_items)],
        "rectools": [str(parts), threads],
    }
    workers = {who: Worker(who, pythons.get(who, own), arguments[who], options.threads) for who in ("lexirec", "plain", *peers)}
    try:
        about = {who: worker.ask("describe") for who, worker in workers.items()}
        check_equal_work(about)
        trained = [who for who in workers if who != "rectools"]
        epochs: dict[str, list[dict]] = {who: [] for who in trained}
        for turn in range(options.epochs):
            for who in trained:
                answer = workers[who].ask("epoch")
                epochs[who].append(answer)
                print(f"epoch {turn + 1}, {who}: {answer['seconds']:.2f} s", file=sys.stderr)
        vectors = folder / "vectors.npz"
        workers["lexirec"].ask("vectors", to=str(vectors))
        asks = {
            "lexirec": ("lexirec", {"metrics": METRICS}),
            "lexirec, all metrics": ("lexirec", {"metrics": "all"}),
            "plain": ("plain", {}),
            "recbole": ("recbole", {}),
            "rectools, ImplicitRanker": ("rectools", {"vectors": str(vectors), "ranker": "implicit"}),
            "rectools, TorchRanker": ("rectools", {"vectors": str(vectors), "ranker": "torch", "batch_size": 128}),
        }
        asks = {label: ask for label, ask in asks.items() if ask[0] in workers}
        evaluations: dict[str, list[dict]] = {label: [] for label in asks}
        for turn in range(options.evaluations):
            for label, (who, request) in asks.items():
                answer = workers[who].ask("evaluate", **request)
                evaluations[label].append(answer)
                print(f"evaluation {turn + 1}, {label}: {answer['seconds']:.2f} s", file=sys.stderr)
    finally:
        for worker in workers.values():
            worker.close()

    metrics = {label: answers[-1].get("metrics") for label, answers in evaluations.items() if answers[-1].get("metrics")}
    for label, found in metrics.items():
        # The same vectors and the same mask: another recall would mean that one of the two ranks something else.
        ours, theirs = metrics["lexirec"]["recall@20"], found["recall@20"]
        if label.startswith("rectools") and abs(theirs - ours) > 1e-3:
            raise SystemExit(f"{label} finds recall@20 {theirs:.5f} in lexirec's vectors, lexirec {ours:.5f}")
    epoch_table = {who: summary(answers, 1) for who, answers in epochs.items()}
    evaluation_table = {label: summary(answers, 1) for label, answers in evaluations.items()}
    result = {
        "dataset": name,
        "split": "leave-one-out",
        "users": about["lexirec"]["users"],
        "items": about["lexirec"]["items"],
        "train": about["lexirec"]["train"],
        "settings": {
            "embedding_dim": 64,
            "num_layers": 3,
            "batch_size": 2048,
            "num_negs": 1,
            "loss": "bpr",
            "lr": 1e-3,
            "optimiser": "adam",
        },
        "evaluation": {"ranking": "full, train and valid masked", "metrics": METRICS, "users_per_batch_recbole": USERS_PER_BATCH},
        "machine": where,
        "versions": {who: description["versions"] for who, description in about.items()},
        "command": shlex.join(["python", "benchmarks/peers/run.py", *command_line(options, "peers", "epochs", "evaluations")]),
        "epoch_seconds": epoch_table,
        "evaluation_seconds": evaluation_table,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rows": [
            {
                "what": f"{part}, {FLOORS[part] if name == 'plain' else name}",
                "seconds": entry["median"],
                "min": entry["min"],
                "max": entry["max"],
                "times lexirec": factors.get(name, 1.0),
            }
            for part, table, factors in (
                ("LightGCN epoch", epoch_table, ratios(epoch_table, "lexirec")),
                ("evaluation", evaluation_table, ratios(evaluation_table, "lexirec")),
            )
            for name, entry in table.items()
        ],
        "ratios": {
            "epoch, times lexirec": ratios(epoch_table, "lexirec"),
            "epoch, lexirec / plain products": round(epoch_table["lexirec"]["median"] / epoch_table["plain"]["median"], 3),
            "evaluation, times lexirec": ratios(evaluation_table, "lexirec"),
            "evaluation, lexirec all metrics / plain product and topk": round(
                evaluation_table["lexirec, all metrics"]["median"] / evaluation_table["plain"]["median"], 3
            ),
        },
        "metrics": {label: {key: round(value, 6) for key, value in found.items()} for label, found in metrics.items()},
    }
    target = options.out or (WORK / "peers-trial.json" if options.users else RESULT)
    write_json(target, result)
    print(json.dumps(result["ratios"], indent=1))
    print(f"written to {target}", file=sys.stderr)


FLOORS = {"LightGCN epoch": "nothing but its sparse products", "evaluation": "nothing but matrix product and topk(20)"}
"""What the plain worker does of each job: no toolkit, a floor."""


def check_equal_work(about: dict[str, dict]) -> None:
    """Refuse to compare unequal jobs."""
    for who, description in about.items():
        for key in ("users", "items", "train", "sequences", "places", "batches", "threads"):
            if key in description and description[key] != about["lexirec"][key]:
                raise SystemExit(f"{who} has {description[key]} {key}, lexirec {about['lexirec'][key]}: not the same job")


def ratios(table: dict[str, dict], base: str) -> dict[str, float]:
    """How many times as long as ``base`` each of the others takes."""
    return {who: round(row["median"] / table[base]["median"], 3) for who, row in table.items() if who != base}


if __name__ == "__main__":
    main()
