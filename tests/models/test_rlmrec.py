"""GCCF and RLMRec: numbers 10 to 18 of EasyRec's conformance list, a dense reference of the first step, controls and text sources."""

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.data.mixing import mix
from lexirec.errors import InputError
from lexirec.evaluation.evaluate import evaluate
from lexirec.models import create, load_model, semantic
from lexirec.models.easyrec import EasyRec
from lexirec.models.gccf import GCCF
from lexirec.models.layers.propagation import Propagation
from lexirec.models.rlmrec import RLMRec, contrast_sum, mask_count, projection, reconstruction
from lexirec.models.semantic import semantic_vectors
from lexirec.query import Query
from lexirec.text import Profiles, write_profiles
from lexirec.text.cache import CacheWarning
from lexirec.text.plain_writer import PlainWriter
from lexirec.text.templates import render
from lexirec.training.options import TrainingOptions
from tests.models.text_worlds import tiny_bert
from tests.models.toys import checkerboard, markov

FAST = TrainingOptions(epochs=3, progress=False, threads=1)


def two_users() -> TrainSet:
    """u0 has two items (one of them twice), u1 the second; nobody has the third."""
    log = pl.DataFrame({"user_id": ["u0", "u0", "u0", "u1"], "item_id": ["i0", "i1", "i1", "i1"], "timestamp": [1, 2, 3, 4]})
    return Dataset(log, pl.DataFrame({"item_id": ["i0", "i1", "i2"], "title": ["a", "b", "c"]})).train_set()


def dense(propagation: Propagation) -> torch.Tensor:
    matrix = propagation.matrix
    n = len(matrix.starts) - 1
    out = torch.zeros(n, n)
    rows = torch.repeat_interleave(torch.arange(n), matrix.starts.diff())
    out[rows, matrix.columns] = matrix.weights
    return out


E0 = torch.tensor([[1.0], [2.0], [3.0], [4.0], [0.0]])


def test_matrices_with_and_without_loops() -> None:
    plain, loops = dense(Propagation(two_users())), dense(Propagation(two_users(), self_loops=True))
    torch.testing.assert_close(plain[:2, 2:4], torch.tensor([[0.707107, 0.5], [0.0, 0.707107]]))
    torch.testing.assert_close(loops[:2, 2:4], torch.tensor([[0.408248, 0.333333], [0.0, 0.408248]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(loops.diagonal(), torch.tensor([1 / 3, 1 / 2, 1 / 2, 1 / 3, 1.0]))
    assert torch.equal(plain, plain.T)


def untrained(kind: type, train: TrainSet, layer0: torch.Tensor | None = None, **settings: object):
    model = kind(**settings)
    model.fit(train, options=TrainingOptions(epochs=0, progress=False, threads=1))
    if layer0 is not None:
        with torch.no_grad():
            model.layer0().copy_(layer0)
        model.refresh()
    return model


def test_lightgcn_adds_its_layers_up() -> None:
    model = untrained(RLMRec, two_users(), E0, method="none", embedding_dim=1, num_layers=2)
    layers = model.propagation.layers(E0, 2)
    torch.testing.assert_close(layers[1][:4, 0], torch.tensor([4.121320, 2.828427, 0.707107, 1.914214]))
    torch.testing.assert_close(layers[2][:4, 0], torch.tensor([1.457107, 1.353553, 2.914214, 4.060660]))
    vectors = torch.cat([model.hot_users, model.item_rows])[:4, 0]
    torch.testing.assert_close(vectors, torch.tensor([6.578427, 6.181981, 6.621320, 9.974874]))
    scores = model.score([Query(user_id="u0"), Query(user_id="u1")])
    torch.testing.assert_close(scores[0, 1].item(), 65.618980, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores[1, 0].item(), 40.932873, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("loops", "first", "second"), [(True, 18.548214, 15.998398), (False, 17.805903, 11.944544)])
def test_gccf_sets_its_layers_side_by_side(loops: bool, first: float, second: float) -> None:
    model = untrained(GCCF, two_users(), E0, embedding_dim=1, num_layers=2, self_loops=loops)
    if loops:
        torch.testing.assert_close(model.hot_users[0], torch.tensor([1, 2.891412, 2.570564]))
        torch.testing.assert_close(model.item_rows[1], torch.tensor([4, 2.483163, 2.866440]))
    scores = model.score([Query(user_id="u0"), Query(user_id="u1")])
    torch.testing.assert_close(scores[0, 1].item(), first, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores[1, 0].item(), second, atol=1e-4, rtol=0)


def test_rlmrec_on_gccf_has_no_loops() -> None:
    torch.manual_seed(0)
    model = untrained(RLMRec, two_users(), E0, method="none", backbone="gccf", embedding_dim=1, num_layers=2)
    assert model.score([Query(user_id="u0")])[0, 1].item() == pytest.approx(17.805903, abs=1e-4)


@pytest.mark.parametrize(("positive", "negative", "expected"), [(1.2, 0.7, 0.474077), (0.4, 0.4, 0.693147)])
def test_ranking_loss(positive: float, negative: float, expected: float) -> None:
    model = untrained(RLMRec, two_users(), method="none", embedding_dim=1, num_layers=0)
    vectors = torch.tensor([[1.0], [0.0], [positive], [negative], [0.0]])
    batch = (torch.tensor([0]), torch.tensor([0]), torch.tensor([[1]]))
    assert model.ranking_loss(vectors, batch).item() == pytest.approx(expected, abs=1e-6)


X, Y = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]])


