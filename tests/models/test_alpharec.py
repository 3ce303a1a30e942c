"""AlphaRec against the numbers of its conformance list (computed by hand in float64)."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset
from lexirec.data.demo import simulated_shop
from lexirec.data.mixing import mix
from lexirec.errors import InputError
from lexirec.evaluation import evaluate
from lexirec.losses import bpr as bpr_loss
from lexirec.losses import infonce, layer0_regulariser
from lexirec.models import create, load_model
from lexirec.models.alpharec import AlphaRec, AlphaRecConfig, Projector, hidden_size
from lexirec.models.gccf import GCCF
from lexirec.models.graph import GraphRecommender
from lexirec.models.layers.graph import Graph
from lexirec.models.lightgcn import LightGCN
from lexirec.query import Query
from lexirec.text.embed import item_vectors
from lexirec.training.options import TrainingOptions
from lexirec.training.samplers import NegativeSampler, PositiveSampler
from tests.models.toys import Z, alpharec, checkerboard, identity, toy

CLOSE = {"atol": 1e-5, "rtol": 0}


def close(actual: torch.Tensor, expected: list) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), **CLOSE)


def final(model: GraphRecommender) -> torch.Tensor:
    return model.graph.mean_over_layers(model.layer0(), model.config.num_layers).detach()


def cosines(model: GraphRecommender) -> torch.Tensor:
    return model.hot_users @ model.item_rows.T


def test_user_vector_is_the_mean_of_training_items() -> None:  # 1
    close(Graph(toy()).mean_of_items(Z), [[0.5, 0.5], [0.0, 1.0]])


def test_adjacency() -> None:  # 2
    rows = Graph(toy()).adjacency
    dense = torch.sparse_csr_tensor(rows.starts, rows.columns, rows.weights, (5, 5)).to_dense()
    close(dense[0], [0, 0, 0.707107, 0.5, 0])
    close(dense[1], [0, 0, 0, 0.707107, 0])
    assert not dense[4].any()
    assert torch.equal(dense, dense.T)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (1, [[0.603553, 0.5], [0, 0.853553], [0.676777, 0.176777], [0.125, 0.978553], [0.5, 0.5]]),
        (2, [[0.527369, 0.576184], [0.058926, 0.794628], [0.617851, 0.235702], [0.201184, 0.902369], [0.333333, 0.333333]]),
    ],
)
def test_mean_over_layers(layers: int, expected: list) -> None:  # 3, 4
    close(final(identity(toy(), layers)), expected)


def test_cosines() -> None:  # 5
    close(cosines(identity(toy(), 2)), [[0.893751, 0.866909, 0.999023], [0.424550, 0.989456, 0.757462]])
    close(cosines(identity(toy(), 0)), [[0.707107, 0.707107, 1.0], [0.0, 1.0, 0.707107]])


def sample_loss(model: GraphRecommender, users: list, positives: list, negatives: list) -> float:
    batch = (torch.tensor(users), torch.tensor(positives), torch.tensor(negatives))
    return model.loss(batch).item()


@pytest.mark.parametrize(
    ("layers", "tau", "expected"),
    [(1, 0.15, (1.034571, 1.532082, 0.145809)), (2, 0.15, (1.104400, 1.616380, 0.211969)), (2, 0.2, (0.990568, 1.478310, 0.316876))],
)
def test_loss(layers: int, tau: float, expected: tuple[float, float, float]) -> None:  # 6, 7
    model = identity(toy(), layers, tau=tau)
    assert sample_loss(model, [0], [0], [[2]]) == pytest.approx(expected[0], abs=1e-5)
    assert sample_loss(model, [0], [0], [[2, 2]]) == pytest.approx(expected[1], abs=1e-5)
    assert sample_loss(model, [1], [1], [[0, 2]]) == pytest.approx(expected[2], abs=1e-5)


def test_batch_loss_is_the_mean() -> None:  # 7
    assert sample_loss(identity(toy(), 2), [0, 1], [1, 1], [[2, 2], [0, 2]]) == pytest.approx(0.987103, abs=1e-5)


@pytest.mark.parametrize("tau", [0.05, 0.15, 1.0])
def test_equal_cosines_give_log_of_the_count(tau: float) -> None:  # 8
    assert infonce(torch.full((3,), 0.4), torch.full((3, 256), 0.4), tau).item() == pytest.approx(5.549076, abs=1e-5)


def test_mlp_projects_the_average() -> None:  # 9
    model = alpharec(toy(), Z, num_layers=2, hidden=3)
    with torch.no_grad():
        model.network.first.weight.copy_(torch.tensor([[1.0, -1.0], [0.5, 0.5], [-1.0, 0.0]]))
        model.network.first.bias.copy_(torch.tensor([0.0, -0.5, 0.25]))
        model.network.second.weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]))
        model.network.second.bias.copy_(torch.tensor([0.1, -0.1]))
    close(model.project(Z), [[1.085, -0.0925], [0.59, -0.35], [0.085, 0.4075]])
    close(model.layer0().detach()[0], [0.095, -0.0975])
    assert not torch.allclose(model.layer0().detach()[0], torch.tensor([0.8375, -0.22125]), atol=0.1)
    model.refresh()
    close(cosines(model), [[0.983148, 0.994191, -0.150045], [0.931956, 0.996854, -0.331408]])


@pytest.mark.parametrize("bias", [False, True])
def test_linear_projector_commutes_with_the_mean(bias: bool) -> None:  # 10
    train = checkerboard()[0].train_set()
    model = alpharec(train, torch.randn(train.n_items, 6), projector="linear", linear_bias=bias, embedding_dim=4)
    rows = model.layer0().detach()
    torch.testing.assert_close(rows[: train.n_users], model.graph.mean_of_items(rows[train.n_users :]), atol=1e-6, rtol=0)


def lightgcn_toy() -> LightGCN:
    model = LightGCN(embedding_dim=2, num_layers=2, reg=0.0)
    train = toy()
    model.remember(train)
    model.build(train, np.random.default_rng(0))
    with torch.no_grad():
        model.layer0().copy_(torch.cat([Graph(train).mean_of_items(Z), Z]))
    model.refresh()
    return model


def test_lightgcn() -> None:  # 11
    model = lightgcn_toy()
    close(cosines(model), [[0.461643, 0.626029, 0.367851], [0.223703, 0.728902, 0.284518]])  # raw products: no cosine here
    assert sample_loss(model, [0], [0], [[2]]) == pytest.approx(0.647350, abs=1e-5)
    assert sample_loss(model, [1], [1], [[0]]) == pytest.approx(0.472117, abs=1e-5)
    assert sample_loss(model, [0, 1], [0, 1], [[2], [0]]) == pytest.approx(0.559734, abs=1e-5)
    rows = model.layer0()
    assert layer0_regulariser(rows[[0, 1]], rows[[2, 3]], rows[[4, 2]]).item() == pytest.approx(1.625, abs=1e-6)


def test_negatives_are_unseen() -> None:  # 16
    sampler = NegativeSampler(toy())
    assert np.unique(sampler.draw(np.zeros(100, dtype=np.int64), 1000, np.random.default_rng(0))).tolist() == [2]


@pytest.mark.parametrize("kind", [LightGCN, GCCF])
def test_shared_negatives_allow_a_user_with_every_item(kind: type[GraphRecommender]) -> None:
    log = pl.DataFrame({"user_id": ["u"] * 3 + ["v"], "item_id": ["a", "b", "c", "a"], "timestamp": [1, 2, 3, 1]})
    train = Dataset(log, pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"]})).train_set()
    settings = {"embedding_dim": 4, "num_negs": 3}
    options = TrainingOptions(epochs=2, progress=False, threads=1)
    with pytest.raises(InputError, match="1 users have every item of the catalogue"):
        kind(**settings).fit(train, options=options)
    model = kind(negatives="shared", **settings).fit(train, options=options)
    assert torch.isfinite(model.hot_users).all() and torch.isfinite(model.item_rows).all()
    for _, positives, negatives in model.batches(train, np.random.default_rng(0)):
        assert negatives.shape == (3,)
        assert set(positives.tolist()) <= {0, 1, 2}


def test_user_cycled_epoch_has_the_size_of_the_official_code() -> None:  # 16
    users, interactions = 26_073, 350_362  # Movies: 13.4 training interactions a user, 85 batches of 4,096
    rng = np.random.default_rng(0)
    lengths = np.full(users, interactions // users)
    lengths[: interactions - lengths.sum()] += 1
    sampler = PositiveSampler.__new__(PositiveSampler)
    sampler.starts = np.concatenate([[0], np.cumsum(lengths)])
    sampler.items, sampler.lengths, sampler.active = np.zeros(interactions, dtype=np.int32), lengths, np.arange(users)
    sampler.batch_size, sampler.mode, sampler.n_pairs = interactions, "user-cycled", interactions
    ((all_users, _),) = sampler.batches(rng)
    assert set(np.bincount(all_users).tolist()) == {13, 14}
    sampler.batch_size = 4096
    assert sampler.n_batches == 85
    assert sum(len(batch) for batch, _ in sampler.batches(rng)) == 85 * 4096


@pytest.mark.parametrize(
    ("dim", "rule", "size", "parameters"),
    [
        (768, "official", 6144, 5_118_016), (1536, "official", 3072, 4_918_336), (3072, "official", 1536, 4_818_496), (4096, "official",
        1152, 4_793_536),
        (5120, "official", 1440, 7_466_464), (768, "half", 384, 319_936), (4096, "half", 2048, 8_521_792), (5120, "half", 2560,
        13_273_664), (384, "half", 192, 86_272),
    ],
)  # fmt: skip
def test_parameter_counts(dim: int, rule: str, size: int, parameters: int) -> None:  # 17
    assert hidden_size(rule, dim) == size
    assert sum(p.numel() for p in Projector(dim, AlphaRecConfig(hidden=rule)).parameters()) == parameters


def test_official_mode_ignores_weight_decay() -> None:  # 17
    def trained(**settings: object) -> torch.Tensor:
        train = checkerboard()[0].train_set()
        torch.manual_seed(0)
        model = alpharec(train, torch.nn.functional.one_hot(torch.arange(train.n_items)).float(), embedding_dim=4, num_negs=4, **settings)
        optimiser = model.optimiser()
        for batch in model.batches(train, np.random.default_rng(0)):
            optimiser.zero_grad()
            model.loss(batch).backward()
            optimiser.step()
        return model.network.first.weight.detach().clone()

    assert torch.equal(trained(decay="ignored", weight_decay=0.1), trained(weight_decay=0.0))
    assert not torch.equal(trained(weight_decay=0.1), trained(weight_decay=0.0))


def test_renaming_items_changes_nothing() -> None:  # 18
    data, items = checkerboard()
    text = torch.randn(data.n_items, 2)
    names = data.item_map.ids.to_list()
    renamed = dict(zip(names, [f"x{k:02d}" for k in np.random.default_rng(0).permutation(len(names))], strict=True))
    log = data.interactions.with_columns(pl.col("item_id").replace_strict(renamed))
    other = Dataset(log, items.with_columns(pl.col("item_id").replace_strict(renamed)))
    order = [names.index({v: k for k, v in renamed.items()}[name]) for name in other.item_map.ids.to_list()]
    first, second = identity(data.train_set(), 2, text), identity(other.train_set(), 2, text[order])
    torch.testing.assert_close(cosines(first)[:, order], cosines(second), atol=1e-6, rtol=0)


def test_wish_mixes_with_the_person(monkeypatch: pytest.MonkeyPatch) -> None:  # 19
    model = identity(toy(), 0, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    monkeypatch.setattr(model, "encode_words", lambda texts: torch.tensor([[0.0, 1.0]]).expand(len(texts), 2))
    monkeypatch.setattr(model.reader, "readable", lambda texts: np.ones(len(texts), dtype=bool))
    found = [
        (
            torch.nn.functional.normalize(model.encode_queries([Query(user_id="u0", intent="up", alpha=a)]), dim=1)
            @ torch.tensor([0.0, 1.0])
        ).item()
        for a in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert found == pytest.approx([0, 0.316228, 0.707107, 0.948683, 1], abs=1e-5)
    assert torch.equal(model.encode_queries([Query(user_id="u0", intent="up", alpha=0.0)]), model.encode_queries([Query(user_id="u0")]))


def test_mixed_training_keeps_to_blocks() -> None:  # 20
    parts = []
    for name, n in (("a", 6), ("b", 10), ("c", 8)):
        data, items = checkerboard(n)
        parts.append((Dataset(data.interactions, items, name=name).train_set(), None))
    mixed, _ = mix(parts)
    sampler = NegativeSampler(mixed)
    users = np.repeat(np.arange(mixed.n_users), 40)
    drawn = sampler.draw(users, 50, np.random.default_rng(0))
    block = np.searchsorted(mixed.item_domains, drawn, side="right") - 1
    own = np.searchsorted(mixed.user_domains, users, side="right") - 1
    assert (block == own[:, None]).all()
    starts, items = mixed.pairs
    for user in range(mixed.n_users):
        assert not np.isin(drawn[users == user], items[starts[user] : starts[user + 1]]).any()
    shared = sampler.shared(7, np.random.default_rng(0)).reshape(3, 7)
    assert (np.searchsorted(mixed.item_domains, shared, side="right") - 1 == np.arange(3)[:, None]).all()
    text = torch.randn(mixed.n_items, 2)
    whole = identity(mixed, 2, text)
    for k, (train, _) in enumerate(parts):
        low, high = mixed.item_domains[k], mixed.item_domains[k + 1]
        alone = identity(train, 2, text[low:high])
        torch.testing.assert_close(whole.item_rows[low:high], alone.item_rows, atol=1e-6, rtol=0)
        torch.testing.assert_close(whole.hot_users[mixed.user_domains[k] : mixed.user_domains[k + 1]], alone.hot_users, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("loss", "negatives"),
    [*(("infonce", negatives) for negatives in ("per-sample", "shared", "in-batch", "all")), ("bpr", "per-sample"), ("bpr", "shared")],
)  # BPR compares pairs: it has drawn negatives only
def test_items_of_other_data_sets_are_no_negatives(loss: str, negatives: str) -> None:  # 20
    parts = []
    for name, n in (("a", 6), ("b", 40)):
        data, items = checkerboard(n)
        parts.append((Dataset(data.interactions, items, name=name).train_set(), None))
    mixed, _ = mix(parts)
    settings = {"embedding_dim": 4, "num_layers": 0, "negatives": negatives, "batch_size": 64, "reg": 0.0}
    settings |= {"num_negs": 5} if negatives in ("per-sample", "shared") else {}
    model = LightGCN(loss=loss, **settings).fit(mixed, options=TrainingOptions(epochs=1, progress=False, threads=1))
    batch = next(iter(model.batches(mixed, np.random.default_rng(0))))  # type: ignore[attr-defined]
    first_users, first_items = int(mixed.user_domains[1]), mixed.n_users + int(mixed.item_domains[1])
    mine = batch[0] < first_users
    assert 0 < mine.sum() < len(mine)
    found = []
    for far in (0.0, 3.0):
        table = model.network["embedding"].weight  # type: ignore[index]
        with torch.no_grad():
            table[first_items:] += far
        table.grad = None
        model.loss(batch).backward()
        found.append(table.grad[:first_users].clone())
    assert found[0].any()
    torch.testing.assert_close(found[0], found[1])  # what the second shop sells is nothing to the first one's shoppers


def plain_loss(model: GraphRecommender, batch: tuple) -> torch.Tensor:
    """The loss written plainly: MLP over all rows, adjacency as a dense matrix, negatives gathered, cross entropy."""
    users, positives, negatives = batch
    network, train_users = model.network, model.n_users
    user_text = torch.stack(
        [model.text[model.history_items[model.history_offsets[u] : model.history_offsets[u + 1]]].mean(0) for u in range(train_users)]
    )
    layer = torch.cat([network(user_text), network(model.text)])
    rows = model.graph.adjacency
    adjacency = torch.sparse_csr_tensor(rows.starts, rows.columns, rows.weights, (len(layer), len(layer))).to_dense()
    total = layer
    for _ in range(model.config.num_layers):
        layer = adjacency @ layer
        total = total + layer
    vectors = torch.nn.functional.normalize(total / (model.config.num_layers + 1), dim=1)
    chosen = negatives if negatives.ndim == 2 else negatives.expand(len(users), -1)
    candidates = torch.cat([positives[:, None], chosen], dim=1) + train_users
    logits = torch.einsum("bd,bnd->bn", vectors[users], vectors[candidates]) / model.config.tau
    return torch.nn.functional.cross_entropy(logits, torch.zeros(len(users), dtype=torch.long))


@pytest.mark.parametrize("negatives", ["per-sample", "shared"])
@pytest.mark.parametrize(
    "settings", [{"hidden": 5}, {"projector": "linear"}, {"projector": "linear", "linear_bias": True}, {"num_layers": 0}, {"num_layers": 3}]
)
def test_first_step_equals_the_plain_reference(settings: dict, negatives: str) -> None:
    train = checkerboard()[0].train_set()
    torch.manual_seed(0)
    model = alpharec(train, torch.randn(train.n_items, 7), embedding_dim=4, num_negs=3, negatives=negatives, batch_size=32, **settings)
    batch = next(iter(model.batches(train, np.random.default_rng(0))))
    found = []
    for loss in (model.loss(batch), plain_loss(model, batch)):
        model.network.zero_grad()
        loss.backward()
        found.append((loss.item(), [p.grad.clone() for p in model.network.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    for ours, plain in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-4)


def test_bfloat16_products_stay_near_float32() -> None:
    train = checkerboard()[0].train_set()
    torch.manual_seed(0)
    model = alpharec(train, torch.nn.functional.normalize(torch.randn(train.n_items, 16), dim=1), embedding_dim=8, num_negs=3)
    batch = next(iter(model.batches(train, np.random.default_rng(0))))
    model.network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model.loss(batch).item()
    assert low == pytest.approx(model.loss(batch).item(), abs=5e-3)


def test_all_items_and_in_batch_negatives() -> None:
    train = checkerboard()[0].train_set()
    torch.manual_seed(0)
    text = torch.randn(train.n_items, 7)
    users, positives = torch.tensor([0, 1, 2]), torch.tensor([2, 3, 4])
    for kind in ("all", "in-batch"):
        torch.manual_seed(1)
        model = alpharec(train, text, embedding_dim=4, negatives=kind)
        rows = torch.nn.functional.normalize(final(model), dim=1)
        items = rows[model.n_users :]
        candidates = items if kind == "all" else items[positives]
        targets = positives if kind == "all" else torch.arange(3)
        expected = torch.nn.functional.cross_entropy(rows[users] @ candidates.T / model.config.tau, targets)
        torch.testing.assert_close(model.loss((users, positives, None)), expected, atol=1e-6, rtol=0)


def test_bpr_with_one_negative_is_infonce_with_tau_one() -> None:
    positive, negative = torch.tensor([0.3, -0.2]), torch.tensor([0.1, 0.5])
    torch.testing.assert_close(bpr_loss(positive, negative), infonce(positive, negative[:, None], 1.0))


def test_history_of_a_training_user_is_near_the_stored_vector() -> None:
    """The difference is the user's own edges: in the frozen graph the items' rows already hold them."""
    data, _ = checkerboard()
    model = identity(data.train_set(), 2, torch.randn(data.n_items, 2))
    own = data.item_map.name(data.item_index[data.offsets[3] : data.offsets[4]]).to_list()
    warm = model.encode_queries([Query(history=own)])[0]
    assert torch.dot(warm, model.hot_users[3]).item() == pytest.approx(1.0, abs=1e-5)  # same degree and same items: the very same sums


def test_a_new_item_has_layer_0_only() -> None:
    model = identity(toy(), 2)
    close(model.item_rows[2], [0.707107, 0.707107])  # item 2 has nobody: cosine removes the factor 1 / (L + 1)


def test_transform_goes_along_to_wishes_new_items_and_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    data, items = checkerboard()
    train = data.train_set()
    model = AlphaRec(encoder="lsa", transform="whiten", embedding_dim=8, num_negs=4, batch_size=64)
    model.fit(train, options=TrainingOptions(epochs=1, progress=False))
    title = items["title"][4]
    wish = model.encode_words([title])[0]
    new = model.encode_items(pl.DataFrame({"item_id": ["n"], "title": [title]}))[0]
    own = torch.nn.functional.normalize(model.item_layers[0], dim=1)[4]
    torch.testing.assert_close(wish, own, atol=1e-5, rtol=0)
    torch.testing.assert_close(new, own, atol=1e-5, rtol=0)
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    torch.testing.assert_close(loaded.encode_words([title])[0], own, atol=1e-5, rtol=0)
    torch.testing.assert_close(loaded.transfer(train).text, model.text, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "unread"),
    [
        ("alpharec", {"projector": "linear", "hidden": 99}, "hidden = 99 has no effect with projector = 'linear'"),
        ("alpharec", {"linear_bias": True}, "linear_bias = True has no effect with projector = 'mlp'"),
        ("alpharec", {"negatives": "all", "num_negs": 7}, "num_negs = 7 has no effect with negatives = 'all'"),
        ("lightgcn", {"tau": 0.3}, "tau = 0.3 has no effect with loss = 'bpr'"),
        ("lightgcn", {"init": "xavier", "init_std": 0.1}, "init_std = 0.1 has no effect with init = 'xavier'"),
        ("mf-bpr", {"encoder": "lsa"}, "encoder = 'lsa' has no effect with init = 'normal'"),
    ],
)
def test_settings_that_nothing_reads_are_refused(name: str, settings: dict, unread: str) -> None:
    with pytest.raises(InputError, match=unread):
        create(name, **settings)


def test_shuffled_vectors_fall_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # 18
    """The control: the same vectors on other items. What is left is what the graph knows without words."""
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    data = simulated_shop(n_items=1000, n_users=500, seed=3)
    split = data.split("ratio")

    def fitted(**settings: object) -> AlphaRec:
        model = AlphaRec(
            encoder="lsa",
            projector="linear",
            embedding_dim=32,
            num_layers=1,
            negatives="shared",
            num_negs=64,
            lr=0.01,
            batch_size=512,
            **settings,
        )
        return model.fit(split.train, options=TrainingOptions(epochs=8, threads=1, progress=False))

    def recall(model: AlphaRec) -> float:
        return evaluate(model, split.train, split.test, metrics=["recall@20"], beyond=False, progress=False).metrics["recall@20"]

    plain, shuffled, other = fitted(), fitted(shuffle_text=0), fitted(shuffle_text=1)
    assert recall(shuffled) < 0.5 * recall(plain)
    order = np.random.default_rng(0).permutation(data.n_items)
    torch.testing.assert_close(shuffled.text, plain.text[torch.from_numpy(order)])
    assert not torch.allclose(other.text, shuffled.text)
    shuffled.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    torch.testing.assert_close(loaded.text, shuffled.text)
    torch.testing.assert_close(loaded.transfer(split.train).text, shuffled.text)  # a control remains one elsewhere
    torch.testing.assert_close(shuffled.transfer(split.train).text, shuffled.text)


@pytest.mark.parametrize("name", ["mf-bpr", "lightgcn", "lightgcn-infonce"])
def test_embeddings_that_start_as_language_vectors(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items: principal components of their texts' vectors; users: the mean of their items."""
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    data = simulated_shop(n_items=60, n_users=40, seed=3)
    train = data.train_set()
    model = create(name, init="text", init_std=0.1, encoder="lsa?dim=6", embedding_dim=3)
    model.remember(train)
    model.build(train, np.random.default_rng(0))
    rows = model.layer0().detach().numpy()
    vectors = item_vectors(data.items, "lsa?dim=6")
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    wanted = left[:, :3] * sizes[:3]
    found = rows[train.n_users :]
    assert found.std() == pytest.approx(0.1, rel=0.02)
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T * (0.1 / wanted.std(ddof=1)) ** 2, atol=1e-5)  # signs are free
    for user in range(train.n_users):
        np.testing.assert_allclose(rows[user], found[data.item_index[data.user_index == user]].mean(0), atol=1e-6)
    with pytest.raises(InputError, match="nosuch"):
        create(name, init="text", encoder="nosuch").fit(train, options=TrainingOptions(epochs=1, progress=False))


