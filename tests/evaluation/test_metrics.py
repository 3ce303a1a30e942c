"""Metrics against fractions by hand, brute force over every order of tied items, and trec_eval."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from lexirec.errors import InputError
from lexirec.evaluation import metrics as m
from lexirec.evaluation.ranks import Ranks

NAMES = [*(f"{name}@{k}" for name in ("recall", "hr", "ndcg", "precision", "map", "mrr") for k in (1, 2, 3, 5, 9)), "mrr"]


def ranks_of(scores, targets):
    """One user's ranks from scores of all candidates."""
    scores = np.asarray(scores)
    values = scores[list(targets)]
    greater = (scores > values[:, None]).sum(1)
    return Ranks(greater, (scores == values[:, None]).sum(1), np.array([0, len(values)]))


def together(parts):
    """Ranks of several users from one user's each."""
    offsets = np.append(0, np.cumsum([part.counts[0] for part in parts]))
    return Ranks(np.concatenate([part.greater for part in parts]), np.concatenate([part.equal for part in parts]), offsets)


def plain(name, k, hits, n_targets):
    """The textbook value of one order; ``hits`` marks which positions hold a target."""
    k = len(hits) if k is None else k
    top = hits[:k]
    if name == "recall":
        return sum(top) / n_targets
    if name == "hr":
        return float(any(top))
    if name == "precision":
        return sum(top) / k
    if name == "ndcg":
        dcg = sum(1 / np.log2(at + 2) for at, hit in enumerate(top) if hit)
        return dcg / sum(1 / np.log2(at + 2) for at in range(min(k, n_targets)))
    if name == "map":
        return sum(sum(top[: at + 1]) / (at + 1) for at, hit in enumerate(top) if hit) / n_targets
    return next((1 / (at + 1) for at, hit in enumerate(top) if hit), 0.0)


def orders(scores, targets):
    """Hits of every ranking that the scores allow, each as likely."""
    found = []
    for order in permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            found.append([item in targets for item in order])
    return found


CASES = [
    ([3, 3, 3, 2, 2, 1], {0}),  # a target among non-targets
    ([3, 3, 3, 2, 2, 1], {0, 1}),  # two targets in one tie group
    ([3, 3, 3, 2, 2, 1], {1, 3, 4}),  # one tied with non-targets, two tied among themselves
    ([5, 5, 5, 5, 5, 5], {0, 1, 2}),  # everything ties
    ([1, 1, 1, 1, 1, 1], {4}),
    ([6, 5, 4, 3, 2, 1], {1, 4}),  # no tie
    ([2, 2, 1, 1, 1, 1], {1, 2, 5}),  # two groups cross the cut-off at different K
    ([4, 4, 4, 4, 4, 4], {0, 1, 2, 3, 4, 5}),  # every candidate is a target
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("scores", "targets"), CASES)
def test_three_tie_treatments_equal_brute_force(name, scores, targets):
    metric = m.parse_metric(name)
    ranks = ranks_of(scores, sorted(targets))
    values = [plain(metric.name, metric.k, hits, len(targets)) for hits in orders(scores, targets)]
    assert m.per_user(metric, ranks)[0] == pytest.approx(np.mean(values), abs=1e-12)
    assert m.per_user(metric, ranks.optimistic())[0] == pytest.approx(max(values), abs=1e-12)
    assert m.per_user(metric, ranks.pessimistic())[0] == pytest.approx(min(values), abs=1e-12)


def test_random_ties_equal_brute_force_for_many_users_at_once():
    rng = np.random.default_rng(3)
    parts, expected = [], {name: [] for name in NAMES}
    for _ in range(25):
        scores = rng.integers(0, 3, 6).tolist()
        targets = set(rng.choice(6, int(rng.integers(1, 4)), replace=False).tolist())
        parts.append(ranks_of(scores, sorted(targets)))
        every = orders(scores, targets)
        for name in NAMES:
            metric = m.parse_metric(name)
            expected[name].append(np.mean([plain(metric.name, metric.k, hits, len(targets)) for hits in every]))
    joined = together(parts)
    for name in NAMES:
        np.testing.assert_allclose(m.per_user(m.parse_metric(name), joined), expected[name], atol=1e-12)


def test_fractions_by_hand():
    ranks = Ranks(np.array([0, 2]), np.array([1, 1]), np.array([0, 2]))  # hits at positions 1 and 3
    assert m.average_precision(ranks, 5)[0] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert m.mrr(Ranks(np.array([1]), np.array([1]), np.array([0, 1])))[0] == pytest.approx(1 / 2)
    assert m.hr(Ranks(np.array([0, 0]), np.array([4, 4]), np.array([0, 2])), 1)[0] == pytest.approx(1 / 2)
    # 2 targets among 3 tied: the first stands at place 1 with 2/3, at place 2 with 1/3
    assert m.mrr(Ranks(np.array([0, 0]), np.array([3, 3]), np.array([0, 2])))[0] == pytest.approx(2 / 3 + 1 / 3 / 2)


