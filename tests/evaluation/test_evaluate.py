"""The protocol: masking, histories, ties, domains, groups, and what is refused."""

import json
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset
from lexirec.data.messages import DataWarning
from lexirec.data.mixing import mix
from lexirec.errors import InputError
from lexirec.evaluation import GroupRules, evaluate
from lexirec.evaluation.groups import head_threshold, item_groups, lower_threshold, user_groups
from lexirec.evaluation.ranking import Questions, Scores, full_ranks, make_task
from lexirec.models.config import Supports
from lexirec.models.popularity import Popularity
from lexirec.testing import checkerboard
from tests.evaluation.worlds import Matrix, Vectors, constant, heldout, random_vectors, random_world, world

METRICS = ("recall@5", "hr@5", "ndcg@5", "precision@5", "map@5", "mrr", "mrr@5")


def test_conformance_12_and_13_masking_at_test_and_at_validation():
    titles = {f"i{n}": f"T{n}" for n in range(5)}
    events = [("u", "i0", "train"), ("u", "i4", "valid"), ("u", "i2", "test"), ("u", "i3", "test")]
    train, valid, test = world(events, titles)
    model = Matrix(train, torch.tensor([[0.9, 0.8, 0.7, 0.1, 0.6]]))
    found = evaluate(model, train, test, seen=(valid,), metrics=[f"{name}@{k}" for name in ("recall", "ndcg", "hr") for k in (1, 2, 3)])
    for k, expected in {1: (0, 0, 0), 2: (0.5, 0.386853, 1), 3: (1, 0.693426, 1)}.items():
        assert [found.metrics[f"{name}@{k}"] for name in ("recall", "ndcg", "hr")] == pytest.approx(expected, abs=1e-6)
    # [repro] masks only train while validating; [code] masks test items too, which `seen` can do.
    assert evaluate(model, train, valid, metrics=["ndcg@3"]).metrics["ndcg@3"] == pytest.approx(0.5)
    assert evaluate(model, train, valid, seen=(test,), metrics=["ndcg@3"]).metrics["ndcg@3"] == pytest.approx(0.630930, abs=1e-6)
    # nothing masked: item 0 and the validation item stand in the way
    assert evaluate(model, train, test, seen=(valid,), mask_seen=False, metrics=["hr@2", "hr@3"]).metrics["hr@2"] == 0


def test_easyrec_conformance_8_recall_and_ndcg_of_two_rankings():
    taken = [(user, "i000", "train") for user in "uv"]
    wanted = [("u", item, "test") for item in (2, 5)] + [("v", item, "test") for item in (2, 4, 5, 8)]
    train, _, test = world([*taken, *((user, f"i{item:03}", part) for user, item, part in wanted)], n_items=10)
    scores = torch.zeros(2, 10)
    for row, ranking in enumerate(([5, 1, 2], [7, 5, 9])):
        scores[row, ranking] = torch.tensor([3.0, 2.0, 1.0])
    found = evaluate(Matrix(train, scores), train, test, metrics=["recall@3", "ndcg@3"])
    assert found.per_user["recall@3"].to_list() == pytest.approx([1.0, 0.25])
    assert found.per_user["ndcg@3"].to_list() == pytest.approx([0.919721, 0.296082], abs=1e-6)
    assert found.metrics["recall@3"] == pytest.approx(0.625)
    assert found.metrics["ndcg@3"] == pytest.approx(0.607901, abs=1e-6)


def test_easyrec_conformance_9_an_item_of_the_training_part_comes_last():
    train, _, test = world([("u", "i000", "train"), *(("u", f"i{n:03}", "test") for n in (1, 2, 3))], n_items=4)
    model = Matrix(train, torch.tensor([[0.9, 0.2, 0.5, 0.7]]))
    task = make_task(train, test, (), True)
    ranks, top = full_ranks(task, train, Scores(model, train, Questions(train, (), task.users, True)), depth=4, lists=True)
    assert top[0].tolist() == [3, 2, 1, -1]  # item 0 behind all others: no candidate at all
    assert dict(zip(task.items.tolist(), ranks.greater.tolist(), strict=True)) == {3: 0, 2: 1, 1: 2}
    _, unmasked = full_ranks(
        make_task(train, test, (), False), train, Scores(model, train, Questions(train, (), task.users, True)), depth=4, lists=True
    )
    assert unmasked[0].tolist() == [0, 3, 2, 1]


