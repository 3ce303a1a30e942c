"""Texts of the next item, drawn from the language model: many samples per history that share what they have in common.

Every uniform number is a function of (seed, history, sample, step), so a history is answered alike in any company. (Even draws also depend
on how many samples grow at a time, which is all of a history's unless a large named model leaves no room for them.) Samples that have
written the same so far are one node of a tree: the model reads each node once, and attention to the prompt is shared by all of them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec.models.calrec.lm import HubDecoder, LanguageModel, evaluating
from lexirec.models.calrec.sequences import Packed
from lexirec.models.calrec.vocabulary import Vocabulary
from lexirec.models.layers.decoder import Decoder
from lexirec.models.layers.sequence import Layout, ranges
from lexirec.progress import track

Keys = NDArray[np.uint64]
MEMORY = 512 << 20
"""Bytes of the prompts' and the branches' keys and values, about; of a named model never more."""
BELOW_ONE = 1 - 2.0**-24
"""The largest number of float32 below 1."""
USUAL = 40
"""Tokens of an item text, about."""


@dataclass(frozen=True, eq=False)
class Written:
    """What was written for one history: distinct texts, most probable first.

    Attributes:
        texts: distinct.
        logprobs: ``(n,)`` float32, sum of the untempered log-probabilities of a text's tokens, its end included.
        counts: ``(n,)`` int32, how many samples gave each.
    """

    texts: list[str]
    logprobs: NDArray[np.float32]
    counts: NDArray[np.int32]


def _stir(x: Keys) -> Keys:
    """splitmix64's finaliser (Steele et al., 2014): every bit of the answer depends on every bit of ``x``."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seed: int, keys: Keys, samples: NDArray[np.int64], step: int) -> NDArray[np.float32]:
    """Numbers in [0, 1) that depend on nothing but their arguments, ``(n,)``.

    >>> keys = np.array([7, 7, 8], dtype=np.uint64)
    >>> a = uniform(1, keys, np.array([0, 1, 0]), 0)
    >>> bool((a[:1] == uniform(1, keys[:1], np.array([0]), 0)).all()), len(set(a.tolist()))
    (True, 3)
    """
    gold = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        x = _stir(keys + gold * np.uint64(seed + 1))
        x = _stir(x + gold * (samples.astype(np.uint64) + np.uint64(1)))
        x = _stir(x + gold * np.uint64(step + 1))
    return ((x >> np.uint64(40)).astype(np.float32)) * np.float32(2.0**-24)


def key_of(tokens: NDArray[np.int32]) -> int:
    """The number by which a prompt draws."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(tokens, dtype="<i4").tobytes(), digest_size=8).digest(), "little")


class Trie:
    """Which tokens may follow if only catalogue texts may be written.

    Texts lie sorted by their tokens; what starts alike is a range of them, and a node is its range.

    Args:
        items: tokens of each text, one after another.
        lengths: of each.
        end: the end-of-text token.
    """

    def __init__(self, items: NDArray[np.int32], lengths: NDArray[np.int64], end: int) -> None:
        table = np.full((len(lengths), int(lengths.max()) + 2), -1, dtype=np.int64)
        inside = np.arange(table.shape[1])[None, :] < lengths[:, None]
        table[inside] = items
        table[np.arange(len(lengths)), lengths] = end
        self.table = np.unique(table, axis=0)

    def roots(self, n: int) -> NDArray[np.int64]:
        """The node of the empty text, ``n`` times: ``(n, 2)``."""
        return np.tile(np.array([0, len(self.table)]), (n, 1))

    def allowed(self, nodes: NDArray[np.int64], step: int, size: int) -> NDArray[np.bool_]:
        """``(R, V)`` which tokens may come at ``step``."""
        counts = nodes[:, 1] - nodes[:, 0]
        mask = np.zeros((len(nodes), size), dtype=bool)
        mask[np.repeat(np.arange(len(nodes)), counts), self.table[ranges(nodes[:, 0], counts), step]] = True
        return mask

    def follow(self, nodes: NDArray[np.int64], tokens: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Nodes after one more token each, ``(R, 2)``."""
        column = self.table[:, step]
        found = [
            (lo + np.searchsorted(column[lo:hi], token), lo + np.searchsorted(column[lo:hi], token, side="right"))
            for (lo, hi), token in zip(nodes.tolist(), tokens.tolist(), strict=True)
        ]
        return np.array(found, dtype=np.int64).reshape(-1, 2)


