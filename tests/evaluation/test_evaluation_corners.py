"""Corners of the evaluation: groups, lists, masks, warnings, sampled items."""

import warnings

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset
from lexirec.data.messages import DataWarning
from lexirec.evaluation import GroupRules, evaluate
from lexirec.evaluation import metrics as m
from lexirec.models.config import Supports
from lexirec.models.popularity import Popularity
from tests.evaluation.worlds import Matrix, Vectors, random_vectors, random_world, world


def test_histories_of_user_groups_have_the_validation_events_and_sizes_count_targets():
    train, valid, test = world(
        [("a", "i0", "train"), ("a", "i1", "valid"), ("a", "i2", "test"), ("a", "i3", "test"), ("b", "i0", "train"), ("b", "i2", "test")],
        titles={f"i{n}": f"T{n}" for n in range(6)},
    )  # fmt: skip
    rules = GroupRules(names=("long_users", "short_users"), user_threshold=2)
    found = evaluate(random_vectors(train), train, test, seen=(valid,), metrics=["hr@1"], groups=rules)
    assert {name: inside.tolist() for name, inside in found.inside.items()} == {"long_users": [True, False], "short_users": [False, True]}
    assert found.group_sizes == {"long_users": {"users": 1, "targets": 2}, "short_users": {"users": 1, "targets": 1}}


def test_counting_all_parts_counts_the_targets_too():
    train, valid, test = world(
        [("a", "i0", "train"), ("a", "i2", "valid"), ("a", "i1", "test"), ("b", "i0", "train"), ("b", "i1", "test")],
        {f"i{n}": f"T{n}" for n in range(4)},
    )
    for count, head in ((True, [True, True]), (False, [False, False])):
        rules = GroupRules(names=("head_items",), item_threshold=2, count_heldout=count)
        found = evaluate(random_vectors(train), train, test, seen=(valid,), metrics=["hr@1"], groups=rules)
        assert found.inside["head_items"].tolist() == head


def test_metrics_of_lists_look_at_their_own_cut_off_and_at_training_popularity():
    train, valid, test = random_world(30, 60)
    model = random_vectors(train)
    short = evaluate(model, train, test, seen=(valid,), metrics=["hr@10", "coverage@5", "gini@5", "novelty@5", "ild@5"])
    long = evaluate(model, train, test, seen=(valid,), metrics=["hr@20", "coverage@5", "gini@5", "novelty@5", "ild@5"])
    for key in ("coverage@5", "gini@5", "novelty@5", "ild@5"):
        assert long.metrics[key] == pytest.approx(short.metrics[key])
    assert long.listed.tolist() == short.listed.tolist() and long.listed.sum() == 10 * long.n_users  # of twenty places the first ten
    bits = -np.log2((train.popularity + 1) / (train.n_interactions + 60))
    ten = evaluate(model, train, test, seen=(valid,), metrics=["hr@10"])
    assert ten.metrics["novelty@10"] == pytest.approx((bits * ten.listed).sum() / ten.listed.sum())


def test_lists_are_as_long_as_the_largest_cut_off_asked_for():
    train, _, test = random_world(10, 40)
    for metrics, key in ((["mrr"], "coverage@20"), (["mrr", "ndcg@5"], "coverage@5")):
        assert [name for name in evaluate(random_vectors(train), train, test, metrics=metrics).metrics if "coverage" in name] == [key]


def test_a_list_of_one_item_has_no_diversity_and_leaves_that_of_the_others():
    events = [("a", f"i00{n}", "train") for n in range(3)] + [("a", "i003", "test"), ("b", "i000", "train"), ("b", "i003", "test")]
    train, _, test = world(events, n_items=4)
    model = Vectors(train, torch.eye(2, 4), torch.eye(4))
    assert evaluate(model, train, test, metrics=["hr@3"]).metrics["ild@3"] == pytest.approx(1.0)  # of b alone


def test_an_item_without_a_vector_is_at_distance_one():
    vectors = np.array([[1, 0], [0, 0], [1, 0]], dtype=np.float32)
    assert m.ild(np.array([[0, 1], [0, 2]]), vectors).tolist() == [1.0, 0.0]