@pytest.mark.parametrize("name", ["mf-bpr", "lightgcn", "lightgcn-infonce", "gccf", "alpharec"])
def test_users_and_items_with_bad_rows_are_named(name: str) -> None:
    from lexirec.errors import LexirecError
    from lexirec.models import create
    from tests.models.toys import checkerboard

    train = checkerboard()[0].train_set()
    text = {"encoder": "lsa", "num_layers": 0, "projector": "linear"} if name == "alpharec" else {}
    model = create(name, batch_size=8, **text).fit(train, options=TrainingOptions(epochs=0, progress=False, threads=1))
    batch = next(iter(model.batches(train, np.random.default_rng(0))))
    assert model.culprits(batch) == "all rows before the graph are finite"
    rows = model.text if name == "alpharec" else model.layer0()
    item = int(batch[1][0])
    with torch.no_grad():
        rows[item if name == "alpharec" else train.n_users + item] = torch.nan
    assert f"(item_id {train.item_map.ids[item]!r}" in model.culprits(batch)
    if name == "mf-bpr":
        with torch.no_grad():
            rows.nan_to_num_()
            alone = next(user for user in range(train.n_users) if user not in batch[0].tolist())
            rows[alone] = torch.nan
        assert model.culprits(batch) == f"1 users beside the batch (user_id {train.users.ids[alone]!r}) have vectors with NaN or infinity"
        with pytest.raises(LexirecError, match=r"the loss is nan in epoch 1, step 2 \(\d+ users of the batch"):
            create(name, batch_size=8, lr=1e39).fit(train, options=TrainingOptions(epochs=3, progress=False, threads=1))
