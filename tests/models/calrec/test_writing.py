"""Drawing texts: reproducible, independent of the company, with the model's own log-probabilities, and alike for own and named models."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, CohereForCausalLM

from lexirec.errors import InputError
from lexirec.models.calrec import writing
from lexirec.models.calrec.config import CALRecConfig
from lexirec.models.calrec.lm import HubDecoder, make_lm
from lexirec.models.calrec.sequences import Packed, Pieces
from lexirec.models.calrec.vocabulary import Vocabulary
from lexirec.models.calrec.writing import Sampling, Trie, Written, draw, uniform, write
from lexirec.models.layers.decoder import Decoder
from lexirec.models.layers.sequence import Layout
from tests.models.calrec import worlds

SAMPLING = Sampling(samples=8, temperature=0.7, max_new_tokens=10, seed=0)


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    return worlds.pieces()


@pytest.fixture(scope="module")
def model(pieces: Pieces) -> Decoder:
    return worlds.decoder(pieces, spread=0.25)


def prompts(pieces: Pieces, n: int = 9) -> Packed:
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 6, n)
    return pieces.joined(rng.integers(0, len(worlds.TEXTS), int(counts.sum())), counts)


def catalogue(pieces: Pieces) -> Trie:
    targets = pieces.targets(np.arange(len(worlds.TEXTS)))
    return Trie(targets.tokens, targets.lengths, pieces.vocabulary.end)


def row(packed: Packed, i: int) -> Packed:
    start = int(packed.lengths[:i].sum())
    return Packed(packed.tokens[start : start + packed.lengths[i]], packed.lengths[i : i + 1], packed.borders[i : i + 1])


def same(a: Written, b: Written) -> bool:
    return a.texts == b.texts and a.counts.tolist() == b.counts.tolist() and bool(np.allclose(a.logprobs, b.logprobs, atol=1e-4))


def test_a_history_is_answered_alike_in_any_company(pieces: Pieces, model: Decoder) -> None:
    asked = prompts(pieces)
    together = write(model, pieces.vocabulary, asked, SAMPLING)
    assert all(same(a, b) for a, b in zip(together, write(model, pieces.vocabulary, asked, SAMPLING, block=2), strict=True))
    for i in (0, 4, 8):
        assert same(together[i], write(model, pieces.vocabulary, row(asked, i), SAMPLING)[0])
    assert not same(together[0], together[1])
    other = write(model, pieces.vocabulary, asked, Sampling(8, 0.7, 10, seed=1))
    assert not all(same(a, b) for a, b in zip(together, other, strict=True))
    more = write(model, pieces.vocabulary, asked, Sampling(16, 0.7, 10, seed=0))
    assert all(set(a.texts) <= set(b.texts) for a, b in zip(together, more, strict=True))  # the first samples stay


def test_every_history_gets_its_samples_and_texts_are_distinct(pieces: Pieces, model: Decoder) -> None:
    for one in write(model, pieces.vocabulary, prompts(pieces), SAMPLING):
        assert one.counts.sum() == 8 and len(set(one.texts)) == len(one.texts) == len(one.logprobs)
        assert (np.diff(one.logprobs) <= 0).all() and np.isfinite(one.logprobs).all()


@torch.no_grad()
def test_log_probability_is_the_untempered_sum_with_the_end(pieces: Pieces, model: Decoder) -> None:
    asked, vocabulary, trie = row(prompts(pieces), 2), pieces.vocabulary, catalogue(pieces)
    for most, ended in ((16, True), (3, False)):  # texts of catalogue items, which are cut into the same tokens again
        found = write(model, vocabulary, asked, Sampling(8, 0.7, most, 0), trie=trie)[0]
        for text, logprob in zip(found.texts, found.logprobs, strict=True):
            ids, _ = vocabulary.encode([text])
            said = [*ids.tolist(), *([vocabulary.end] if ended else [])]
            tokens = torch.tensor([*asked.tokens.tolist(), *said])
            scores = model.scores(model(tokens[:-1], Layout(np.array([len(tokens) - 1])))).log_softmax(1)
            total = scores[len(asked.tokens) - 1 :].gather(1, tokens[len(asked.tokens) :, None]).sum().item()
            assert len(ids) == 3 or ended
            assert logprob == pytest.approx(total, abs=1e-3)


def test_even_draws_share_the_samples_out(pieces: Pieces, model: Decoder) -> None:
    """A token of probability p follows in c p of c samples, up to rounding; alone and in company; the mean is that of independent draws."""
    asked, even = prompts(pieces), Sampling(8, 0.7, 10, seed=0, even=True)
    together = write(model, pieces.vocabulary, asked, even)
    assert all(same(a, b) for a, b in zip(together, write(model, pieces.vocabulary, asked, even, block=2), strict=True))
    assert same(together[3], write(model, pieces.vocabulary, row(asked, 3), even)[0])
    assert all(one.counts.sum() == 8 for one in together)
    both = [write(model, pieces.vocabulary, asked, Sampling(8, 0.15, 10, 0, even=kind)) for kind in (True, False)]
    distinct = [sum(len(one.texts) for one in found) for found in both]
    assert distinct[0] > distinct[1]
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    scores = torch.from_numpy(np.log(probabilities)).float()[None] * 0.7
    counts = np.zeros((200, 4))
    for seed in range(200):
        samples = writing._Samples(np.array([3], dtype=np.uint64), Sampling(8, 0.7, 2, seed, even=True), end=9)
        samples.draw(scores.clone(), None)
        counts[seed] = np.bincount(samples.tokens[:, 0], minlength=4)
        assert (np.abs(counts[seed] - 8 * probabilities) < 1).all()
    assert np.allclose(counts.mean(0), 8 * probabilities, atol=0.1)
    one = [write(model, pieces.vocabulary, asked, Sampling(1, 0.7, 10, 0, even=kind)) for kind in (True, False)]
    assert all(same(a, b) for a, b in zip(*one, strict=True))


def test_draws_follow_the_tempered_probabilities() -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 12) * 2
    nodes = np.repeat(np.arange(3), 20_000)
    chance = uniform(0, np.arange(60_000).astype(np.uint64), np.zeros(60_000, dtype=np.int64), 0)
    for temperature in (0.5, 0.8):
        taken, logprob = draw(scores.clone(), nodes, chance, temperature, None)
        expected = (scores / temperature).softmax(1).numpy()
        for node in range(3):
            assert np.allclose(np.bincount(taken[nodes == node], minlength=12) / 20_000, expected[node], atol=0.015)
        torch.testing.assert_close(torch.from_numpy(logprob), scores.log_softmax(1)[nodes, taken], atol=1e-5, rtol=1e-4)
    allowed = torch.zeros(3, 12, dtype=torch.bool)
    allowed[:, [2, 5]] = True
    taken, logprob = draw(scores.clone(), nodes, chance, 0.5, allowed)
    assert set(taken.tolist()) == {2, 5}
    torch.testing.assert_close(torch.from_numpy(logprob), scores.log_softmax(1)[nodes, taken], atol=1e-5, rtol=1e-4)


def test_a_draw_below_what_float32_tells_from_zero_has_a_log_probability() -> None:
    scores = torch.tensor([[0.0, 200.0, -300.0]])
    allowed = torch.tensor([[False, False, True]])
    taken, logprob = draw(scores, np.array([0]), np.array([0.3], dtype=np.float32), 0.5, allowed)
    assert taken.tolist() == [2] and logprob[0] == pytest.approx(-500.0)


def test_uniform_numbers_look_uniform_and_uncorrelated() -> None:
    keys = np.arange(50_000, dtype=np.uint64)
    zero = np.zeros(50_000, dtype=np.int64)
    a, b, c = uniform(0, keys, zero, 0), uniform(0, keys, zero + 1, 0), uniform(0, keys, zero, 1)
    for x in (a, b, c):
        assert x.min() >= 0 and x.max() < 1 and np.allclose(np.histogram(x, 10, (0, 1))[0] / 5000, 1, atol=0.06)
    assert np.abs(np.corrcoef([a, b, c]) - np.eye(3)).max() < 0.02


def test_only_catalogue_texts_under_the_trie(pieces: Pieces, model: Decoder) -> None:
    trie, asked = catalogue(pieces), prompts(pieces, 4)
    found = write(model, pieces.vocabulary, asked, Sampling(20, 1.0, 16, 0), trie=trie)
    assert all(set(one.texts) <= set(worlds.TEXTS) for one in found)
    assert len({text for one in found for text in one.texts}) > 4
    alone = write(model, pieces.vocabulary, row(asked, 1), Sampling(20, 1.0, 16, 0), trie=trie)[0]
    assert same(found[1], alone)


def named(pieces: Pieces, lm: str) -> object:
    return make_lm(CALRecConfig(lm=lm, max_tokens=256, max_new_tokens=16), pieces.vocabulary)


def test_a_named_llama_writes_what_the_own_decoder_writes(pieces: Pieces, model: Decoder, tmp_path: Path) -> None:
    other = named(pieces, worlds.llama_folder(tmp_path / "llama", model, pieces.vocabulary))
    asked = prompts(pieces, 6)
    ours = write(model, pieces.vocabulary, asked, SAMPLING, block=4)
    theirs = write(other, pieces.vocabulary, asked, SAMPLING, block=4)  # type: ignore[arg-type]
    assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def test_padding_in_front_of_learned_positions_changes_nothing(pieces: Pieces, tmp_path: Path) -> None:
    lm = named(pieces, worlds.gpt_folder(tmp_path / "gpt", pieces.vocabulary))
    asked = prompts(pieces, 5)
    sampling = Sampling(6, 0.3, 6, 0)
    together = write(lm, pieces.vocabulary, asked, sampling)  # type: ignore[arg-type]
    alone = [write(lm, pieces.vocabulary, row(asked, i), sampling)[0] for i in range(5)]  # type: ignore[arg-type]
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("fitting", [40, 4.5, 0.4])
def test_a_named_model_keeps_to_the_memory(fitting: float, pieces: Pieces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for all prompts, for some, and for some of one prompt's samples: the same texts."""
    lm = named(pieces, worlds.gpt_folder(tmp_path / "gpt", pieces.vocabulary))
    asked, sampling = prompts(pieces, 7), Sampling(6, 2.0, 12, 0)
    expected = write(lm, pieces.vocabulary, asked, sampling)  # type: ignore[arg-type]
    held: list[int] = []

    def look(body: torch.nn.Module, inputs: object, out: object) -> None:
        held.append(sum(layer.keys.nbytes + layer.values.nbytes for layer in out.past_key_values.layers))  # type: ignore[attr-defined]

    lm.body.register_forward_hook(look)  # type: ignore[attr-defined]
    memory = int(fitting * 6 * (int(asked.lengths.max()) + 12) * lm.token_bytes)  # type: ignore[attr-defined]
    monkeypatch.setattr(writing, "MEMORY", memory)
    found = write(lm, pieces.vocabulary, asked, sampling)  # type: ignore[arg-type]
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    assert 0.3 * min(memory, max(held)) < max(held) <= memory