def test_people_with_a_validation_event_are_not_called_unknown():
    train, valid, test = world(
        [("a", "i2", "train"), ("a", "i0", "test"), ("n", "i1", "valid"), ("n", "i3", "test")], {f"i{n}": f"T{n}" for n in range(5)}
    )
    model = random_vectors(train)
    model.needs_history, model.supports = False, Supports(user_id=True, history=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        evaluate(model, train, test, seen=(valid,))


def test_a_target_that_the_model_never_knew_is_no_learned_one():
    log = pl.DataFrame({"user_id": ["a", "b", "b"], "item_id": ["i1", "i0", "i1"], "timestamp": [1, 2, 3]})
    model = Popularity().fit(Dataset(log, pl.DataFrame({"item_id": ["i0", "i1", "x"], "title": ["A", "B", "C"]})).train_set())
    train, _, test = world(
        [("a", "i0", "train"), ("b", "i0", "train"), ("c", "i0", "train"), ("b", "z", "test")], {"i0": "A", "i1": "B", "z": "D"}
    )
    model.history_items[0] = 2  # the last item, whose key lies below the next user's first
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        evaluate(model, train, test, metrics=["hr@1"])


@pytest.mark.parametrize(("cold", "told"), [(3, True), (1, False)])
def test_from_a_fifth_of_unknown_users_on_it_is_told(cold, told):
    events = [(f"u{n}", "i000", "train") for n in range(cold, 10)] + [(f"u{n}", "i001", "test") for n in range(10)]
    train, _, test = world(events, n_items=3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        evaluate(Popularity().fit(train), train, test, metrics=["hr@1"])
    assert any("no event before it" in str(one.message) for one in said) == told


def test_a_share_of_three_in_a_hundred_learned_targets_is_told():
    users = [f"u{n:03}" for n in range(100)]
    events = [(user, "i000", "train") for user in users] + [(user, "i001", "test") for user in users]
    train, _, test = world(events, n_items=3)
    leaky, _, _ = world(events[:100] + [(user, "i001", "train") for user in users[:3]], n_items=3)
    with pytest.warns(DataWarning, match="3 of 100 targets of the test part were among the events"):
        evaluate(Popularity().fit(leaky), train, test, metrics=["hr@1"])


class Own(Matrix):
    """Gives the very memory that it keeps."""

    def score(self, queries):
        return self.matrix


def test_the_memory_of_a_model_is_never_written_to():
    train, valid, test = random_world(3, 30)
    kept = torch.randn(3, 30, generator=torch.Generator().manual_seed(0))
    model = Own(train, kept.clone())
    evaluate(model, train, test, seen=(valid,))
    assert torch.equal(model.matrix, kept)


def test_another_random_cut_of_equal_sizes_is_another_training_part():
    rng = np.random.default_rng(0)
    log = pl.DataFrame(
        [(f"u{u}", f"i{i:02}", t) for u in range(20) for t, i in enumerate(rng.permutation(30)[:10])],
        schema=["user_id", "item_id", "timestamp"], orient="row",
    )  # fmt: skip
    data = Dataset.from_frames(log)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = (data.split("random-433", seed=seed) for seed in (0, 1))
    with pytest.warns(DataWarning, match="were among the events that popularity was fitted on"):
        evaluate(Popularity().fit(first.train), second.train, second.test, seen=(second.valid,), metrics=["hr@1"])


def test_blocks_of_users_are_drawn_for_by_streams_of_their_own(monkeypatch):
    from lexirec.evaluation import sampled

    train, _valid, test = random_world(8, 400, train=2, valid=0, test=1)
    drawn, draw = [], sampled.sample_negatives
    monkeypatch.setattr(sampled, "CHUNK", 4)
    monkeypatch.setattr(sampled, "sample_negatives", lambda *asked: drawn.append(draw(*asked)) or drawn[-1])
    evaluate(random_vectors(train), train, test, sampled=20, metrics=["hr@5"])
    assert len(drawn) == 2 and (drawn[0] == drawn[1]).mean() < 0.2


def test_nearly_the_whole_catalogue_can_be_drawn_from_any_first_item():
    from lexirec.evaluation.sampled import sample_negatives

    excluded = np.array([11, 500, 5009])
    drawn = sample_negatives(4997, 10, 5010, 1, np.zeros(3, dtype=np.int64), excluded, (0,))
    assert sorted(drawn[0].tolist()) == sorted(set(range(10, 5010)) - set(excluded.tolist()))


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_score_that_is_not_finite_is_named_in_the_sampled_way_too(bad):
    from lexirec.errors import InputError

    train, _, test = world([("u", "i000", "train"), ("u", "i001", "test")], n_items=5)
    with pytest.raises(InputError, match="for user_id 'u' and item_id 'i001'"):
        evaluate(Matrix(train, torch.tensor([[0.0, bad, 0, 0, 0]])), train, test, sampled=3, metrics=["hr@1"])


def test_share_of_the_targets_counts_each_target():
    from lexirec.evaluation.popularity import by_popularity

    train, valid, test = random_world(80, 60, test=3)
    frame = by_popularity(evaluate(random_vectors(train), train, test, seen=(valid,), metrics=["hr@5"]), train, n=5)
    assert frame["share_targets"].to_list() == pytest.approx((frame["n_targets"] / frame["n_targets"].sum()).to_list())
    assert frame["share_items"].to_list() == pytest.approx((frame["n_items"] / 60).to_list())


def test_cold_users_have_no_training_event_whatever_came_after():
    from lexirec.evaluation.groups import user_groups

    train, valid, _ = world([("a", "i0", "train"), ("n", "i1", "valid"), ("n", "i2", "test")], {f"i{n}": f"T{n}" for n in range(3)})
    assert user_groups(train, GroupRules(names=("cold_users",)), (valid,))["cold_users"].tolist() == [False, True]


@pytest.mark.parametrize("option", ["head_share", "tail_share", "short_share"])
@pytest.mark.parametrize("value", [0, -0.1, 1.1])
def test_a_share_lies_between_0_and_1(option, value):
    from lexirec.errors import InputError

    with pytest.raises(InputError, match=f"{option} is {value}"):
        GroupRules(**{option: value})


def test_what_is_counted_can_be_typed_and_the_cuts_are_described():
    assert not GroupRules.parse("llmemb:beauty,count=train").count_heldout
    assert not GroupRules.parse("80/20,count=train").count_heldout and GroupRules.parse("80/20,count=all").count_heldout
    said = GroupRules(tail_share=0.7, count_heldout=True, user_threshold=4).describe()
    assert said == "tail items: the 70 % of the items with the fewest events of all parts; short histories: fewer than 4 items"