def test_conformance_14_twenty_five_targets():
    train, _, test = world([("u", "i030", "train"), *(("u", f"i{n:03}", "test") for n in range(25))], n_items=31)
    found = evaluate(Matrix(train, -torch.arange(31.0)[None]), train, test, metrics=["recall@20", "ndcg@20"])
    assert found.metrics["recall@20"] == pytest.approx(0.8)
    assert found.metrics["ndcg@20"] == pytest.approx(1.0)


def test_conformance_18_renumbering_items_changes_nothing():
    rng = np.random.default_rng(0)
    train, valid, test = random_world(40, 30)
    model = random_vectors(train)
    groups = ("head_items", "tail_items", "cold_items", "short_users")
    one = evaluate(model, train, test, seen=(valid,), groups=groups)
    new = rng.permutation(30)  # item n becomes new[n]
    ids = {f"i{n:03}": f"i{new[n]:03}" for n in range(30)}
    events = []
    for part, name in ((train, "train"), (valid, "valid"), (test, "test")):
        for user, item in zip(part.user_index, part.item_index, strict=True):
            events.append((train.users.ids[int(user)], ids[train.items["item_id"][int(item)]], name))
    train2, valid2, test2 = world(events, n_items=30)
    moved = torch.empty_like(model.items)
    moved[torch.from_numpy(new)] = model.items
    two = evaluate(Vectors(train2, model.users, moved), train2, test2, seen=(valid2,), groups=groups)
    assert two.metrics == pytest.approx(one.metrics, abs=1e-6)
    assert {name: value["ndcg@10"] for name, value in two.groups.items()} == pytest.approx(
        {name: value["ndcg@10"] for name, value in one.groups.items()}
    )
    shuffled = evaluate(Vectors(train, model.users, model.items[torch.from_numpy(new)]), train, test, seen=(valid,))
    assert shuffled.metrics["ndcg@20"] != one.metrics["ndcg@20"]


def test_a_constant_scorer_gets_chance_whatever_the_numbering():
    # Items are numbered by popularity: a sort by position would give the constant scorer the score of popularity.
    train, valid, test = random_world(200, 50)
    found = evaluate(constant(train), train, test, seen=(valid,), metrics=["recall@10", "hr@1", "precision@10", "ndcg@10"])
    candidates = 50 - 7
    assert found.metrics["recall@10"] == pytest.approx(10 / candidates)
    counts = np.bincount(test.user_index)
    assert found.metrics["hr@1"] == pytest.approx(np.mean(counts / candidates))
    assert found.metrics["precision@10"] == pytest.approx(np.mean(counts / candidates))
    assert found.pessimistic["recall@10"] == 0
    assert found.optimistic["recall@10"] == 1
    popular = evaluate(Matrix(train, torch.from_numpy(train.popularity.astype(np.float32)).repeat(200, 1)), train, test, seen=(valid,))
    assert popular.metrics["recall@10"] > 1.5 * found.metrics["recall@10"]
    # its lists are a fixed shuffle, not the first items
    assert found.metrics["coverage@10"] < 1
    other = evaluate(constant(train), train, test, seen=(valid,), metrics=["recall@10"], seed=1)
    assert other.metrics["novelty@10"] != found.metrics["novelty@10"]


@pytest.mark.parametrize("blocks", [{"block_users": 7}, {"block_users": 1}, {"block_items": 11}, {"block_users": 3, "block_items": 1}])
@pytest.mark.parametrize("by_vectors", [True, False])
def test_blocks_of_any_size_equal_one_block(blocks, by_vectors):
    train, valid, test = random_world(50, 40)
    model = random_vectors(train, dim=3)
    model.users, model.items = model.users.round(), model.items.round()  # whole numbers: exact products and many ties
    if not by_vectors:
        model = Matrix(train, model.users @ model.items.T)
    one = evaluate(model, train, test, seen=(valid,), groups=True)
    two = evaluate(model, train, test, seen=(valid,), groups=True, **blocks)
    assert two.metrics == pytest.approx(one.metrics, abs=1e-12)
    assert two.optimistic == pytest.approx(one.optimistic, abs=1e-12)
    assert two.pessimistic == pytest.approx(one.pessimistic, abs=1e-12)
    assert two.optimistic["ndcg@5"] > two.pessimistic["ndcg@5"]  # ties were there
    assert two.per_user.equals(one.per_user)
    assert two.groups == one.groups