def test_contrastive_terms() -> None:
    own, more = torch.tensor([0, 1]), torch.cat([Y, torch.tensor([[2.0, 0.0]])])
    singles = [contrast_sum(X[b : b + 1], more, own[b : b + 1], 0.5).item() for b in range(2)]
    assert singles == pytest.approx([1.111700, 1.334054], abs=1e-5)
    user, item = contrast_sum(X, more, own, 0.5).item(), contrast_sum(X, Y, own, 0.5).item()
    assert (user, item) == pytest.approx((2.445754, 1.245956), abs=1e-5)
    assert 0.01 * (user + item + item) / 2 == pytest.approx(0.024688, abs=1e-6)


def test_reconstruction_terms() -> None:
    found = [reconstruction(X, Y, tau).item() for tau in (1.0, 0.5, 0.1)]
    assert found == pytest.approx([0.625556, 0.622978, 1.490928], abs=1e-5)
    assert reconstruction(torch.eye(3), torch.eye(3), 0.5).item() == pytest.approx(0.239545, abs=1e-6)
    assert torch.isfinite(reconstruction(X * 50, Y * 50, 1e-3))


@pytest.mark.parametrize(
    ("text_dim", "hidden"), [(1024, (528, 560, 576)), (768, (400, 432, 448)), (1536, (784, 816, 832)), (3072, (1552, 1584, 1600))]
)
def test_hidden_sizes(text_dim: int, hidden: tuple[int, int, int]) -> None:
    assert tuple(projection(text_dim, final)[0].out_features for final in (32, 96, 128)) == hidden
    there, back = projection(text_dim, 96), projection(text_dim, 96, to_text=True)
    assert (there[0].in_features, there[2].out_features) == (text_dim, 96) == (back[2].out_features, back[0].in_features)


def test_mask_counts() -> None:
    assert [mask_count(28_547, 0.15), mask_count(22_101, 0.05), mask_count(20_332, 0.15), mask_count(5, 0.1)] == [4282, 1105, 3049, 1]


def test_training_ends_five_validations_after_the_best() -> None:
    data, _ = checkerboard()
    split = data.split("leave-one-out")
    seen: list[int] = []

    class Scripted(RLMRec):
        def validation(self, train, valid, metrics):
            seen.append(3 * (len(seen) + 1))
            return dict.fromkeys(metrics, {3: 0.1, 6: 0.2, 9: 0.5}.get(seen[-1], 0.4))

    options = TrainingOptions(epochs=3000, eval_every=3, patience=5, monitor="recall@20", progress=False, threads=1)
    model = Scripted(method="none", embedding_dim=4).fit(split.train, split.valid, options)
    assert seen == [3, 6, 9, 12, 15, 18, 21, 24]
    assert (model.training_result.best_epoch, model.training_result.stopped) == (9, "patience")


# --- the first step against a dense reference ----------------------------------------------------------------------------------------


