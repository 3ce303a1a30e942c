"""The training step: items 3 to 8 of the conformance list, a plain reference of the first step, and gradient caching."""

import math
import re
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lexirec.data.dataset import Heldout
from lexirec.errors import NonFiniteLossError
from lexirec.losses import calrec_total, contrast_bounds, next_item, next_item_weights, target_contrast, target_contrasts
from lexirec.models.calrec.lm import token_losses
from lexirec.models.calrec.sequences import Packed
from lexirec.models.calrec.stage_zero import Chains, WriteEverything
from lexirec.models.calrec.steps import Step, Towers, adamw, groups_of, held_out_losses
from lexirec.models.layers.sequence import Layout
from lexirec.training.loop import run_training
from lexirec.training.options import TrainingOptions
from tests.models.calrec import worlds

TARGETS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
AFTER = torch.tensor([[2.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
USERS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])


def test_next_item_loss_sums_or_means() -> None:
    logs = torch.tensor([0.5, 0.25]).log()
    assert next_item(logs, torch.tensor([2]), "sum").item() == pytest.approx(2.0794, abs=1e-4)
    assert next_item(logs, torch.tensor([2]), "mean").item() == pytest.approx(1.0397, abs=1e-4)
    both = next_item(torch.cat([logs, logs[:1]]), torch.tensor([2, 1]), "mean")
    assert both.item() == pytest.approx((1.0397 + math.log(2)) / 2, abs=1e-4)


def test_the_contrasts_run_over_the_other_tower() -> None:
    torch.testing.assert_close(target_contrasts(AFTER, TARGETS, 0.5), torch.tensor([0.463464, 0.807866, 2.525913]), atol=1e-5, rtol=0)
    torch.testing.assert_close(target_contrasts(USERS, TARGETS, 0.5), torch.tensor([0.142932, 0.239545, 3.550699]), atol=1e-5, rtol=0)
    assert target_contrast(AFTER, TARGETS, 0.5).item() == pytest.approx(1.265748, abs=1e-5)
    assert target_contrast(USERS, TARGETS, 0.5).item() == pytest.approx(1.311058, abs=1e-5)
    assert target_contrast(TARGETS, AFTER, 0.5).item() == pytest.approx(1.179418, abs=1e-5)  # the wrong direction differs
    assert target_contrast(TARGETS, USERS, 0.5).item() == pytest.approx(0.929000, abs=1e-5)


def test_total_for_three_betas() -> None:
    parts = torch.tensor(2.0), torch.tensor(1.265748), torch.tensor(1.311058)
    for beta, value in ((-0.025, 1.925442), (0.0, 1.908218), (0.025, 1.890995)):
        assert calrec_total(*parts, 0.125, beta).item() == pytest.approx(value, abs=1e-5)


def test_contrasts_are_bounded() -> None:
    low, equal, high = contrast_bounds(64, 0.5)
    assert (low, equal, high) == pytest.approx((0.767273, 4.158883, 8.143425), abs=1e-6)
    assert [round(contrast_bounds(n, 0.5)[0], 3) for n in (8, 32, 64, 128, 512)] == [0.121, 0.450, 0.767, 1.202, 2.338]
    for seed in range(5):
        torch.manual_seed(seed)
        x, y = torch.randn(64, 4), torch.randn(64, 4)
        assert low <= target_contrast(x, y, 0.5) <= high and low <= target_contrast(-y, y, 0.5) <= high
    ones = torch.ones(64, 3)
    assert target_contrast(ones, ones, 0.5).item() == pytest.approx(4.158883, abs=1e-5)


def test_history_tokens_have_no_part_in_the_next_item_loss() -> None:
    towers = worlds.towers()
    batch = worlds.batch()
    joint = towers.pieces.joined(batch.history, batch.counts, batch.targets)
    group = groups_of(joint.lengths, 10**9)[0]
    states, layout, tokens = towers.states(joint, group)
    states = states.detach().requires_grad_()
    rows, said, counts = towers.labels(joint, batch.targets, group, layout, tokens)
    weights = next_item_weights(torch.from_numpy(counts), "mean")
    token_losses(towers.lm, states[torch.from_numpy(rows)], torch.from_numpy(said), weights).backward()
    touched = np.flatnonzero(states.grad.abs().sum(1).numpy())
    assert touched.tolist() == sorted(rows.tolist())
    borders = joint.borders[group]
    assert min(rows - np.repeat(layout.starts, counts) - np.repeat(borders, counts)) == -1  # from the last input token on


def test_pooling_takes_the_two_parts_and_no_neighbour() -> None:
    towers = worlds.towers()
    states = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0], [5.0, 5.0], [9.0, 9.0], [7.0, 1.0]])
    packed = Packed(np.zeros(7, dtype=np.int32), np.array([5, 2]), np.array([3, 1]))
    found = towers.history_and_target(states, packed, np.array([0, 1]), Layout(np.array([5, 2])))
    torch.testing.assert_close(found[:, 0], torch.tensor([[1.3333, 0.6667], [2.5, 4.5]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, 1], states[5:7])


def test_the_target_tower_sees_no_history() -> None:
    towers = worlds.towers()
    alone = towers.pieces.targets(np.array([3, 5, 1]))
    vectors = towers.alone(alone, groups_of(alone.lengths, 10**9)[0])
    for row, item in zip(vectors, np.array([3, 5, 1])[groups_of(alone.lengths, 10**9)[0]], strict=True):
        tokens = torch.from_numpy(towers.pieces.item(int(item)).astype(np.int64))
        torch.testing.assert_close(row, towers.lm(tokens, Layout(np.array([len(tokens)]))).mean(0), atol=1e-5, rtol=1e-4)


def reference(towers: Towers, batch: Any, alpha: float, beta: float, tau: float, reduction: str) -> Tensor:
    """CALRec's loss one user at a time, with Hugging Face's calls on the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from lexirec.models.layers.decoder import like_llama

    shape, pieces = towers.lm.shape, towers.pieces
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.dim, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, tie_word_embeddings=True, rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict(like_llama(towers.lm), strict=False)
    model.tie_weights()
    towers.reference = model  # type: ignore[attr-defined]
    written, users, after, alone = [], [], [], []
    starts = np.cumsum(batch.counts) - batch.counts
    for row in range(len(batch.users)):
        history = batch.history[starts[row] : starts[row] + batch.counts[row]]
        prompt = pieces.joined(history, np.array([len(history)])).tokens.tolist()
        target = pieces.item(int(batch.targets[row])).tolist()
        tokens = torch.tensor([[*prompt, *target, pieces.vocabulary.end]])
        labels = tokens.clone()
        labels[0, : len(prompt)] = -100
        out = model(input_ids=tokens, labels=labels, output_hidden_states=True)
        written.append(out.loss * ((len(target) + 1) if reduction == "sum" else 1))
        states = out.hidden_states[-1][0]
        users.append(states[: len(prompt)].mean(0))
        after.append(states[len(prompt) : len(prompt) + len(target)].mean(0))
        alone.append(model(input_ids=torch.tensor([target]), output_hidden_states=True).hidden_states[-1][0].mean(0))
    u, t, v = (F.normalize(torch.stack(x), dim=1) for x in (users, after, alone))
    by_target = torch.stack([torch.logsumexp(t @ v[i] / tau, 0) - t[i] @ v[i] / tau for i in range(len(v))]).mean()
    by_user = torch.stack([torch.logsumexp(u @ v[i] / tau, 0) - u[i] @ v[i] / tau for i in range(len(v))]).mean()
    return (1 - alpha - beta) * torch.stack(written).mean() + alpha * by_target + beta * by_user


@pytest.mark.parametrize(("beta", "reduction"), [(-0.025, "mean"), (0.025, "sum")])
def test_first_step_equals_a_plain_reference(beta: float, reduction: str) -> None:
    towers, batch = worlds.towers(reduction), worlds.batch()
    loss = Step(towers, 0.5, 0.125, beta, 10**9).loss(batch)
    expected = reference(towers, batch, 0.125, beta, 0.5, reduction)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    model = towers.reference  # type: ignore[attr-defined]
    torch.testing.assert_close(towers.lm.tokens.weight.grad, model.model.embed_tokens.weight.grad, atol=1e-5, rtol=1e-3)
    for mine, other in zip(towers.lm.blocks, model.model.layers, strict=True):
        torch.testing.assert_close(mine.down.weight.grad, other.mlp.down_proj.weight.grad, atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(mine.out.weight.grad, other.self_attn.o_proj.weight.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("budget", [60, 200])
def test_gradient_caching_is_exact(budget: int, dropout: float) -> None:
    """A part at a time or at once: the same loss and gradients; with dropout, both passes of a part draw alike."""
    towers, batch = worlds.towers(dropout=dropout), worlds.batch(9)
    step = Step(towers, 0.5, 0.125, -0.025, budget)
    torch.manual_seed(5)
    loss = step.loss(batch)
    (2 * loss).backward()
    found = [p.grad.clone() for p in towers.lm.parameters()]
    assert len(groups_of(towers.pieces.joined(batch.history, batch.counts, batch.targets).lengths, budget)) > 1
    towers.lm.zero_grad()
    torch.manual_seed(5)
    step.budget = 10**9
    if dropout:  # the same parts, in one graph
        step = _in_one_graph(towers, batch, budget)
        (2 * step).backward()
    else:
        plain = step.loss(batch)
        assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
        (2 * plain).backward()
    for one, weight in zip(found, towers.lm.parameters(), strict=True):
        torch.testing.assert_close(one, weight.grad, atol=1e-5, rtol=1e-3)


def _in_one_graph(towers: Towers, batch: Any, budget: int) -> Tensor:
    joint, alone = towers.pieces.joined(batch.history, batch.counts, batch.targets), towers.pieces.targets(batch.targets)
    n, dim = len(batch.users), towers.lm.dim
    written, vectors = torch.zeros(()), torch.zeros(3, n, dim)
    for group in groups_of(joint.lengths, budget):
        value, found = towers.joint(joint, batch.targets, group, len(group) / n)
        written, vectors = written + value, vectors.index_put((torch.tensor([[0], [1]]), torch.from_numpy(group)[None]), found)
    for group in groups_of(alone.lengths, budget):
        vectors = vectors.index_put((torch.tensor([[2]]), torch.from_numpy(group)[None]), towers.alone(alone, group)[None])
    contrasts = target_contrast(vectors[1], vectors[2], 0.5), target_contrast(vectors[0], vectors[2], 0.5)
    return calrec_total(written, *contrasts, 0.125, -0.025)


def test_without_contrasts_only_the_next_item_counts() -> None:
    towers, batch = worlds.towers(), worlds.batch()
    step = Step(towers, 0.5, 0.0, 0.0, 10**9)
    loss = step.loss(batch)
    assert list(step.parts) == ["next_item"] and loss.item() == pytest.approx(reference(towers, batch, 0, 0, 0.5, "mean").item(), rel=1e-5)


def test_a_cut_target_has_no_end() -> None:
    found = worlds.Pieces(worlds.vocabulary(), worlds.TEXTS, 256, 3)
    towers = Towers(worlds.decoder(found), found, "mean")
    batch = worlds.batch(2)
    joint = found.joined(batch.history, batch.counts, batch.targets)
    group = groups_of(joint.lengths, 10**9)[0]
    _, layout, tokens = towers.states(joint, group)
    _, said, counts = towers.labels(joint, batch.targets, group, layout, tokens)
    assert counts.tolist() == [3, 3] and found.vocabulary.end not in said


def test_stage_zero_is_the_mean_over_all_tokens() -> None:
    from lexirec.models.calrec.config import CALRecConfig
    from lexirec.models.calrec.steps import Histories
    from tests.models.toys import checkerboard

    train = checkerboard(12)[0].train_set()
    towers = worlds.towers()
    config = CALRecConfig(lm_tokens=150, lm_epochs=1)
    stage = WriteEverything(towers, Histories(train, np.ones(12, dtype=bool)), config, train, worlds.TEXTS)
    plan = stage.plan(np.random.default_rng(0))
    assert len(plan) > 3 and sum(len(b.lengths) for b in plan) == 12 + 12  # every user and every item
    assert max(int(b.lengths.sum()) for b in plan) <= 150 or min(len(b.lengths) for b in plan) == 1
    batch = plan[0]
    parts = np.split(batch.tokens, np.cumsum(batch.lengths + 1)[:-1])
    losses = []
    for part in parts:
        assert part[-1] == towers.pieces.vocabulary.end and not (part[:-1] == towers.pieces.vocabulary.end).any()
        tokens = torch.from_numpy(part.astype(np.int64))
        scores = towers.lm.scores(towers.lm(tokens[:-1], Layout(np.array([len(tokens) - 1]))))
        losses.append(F.cross_entropy(scores, tokens[1:], reduction="none"))
    assert stage.loss(batch).item() == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)


def test_stage_zero_leaves_events_out_of_histories() -> None:
    from lexirec.models.calrec.config import CALRecConfig
    from lexirec.models.calrec.steps import Histories
    from tests.models.toys import checkerboard

    train = checkerboard(12)[0].train_set()
    towers = worlds.towers()
    whole, some = (
        WriteEverything(towers, Histories(train, np.ones(12, dtype=bool)), CALRecConfig(lm_tokens=150, lm_skip=skip), train, worlds.TEXTS)
        for skip in (0.0, 0.5)
    )
    rng = np.random.default_rng(0)

    def tokens(stage: WriteEverything) -> int:
        plan = stage.plan(rng)
        assert sum(len(batch.lengths) for batch in plan) == 12 + 12
        return sum(int(batch.lengths.sum()) for batch in plan)

    assert tokens(whole) == tokens(whole)
    fewer = {tokens(some) for _ in range(5)}
    assert len(fewer) > 1 and max(fewer) < tokens(whole)


def test_chains_go_from_an_item_to_one_worded_like_it() -> None:
    texts = ["red wool scarf", "red wool hat", "blue wool hat", "steel nail", "steel screw", "unlike anything"]
    chains = Chains(texts, 1.5, 0.75)
    drawn = chains.draw(400, np.random.default_rng(0))
    ends = np.cumsum(drawn.counts)
    seen = set()
    for history, target in zip(np.split(drawn.history, ends[:-1]), drawn.targets, strict=True):
        chain = [*history.tolist(), int(target)]
        assert 2 <= len(chain) <= 4 and len(set(chain)) == len(chain) and 5 not in chain
        assert set(chain) <= {0, 1, 2} or set(chain) <= {3, 4}
        seen.add(tuple(chain))
    assert seen == {*permutations(range(3), 2), *permutations(range(3), 3), (3, 4), (4, 3)}
    assert 300 < len(drawn.targets) < 400  # a chain that starts at the last text finds nothing
    assert not len(Chains(texts[-1:], 1.5, 0.75).draw(5, np.random.default_rng(0)).targets)


def test_stage_zero_reads_chains_beside_the_histories() -> None:
    from lexirec.models.calrec.config import CALRecConfig
    from lexirec.models.calrec.steps import Histories
    from tests.models.toys import checkerboard

    train = checkerboard(12)[0].train_set()
    towers, histories = worlds.towers(), Histories(train, np.ones(12, dtype=bool))
    config = CALRecConfig(lm_tokens=150, lm_alike=0.5)
    plan = WriteEverything(towers, histories, config, train, worlds.TEXTS).plan(np.random.default_rng(0))
    sources, lengths = (np.concatenate([getattr(batch, name) for batch in plan]) for name in ("sources", "lengths"))
    alone = [len(towers.pieces.item(item)) for item in range(12)]
    chains = [n for source, n in zip(sources, lengths, strict=True) if source >= 12 and n > alone[source - 12]]
    assert len(chains) == 6 and (sources < 12).sum() == 12 and len(sources) == 12 + 12 + 6


def test_stage_zero_names_whose_texts_gave_no_loss() -> None:
    from lexirec.models.calrec.config import CALRecConfig
    from lexirec.models.calrec.steps import Histories
    from tests.models.toys import checkerboard

    train = checkerboard(12)[0].train_set()
    towers = worlds.towers()
    stage = WriteEverything(towers, Histories(train, np.ones(12, dtype=bool)), CALRecConfig(lm_tokens=150), train, worlds.TEXTS)
    named: set[str] = set()
    for batch in stage.plan(np.random.default_rng(0)):
        whose = stage.culprits(batch)
        assert whose.startswith(("user_id 'u", "item_id 'i"))
        if len(batch.lengths) <= 3:  # all are named
            named |= set(re.findall("'(.*?)'", whose))
            for source, length in zip(batch.sources.tolist(), batch.lengths.tolist(), strict=True):
                assert source < 12 or length == len(towers.pieces.item(source - 12))
    assert any(name.startswith("u") for name in named)
    with torch.no_grad():
        towers.lm.tokens.weight[:] = torch.nan
    options = TrainingOptions(epochs=1, progress=False, threads=1)
    with pytest.raises(NonFiniteLossError, match=r"the loss is nan in epoch 1, step 1 \(user_id 'u|item_id 'i"):
        run_training(stage, train, None, options)  # type: ignore[arg-type]


def test_a_gradient_that_is_no_number_names_the_users() -> None:
    towers, batch = worlds.towers(), worlds.batch(9)
    loss = Step(towers, 0.5, 0.125, -0.025, 60, lambda batch: f"{len(batch.users)} of mine").loss(batch)
    with pytest.raises(NonFiniteLossError, match=r"gradient of the contrast is NaN or infinite \(9 of mine\)"):
        (loss * torch.nan).backward()


@pytest.mark.parametrize("users", [5, 2, 1])
def test_fewer_held_out_users_than_a_batch_have_contrasts_too(users: int) -> None:
    from tests.models.toys import checkerboard

    train = checkerboard(12)[0].train_set()
    step = Step(worlds.towers(), 0.5, 0.125, -0.025, 10**9)
    part = Heldout(np.arange(users, dtype=np.int32), np.arange(users, dtype=np.int32), "valid")
    found = held_out_losses(step, train, part, 8)
    if users == 1:
        assert list(found) == ["-loss"]  # nobody to tell from
        return
    assert found["contrast_floor"] == pytest.approx(contrast_bounds(users, 0.5)[0])
    assert min(found["target_target"], found["user_target"]) >= found["contrast_floor"]
    assert found["target_target"] == pytest.approx(step.parts["target_target"])


def test_learning_rate_rises_and_falls() -> None:
    network = torch.nn.Linear(2, 2)
    optimiser = adamw(network, 1.0, 0.1, 4, 10)
    seen = []
    for _ in range(10):
        network.weight.grad, network.bias.grad = torch.ones(2, 2), torch.ones(2)
        optimiser.step()
        seen.append(round(optimiser.param_groups[0]["lr"], 3))
    assert seen == [0.25, 0.5, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1, 0.0]