def test_all_metrics_equal_a_plain_loop():
    train, valid, test = random_world(30, 40)
    model = random_vectors(train)
    scores = (model.users @ model.items.T).numpy().copy()
    for part in (train, valid):
        scores[part.user_index, part.item_index] = -np.inf
    expected = {name: [] for name in ("recall@5", "ndcg@5", "mrr", "hr@5")}
    for user in range(30):
        wanted = set(test.item_index[test.user_index == user].tolist())
        order = np.argsort(-scores[user])
        hits = [item in wanted for item in order.tolist()]
        expected["recall@5"].append(sum(hits[:5]) / len(wanted))
        expected["hr@5"].append(any(hits[:5]))
        expected["mrr"].append(1 / (hits.index(True) + 1))
        ideal = sum(1 / np.log2(at + 2) for at in range(min(5, len(wanted))))
        expected["ndcg@5"].append(sum(hit / np.log2(at + 2) for at, hit in enumerate(hits[:5])) / ideal)
    found = evaluate(model, train, test, seen=(valid,), metrics=list(expected))
    for name, values in expected.items():
        np.testing.assert_allclose(found.per_user[name], values, atol=1e-9)
        assert found.metrics[name] == pytest.approx(np.mean(values))
    assert found.per_user["user_id"].to_list() == train.users.ids.to_list()


def test_all_values_lie_between_0_and_1_and_the_three_treatments_are_ordered():
    train, valid, test = random_world(60, 30)
    model = random_vectors(train, dim=2)
    model.users, model.items = model.users.round(), model.items.round()
    found = evaluate(model, train, test, seen=(valid,))
    for name, value in found.optimistic.items():
        assert 0 <= found.pessimistic[name] <= found.metrics[name] + 1e-12
        assert found.metrics[name] <= value + 1e-12 <= 1 + 2e-12
    values = found.per_user.drop("user_id").to_numpy()
    assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    assert 0 <= found.metrics["coverage@20"] <= 1
    assert 0 <= found.metrics["gini@20"] <= 1
    assert found.metrics["novelty@20"] > 0
    assert 0 <= found.metrics["ild@20"] <= 2


def test_the_model_is_asked_with_the_history_known_at_that_time():
    train, valid, test = world(
        [("a", "i2", "train"), ("a", "i0", "train"), ("a", "i1", "valid"), ("a", "i3", "test"), ("b", "i1", "train"), ("c", "i3", "test")],
        {f"i{n}": f"T{n}" for n in range(5)},
    )
    model = random_vectors(train)
    evaluate(model, train, valid)
    assert [(q.user_id, list(q.history)) for q in model.asked] == [("a", ["i2", "i0"])]
    model = random_vectors(train)
    evaluate(model, train, test, seen=(valid,))
    # b has no target and isn't asked; c has no history
    assert [(q.user_id, list(q.history)) for q in model.asked] == [("a", ["i2", "i0", "i1"]), ("c", [])]
    model = random_vectors(train)
    model.needs_history = False
    evaluate(model, train, test, seen=(valid,))
    assert [(q.user_id, q.history) for q in model.asked] == [("a", None), ("c", None)]


def test_a_history_is_in_order_of_time_where_the_validation_part_was_drawn_at_random():
    parts = {f"i{n}": f"T{n}" for n in range(6)}
    train, valid, test = world(
        [("a", "i4", "valid"), ("a", "i2", "train"), ("a", "i0", "valid"), ("a", "i1", "train"), ("a", "i3", "test"), ("b", "i5", "train")],
        parts,
    )
    model = random_vectors(train)
    evaluate(model, train, test, seen=(valid,))
    assert [list(q.history) for q in model.asked] == [["i4", "i2", "i0", "i1"]]
    # a part made by hand has no place in the log: it comes after the training part
    model = random_vectors(train)
    evaluate(model, train, test, seen=(heldout(valid.user_index, valid.item_index, "valid"),))
    assert [list(q.history) for q in model.asked] == [["i2", "i1", "i4", "i0"]]