def test_an_own_model_takes_fewer_long_prompts_at_a_time(model: Decoder) -> None:
    sampling, each = Sampling(2, 0.5, 20, 0), 8 * model.dim * model.shape.layers
    for length in (50, 2_000, 40_000):
        blocks = writing._blocks(model, np.full(600, length), sampling, None)
        held = [len(places) * each * (length + 2 * 20) for places, _ in blocks]
        assert max(held) <= writing.MEMORY and (len(blocks[0][0]) == 256 or max(held) > 0.9 * writing.MEMORY)


def test_states_of_any_size_are_no_reason_to_refuse_a_model(pieces: Pieces, tmp_path: Path) -> None:
    """A published model's norm may give states in the hundreds: what rounding makes of these is no way of its own."""
    large = worlds.decoder(pieces)
    with torch.no_grad():
        large.norm.weight *= 3e4
    assert isinstance(named(pieces, worlds.llama_folder(tmp_path / "llama", large, pieces.vocabulary)), HubDecoder)
    scaled = AutoModelForCausalLM.from_pretrained(worlds.gpt_folder(tmp_path / "gpt", pieces.vocabulary))
    with torch.no_grad():
        scaled.transformer.ln_f.weight *= 3e4
    scaled.save_pretrained(tmp_path / "gpt")
    assert isinstance(named(pieces, str(tmp_path / "gpt")), HubDecoder)