def reference(model, batch, semantic: torch.Tensor | None, kept: torch.Tensor, masked: torch.Tensor | None) -> torch.Tensor:
    """The loss from dense matrices, a loop over users and the printed formulas."""
    config, n_users = model.config, model.n_users
    weights = dict(model.network.named_parameters())
    matrix = dense(model.propagation) * kept
    rows = [weights["embedding.weight"]]
    if masked is not None:
        rows = [torch.stack([weights["token"][0] if n in masked.tolist() else rows[0][n] for n in range(len(matrix))])]
    for _ in range(config.num_layers):
        rows.append(matrix @ rows[-1])
    final = torch.cat(rows, 1) if model.side_by_side else sum(rows)
    users, positives, negatives = batch
    e_u, e_p, e_n = final[users], final[n_users + positives], final[n_users + negatives[:, 0]]
    loss = -torch.log(torch.sigmoid((e_u * e_p).sum(1) - (e_u * e_n).sum(1))).mean()
    loss = loss + config.reg * sum((p**2).sum() for p in weights.values())
    if semantic is None:
        return loss

    def mlp(x):
        hidden = F.leaky_relu(x @ weights["mlp.0.weight"].T + weights["mlp.0.bias"], 0.01)
        return hidden @ weights["mlp.2.weight"].T + weights["mlp.2.bias"]

    def unit(z):
        return z / torch.sqrt((z**2).sum(-1, keepdim=True) + 1e-8)

    if masked is None:
        texts = mlp(semantic)
        total = 0.0
        s_u, s_p, s_n = texts[users], texts[n_users + positives], texts[n_users + negatives[:, 0]]
        for x, y, candidates in ((e_u, s_u, texts[:n_users]), (e_p, s_p, s_p), (e_n, s_n, s_n)):
            for b in range(len(users)):
                scores = torch.exp(unit(candidates) @ unit(x[b]) / config.tau)
                total = total - (unit(x[b]) @ unit(y[b])) / config.tau + torch.log(scores.sum())
        return loss + config.weight * total / len(users)
    q, s = F.normalize(mlp(final[masked]), dim=1), F.normalize(semantic[masked], dim=1)
    scores = torch.exp(q @ s.T / config.tau)
    return loss + config.weight * -torch.log(scores.diagonal() / (scores.sum(1) + 1e-8) + 1e-8).mean()


@pytest.mark.parametrize("backbone", ["lightgcn", "gccf"])
@pytest.mark.parametrize("method", ["none", "con", "gen"])
@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_first_step_equals_a_dense_reference(backbone: str, method: str, keep: float, monkeypatch: pytest.MonkeyPatch) -> None:
    train = checkerboard()[0].train_set()
    settings = {"backbone": backbone, "method": method, "edge_keep": keep, "embedding_dim": 4, "num_layers": 2, "reg": 1e-3}
    if method != "none":
        settings["weight"] = 0.3
    texts = {} if method == "none" else {"encoder": "lsa"}
    model = untrained(RLMRec, train, **texts, **({"mask_ratio": 0.2} if method == "gen" else {}), **settings)
    model.network.double()
    semantic = None
    if method != "none":
        semantic = model.semantic = model.semantic.double()
    matrix = model.propagation.matrix
    drawn = torch.rand(len(matrix.weights))
    masked = torch.randperm(40)[: mask_count(40, 0.2)] if method == "gen" else None
    monkeypatch.setattr(torch, "rand", lambda *_, **__: drawn)
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: torch.cat([masked, torch.zeros(32, dtype=torch.int64)]))
    kept = torch.ones(40, 40, dtype=torch.float64)
    if keep < 1:
        owners = torch.repeat_interleave(torch.arange(40), matrix.starts.diff())
        kept = torch.zeros(40, 40, dtype=torch.float64)
        kept[owners, matrix.columns] = (drawn < keep).double()
        assert not torch.equal(kept, kept.T)
    batch = (torch.tensor([0, 3, 5, 3]), torch.tensor([2, 5, 7, 9]), torch.tensor([[1], [4], [6], [4]]))
    model.network.train()
    loss = model.loss(batch)
    loss.backward()
    ours = {name: p.grad.clone() for name, p in model.network.named_parameters()}
    model.network.zero_grad()
    plain = reference(model, batch, semantic, kept, masked)
    plain.backward()
    assert loss.item() == pytest.approx(plain.item(), abs=1e-9)
    for name, p in model.network.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, atol=1e-8, rtol=1e-6, msg=name)