def test_targets_that_the_user_has_already_are_dropped_and_counted():
    train, _, test = world(
        [("a", "i0", "train"), ("a", "i0", "test"), ("a", "i1", "test"), ("a", "i1", "test"), ("b", "i2", "train"), ("b", "i2", "test")],
        {f"i{n}": f"T{n}" for n in range(4)},
    )
    model = Matrix(train, torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 9.0, 1.0]]))
    found = evaluate(model, train, test, metrics=["hr@1"])
    assert (found.repeat_targets, found.duplicate_targets, found.n_users, found.n_targets) == (2, 1, 1, 1)
    assert found.metrics["hr@1"] == 1
    unmasked = evaluate(model, train, test, mask_seen=False, metrics=["hr@1"])
    assert (unmasked.repeat_targets, unmasked.n_users, unmasked.n_targets) == (0, 2, 3)
    with pytest.raises(InputError, match="all 1 are items that their users have already"):
        evaluate(model, train, heldout([1], [2]))


def test_users_of_a_mix_are_ranked_over_their_own_domain():
    one, two = random_world(20, 30, seed=1, name="one"), random_world(15, 25, seed=2, name="two")
    parts = [(one[0], one[2]), (two[0], two[2])]
    mixed, test = mix(parts)
    assert test is not None
    users = torch.randn(35, 4, generator=torch.Generator().manual_seed(0))
    items = torch.randn(55, 4, generator=torch.Generator().manual_seed(1))
    items[30:] *= 100  # the other domain's items would win everywhere
    found = evaluate(Vectors(mixed, users, items), mixed, test)
    apart = [
        evaluate(Vectors(one[0], users[:20], items[:30]), one[0], one[2]),
        evaluate(Vectors(two[0], users[20:], items[30:]), two[0], two[2]),
    ]
    names = [name for name in found.per_user.columns if name != "user_id"]
    joined = pl.concat([part.per_user for part in apart])
    np.testing.assert_allclose(found.per_user.select(names).to_numpy(), joined.select(names).to_numpy(), atol=1e-12)
    # by scores instead of vectors, the same
    scored = evaluate(Matrix(mixed, users @ items.T), mixed, test)
    np.testing.assert_allclose(scored.per_user.select(names).to_numpy(), joined.select(names).to_numpy(), atol=1e-12)
    assert evaluate(Vectors(mixed, users, items), mixed, test, sampled=5, metrics=["hr@1"]).n_users == 35


def test_half_precision_vectors_are_scored_in_float32():
    train, valid, test = random_world(30, 40)
    model = random_vectors(train)
    half = Vectors(train, model.users.half(), model.items.half())
    exact = Vectors(train, model.users.half().float(), model.items.half().float())
    one, two = evaluate(half, train, test, seen=(valid,)), evaluate(exact, train, test, seen=(valid,))
    assert one.metrics == two.metrics
    # NOTE: the vectors' own rounding stays, so a half-precision model isn't the float32 model; it is near.
    assert one.metrics["ndcg@20"] == pytest.approx(evaluate(model, train, test, seen=(valid,)).metrics["ndcg@20"], abs=0.02)


def test_short_metric_lists_give_the_same_numbers_as_long_ones():
    train, valid, test = random_world(40, 60)
    model = random_vectors(train, dim=3)
    model.users, model.items = model.users.round(), model.items.round()
    everything = evaluate(model, train, test, seen=(valid,))
    for name in ("recall@20", "hr@1", "map@10", "mrr@10", "mrr"):
        alone = evaluate(model, train, test, seen=(valid,), metrics=[name], beyond=False)
        assert alone.metrics == {name: pytest.approx(everything.metrics[name], abs=1e-12)}


def test_result_is_ready_for_json_and_says_its_protocol():
    train, valid, test = random_world(10, 30)
    found = evaluate(random_vectors(train), train, test, seen=(valid,), groups=True)
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["protocol"] == "full ranking, seen masked"
    assert read["n_users"] == 10
    assert set(read["groups"]) <= set(read["group_sizes"])
    assert read["groups_are"].startswith("head items: the most popular that together hold 80 % of the training events")
    ruled = evaluate(random_vectors(train), train, test, seen=(valid,), groups=GroupRules(item_threshold=20))
    assert ruled.groups_are.startswith("tail items: fewer than 20 training events")
    assert "Evaluation(full ranking, seen masked; 10 users" in repr(found)