def draw(
    scores: Tensor, nodes: NDArray[np.int64], chance: NDArray[np.float32], temperature: float, allowed: Tensor | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A token for each sample and its untempered log-probability.

    Args:
        scores: ``(R, V)`` float32 of the nodes.
        nodes: ``(n,)`` node of each sample, ascending.
        chance: ``(n,)`` in [0, 1): the first token whose cumulated tempered probability passes it is taken.
        temperature: divides the scores of the draw; the log-probability is that of the model.
        allowed: ``(R, V)`` tokens among which is drawn.
    """
    device = scores.device
    counts = np.bincount(nodes, minlength=len(scores))
    places = np.arange(len(nodes)) - (np.cumsum(counts) - counts)[nodes]
    row, place = torch.from_numpy(nodes).to(device), torch.from_numpy(places).to(device)
    likely = scores.softmax(1)
    if allowed is not None:
        tempered = (scores / temperature).masked_fill_(~allowed, -torch.inf).softmax(1)
    elif temperature == 0.5:  # the usual one, without a second exponential
        tempered = likely.square()
    else:
        tempered = (scores / temperature).softmax(1)
    cumulated = tempered.cumsum_(1)
    wanted = torch.zeros(len(scores), int(counts.max()), device=device)
    wanted[row, place] = torch.from_numpy(chance).to(device)
    wanted *= cumulated[:, -1:]
    taken = torch.searchsorted(cumulated, wanted, right=True)[row, place].clamp_(max=scores.shape[1] - 1)
    chosen = likely[row, taken].log()
    if not bool(torch.isfinite(chosen).all()):  # far below what float32 can tell from 0, or scores that are no numbers
        chosen = (scores[row, taken] - scores[row].logsumexp(1)).float()
    return taken.cpu().numpy(), chosen.cpu().numpy()


@dataclass(frozen=True)
class Sampling:
    """How texts are drawn.

    Attributes:
        samples: per history.
        temperature: of the draw.
        max_new_tokens: most tokens of a text.
        seed: of the draw.
        low: whether matrix products are in bfloat16.
        even: whether the ``c`` samples that have written the same so far share one number ``u``, and the ``k``-th of them takes
            ``(k + u) / c`` (systematic sampling): a token of probability ``p`` then follows in ``c p`` of them, rounded up or down, in
            place of a binomial number with that mean.
    """

    samples: int
    temperature: float
    max_new_tokens: int
    seed: int
    low: bool = False
    even: bool = False


class _Samples:
    """The samples of a block of prompts while they grow."""

    def __init__(self, keys: Keys, sampling: Sampling, end: int) -> None:
        self.sampling, self.end = sampling, end
        n = len(keys) * sampling.samples
        self.prompt = np.repeat(np.arange(len(keys)), sampling.samples)
        self.number = np.tile(np.arange(sampling.samples), len(keys))
        self.keys = keys[self.prompt]
        self.tokens = np.full((n, sampling.max_new_tokens), end, dtype=np.int32)
        self.logprob = np.zeros(n, dtype=np.float64)
        self.begin(np.arange(n))

    def begin(self, chosen: NDArray[np.int64]) -> None:
        """Let some of the samples, ascending, grow from their prompts."""
        self.active = chosen
        self.node = self.prompt.copy()
        self.step = 0

    def draw(self, scores: Tensor, allowed: Tensor | None) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Let every unfinished sample take a token; the distinct continuations: tokens, parents (nodes), prompts."""
        active = self.active
        order = np.argsort(self.node[active], kind="stable")
        active = active[order]
        if self.sampling.even:
            size = np.bincount(self.node[active])
            first = np.repeat(np.cumsum(size) - size, size)
            chance = uniform(self.sampling.seed, self.keys[active[first]], self.number[active[first]], self.step)
            chance = np.minimum((np.arange(len(active)) - first + chance) / np.repeat(size, size), BELOW_ONE).astype(np.float32)
        else:
            chance = uniform(self.sampling.seed, self.keys[active], self.number[active], self.step)
        taken, gained = draw(scores, self.node[active], chance, self.sampling.temperature, allowed)
        self.tokens[active, self.step] = taken
        self.logprob[active] += gained
        going = taken != self.end
        self.step += 1
        if self.step == self.sampling.max_new_tokens:
            going[:] = False
        active, taken = active[going], taken[going]
        pairs = self.node[active] * np.int64(scores.shape[1]) + taken
        distinct, node = np.unique(pairs, return_inverse=True)
        parents, tokens = np.divmod(distinct, scores.shape[1])
        prompts = np.zeros(len(distinct), dtype=np.int64)
        prompts[node] = self.prompt[active]
        self.node[active] = node
        self.active = active
        return tokens, parents, prompts


@torch.no_grad()
def _with_branches(lm: Decoder, prompts: Packed, samples: _Samples, trie: Trie | None) -> None:
    layout = Layout(prompts.lengths, lm.words.device)
    read = torch.from_numpy(prompts.tokens.astype(np.int64)).to(layout.device)
    states, branches = lm.start(read, layout)
    ranges_of = None if trie is None else trie.roots(len(prompts.lengths))
    alive = np.arange(len(prompts.lengths))  # prompts that the branches still hold
    while True:
        allowed = None
        if trie is not None and ranges_of is not None:
            allowed = torch.from_numpy(trie.allowed(ranges_of, samples.step, lm.shape.vocabulary)).to(layout.device)
        tokens, parents, owners = samples.draw(lm.scores(states).float(), allowed)
        if not len(tokens):
            return
        if trie is not None and ranges_of is not None:
            ranges_of = trie.follow(ranges_of[parents], tokens, samples.step - 1)
        present = np.unique(owners)
        if 4 * len(present) <= 3 * len(alive):
            branches.keep(np.searchsorted(alive, present))
            alive = present
        states = branches.extend(tokens, parents, np.searchsorted(alive, owners))


@torch.no_grad()
def _with_cache(lm: HubDecoder, prompts: Packed, samples: _Samples, trie: Trie | None) -> None:
    """The same with a Hugging Face model and its own cache, made once per prompt and then copied for the distinct continuations."""
    device = next(lm.body.parameters()).device
    lengths, n = prompts.lengths, len(prompts.lengths)
    longest = int(lengths.max())
    # Prompts end together: padding stands in front.
    tokens = np.zeros((n, longest), dtype=np.int64)
    mask = np.arange(longest)[None, :] >= (longest - lengths)[:, None]
    tokens[mask] = prompts.tokens
    seen = torch.from_numpy(mask.astype(np.int64)).to(device)
    options: dict[str, Any] = {"use_cache": True}
    if _takes_positions(lm.body):
        options["position_ids"] = (seen.cumsum(1) - 1).clamp(min=0)
    out = lm.body(input_ids=torch.from_numpy(tokens).to(device), attention_mask=seen, **options)
    states, cache = out.last_hidden_state[:, -1], out.past_key_values
    place = torch.from_numpy(lengths).to(device)
    nodes = None if trie is None else trie.roots(n)
    size = 0
    while True:
        scores = lm.scores(states).float()
        size = size or scores.shape[1]
        allowed = None
        if trie is not None and nodes is not None:
            allowed = torch.from_numpy(trie.allowed(nodes, samples.step, size)).to(device)
        following, parents, _ = samples.draw(scores, allowed)
        if not len(following):
            return
        if trie is not None and nodes is not None:
            nodes = trie.follow(nodes[parents], following, samples.step - 1)
        chosen = torch.from_numpy(parents).to(device)
        if len(parents) != len(seen) or not np.array_equal(parents, np.arange(len(seen))):
            cache.reorder_cache(chosen)
        seen = torch.cat([seen[chosen], seen.new_ones(len(parents), 1)], 1)
        place = place[chosen]
        if "position_ids" in options:
            options["position_ids"] = place[:, None]
        new = torch.from_numpy(following).to(device)[:, None]
        out = lm.body(input_ids=new, attention_mask=seen, past_key_values=cache, **options)
        states, cache = out.last_hidden_state[:, -1], out.past_key_values
        place = place + 1


def _takes_positions(body: Any) -> bool:
    import inspect

    return "position_ids" in inspect.signature(body.forward).parameters


def write(
    lm: LanguageModel,
    vocabulary: Vocabulary,
    prompts: Packed,
    sampling: Sampling,
    *,
    block: int | None = None,
    trie: Trie | None = None,
    progress: bool = False,
) -> list[Written]:
    """Texts of the next item for each prompt.

    Args:
        lm: the language model.
        vocabulary: its tokens.
        prompts: inputs without targets.
        sampling: how to draw.
        block: prompts worked on together; those of like length share a block. By default as many as keep to :data:`MEMORY`.
        trie: write nothing but its texts.
        progress: a bar on stderr.

    The answer for a prompt depends on it alone (up to rounding of the model's arithmetic), not on the others.
    """
    starts = np.cumsum(prompts.lengths) - prompts.lengths
    blocks = _blocks(lm, prompts.lengths, sampling, block)
    found: list[Written | None] = [None] * len(prompts.lengths)
    with evaluating(lm):
        for places, most in track(blocks, "writing", len(blocks), progress):
            lengths = prompts.lengths[places]
            part = Packed(prompts.tokens[ranges(starts[places], lengths)], lengths, lengths)
            keys = np.array([key_of(prompts.tokens[s : s + n]) for s, n in zip(starts[places], lengths, strict=True)], dtype=np.uint64)
            samples = _Samples(keys, sampling, vocabulary.end)
            device = next(lm.parameters()).device.type
            with torch.autocast(device, dtype=torch.bfloat16, enabled=sampling.low):
                for lo in range(0, len(samples.prompt), most):
                    samples.begin(np.arange(lo, min(lo + most, len(samples.prompt))))
                    if isinstance(lm, Decoder):
                        _with_branches(lm, part, samples, trie)
                    else:
                        _with_cache(lm, part, samples, trie)
            texts = _collect(samples, vocabulary, len(places))
            for place, text in zip(places.tolist(), texts, strict=True):
                found[place] = text
    return [text for text in found if text is not None]


def _blocks(lm: LanguageModel, lengths: NDArray[np.int64], sampling: Sampling, block: int | None) -> list[tuple[NDArray[np.int64], int]]:
    """Places of prompts worked on together, longest first, and how many of their samples grow at a time: all, or as many as fit of one."""
    order = np.argsort(-lengths, kind="stable")
    found: list[tuple[NDArray[np.int64], int]] = []
    lo = 0
    while lo < len(order):
        if block is not None:
            size, most = block, block * sampling.samples
        elif isinstance(lm, Decoder):  # a prompt is kept once, and samples share much
            each = 8 * lm.dim * lm.shape.layers  # bytes of a token's keys and values
            tokens = int(lengths[order[lo]]) + sampling.samples * min(sampling.max_new_tokens, USUAL)
            size = int(np.clip(MEMORY // (each * tokens), 4, 256))
            most = size * sampling.samples
        else:  # each branch has a copy of its prompt, and all may differ
            most = max(MEMORY // (lm.token_bytes * (int(lengths[order[lo]]) + sampling.max_new_tokens)), 1)
            size = int(np.clip(most // sampling.samples, 1, 256))
        found.append((order[lo : lo + size], most))
        lo += size
    return found


def _collect(samples: _Samples, vocabulary: Vocabulary, n: int) -> list[Written]:
    """Distinct texts of each prompt, most probable first."""
    rows = np.concatenate([samples.prompt[:, None].astype(np.int32), samples.tokens], 1)
    distinct, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
    lengths = (distinct[:, 1:] != samples.end).cumprod(1).sum(1)
    texts = vocabulary.decode([row[1 : 1 + length].tolist() for row, length in zip(distinct, lengths, strict=True)])
    logprobs = samples.logprob[first]
    gathered: list[dict[str, list[float]]] = [{} for _ in range(n)]
    for owner, text, logprob, count in zip(distinct[:, 0].tolist(), texts, logprobs.tolist(), counts.tolist(), strict=True):
        # Two token sequences may spell one text: the likelier speaks for both.
        entry = gathered[owner].setdefault(text, [logprob, 0])
        entry[0], entry[1] = max(entry[0], logprob), entry[1] + count
    found = []
    for entries in gathered:
        ordered: Sequence[tuple[str, list[float]]] = sorted(entries.items(), key=lambda pair: (-pair[1][0], pair[0]))
        found.append(
            Written(
                [text for text, _ in ordered],
                np.array([values[0] for _, values in ordered], dtype=np.float32),
                np.array([values[1] for _, values in ordered], dtype=np.int32),
            )
        )
    return found


__all__ = ["Sampling", "Trie", "Written", "draw", "key_of", "uniform", "write"]