@pytest.mark.parametrize("tau", [0.2, 0.01])  # the second: exponentials need each row's largest score taken off
def test_blockwise_contrast_equals_the_whole_matrix(tau: float) -> None:
    torch.manual_seed(0)
    x, c = (torch.randn(n, 8, dtype=torch.float64, requires_grad=True) for n in (300, 500))
    own = torch.randint(0, 500, (300,))
    often, copies = torch.randint(1, 4, (300,)), torch.randint(1, 4, (500,))
    rows, repeated = torch.arange(300).repeat_interleave(often), torch.arange(500).repeat_interleave(copies)
    first = torch.cat([torch.zeros(1, dtype=torch.int64), copies.cumsum(0)[:-1]])

    def unit(z):
        return z / torch.sqrt((z**2).sum(-1, keepdim=True) + 1e-8)

    expected = F.cross_entropy(unit(x)[rows] @ unit(c)[repeated].T / tau, first[own][rows], reduction="sum")
    grads = torch.autograd.grad(expected, [x, c])
    found = contrast_sum(x, c, own, tau, often, copies)
    torch.testing.assert_close(found, expected)
    for ours, plain in zip(torch.autograd.grad(found, [x, c]), grads, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-9, rtol=1e-9)
    single = contrast_sum(x.float(), c.float(), own, tau, often, copies)  # in the precision of a training
    torch.testing.assert_close(single, expected.float(), atol=1e-2, rtol=1e-5)
    for ours, plain in zip(torch.autograd.grad(single, [x, c]), grads, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("tau", [0.2, 0.1])
def test_products_in_bfloat16_keep_loss_and_direction(tau: float) -> None:
    torch.manual_seed(0)
    x, c = (torch.randn(n, 32, requires_grad=True) for n in (200, 700))
    own, counts, copies = torch.randint(0, 700, (200,)), torch.randint(1, 40, (200,)), torch.randint(1, 40, (700,))
    for loss in (lambda: contrast_sum(x, c, own, tau, counts, copies), lambda: reconstruction(x, c[:200], tau)):
        full, low = loss(), None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = loss()
        assert low.item() != full.item()
        assert low.item() == pytest.approx(full.item(), rel=2e-3)
        for there, here in zip(*(torch.autograd.grad(v, [x, c], allow_unused=True) for v in (full, low)), strict=True):
            assert there is None or torch.cosine_similarity(there.flatten(), here.flatten(), dim=0) > 0.9995


@pytest.mark.parametrize("tau", [0.5, 0.01])
def test_blockwise_reconstruction_equals_the_whole_matrix(tau: float) -> None:
    torch.manual_seed(0)
    q, s = torch.randn(100, 8, dtype=torch.float64, requires_grad=True), torch.randn(100, 8, dtype=torch.float64)
    scores = F.normalize(q, dim=1) @ F.normalize(s, dim=1).T / tau
    whole = torch.logsumexp(torch.cat([scores, torch.full((100, 1), 1e-8, dtype=torch.float64).log()], dim=1), dim=1)
    expected = -torch.log(torch.exp(scores.diagonal() - whole) + 1e-8).mean()
    found = reconstruction(q, s, tau)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, q)[0], torch.autograd.grad(expected, q)[0], atol=1e-10, rtol=1e-9)


def test_paper_contrast_sees_the_batch_only() -> None:
    train = checkerboard()[0].train_set()
    batch = (torch.tensor([0, 3]), torch.tensor([2, 5]), torch.tensor([[1], [4]]))
    losses = {}
    for contrast in ("all", "batch"):
        torch.manual_seed(0)
        model = untrained(RLMRec, train, encoder="lsa", contrast=contrast, weight=1.0)
        losses[contrast] = model.loss(batch).item()
        model.semantic[10] += 5.0  # a user who is not in the batch
        changed = model.loss(batch).item()
        assert (changed == losses[contrast]) == (contrast == "batch")
    assert losses["all"] > losses["batch"]


def test_dropped_edges_are_drawn_anew_in_training_only() -> None:
    train = checkerboard()[0].train_set()
    model = untrained(RLMRec, train, method="none", edge_keep=0.5)
    x = model.layer0()
    model.network.train()
    assert not torch.equal(model.propagated(x), model.propagated(x))
    model.network.eval()
    assert torch.equal(model.propagated(x), model.propagated(x))
    share = np.mean([(model.propagation.layers(torch.ones(40, 1), 1, 0.5)[1] != 0).float().mean().item() for _ in range(5)])
    assert 0.9 < share <= 1.0  # eight or nine neighbours each: nearly nobody loses all


