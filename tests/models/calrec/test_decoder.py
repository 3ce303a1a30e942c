"""The own decoder: the same as Hugging Face's Llama, packed or padded, read at once or token by token."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from lexirec.models.calrec.lm import token_losses
from lexirec.models.layers.decoder import Branches, Decoder, Shape, inner_width, like_llama
from lexirec.models.layers.sequence import Layout
from lexirec.training.products import WHOLE

SHAPE = Shape(vocabulary=50, dim=16, layers=2, heads=2, inner=64)


@pytest.fixture
def model() -> Decoder:
    torch.manual_seed(0)
    found = Decoder(SHAPE).double()
    with torch.no_grad():
        for weight in found.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return found.float().eval()


def llama(model: Decoder) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, tie_word_embeddings=True,
        rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0}, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    other = LlamaForCausalLM(config)
    missing = other.load_state_dict(like_llama(model), strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys
    other.tie_weights()
    return other.eval()


def packed(lengths: list[int]) -> tuple[torch.Tensor, Layout]:
    return torch.randint(0, 50, (sum(lengths),), generator=torch.Generator().manual_seed(1)), Layout(np.array(lengths))


def test_states_and_gradients_equal_llamas(model: Decoder) -> None:
    other = llama(model)
    lengths = [9, 8, 4, 1]
    tokens, layout = packed(lengths)
    ours = model.scores(model(tokens, layout))
    theirs = torch.cat([other(input_ids=part[None]).logits[0] for part in tokens.split(lengths)])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    torch.testing.assert_close(model.tokens.weight.grad, other.model.embed_tokens.weight.grad, atol=1e-4, rtol=1e-4)
    for number in range(2):
        mine, his = model.blocks[number], other.model.layers[number]
        both = [(mine.out.weight, his.self_attn.o_proj.weight), (mine.down.weight, his.mlp.down_proj.weight)]
        both += [(mine.norm_attention.weight, his.input_layernorm.weight)]
        for a, b in both:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)
        queries = torch.cat([his.self_attn.q_proj.weight.grad, his.self_attn.k_proj.weight.grad, his.self_attn.v_proj.weight.grad])
        torch.testing.assert_close(mine.query_key_value.weight.grad, queries, atol=1e-4, rtol=1e-4)


def test_a_sequence_does_not_see_its_neighbours(model: Decoder) -> None:
    tokens, layout = packed([7, 5, 5, 2])
    together = model(tokens, layout)
    start = 0
    for length in (7, 5, 5, 2):
        alone = model(tokens[start : start + length], Layout(np.array([length])))
        torch.testing.assert_close(together[start : start + length], alone, atol=1e-5, rtol=1e-4)
        start += length


def test_products_in_bfloat16_meet_few_shapes(model: Decoder) -> None:
    """On a CPU each new shape costs compiling and memory that never comes back; what is filled up changes nothing."""
    shapes: set[tuple[int, ...]] = set()

    class Recorded(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.mm.default and args[0].dtype == torch.bfloat16:
                shapes.update((tuple(args[0].shape), tuple(args[1].shape)))
            return function(*args, **(kwargs or {}))

    for lengths in ([9, 8, 4, 1], [7, 7], [5]):
        tokens, layout = packed(lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16), Recorded():
            states = model(tokens, layout)
            token_losses(model, states, tokens, torch.ones(len(tokens))).backward()
        assert states.shape == (len(tokens), SHAPE.dim)
        torch.testing.assert_close(states, model(tokens, layout), atol=0.15, rtol=0.05)
    sizes = {size for shape in shapes for size in shape}
    assert sizes <= {WHOLE, 128, SHAPE.vocabulary, SHAPE.dim, 3 * SHAPE.dim, SHAPE.inner, 2 * SHAPE.inner}


@torch.no_grad()
def test_branches_equal_reading_anew(model: Decoder) -> None:
    """Forks, ends, a compaction and the loss of a prompt: every branch's state is that of its whole text read at once."""
    lengths = [6, 4, 3]
    tokens, layout = packed(lengths)
    prompts = [part.tolist() for part in tokens.split(lengths)]
    states, branches = Branches.start(model, tokens, layout)
    rng = np.random.default_rng(0)
    texts, owners, alive = [list(p) for p in prompts], np.arange(3), np.arange(3)
    for step in range(24):
        for row, text in enumerate(texts if step % 4 < 2 or step in (10, 11, 12) else []):
            alone = model(torch.tensor(text), Layout(np.array([len(text)])))[-1]
            torch.testing.assert_close(states[row], alone, atol=2e-5, rtol=1e-3)
        children = rng.integers(0, 4, len(texts)) if step < 4 else np.ones(len(texts), dtype=int)
        if step == 10:
            children[owners == 1] = 0  # a prompt ends
        if step == 18:
            children[::2] = 0
        children[0] = max(children[0], 1)
        parents = np.repeat(np.arange(len(texts)), children)
        taken = rng.integers(0, 50, len(parents))
        texts = [[*texts[p], int(t)] for p, t in zip(parents, taken, strict=True)]
        owners = owners[parents]
        if step == 11:
            branches.keep(np.searchsorted(alive, np.unique(owners)))
            alive = np.unique(owners)
        states = branches.extend(taken, parents, np.searchsorted(alive, owners))
    assert branches.prompt.shape[1] == len(alive) < 3
    assert branches.own.shape[1] < 3 * len(texts)


def test_sizes_of_the_specification() -> None:
    for dim, layers, millions in ((192, 4, 3.3), (256, 6, 6.8), (512, 8, 29.0)):
        heads = dim // 64
        weights = sum(p.numel() for p in Decoder(Shape(8192, dim, layers, heads, inner_width(dim))).parameters())
        assert weights / 1e6 == pytest.approx(millions, rel=0.035)