def test_sampled_metrics_carry_their_name_and_a_perfect_model_is_perfect():
    train, valid, test = random_world(40, 60)
    scores = torch.zeros(40, 60)
    scores[test.user_index, test.item_index] = 1
    found = evaluate(Matrix(train, scores), train, test, seen=(valid,), sampled=20, metrics=["ndcg@10", "mrr"])
    assert found.metrics == {"ndcg@10 (20 sampled)": pytest.approx(1.0), "mrr (20 sampled)": pytest.approx(1.0)}
    assert "20 sampled negatives" in found.protocol
    assert "ndcg@10 (20 sampled)" in found.per_user.columns


def test_sampled_random_scorer_has_the_known_chance():
    # LLMEmb's protocol, spec item 15: 1 target and 100 negatives, HR@10 = 10/101 = .0990, NDCG@10 = .0450
    train, valid, test = random_world(50, 200, test=1)
    found = evaluate(constant(train), train, test, seen=(valid,), sampled=100, metrics=["hr@10", "ndcg@10"])
    assert found.metrics["hr@10 (100 sampled)"] == pytest.approx(10 / 101)
    assert found.metrics["ndcg@10 (100 sampled)"] == pytest.approx(0.0450, abs=5e-5)


def test_sampled_evaluation_by_vectors_equals_by_scores_and_repeats_with_its_seed():
    train, valid, test = random_world(40, 60)
    model = random_vectors(train)
    one = evaluate(model, train, test, seen=(valid,), sampled=30, metrics=METRICS)
    two = evaluate(Matrix(train, model.users @ model.items.T), train, test, seen=(valid,), sampled=30, metrics=METRICS)
    assert one.metrics == pytest.approx(two.metrics)
    assert one.per_user.equals(evaluate(model, train, test, seen=(valid,), sampled=30, metrics=METRICS).per_user)
    other = evaluate(model, train, test, seen=(valid,), sampled=30, metrics=METRICS, seed=1)
    assert not one.per_user.equals(other.per_user)


def test_item_groups_look_at_their_targets_among_all_items():
    train, valid, test = random_world(60, 40)
    model = random_vectors(train, dim=3)
    model.users, model.items = model.users.round(), model.items.round()
    found = evaluate(model, train, test, seen=(valid,), groups=True, metrics=METRICS)
    members = item_groups(train, GroupRules())
    for name in ("head_items", "tail_items", "cold_items"):
        inside = members[name][test.item_index]
        if not inside.any():
            assert name not in found.groups
            continue
        # The other targets of a user stay in the ranking as any item: rank this part alone, masking nothing more.
        part = heldout(test.user_index[inside], test.item_index[inside])
        alone = evaluate(model, train, part, seen=(valid,), metrics=METRICS, beyond=False)
        assert found.groups[name] == pytest.approx(alone.metrics, abs=1e-12)
        assert found.group_sizes[name] == {"users": alone.n_users, "targets": alone.n_targets}
    people = user_groups(train, GroupRules(), (valid,))
    ranked = found.per_user.with_columns(short=pl.Series(people["short_users"][np.unique(test.user_index)]))
    assert found.groups["short_users"]["ndcg@5"] == pytest.approx(ranked.filter("short")["ndcg@5"].mean())
    assert found.group_sizes["cold_users"] == {"users": 0, "targets": 0}
    assert "cold_users" not in found.groups


def test_group_thresholds():
    assert head_threshold(np.array([5, 3, 1, 1]), 0.8) == 3  # 8 of 10 events
    assert head_threshold(np.array([2, 2, 2, 2, 2]), 0.8) == 2  # equal items are never parted
    assert head_threshold(np.zeros(3, dtype=int), 0.8) == 1
    assert lower_threshold(np.array([1] * 8 + [5, 9]), 0.8) == 2
    train, valid, test = world(
        [("a", "i0", "train"), ("a", "i0", "train"), ("a", "i1", "train"), ("b", "i0", "train"), ("b", "i3", "valid"), ("c", "i1", "test")],
        {f"i{n}": f"T{n}" for n in range(4)},
    )
    rules = GroupRules(item_threshold=2, user_threshold=2)
    items = item_groups(train, rules)
    assert items["tail_items"].tolist() == [False, True, True, True]
    assert items["head_items"].tolist() == [True, False, False, False]
    assert items["cold_items"].tolist() == [False, False, True, True]
    counted = item_groups(train, GroupRules(item_threshold=2, count_heldout=True), (valid, test))
    assert counted["tail_items"].tolist() == [False, False, True, True]
    people = user_groups(train, rules, (valid,))
    assert people["short_users"].tolist() == [False, False, True]  # b: one training item and the validation item
    assert people["cold_users"].tolist() == [False, False, True]
    assert GroupRules.llmemb("beauty") == GroupRules(item_threshold=4, user_threshold=9, count_heldout=True)