# --- text ----------------------------------------------------------------------------------------------------------------------------


def config(**settings: object):
    return RLMRec(**{"encoder": "lsa", **settings}).config


def test_vectors_of_users_and_items_come_from_the_training_part_only() -> None:
    data, _ = checkerboard()
    split = data.split("leave-one-out")
    found = semantic_vectors(split.train, config(), np.random.default_rng(0))
    assert found.shape[0] == 40
    other = data.interactions.with_columns(  # every held-out event is another item now
        pl.when(pl.int_range(pl.len()).over("user_id") >= pl.len().over("user_id") - 2)
        .then(pl.col("item_id").reverse())
        .otherwise(pl.col("item_id"))
        .alias("item_id")
    )
    rows = np.zeros(data.n_interactions, dtype=bool)
    for user in range(20):
        rows[data.offsets[user] : data.offsets[user + 1] - 2] = True
    planted = Dataset(other, data.items).train_set(rows)
    torch.testing.assert_close(semantic_vectors(planted, config(), np.random.default_rng(0)), found)


def test_controls() -> None:
    train = checkerboard()[0].train_set()
    real = semantic_vectors(train, config(), np.random.default_rng(0))
    shuffled = semantic_vectors(train, config(control="shuffled"), np.random.default_rng(0))
    assert not torch.equal(shuffled, real)
    for part in (slice(0, 20), slice(20, 40)):  # the same rows, users among users and items among items
        assert torch.equal(torch.sort(shuffled[part].sum(1)).values, torch.sort(real[part].sum(1)).values)
    noise = semantic_vectors(train, config(control="random", encoder="minilm"), np.random.default_rng(0))
    assert noise.shape == (40, 384)
    torch.testing.assert_close(noise.norm(dim=1), torch.ones(40))


def test_vectors_of_a_saved_text_model(tmp_path: Path) -> None:
    train = checkerboard()[0].train_set()
    text = create("zero-shot", encoder="lsa", versions=0).fit(train, options=FAST)
    text.save(tmp_path / "text")
    found = semantic_vectors(train, config(encoder="minilm", vectors=str(tmp_path / "text")), np.random.default_rng(0))
    torch.testing.assert_close(found, semantic_vectors(train, config(), np.random.default_rng(0)))
    again = semantic_vectors(train, config(encoder="minilm", vectors=str(tmp_path / "text")), np.random.default_rng(0))  # from disk
    assert torch.equal(found, again)
    other = checkerboard(14)[0].train_set()  # another data set: zero-shot
    assert semantic_vectors(other, config(encoder="minilm", vectors=str(tmp_path / "text")), np.random.default_rng(0)).shape[0] == 28
    create("popularity").fit(train).save(tmp_path / "ids")
    with pytest.raises(InputError, match="reads no texts of people"):
        semantic_vectors(train, config(encoder="minilm", vectors=str(tmp_path / "ids")), np.random.default_rng(0))
    with pytest.raises(InputError, match=r"config.yaml|no run|not a run"):
        semantic_vectors(train, config(encoder="minilm", vectors=str(tmp_path / "nowhere")), np.random.default_rng(0))


def test_vectors_of_profiles_that_were_replaced_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, other = checkerboard()[0].train_set(), markov(0.8, users=5).train_set()
    mixed, _ = mix([(train, None), (other, None)])
    plain = PlainWriter(0).write(train)

    def write(word: str) -> None:
        users = plain.users.with_columns(profile=pl.lit(f"{word} ") + pl.col("profile"))
        write_profiles(tmp_path / "profiles", Profiles(plain.items, users), train, replace=True)

    def found() -> torch.Tensor:
        return semantic_vectors(train, config(encoder="minilm", vectors=str(tmp_path / "text")), np.random.default_rng(0))

    write("gold")
    create("zero-shot", encoder="random", versions=0, profiles=str(tmp_path / "profiles")).fit(mixed, options=FAST).save(tmp_path / "text")
    gold = found()
    assert torch.equal(found(), gold)
    write("silver")
    assert not torch.equal(found(), gold)
    create("zero-shot", encoder="random", versions=0).fit(other, options=FAST).save(tmp_path / "untold")
    untold = {"encoder": "minilm", "vectors": str(tmp_path / "untold")}
    silver = semantic_vectors(train, config(**untold, profiles=str(tmp_path / "profiles")), np.random.default_rng(0))
    assert not torch.equal(silver, semantic_vectors(train, config(**untold), np.random.default_rng(0)))
    write("gold")
    gilded = semantic_vectors(train, config(**untold, profiles=str(tmp_path / "profiles")), np.random.default_rng(0))
    assert not torch.equal(silver, gilded)
    asked: list[bool] = []
    monkeypatch.setattr(semantic, "_vectors", lambda model, train: asked.append(True) or (torch.zeros(20, 2), torch.zeros(20, 2)))
    found()
    assert not asked  # kept
    monkeypatch.setattr(semantic, "VERSION", semantic.VERSION + 1)
    found()
    assert asked  # the plain writer writes otherwise