def test_conformance_12_alpharec():
    # Scores (.9,.8,.7,.1,.6), train {0}, valid {4}, test {2,3}: order of the candidates 1, 2, 3.
    ranks = ranks_of([0.8, 0.7, 0.1], [1, 2])
    for k, expected in {1: (0, 0, 0), 2: (0.5, 0.386853, 1), 3: (1, 0.693426, 1)}.items():
        assert (m.recall(ranks, k)[0], m.ndcg(ranks, k)[0], m.hr(ranks, k)[0]) == pytest.approx(expected, abs=1e-6)


def test_conformance_14_recall_denominator_is_the_full_count():
    ranks = Ranks(np.arange(25), np.ones(25, dtype=np.int64), np.array([0, 25]))
    assert m.recall(ranks, 20)[0] == pytest.approx(0.8)
    assert m.ndcg(ranks, 20)[0] == pytest.approx(1.0)


def test_probability_of_a_hit_survives_large_tie_groups():
    size = 200_000
    ranks = Ranks(np.zeros(50, dtype=np.int64), np.full(50, size), np.array([0, 50]))
    exact = 1 - np.prod([(size - 50 - j) / (size - j) for j in range(20)])
    assert m.hr(ranks, 20)[0] == pytest.approx(exact, rel=1e-6)
    assert 0 < m.mrr(ranks)[0] < 1


def test_agrees_with_trec_eval():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(0)
    qrel, run, parts = {}, {}, []
    for user in range(60):
        scores = rng.permutation(80).astype(float)  # no ties: trec_eval settles them by document id
        targets = rng.choice(80, int(rng.integers(1, 12)), replace=False).tolist()
        qrel[str(user)] = {str(item): 1 for item in targets}
        run[str(user)] = {str(item): float(score) for item, score in enumerate(scores)}
        parts.append(ranks_of(scores, targets))
    ranks = together(parts)
    pairs = {
        "recall@10": "recall_10", "precision@5": "P_5", "ndcg@10": "ndcg_cut_10",
        "map@10": "map_cut_10", "hr@5": "success_5", "mrr": "recip_rank",
    }  # fmt: skip
    results = pytrec_eval.RelevanceEvaluator(qrel, set(pairs.values())).evaluate(run)
    for ours, theirs in pairs.items():
        np.testing.assert_allclose(
            m.per_user(m.parse_metric(ours), ranks), [results[str(user)][theirs] for user in range(60)], atol=1e-9, err_msg=ours
        )


def test_agrees_with_ir_measures():
    ir_measures = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(1)
    qrels, run, parts = [], [], []
    for user in range(20):
        scores = rng.permutation(30).astype(float)
        targets = rng.choice(30, int(rng.integers(1, 6)), replace=False).tolist()
        qrels += [ir_measures.Qrel(str(user), str(item), 1) for item in targets]
        run += [ir_measures.ScoredDoc(str(user), str(item), float(score)) for item, score in enumerate(scores)]
        parts.append(ranks_of(scores, targets))
    ranks = together(parts)
    pairs = {"recall@5": "R@5", "precision@5": "P@5", "ndcg@5": "nDCG@5", "map@5": "AP@5", "mrr@5": "RR@5", "hr@5": "Success@5"}
    values = ir_measures.calc_aggregate([ir_measures.parse_measure(name) for name in pairs.values()], qrels, run)
    for ours, theirs in pairs.items():
        expected = values[ir_measures.parse_measure(theirs)]
        assert m.per_user(m.parse_metric(ours), ranks).mean() == pytest.approx(expected, abs=1e-9), ours


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("recal@20", "did you mean 'recall'"),
        ("ndcg", "'ndcg' has no cut-off; write for example 'ndcg@20'"),
        ("ndcg@0", "no whole number from 1 up"),
        ("ndcg@-1", "no whole number from 1 up"),
        ("ndcg@ten", "'ten' is no whole number"),
    ],
)
def test_a_bad_metric_name_says_what_is_right(key, message):
    with pytest.raises(InputError, match="(?s)" + message):
        m.parse_metric(key)


def test_metric_names_are_read_from_text_and_counted_once():
    assert [metric.key for metric in m.parse_metrics("ndcg@10, MRR,ndcg@10")] == ["ndcg@10", "mrr"]
    with pytest.raises(InputError, match="no metric"):
        m.parse_metrics([])


def test_intra_list_diversity_equals_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 5)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    top = np.stack([rng.choice(30, 4, replace=False) for _ in range(6)])
    top[0, 3] = -1  # a short list
    top[1, 1:] = -1  # a list of one has no pair
    expected = []
    for row in top:
        items = row[row >= 0]
        pairs = [1 - unit[a] @ unit[b] for n, a in enumerate(items) for b in items[n + 1 :]]
        expected.append(np.mean(pairs) if pairs else np.nan)
    np.testing.assert_allclose(m.ild(top, unit), expected, atol=1e-6)


def test_gini_and_coverage_at_the_ends():
    assert m.gini(np.full(50, 7)) == pytest.approx(0.0)
    one = np.zeros(50, dtype=np.int64)
    one[3] = 9
    assert m.gini(one) == pytest.approx(1 - 1 / 50)
    assert m.coverage(one) == 1 / 50
    # mean absolute difference over twice the mean: the definition
    counts = np.array([4, 0, 1, 7, 2])
    assert m.gini(counts) == pytest.approx(np.abs(counts[:, None] - counts).mean() / (2 * counts.mean()))