def test_llmemb_conformance_16_grouping_by_threshold():
    # ranks (0, 0, 20), popularity (2, 2, 50), ts_item 4: tail HR@10 = 1.0, head HR 0
    events = [(f"x{n}", "i02", "train") for n in range(50)]
    events += [(f"x{n}", item, "train") for n, item in enumerate(["i00", "i00", "i01", "i01"])]
    events += [("y0", "i00", "test"), ("y1", "i01", "test"), ("y2", "i02", "test")]
    train, _, test = world(events, {f"i{n:02}": f"T{n}" for n in range(30)})
    scores = torch.zeros(train.n_users, 30)
    first = train.users.index(["y0", "y1", "y2"])
    scores[first[0], 0], scores[first[1], 1] = 9, 9
    scores[first[2], 3:23] = 9
    found = evaluate(Matrix(train, scores), train, test, metrics=["hr@10"], groups=GroupRules(item_threshold=4))
    assert found.groups["tail_items"]["hr@10"] == 1.0
    assert found.groups["head_items"]["hr@10"] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["ndgc@10"]}, "did you mean 'ndcg'"),
        ({"metrics": ["coverage@10"]}, "add an accuracy metric"),
        ({"groups": ["tail_item"]}, "did you mean 'tail_items'"),
        ({"sampled": 0}, "sampled is 0"),
        ({"sampled": 500}, "has only .* items left to draw from"),
        ({"sampled": 5, "metrics": ["hr@1", "gini@5"]}, "no sampled version"),
        ({"diversity_vectors": np.zeros((3, 2))}, r"diversity_vectors has shape \(3, 2\) for 30 items"),
    ],
)
def test_bad_options_are_refused(options, message):
    train, valid, test = random_world(10, 30)
    with pytest.raises(InputError, match=message):
        evaluate(random_vectors(train), train, test, seen=(valid,), **options)


def test_bad_answers_of_a_model_are_named():
    train, valid, test = random_world(10, 30)
    model = random_vectors(train)
    model.items[3, 2] = float("nan")
    with pytest.raises(InputError, match=r"1 item vectors hold NaN or infinity \(item_id \['i003'\]\)"):
        evaluate(model, train, test, seen=(valid,))
    model = random_vectors(train)
    model.users[4, 0] = float("inf")
    with pytest.raises(InputError, match="the query vector of user_id 'u0004' holds NaN or infinity"):
        evaluate(model, train, test, seen=(valid,))
    model = random_vectors(train)
    model.users, model.items = model.users * 1e30, model.items * 1e30  # finite vectors whose products are not
    with pytest.raises(InputError, match=r"the score is (-?inf|nan) for user_id 'u0000' and item_id 'i0"):
        evaluate(model, train, test, seen=(valid,))
    with pytest.raises(InputError, match=r"encode_items\(\) gives shape \(29, 8\) for 30 items"):
        evaluate(Vectors(train, model.users, model.items[:29]), train, test)
    scores = torch.zeros(10, 30)
    scores[2, 5] = float("nan")
    for options in ({}, {"sampled": 20}):
        with pytest.raises(InputError, match=r"the score is nan for user_id 'u0002' and item_id 'i005'"):
            evaluate(Matrix(train, scores), train, test if not options else heldout([2], [5]), metrics=["hr@1"], **options)
    with pytest.raises(InputError, match=r"score\(\) gives shape \(10, 7\)"):
        evaluate(Matrix(train, torch.zeros(10, 7)), train, test)
    with pytest.raises(InputError, match="the valid part has no target to rank: it is empty"):
        evaluate(model, train, heldout([], [], "valid"))


def test_a_score_model_keeps_its_matrix_and_its_diversity_needs_vectors():
    train, valid, test = random_world(10, 30)
    model = Matrix(train, torch.randn(10, 30, generator=torch.Generator().manual_seed(0)))
    before = model.matrix.clone()
    found = evaluate(model, train, test, seen=(valid,))
    assert torch.equal(model.matrix, before)  # masks are written to a copy
    assert "coverage@20" in found.metrics
    assert "ild@20" not in found.metrics
    with pytest.raises(InputError, match="give diversity_vectors="):
        evaluate(model, train, test, metrics=["hr@1", "ild@10"])
    assert "ild@20" in evaluate(model, train, test, diversity_vectors=np.eye(30)).metrics


