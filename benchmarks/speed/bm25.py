"""Quasi-round-robin search beside bm25s' dense scoring of the same texts, in one run.

    python benchmarks/speed/bm25.py --data DIR --data DIR ...

Ten generated texts for each query: texts of items that stand near each other in the catalogue, in two of three with one word replaced, so
that most texts occur once. lexirec tokenises, sorts, scores, scales, modulates, max-pools (``pool``, as CALRec answers) and ranks to the
first 100; bm25s gets tokens and only scores, one text after the other, each result dropped at once (its fastest way: kept results cost
fresh memory). With ``numba`` installed its compiled scorer runs too. Two kinds of text: titles alone, and CALRec's template, whose labels
stand in every item. A second table has lexirec alone for 10,000, 100,000 and a million items. Catalogues larger than the data repeat items
with one word replaced by another item's.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import bm25s
import numpy as np
import polars as pl
import torch
from common import interleaved, rows, write

from lexirec.models.calrec.texts import ItemTemplate
from lexirec.retrieval.bm25 import BM25
from lexirec.retrieval.pooling import pool


def catalogue(folders: list[Path], n: int, template: bool, rng: np.random.Generator) -> list[str]:
    """``n`` texts: those of the data sets, repeated with a word replaced where there are not enough."""
    texts: list[str] = []
    for folder in folders:
        items = pl.read_parquet(folder / "items.parquet").filter(pl.col("title").is_not_null())
        if template:
            columns = [name for name in ("main_category", "categories") if name in items.columns]
            written = f"Title=title,Category={columns[0] if columns else 'main_category?'},Brand=brand?,Price=price?"
            texts += ItemTemplate.parse(written).write(items)
        else:
            texts += items["title"].to_list()
    whole = len(texts)
    while len(texts) < n:
        texts.append(replaced(texts[len(texts) % whole], texts[int(rng.integers(whole))], rng))
    return texts[:n] if whole >= n else texts


def replaced(text: str, other: str, rng: np.random.Generator) -> str:
    """The text with one word, no label, replaced by one of another text."""
    words, donor = text.split(), other.split()
    places = [i for i, word in enumerate(words) if not word.endswith(":")]
    spare = [word for word in donor if not word.endswith(":")]
    if places and spare:
        words[places[int(rng.integers(len(places)))]] = spare[int(rng.integers(len(spare)))]
    return " ".join(words)


def generated(docs: list[str], queries: int, rng: np.random.Generator) -> tuple[list[list[str]], list[np.ndarray]]:
    """Ten texts per query and their log-probabilities in (-10, 0]."""
    texts = []
    for start in rng.integers(0, len(docs) - 60, queries):
        near = [docs[int(start + at)] for at in rng.choice(60, 10, replace=False)]
        texts.append([replaced(text, docs[int(rng.integers(len(docs)))], rng) if i % 3 else text for i, text in enumerate(near)])
    return texts, [-10 * rng.random(10) for _ in texts]


def first(index: BM25, texts: list[list[str]], logprobs: list[np.ndarray], k: int = 100) -> list[torch.Tensor]:
    """The ``k`` best items for each query, a few queries at a time."""
    blocks = range(0, len(texts), 32)
    return [torch.topk(torch.from_numpy(pool(index, texts[lo : lo + 32], logprobs[lo : lo + 32])), k).indices for lo in blocks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, action="append")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    table = []
    for template in (False, True):
        docs = catalogue(args.data, args.items, template, rng)
        texts, logprobs = generated(docs, args.queries, rng)
        index = BM25(docs)
        tokens = [text.lower().split() for some in texts for text in some]
        kind = "template" if template else "titles"

        def plain(backend: str, docs: list[str] = docs, tokens: list[list[str]] = tokens):
            reference = bm25s.BM25(method="lucene", backend=backend)
            reference.index([text.lower().split() for text in docs], show_progress=False)
            if backend == "numba":
                reference.activate_numba_scorer()
                reference.get_scores(tokens[0])  # compiles

            def job() -> None:
                for words in tokens:
                    reference.get_scores(words)

            return job

        jobs = {f"{kind}: bm25s, numpy, dense scores alone": plain("numpy")}
        if find_spec("numba"):
            jobs[f"{kind}: bm25s, numba, dense scores alone"] = plain("numba")
        jobs[f"{kind}: lexirec, pool and the first 100"] = lambda index=index, texts=texts, logprobs=logprobs: first(index, texts, logprobs)
        times = interleaved(jobs, args.repeats)
        for row in rows(times, next(iter(jobs))):
            row["texts per second"] = round(10 * args.queries / row["seconds"])
            row["words per text"] = round(float(np.mean([len(words) for words in tokens])), 1)
            row["distinct texts"] = len({text for some in texts for text in some})
            table.append(row)
    for size in args.sizes:
        docs = catalogue(args.data, size, True, rng)
        texts, logprobs = generated(docs, max(args.queries // 5, 20), rng)
        index = BM25(docs)
        name = f"template: lexirec, {size:,} items"
        seconds = interleaved({name: lambda index=index, texts=texts, logprobs=logprobs: first(index, texts, logprobs)}, args.repeats)[name]
        stored = sum(a.nbytes for m in (index.by_word, index.by_item) for a in (m.data, m.indices, m.indptr)) + index.columns.nbytes
        table.append(
            {
                "what": name,
                "queries per second": round(len(texts) / float(np.median(seconds)), 1),
                "index in MB": round(stored / 1e6, 1),
                "bytes per item": round(stored / size),
            }
        )
    write("bm25", table, data=[folder.name for folder in args.data], queries=args.queries, items=args.items, bm25s=bm25s.__version__)


if __name__ == "__main__":
    main()
