"""The sampled protocol: a user's targets among a few random items. Never the default: it may order models otherwise than a full ranking."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import InputError
from lexirec.evaluation.ranking import Scores, Task, blocks_of, distinct, events_of
from lexirec.evaluation.ranks import Ints, Ranks
from lexirec.progress import track

CHUNK = 1024
"""Users per random stream; fixed, so that the draw doesn't depend on how users are blocked."""


def sample_negatives(
    n: int, low: int, high: int, n_rows: int, excluded_rows: Ints, excluded_items: Ints, seed: tuple[int, ...]
) -> NDArray[np.int64]:
    """Draw ``n`` different items of ``low..high-1`` for each row, uniformly, none of them excluded.

    Args:
        n: items per row.
        low: first item.
        high: one past the last item.
        n_rows: rows.
        excluded_rows: ``(M,)`` rows of the pairs that may not be drawn (all that the user ever took), without repeats.
        excluded_items: ``(M,)`` their items.
        seed: of the random stream.

    Returns:
        ``(n_rows, n)`` int64.

    Raises:
        InputError: if a row has fewer than ``n`` items left.
    """
    rng = np.random.default_rng(seed)
    width = high - low
    left = width - np.bincount(excluded_rows, minlength=n_rows)
    if n_rows and int(left.min()) < n:
        raise InputError(
            f"sampled={n}: a user has only {int(left.min())} of {width} items left to draw from; "
            "give a smaller number, or None for a full ranking"
        )
    taken = np.sort(excluded_rows * width + (excluded_items - low))
    drawn = np.full((n_rows, n), -1, dtype=np.int64)
    open_rows, open_columns = np.nonzero(drawn < 0)
    # Redraw what is taken or repeated: each draw is uniform over what the row has left, whatever the order.
    for _ in range(64):
        drawn[open_rows, open_columns] = rng.integers(0, width, len(open_rows))
        keys = drawn + np.arange(n_rows)[:, None] * width
        at = np.minimum(np.searchsorted(taken, keys), max(len(taken) - 1, 0))
        bad = taken[at] == keys if len(taken) else np.zeros_like(keys, dtype=bool)
        order = np.argsort(drawn, axis=1, kind="stable")
        ordered = np.take_along_axis(drawn, order, axis=1)
        repeated = np.zeros_like(bad)
        np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        open_rows, open_columns = np.nonzero(bad | repeated)
        if not len(open_rows):
            return drawn + low
    for row in np.unique(open_rows):  # nearly the whole catalogue is wanted: choose from what is left
        free = np.setdiff1d(np.arange(width), excluded_items[excluded_rows == row] - low)
        drawn[row] = rng.choice(free, n, replace=False)
    return drawn + low


def sampled_ranks(task: Task, train: TrainSet, parts: Sequence[Heldout], scores: Scores, n: int, seed: int, progress: bool) -> Ranks:
    """Ranks of each row's targets among themselves and ``n`` random items.

    Args:
        task: rows and targets.
        train: the training set.
        parts: all further parts; an item that the user has in any of them is not drawn.
        scores: the model's scores.
        n: random items per row.
        seed: of the draw.
        progress: show a bar on stderr.

    Raises:
        InputError: if ``n`` is below 1 or a user has fewer items left, or a score is not finite.
    """
    if n < 1:
        raise InputError(f"sampled is {n}; give the number of random items, at least 1, or None for a full ranking")
    width = max(train.n_items, 1)
    wanted = np.zeros(train.n_users, dtype=bool)
    wanted[task.users] = True
    owners, owned, _ = events_of(train, parts, wanted)
    taken = distinct(owners * width + owned)
    greater, equal = [], []
    blocks = list(blocks_of(task, train, CHUNK))
    for lo, hi, first, last in track(blocks, "evaluating", len(blocks), progress):
        rows, items, _, _ = task.block(lo, hi)
        users = task.users[lo:hi]
        starts, stops = np.searchsorted(taken, users * width), np.searchsorted(taken, (users + 1) * width)
        # Rows of a block are neighbours in `taken`, with nothing between them but users without a target, who were left out above.
        excluded, excluded_rows = taken[starts[0] : stops[-1]] % width, np.repeat(np.arange(hi - lo), stops - starts)
        negatives = sample_negatives(n, first, last, hi - lo, excluded_rows, excluded, (seed, lo))
        # Columns: the drawn items, then the targets, padded.
        counts = np.diff(task.offsets[lo : hi + 1])
        places = np.arange(len(items)) - np.repeat(task.offsets[lo:hi] - task.offsets[lo], counts)
        candidates = np.full((hi - lo, n + int(counts.max())), -1, dtype=np.int64)
        candidates[:, :n] = negatives
        candidates[rows, n + places] = items
        values = np.empty(candidates.shape, dtype=np.float32)
        vectors = scores.encode(lo, hi) if scores.by_vectors else None
        for a in range(0, hi - lo, 64):  # 64 rows at a time keep the gathered vectors small
            b = min(a + 64, hi - lo)
            chosen = torch.from_numpy(np.maximum(candidates[a:b], 0))
            if vectors is not None:
                gathered = scores.items[chosen.to(scores.items.device)]  # (64, C, D)
                block = torch.einsum("bcd,bd->bc", gathered, vectors[a:b])
            else:
                block = scores.whole(lo + a, lo + b)
                block = block.gather(1, chosen.to(block.device))
            values[a:b] = block.cpu().numpy()
        bad = np.argwhere(~np.isfinite(values) & (candidates >= 0))
        if len(bad):
            row, column = bad[0]
            place = scores.place(lo + int(row), int(candidates[row, column]))
            raise InputError(f"the score is {values[row, column]} {place}; a model must give finite scores (float32)")
        values[candidates < 0] = -np.inf
        own = values[rows, n + places]
        for start in range(0, len(rows), 4096):
            part = slice(start, start + 4096)
            lines = values[rows[part]]
            greater.append(np.count_nonzero(lines > own[part, None], axis=1))
            equal.append(np.count_nonzero(lines == own[part, None], axis=1))
    return Ranks(np.concatenate(greater).astype(np.int64), np.concatenate(equal).astype(np.int64), task.offsets)