def test_one_user_and_lists_longer_than_the_catalogue():
    train, _, test = world([("u", "i0", "train"), ("u", "i1", "test")], {"i0": "A", "i1": "B"})
    found = evaluate(random_vectors(train), train, test)
    assert found.metrics["hr@20"] == 1
    assert found.metrics["mrr"] == 1
    assert found.metrics["ild@20"] == 0  # a list of one has no pair


def test_the_example_of_the_protocol_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shop").mkdir()
    train, _, _ = random_world(12, 30, train=12)
    names = train.users.ids.gather(pl.Series(train.user_index))
    pl.DataFrame({"user_id": names, "item_id": train.interactions["item_id"], "timestamp": range(len(names))}).write_csv(
        "shop/interactions.csv"
    )
    train.items.select("item_id", "title").write_csv("shop/items.csv")
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    space = {"model": random_vectors(train)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the split says that training sees the future; that is not the point here
        exec(compile(code, "protocol.md", "exec"), space)
    assert 0 <= space["result"].metrics["ndcg@10"] <= 1


def test_people_without_a_training_event_are_asked_with_what_they_have():
    """A graph model needs no history, but knows these people by nothing else."""
    train, valid, test = world(
        [("a", "i2", "train"), ("a", "i0", "test"), ("b", "i0", "train"), ("n", "i1", "valid"), ("n", "i3", "test"), ("o", "i1", "test")],
        {f"i{n}": f"T{n}" for n in range(5)},
    )
    model = random_vectors(train)
    model.needs_history, model.supports = False, Supports(user_id=True, history=True)
    evaluate(model, train, test, seen=(valid,))
    given = {q.user_id: None if q.history is None else list(q.history) for q in model.asked}
    assert given == {"a": None, "n": ["i1"], "o": None}
    model = random_vectors(train)
    model.needs_history, model.supports = False, Supports(user_id=True)
    evaluate(model, train, test, seen=(valid,))
    assert all(q.history is None for q in model.asked)


def test_equal_items_tie_in_a_block_of_any_size():
    train, _, test = random_world(40, 1003, train=2, valid=0, test=1)
    model = random_vectors(train, dim=32)
    model.items[1:] = model.items[0]
    for block in (1, 2, 3, 40):
        found = evaluate(model, train, test, block_users=block, metrics=["mrr"])
        assert found.optimistic["mrr"] == 1.0 and found.pessimistic["mrr"] < 0.01


def test_a_models_own_scores_are_masked_in_a_copy():
    train, valid, test = random_world(3, 30)
    model = Matrix(train, torch.randn(3, 30, generator=torch.Generator().manual_seed(0)))
    once, by_parts = (evaluate(model, train, test, seen=(valid,), block_users=1, block_items=size).metrics for size in (None, 7))
    assert once == pytest.approx(by_parts)


def test_targets_that_a_model_was_fitted_on_are_told():
    data = checkerboard()[0]
    split = data.split("leave-one-out")
    leaky = Popularity().fit(data.train_set())
    with pytest.warns(DataWarning, match=r"(\d+) of \1 targets of the test part were among the events that popularity was fitted on"):
        evaluate(leaky, split.train, split.test, seen=(split.valid,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(Popularity().fit(split.train), split.train, split.test, seen=(split.valid,))


def test_users_of_whom_nothing_is_known_are_told():
    log = pl.DataFrame({"user_id": [f"u{k}" for k in range(40)], "item_id": [f"i{k % 4}" for k in range(40)], "timestamp": list(range(40))})
    split = Dataset.from_frames(log).split("temporal")
    with pytest.warns(DataWarning, match=r"users of the test part have no event before it that .* knows: it answers them by popularity"):
        evaluate(Popularity().fit(split.train), split.train, split.test, seen=(split.valid,))


def test_parts_are_shown_in_a_line():
    split = checkerboard()[0].split("leave-one-out")
    assert repr(split) == f"Split('leave-one-out', train={split.train.n_interactions:,}, valid={len(split.valid)}, test={len(split.test)})"
    assert repr(split.test).startswith("Heldout('test', events=")
    assert repr(split.train).startswith("TrainSet('checkerboard', users=")