def test_scores_made_in_a_way_of_their_own_are_refused(pieces: Pieces, tmp_path: Path) -> None:
    shape = CohereConfig(
        vocab_size=len(pieces.vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=None, eos_token_id=pieces.vocabulary.end, pad_token_id=None, logit_scale=0.5,
    )  # fmt: skip
    CohereForCausalLM(shape).save_pretrained(tmp_path / "cohere")
    with pytest.raises(InputError, match="computes its scores from its states in a way of its own"):
        named(pieces, str(tmp_path / "cohere"))


@torch.no_grad()
def test_bytes_of_a_token_are_those_that_the_cache_has(pieces: Pieces, tmp_path: Path) -> None:
    for lm in (worlds.gpt_folder(tmp_path / "gpt", pieces.vocabulary), "minilm"):
        model = named(pieces, lm)
        cache = model.body(input_ids=torch.arange(6).view(2, 3), use_cache=True).past_key_values  # type: ignore[attr-defined]
        assert sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers) == 6 * model.token_bytes  # type: ignore[attr-defined]


def test_models_that_could_not_write_are_refused_before_the_training(pieces: Pieces, tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    shape = MambaConfig(
        vocab_size=len(pieces.vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        state_size=4,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=None,
    )
    MambaForCausalLM(shape).save_pretrained(tmp_path / "mamba")
    with pytest.raises(InputError, match=r"mamba keeps no keys and values of what it has read.*name a transformer"):
        named(pieces, str(tmp_path / "mamba"))
    folder = worlds.gpt_folder(tmp_path / "gpt", pieces.vocabulary)
    more = Vocabulary.restored(pieces.vocabulary.state())
    more.tokenizer.add_tokens(["<one more>"])
    with pytest.raises(InputError, match=r"gpt has (\d+) tokens and its embedding (\d+) rows.*resize_token_embeddings"):
        make_lm(CALRecConfig(lm=folder, max_tokens=256, max_new_tokens=16), more)


def test_an_immediate_end_gives_an_empty_text(pieces: Pieces) -> None:
    model = worlds.decoder(pieces)
    with torch.no_grad():
        model.norm.weight.zero_()  # all scores alike
        model.tokens.weight[0] += 0
    original = model.scores
    end = 50 * torch.nn.functional.one_hot(torch.tensor(pieces.vocabulary.end), model.shape.vocabulary)
    model.scores = lambda states: original(states) + end  # type: ignore[method-assign]
    found = write(model, pieces.vocabulary, prompts(pieces, 2), SAMPLING)
    assert [one.texts for one in found] == [[""], [""]] and [one.counts.tolist() for one in found] == [[8], [8]]