def test_a_saved_text_model_reads_items_as_it_is_told(tmp_path: Path) -> None:
    data, _ = checkerboard()
    told = data.items.with_columns(pl.format("{} as the data has it", pl.col("item_id")).alias("profile"))
    train = Dataset(data.interactions, told).train_set()
    text = create("zero-shot", encoder="random", versions=0).fit(train, options=FAST)
    text.save(tmp_path / "text")
    asked = {"vectors": str(tmp_path / "text"), "encoder": "minilm"}
    own = semantic_vectors(train, config(**asked), np.random.default_rng(0))
    for _ in range(2):  # made, then from disk: under a key of its own
        found = semantic_vectors(train, config(**asked, item_text="title,profile"), np.random.default_rng(0))
        expected = text.reader.encoder.encode(render(told, "title,profile"))
        np.testing.assert_allclose(found[20:].numpy(), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
        torch.testing.assert_close(found[:20], own[:20])
        assert not torch.equal(found[20:], own[20:])
    assert torch.equal(semantic_vectors(train, config(**asked), np.random.default_rng(0)), own)


def test_users_without_training_events_get_the_mean() -> None:
    log = pl.DataFrame({"user_id": ["u0", "u0", "u1", "u2"], "item_id": ["i0", "i1", "i1", "i0"], "timestamp": [1, 2, 3, 4]})
    data = Dataset(log, pl.DataFrame({"item_id": ["i0", "i1"], "title": ["red apple", "blue car"]}))
    train = data.train_set(np.array([True, True, True, False]))
    found = semantic_vectors(train, config(), np.random.default_rng(0))
    torch.testing.assert_close(found[2], found[:2].mean(0))


@pytest.mark.parametrize("settings", [{"method": "gen"}, {"backbone": "gccf"}, {"method": "none"}, {"method": "gen", "backbone": "gccf"}])
def test_variants_learn_and_are_saved(settings: dict, tmp_path: Path) -> None:
    train = checkerboard()[0].train_set()
    texts = {} if settings.get("method") == "none" else {"encoder": "lsa"}
    model = RLMRec(lr=0.05, embedding_dim=16, num_layers=2, batch_size=64, **texts, **settings)
    model.fit(train, options=TrainingOptions(epochs=40, progress=False, threads=1))
    found = model.recommend(train.users.ids.to_list(), k=1)
    assert all(row["item_id"][1:] == row["user_id"][1:] for row in found.iter_rows(named=True))
    model.save(tmp_path / "run")
    loaded = load_model(tmp_path / "run")
    queries = [Query(user_id="u03"), Query(history=["i01", "i05"])]
    assert torch.equal(loaded.score(queries), model.score(queries))
    assert set(loaded.network.state_dict()) == set(model.network.state_dict())


def newcomer(model, history: np.ndarray) -> list[torch.Tensor]:
    """Each layer of somebody with zeros in layer 0, beside the graph as it is: a sum over the own items, in double precision."""
    n, loop = model.n_users, float(model.self_loops)
    matrix = dense(model.propagation).double()
    degrees = (matrix[:n, n:] > 0).sum(0) + loop
    layer = model.layer0().detach().double()
    found = [torch.zeros(layer.shape[1], dtype=torch.float64)]
    for _ in range(model.config.num_layers):
        own = found[-1] * loop / (len(history) + loop)
        for item in history.tolist():
            own = own + layer[n + item] / torch.sqrt((len(history) + loop) * degrees[item])
        found.append(own)
        layer = matrix @ layer
    return [layer.float() for layer in found]


def test_a_newcomer_joins_the_graph() -> None:
    for kind, settings in ((GCCF, {}), (RLMRec, {"method": "none"})):
        train = checkerboard()[0].train_set()
        model = untrained(kind, train, num_layers=2, embedding_dim=4, **settings)
        with torch.no_grad():
            model.layer0()[3] = 0.0  # as if user 3 had no id
        model.refresh()
        own = train.item_map.name(train.history(3)).to_list()
        alone = model.encode_queries([Query(history=own)])[0]
        assert torch.cosine_similarity(alone, model.hot_users[3], dim=0) > 0.95  # items' second layers hold user 3 itself
        expected = newcomer(model, train.history(3))
        torch.testing.assert_close(alone, torch.cat(expected) if kind is GCCF else sum(expected))


def test_training_is_evaluated_like_any_model() -> None:
    data, _ = checkerboard()
    split = data.split("leave-one-out")
    model = create("gccf", lr=0.05, embedding_dim=8, batch_size=64).fit(
        split.train, split.valid, TrainingOptions(epochs=20, progress=False)
    )
    assert evaluate(model, split.train, split.test, seen=(split.valid,), metrics=["recall@5"]).metrics["recall@5"] == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "both"}, "method = 'both'"),
        ({"backbone": "sasrec"}, "backbone = 'sasrec'"),
        ({"edge_keep": 0.0}, "edge_keep = 0.0"),
        ({"mask_ratio": 1.5}, "mask_ratio = 1.5"),
        ({"negatives": "all"}, "negatives = 'all'"),
        ({"vector": "x"}, "did you mean 'vectors'"),
        ({"method": "none", "tau": 0.3}, "tau = 0.3 has no effect with method = 'none'"),
        ({"method": "none", "control": "shuffled"}, "control = 'shuffled' has no effect"),
        ({"method": "none", "item_text": "title"}, "item_text = 'title' has no effect"),
        ({"method": "gen", "contrast": "batch"}, "contrast = 'batch' has no effect with method = 'gen'"),
        ({"mask_ratio": 0.2}, "mask_ratio = 0.2 has no effect with method = 'con'"),
        ({"control": "random", "vectors": "RUN"}, "vectors = 'RUN' has no effect with control = 'random'"),
        ({"vectors": "RUN", "encoder": "lsa"}, "encoder = 'lsa' has no effect with vectors"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RLMRec(**settings)


def test_kept_vectors_are_those_of_the_settings_and_the_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of the same weights that read people otherwise, and one run on two machines."""
    train, other = checkerboard()[0].train_set(), checkerboard(14)[0].train_set()
    bert = f"hf:{tiny_bert(tmp_path / 'bert')}"
    fixed = {"encoder": bert, "epochs": 0, "head": False, "mlm_weight": 0.0, "max_length": 8, "versions": 0}
    found = {}
    for length in (8, 64):
        model = create("easyrec", **fixed, read_length=length, read_precision="auto").fit(train, options=FAST)
        model.save(tmp_path / f"run{length}")
        found[length] = semantic_vectors(other, config(encoder="minilm", vectors=str(tmp_path / f"run{length}")), np.random.default_rng(0))
    kept = tmp_path / "cache" / "semantic"
    assert len(list(kept.iterdir())) == 2
    assert not torch.equal(found[8], found[64])
    monkeypatch.setattr(EasyRec, "reads_by", lambda self: "of another machine")
    semantic_vectors(other, config(encoder="minilm", vectors=str(tmp_path / "run8")), np.random.default_rng(0))
    assert len(list(kept.iterdir())) == 3


def test_kept_vectors_that_are_damaged_are_made_again_and_a_cache_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = checkerboard()[0].train_set()
    create("zero-shot", encoder="random", versions=0).fit(train, options=FAST).save(tmp_path / "text")

    def found() -> torch.Tensor:
        return semantic_vectors(train, config(encoder="minilm", vectors=str(tmp_path / "text")), np.random.default_rng(0))

    first = found()
    (file,) = (tmp_path / "cache" / "semantic").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    with pytest.warns(CacheWarning, match=r"what was kept there is damaged and is made again"):
        assert torch.equal(found(), first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(found(), first)  # healed
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "file"))
    with pytest.warns(CacheWarning, match=r"the vectors of .*text aren't kept for the next training .*set LEXIREC_CACHE"):
        assert torch.equal(found(), first)
