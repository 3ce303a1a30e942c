"""What tells an error of the language model from one of the search."""

from collections.abc import Sequence

import numpy as np

from lexirec.models.calrec.writing import Written
from lexirec.retrieval.bm25 import BM25, Tokens
from lexirec.retrieval.pooling import scale

BLOCK = 256
ASKED = 2000
"""Items that are looked up by their own text after an evaluation."""


def self_retrieval(
    texts: Sequence[str], k1: float = 1.5, b: float = 0.75, most: int | None = None, tokens: Tokens = "whitespace"
) -> dict[str, float]:
    """How well BM25 finds an item by its own text.

    Args:
        texts: of the items; empty ones are left out as queries.
        k1: of BM25.
        b: of BM25.
        most: ask for that many random ones, always the same, if there are more.
        tokens: of BM25.

    Returns:
        ``first_optimistic``, ``first_pessimistic``: share of items that come first, ties settled for and against them;
        ``runner_up``: median of the best other item's scaled score; ``near``: share of runners-up above 0.998, which could come between
        two texts' best items; ``twins``: items that share their whole text with another.
        Nothing where no item has a text.
    """
    present = np.array([i for i, text in enumerate(texts) if text])
    if not len(present):
        return {}
    index = BM25(texts, k1=k1, b=b, tokens=tokens)
    asked = present if most is None or len(present) <= most else np.random.default_rng(0).permutation(present)[:most]
    better, equal, second = [], [], []
    for lo in range(0, len(asked), BLOCK):
        rows = asked[lo : lo + BLOCK]
        scores = index.scores([texts[i] for i in rows])
        own = scores[np.arange(len(rows)), rows][:, None]
        better.append((scores > own).sum(1))
        equal.append((scores == own).sum(1) - 1)
        scaled = scale(scores)
        scaled[np.arange(len(rows)), rows] = -1
        second.append(scaled.max(1))
    above, level, runner = np.concatenate(better), np.concatenate(equal), np.concatenate(second)
    times: dict[str, int] = {}
    for i in present:
        times[texts[i]] = times.get(texts[i], 0) + 1
    return {
        "first_optimistic": float((above == 0).mean()),
        "first_pessimistic": float(((above == 0) & (level == 0)).mean()),
        "runner_up": float(np.median(runner)),
        "near": float((runner > 0.998).mean()),
        "twins": float(sum(times[texts[i]] > 1 for i in present)),
    }


def samples(written: Sequence[Written], texts: Sequence[str]) -> dict[str, float]:
    """What was written, beside the catalogue.

    Returns:
        ``histories``; ``samples_in_catalogue``: share of samples that equal a catalogue text; ``distinct_texts`` per history;
        ``samples_ended``: share of samples that end as an item text does, with a full stop; ``logprob``: mean of a history's best text.
    """
    known = {text for text in texts if text}
    some = [one for one in written if one.texts]
    total = max(sum(int(one.counts.sum()) for one in some), 1)
    hits = sum(int(count) for one in some for text, count in zip(one.texts, one.counts, strict=True) if text in known)
    ended = sum(int(count) for one in some for text, count in zip(one.texts, one.counts, strict=True) if text.endswith("."))
    return {
        "histories": float(len(some)),
        "samples_in_catalogue": hits / total,
        "samples_ended": ended / total,
        "distinct_texts": float(np.mean([len(one.texts) for one in some])) if some else 0.0,
        "logprob": float(np.mean([one.logprobs[0] for one in some])) if some else 0.0,
    }


__all__ = ["ASKED", "samples", "self_retrieval"]
