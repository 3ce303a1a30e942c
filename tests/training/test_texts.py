"""Pools of texts, tokens kept flat, masked words, gradients by parts."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lexirec.training.gradients import Parts
from lexirec.training.texts import UNASKED, TextPool, TokenStore, mask_words


def test_masked_words_have_the_specs_shares() -> None:
    rng = np.random.default_rng(0)
    tokens = np.tile(np.concatenate([[101], np.arange(1000, 2000), [102, 0, 0]]), 200)  # 1000 eligible of each text
    masked, labels = mask_words(tokens, [0, 101, 102, 103], 103, 30_522, rng)
    chosen = labels != UNASKED
    assert not chosen[np.isin(tokens, [0, 101, 102])].any()
    assert (labels[chosen] == tokens[chosen]).all()
    assert (masked[~chosen] == tokens[~chosen]).all()
    per_text = np.array([(masked[chosen] == 103).sum(), (masked[chosen] == tokens[chosen]).sum(), chosen.sum()]) / 200
    assert per_text == pytest.approx([120, 15, 150], abs=1.5)
    other = chosen & (masked != 103) & (masked != tokens)
    assert other.sum() / 200 == pytest.approx(15, abs=1.0)
    assert masked.min() >= 0
    assert masked.max() < 30_522


def test_a_draw_is_uniform_over_the_texts_that_an_entity_has() -> None:
    pool = TextPool([["a", "b"], ["c", ""], ["d", " "], ["e", "f"]])
    assert pool.sizes.tolist() == [4, 2]
    drawn = pool.draw(np.repeat([0, 1], 40_000), np.random.default_rng(0))
    texts = np.array(pool.texts)[drawn]
    for text, expected in (("a", 0.25), ("e", 0.25), ("b", 0.5), ("f", 0.5)):
        part = texts[:40_000] if text in "acde" else texts[40_000:]
        assert (part == text).mean() == pytest.approx(expected, abs=0.01)


def test_equal_texts_are_kept_once_and_still_count_as_versions() -> None:
    pool = TextPool([["a", "x"], ["a", "y"], ["b", "x"]])
    assert pool.texts == ["a", "x", "y", "b"]
    drawn = np.array(pool.texts)[pool.draw(np.zeros(30_000, dtype=np.int64), np.random.default_rng(0))]
    assert (drawn == "a").mean() == pytest.approx(2 / 3, abs=0.01)


def test_a_text_is_tokenised_when_first_drawn_and_never_again() -> None:
    asked: list[str] = []

    def tokenize(texts: list[str]) -> list[list[int]]:
        asked.extend(texts)
        return [[ord(letter) for letter in text] for text in texts]

    store = TokenStore(["ab", "c", "def" * 40_000, "gh"], tokenize)
    flat, offsets = store.gather(np.array([1, 0]))
    assert [bytes(flat[a:b].astype(np.uint8)).decode() for a, b in itertools.pairwise(offsets)] == ["c", "ab"]
    flat, offsets = store.gather(np.array([2, 0, 1]))  # longer than the array has room for
    parts = [bytes(flat[a:b].astype(np.uint8)).decode() for a, b in itertools.pairwise(offsets)]
    assert parts == ["def" * 40_000, "ab", "c"]
    assert sorted(asked) == ["ab", "c", "def" * 40_000]


def test_gradients_of_parts_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    network[0].bias.requires_grad = False
    x = torch.randn(10, 3)
    whole = 0.3 * network(x).square().mean()
    expected = torch.autograd.grad(whole, [p for p in network.parameters() if p.requires_grad])
    parts = Parts(network)
    for rows in x.split(4):
        parts.add(network(rows).square().sum() / len(x))
    total = 0.3 * parts.total()
    assert total.item() == pytest.approx(whole.item())
    total.backward()
    for found, wanted in zip((p.grad for p in network.parameters() if p.requires_grad), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert network[0].bias.grad is None
    frozen = Parts(nn.Linear(1, 1))
    frozen.add(torch.tensor(2.0))
    assert not frozen.total().requires_grad
