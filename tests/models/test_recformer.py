"""Recformer: Longformer against transformers' own, tokens, both losses and both stages."""

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lexirec.data.dataset import Dataset
from lexirec.data.mixing import mix
from lexirec.errors import InputError, LexirecError
from lexirec.models import create, load_model
from lexirec.models.layers.itemtokens import NAME, VALUE, hide_words, latest_first, tokenise, vocabulary
from lexirec.models.layers.longformer import Longformer
from lexirec.models.layers.sequence import Layout
from lexirec.models.recformer import Recformer, RecformerConfig
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.test_fdsa import world
from tests.models.toys import markov, of_others

SHAPE = {
    "embedding_dim": 8,
    "num_heads": 2,
    "num_layers": 2,
    "inner": 12,
    "window": 8,
    "max_tokens": 64,
    "max_len": 6,
}
EXACT = {**SHAPE, "dropout": 0.0, "init_std": 0.3, "batch_size": 8}
QUIET = {"progress": False, "threads": 1}


def untrained(data: Dataset, **settings: object) -> Recformer:
    model = create("recformer", **{**EXACT, **settings}).fit(data.split("leave-one-out").train, options=TrainingOptions(epochs=0, **QUIET))
    assert isinstance(model, Recformer)
    return model


# --- Longformer ------------------------------------------------------------------------------------------------------------------


def theirs(ours: Longformer, vocabulary_size: int, max_tokens: int, window: int, dim: int, heads: int, inner: int) -> torch.nn.Module:
    """transformers' Longformer with the same weights."""
    from transformers import LongformerConfig, LongformerModel

    config = LongformerConfig(
        vocab_size=vocabulary_size, hidden_size=dim, num_hidden_layers=len(ours.blocks), num_attention_heads=heads, intermediate_size=inner,
        attention_window=[window] * len(ours.blocks), max_position_embeddings=max_tokens + 2, type_vocab_size=3, pad_token_id=1,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, layer_norm_eps=1e-5,
    )  # fmt: skip
    model = LongformerModel(config, add_pooling_layer=False).eval()
    embeddings = model.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.weight[2:] = ours.positions.weight
        embeddings.token_type_embeddings.weight.copy_(ours.kinds.weight)
        embeddings.LayerNorm.load_state_dict(ours.norm.state_dict())
        for block, layer in zip(ours.blocks, model.encoder.layer, strict=True):
            attention, own = block.attention, layer.attention.self
            for source, one, two in (
                (attention.key_value, own.key, own.value),
                (attention.global_key_value, own.key_global, own.value_global),
            ):
                for part, target in zip((slice(None, dim), slice(dim, None)), (one, two), strict=True):
                    target.weight.copy_(source.weight[part])
                    target.bias.copy_(source.bias[part])
            own.query.load_state_dict(attention.query.state_dict())
            own.query_global.load_state_dict(attention.global_query.state_dict())
            layer.attention.output.dense.load_state_dict(attention.out.state_dict())
            layer.attention.output.LayerNorm.load_state_dict(block.norm_attention.state_dict())
            layer.intermediate.dense.load_state_dict(block.feed_forward.first.state_dict())
            layer.output.dense.load_state_dict(block.feed_forward.second.state_dict())
            layer.output.LayerNorm.load_state_dict(block.norm.state_dict())
    return model


@pytest.mark.parametrize("lengths", [[40, 37, 21, 9, 1], [16, 13, 12]])
def test_longformer_equals_transformers(lengths: list[int]) -> None:
    """States and gradients, with lengths above and below the window, in groups and alone."""
    torch.manual_seed(0)
    dim, heads, inner, window, top = 12, 3, 20, 8, 48
    ours = Longformer(30, dim, 2, heads, inner, window, 0.0, top, 5).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model = theirs(ours, 30, top, window, dim, heads, inner)
    layout = Layout(np.array(lengths))
    tokens = torch.randint(2, 30, (layout.total,))
    kinds, items = torch.randint(0, 3, (layout.total,)), torch.randint(0, 6, (layout.total,))
    states = ours(tokens, kinds, items, layout, first_only=False)
    size, longest = len(lengths), lengths[0]
    real = torch.zeros(size, longest, dtype=torch.bool)
    for i, n in enumerate(lengths):
        real[i, :n] = True
    rows = torch.zeros(size, longest, dim)
    rows[real] = ours.words(tokens) + ours.items(items)
    types, seen = torch.zeros(size, longest, dtype=torch.long), torch.zeros(size, longest, dtype=torch.long)
    types[real], seen[:, 0] = kinds, 1
    found = model(
        inputs_embeds=rows, attention_mask=real.long(), global_attention_mask=seen, token_type_ids=types,
        position_ids=torch.arange(2, longest + 2).expand(size, -1),
    ).last_hidden_state[real]  # fmt: skip
    torch.testing.assert_close(states, found, atol=1e-4, rtol=1e-4)
    firsts = ours(tokens, kinds, items, layout)
    torch.testing.assert_close(firsts, states[layout.starts], atol=1e-5, rtol=1e-5)
    weight = torch.randn(layout.total, dim)
    (states * weight).sum().backward()
    words = ours.words.weight.grad.clone()
    query = ours.blocks[0].attention.global_key_value.weight.grad.clone()
    local = ours.blocks[0].attention.key_value.weight.grad.clone()
    ours.zero_grad()
    (found * weight).sum().backward()
    torch.testing.assert_close(words, ours.words.weight.grad, atol=1e-3, rtol=1e-3)
    own = model.encoder.layer[0].attention.self
    torch.testing.assert_close(query, torch.cat([own.key_global.weight.grad, own.value_global.weight.grad]), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(local, torch.cat([own.key.weight.grad, own.value.weight.grad]), atol=1e-3, rtol=1e-3)


# --- tokens ----------------------------------------------------------------------------------------------------------------------


def test_items_are_names_and_values() -> None:
    items = world().items
    words = vocabulary()
    found = tokenise(items, ["title", "brand", "categories"], 32)
    assert len(found) == items.height
    first = slice(*found.offsets[:2])
    text = [words.tokenizer.id_to_token(int(t)) for t in found.tokens[first]]
    assert text == ["title", "apple", "brand", "b", "##0", "categories", "all"]
    assert found.kinds[first].tolist() == [NAME, VALUE, NAME, VALUE, VALUE, NAME, VALUE]
    third = [words.tokenizer.id_to_token(int(t)) for t in found.tokens[slice(*found.offsets[3:5])]]
    assert "brand" not in third  # it has none
    short = tokenise(items, ["title", "brand", "categories"], 2)
    assert short.counts.max() == 6
    both = found.and_more(short)
    assert both.counts.tolist() == found.counts.tolist() + short.counts.tolist()


def test_sequences_are_latest_first_and_cut() -> None:
    tokens = tokenise(markov(0.8).items, ["title"], 32)
    counts = tokens.counts
    flat = np.array([0, 1, 2, 5, 3, 4])
    starts, lengths = np.array([0, 4, 2, 3]), np.array([3, 2, 0, 1])
    for limit in (64, 6):
        batch = latest_first(tokens, flat, starts, lengths, limit, torch.device("cpu"))
        for i, (start, n) in enumerate(zip(starts, lengths, strict=True)):
            ids, kinds, numbers = [vocabulary().start], [0], [0]
            for near, item in enumerate(flat[start : start + n][::-1], 1):
                own = slice(tokens.offsets[item], tokens.offsets[item + 1])
                ids += tokens.tokens[own].tolist()
                kinds += tokens.kinds[own].tolist()
                numbers += [near] * int(counts[item])
            row = int(batch.back[i])
            at = slice(batch.layout.starts[row], batch.layout.starts[row] + batch.layout.lengths[row])
            assert batch.tokens[at].tolist() == ids[:limit]
            assert batch.kinds[at].tolist() == kinds[:limit] and batch.items[at].tolist() == numbers[:limit]
        assert (np.diff(batch.layout.lengths) <= 0).all()


def test_whole_words_are_hidden() -> None:
    titles = ["unbelievably tasteful embroidery thread", "photosynthesis handkerchief zzyzx"] * 20
    items = pl.DataFrame({"item_id": [str(i) for i in range(40)], "title": titles})
    tokens = tokenise(items, ["title"], 32)
    flat = np.arange(40)
    batch = latest_first(tokens, flat, np.arange(0, 40, 4), np.full(10, 4), 512, torch.device("cpu"))
    words = vocabulary()
    changed, at, labels = hide_words(batch, 0.15, np.random.default_rng(0))
    assert torch.equal(batch.tokens[at], labels) and len(at) == len(set(at.tolist()))
    untouched = torch.ones(batch.layout.total, dtype=torch.bool)
    untouched[at] = False
    assert torch.equal(changed[untouched], batch.tokens[untouched])
    share = len(at) / batch.layout.total
    assert 0.08 < share <= 0.16 and not (batch.kinds[at] == 0).any()
    hidden = set(at.tolist())
    for row in hidden:  # a word is hidden as a whole
        if row + 1 < batch.layout.total and words.continues[int(batch.tokens[row + 1])]:
            assert row + 1 in hidden
        if words.continues[int(batch.tokens[row])]:
            assert row - 1 in hidden
    many = [hide_words(batch, 0.15, np.random.default_rng(s)) for s in range(60)]
    masked = torch.cat([c[a] == words.mask for c, a, _ in many]).float().mean().item()
    same = torch.cat([c[a] == y for c, a, y in many]).float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.05) and same == pytest.approx(0.1, abs=0.05)


# --- losses ----------------------------------------------------------------------------------------------------------------------


def one_by_one(model: Recformer, items: list[int]) -> torch.Tensor:
    """State after a history, read alone without packing."""
    ids, kinds, numbers = [vocabulary().start], [0], [0]
    for near, item in enumerate(items[::-1], 1):
        own = slice(model.tokens.offsets[item], model.tokens.offsets[item + 1])
        ids += model.tokens.tokens[own].tolist()
        kinds += model.tokens.kinds[own].tolist()
        numbers += [near] * (len(ids) - len(numbers))
    top = model.config.max_tokens
    arrays = (torch.tensor(x[:top]) for x in (ids, kinds, numbers))
    return model.network.encoder(*arrays, Layout(np.array([min(len(ids), top)])), first_only=False)[0]


def assert_same_step(model: Recformer, value: torch.Tensor, reference: torch.Tensor) -> None:
    """Two losses of one model agree, and so do their gradients."""
    torch.testing.assert_close(value, reference, atol=1e-4, rtol=1e-4)
    value.backward()
    ours = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    model.network.zero_grad()
    reference.backward()
    for name, parameter in model.network.named_parameters():
        if parameter.grad is not None:  # those of the last block's windows are zero where only its start token is wanted
            grad = ours.get(name, torch.zeros(()).expand_as(parameter))
            torch.testing.assert_close(grad, parameter.grad, atol=1e-3, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


def test_first_step_of_the_fine_tuning_equals_a_plain_reference() -> None:
    data = world()
    train = data.split("leave-one-out").train
    model = untrained(data)
    batch = next(iter(model.batches(train, np.random.default_rng(1))))
    value = model.loss(batch)
    rng = np.random.default_rng(1)
    users = rng.permutation(model.people)[:8]
    at = train.offsets[users] + rng.integers(0, np.diff(train.offsets)[users])
    histories = [train.item_index[train.offsets[u] : a][-model.config.max_len :].tolist() for u, a in zip(users, at, strict=True)]
    assert min(map(len, histories)) == 0 or len({len(h) for h in histories}) > 2  # prefixes of all lengths, none at all too
    with torch.no_grad():
        table = torch.stack([one_by_one(model, [i]) for i in range(data.n_items)])
    states = torch.stack([one_by_one(model, h) for h in histories])
    scores = F.normalize(states, dim=1) @ F.normalize(table, dim=1).T / 0.05
    targets = torch.from_numpy(train.item_index[at].astype(np.int64))
    reference = F.cross_entropy(scores, targets)
    assert_same_step(model, value, reference)


def test_first_step_of_the_pretraining_equals_a_plain_reference() -> None:
    data = world()
    train = data.split("leave-one-out").train
    model = untrained(data, stage="pretrain", mlm_weight=0.3)
    batch = next(iter(model.batches(train, np.random.default_rng(1))))
    value = model.loss(batch)
    network = model.network
    rng = np.random.default_rng(1)
    users = rng.permutation(model.people)[:8]
    begin, count = train.offsets[users], np.diff(train.offsets)[users]
    at = begin + rng.integers((count - 1) // 2, count)
    assert ((at - begin) >= (count - 1) // 2).all()
    states = torch.stack([one_by_one(model, train.item_index[b:a][-6:].tolist()) for b, a in zip(begin, at, strict=True)])
    wanted = torch.stack([one_by_one(model, [int(train.item_index[a])]) for a in at])
    scores = F.normalize(states, dim=1) @ F.normalize(wanted, dim=1).T / 0.05
    reference = F.cross_entropy(scores, torch.arange(8))
    for side, (tokens, rows, labels) in zip((batch.history, batch.following), batch.hidden, strict=True):
        found = network.encoder(tokens, side.kinds, side.items, side.layout, first_only=False)
        logits = network.head(found[rows]) @ network.encoder.words.weight.T + network.bias
        occurring = torch.from_numpy(np.unique(model.tokens.tokens))
        assert len(occurring) < vocabulary().size
        reference = reference + 0.3 * F.cross_entropy(logits[:, occurring], torch.searchsorted(occurring, labels))
    assert_same_step(model, value, reference)


# --- training --------------------------------------------------------------------------------------------------------------------


def test_the_first_stage_renews_the_candidates_and_the_second_keeps_them() -> None:
    data = world()
    train = data.split("leave-one-out").train
    model = untrained(data)
    before = model.network.candidates.clone()
    with torch.no_grad():
        model.network.encoder.words.weight += 0.1
    model.second = True
    next(iter(model.batches(train, np.random.default_rng(0))))
    assert torch.equal(model.network.candidates, before)
    model.second = False
    next(iter(model.batches(train, np.random.default_rng(0))))
    assert not torch.equal(model.network.candidates, before)
    torch.testing.assert_close(model.network.candidates[3], one_by_one(model, [3]), atol=1e-5, rtol=1e-5)


def test_two_stages_keep_the_better(tmp_path: Path) -> None:
    split = world().split("leave-one-out")
    options = TrainingOptions(epochs=4, eval_every=2, monitor="ndcg@10", mask_seen=False, folder=tmp_path / "run", **QUIET)
    short = {**EXACT, "pretrain_epochs": 1, "lr": 0.01, "init_std": 0.1}
    model = create("recformer", **short).fit(split.train, split.valid, options)
    result = model.training_result
    assert [line["epoch"] for line in result.history] == [2, 4, 6, 8] and (tmp_path / "run" / "stage-2" / "metrics.jsonl").exists()
    best = max(line["ndcg@10"] for line in result.history)
    assert result.best_value == best
    assert model.validation(split.train, split.valid, ["ndcg@10"])["ndcg@10"] == pytest.approx(best)
    one = create("recformer", **short, second_stage=False)
    one.fit(split.train, split.valid, options.model_copy(update={"folder": None}))
    assert [line["ndcg@10"] for line in one.training_result.history] == [line["ndcg@10"] for line in result.history[:2]]


@pytest.mark.parametrize("stage", ["finetune", "pretrain"])
def test_resume_repeats_the_interrupted_training(stage: str, tmp_path: Path) -> None:
    split = world().split("leave-one-out")
    settings = {**SHAPE, "stage": stage, "batch_size": 8, "warmup": 3}
    if stage == "finetune":
        settings |= {"pretrain_epochs": 0, "second_stage": False}
    options = {"eval_every": 2, "monitor": "ndcg@10", **QUIET}
    whole = create("recformer", **settings).fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "whole", **options))
    create("recformer", **settings).fit(split.train, split.valid, TrainingOptions(epochs=2, folder=tmp_path / "cut", **options))
    again = create("recformer", **settings)
    again.fit(split.train, split.valid, TrainingOptions(epochs=4, folder=tmp_path / "cut", resume=True, **options))
    assert torch.equal(again.table, whole.table)


def test_more_epochs_begin_the_second_stage_anew_where_the_first_went_on(tmp_path: Path) -> None:
    train = world().split("leave-one-out").train

    def fit(folder: str, epochs: int, resume: bool = False) -> torch.Tensor:
        options = TrainingOptions(
            epochs=epochs, folder=tmp_path / folder, resume=resume, **QUIET
        )  # without a validation the last one counts
        return create("recformer", **{**EXACT, "pretrain_epochs": 0, "lr": 0.01}).fit(train, options=options).table

    whole = fit("whole", 3)
    fit("cut", 1)
    assert torch.equal(fit("cut", 3, resume=True), whole)
    last = tmp_path / "cut" / "stage-2" / "checkpoints" / "last.safetensors"
    written = last.stat().st_mtime_ns
    assert torch.equal(fit("cut", 3, resume=True), whole)
    assert last.stat().st_mtime_ns == written  # it began from here, and is taken up


def test_the_rate_rises_to_the_warm_up() -> None:
    model = untrained(world(), warmup=4, lr=0.1)
    optimiser, rates = model.optimiser(), []
    for _ in range(6):
        for parameter in model.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_pretrained_weights_are_taken_over(tmp_path: Path) -> None:
    one, other = of_others(world(), "world"), of_others(markov(0.5, users=10))
    train, _ = mix([(one.train_set(), None), (other.train_set(), None)], "both")
    source = create("recformer", **SHAPE, stage="pretrain", batch_size=8).fit(train, options=TrainingOptions(epochs=1, **QUIET))
    source.save(tmp_path / "run")
    data = markov(0.8)
    model = untrained(data, pretrained=str(tmp_path / "run"))
    for name, value in source.network.encoder.state_dict().items():
        assert torch.equal(model.network.encoder.state_dict()[name], value)
    assert "head.0.weight" not in model.network.state_dict()
    fixed = untrained(data, fix_words=True)
    fixed.loss(next(iter(fixed.batches(data.split("leave-one-out").train, np.random.default_rng(0))))).backward()
    assert fixed.network.encoder.words.weight.grad is None
    with pytest.raises(InputError, match="has window = 8"):
        untrained(data, pretrained=str(tmp_path / "run"), window=16)
    with pytest.raises(InputError, match="set stage=pretrain"):
        create("recformer", **SHAPE).fit(train)
    with pytest.raises(InputError, match="starts from scratch"):
        create("recformer", stage="pretrain", pretrained="run")
    create("sasrec", embedding_dim=4).fit(data.train_set(), options=TrainingOptions(epochs=0, **QUIET)).save(tmp_path / "other")
    with pytest.raises(InputError, match="is a sasrec"):
        untrained(data, pretrained=str(tmp_path / "other"))


def test_items_read_otherwise_than_in_the_pretraining_are_told(tmp_path: Path) -> None:
    data = world()
    untrained(data, stage="pretrain", columns=["title", "brand"], attribute_tokens=4).save(tmp_path / "run")
    told = r"read items as title, brand \(4 tokens each\) and this training reads them as "
    with pytest.warns(UserWarning, match=rf"{told}title, brand, categories \(32 tokens each\)"):
        untrained(data, pretrained=str(tmp_path / "run"))
    with pytest.warns(UserWarning, match=rf"{told}title \(4 tokens each\)"):
        untrained(data, pretrained=str(tmp_path / "run"), columns=["title"], attribute_tokens=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        untrained(data, pretrained=str(tmp_path / "run"), max_attributes=2, attribute_tokens=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage": "pretrain", "lr": 0.3}, "lr = 0.3 has no effect with stage = 'pretrain'"),
        ({"stage": "pretrain", "pretrain_epochs": 3}, "pretrain_epochs = 3 has no effect with stage = 'pretrain'"),
        ({"stage": "pretrain", "second_stage": False}, "second_stage = False has no effect with stage = 'pretrain'"),
        ({"pretrained": "run", "pretrain_epochs": 5}, "pretrain_epochs = 5 has no effect with pretrained"),
        ({"pretrained": "run", "pretrain_lr": 0.5}, "pretrain_lr = 0.5 has no effect with pretrained"),
        ({"pretrained": "run", "mlm_weight": 0.5}, "mlm_weight = 0.5 has no effect with pretrained"),
        ({"pretrained": "run", "mlm_prob": 0.5}, "mlm_prob = 0.5 has no effect with pretrained"),
        ({"pretrain_epochs": 0, "pretrain_lr": 0.5}, "pretrain_lr = 0.5 has no effect with pretrain_epochs = 0"),
        ({"pretrain_epochs": 0, "mlm_weight": 0.5}, "mlm_weight = 0.5 has no effect with pretrain_epochs = 0"),
        ({"mlm_weight": 0, "mlm_prob": 0.5}, "mlm_prob = 0.5 has no effect with mlm_weight = 0"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create("recformer", **settings)


def test_the_pretraining_on_the_way_takes_what_it_reads() -> None:
    given = RecformerConfig(lr=0.3, pretrain_lr=0.2, pretrain_epochs=2, second_stage=False, mlm_prob=0.5)
    taken = RecformerConfig.taken_from({**given.model_dump(), "stage": "pretrain"})
    assert (taken.pretrain_lr, taken.mlm_prob, taken.lr, taken.second_stage) == (0.2, 0.5, 1e-4, True)


def test_overfits_twenty_sequences(tmp_path: Path) -> None:
    """Pretraining learns what follows, and both stages of the fine-tuning keep it."""
    names = ["apple", "brush", "candle", "drum", "easel", "fork", "glove", "harp", "inkpot", "jacket"]
    names += ["kettle", "lamp", "mirror", "needle", "oven", "pillow", "quilt", "radio", "spoon", "table"]
    rows = [(f"u{u:02d}", f"i{(3 * u + 7 * t) % 20:02d}", t) for u in range(20) for t in range(3)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    train = Dataset(log, pl.DataFrame({"item_id": [f"i{i:02d}" for i in range(20)], "title": names})).train_set()
    settings = {**EXACT, "embedding_dim": 16, "inner": 32, "num_layers": 1, "init_std": 0.1, "batch_size": 20, "warmup": 5}
    source = create("recformer", **settings, stage="pretrain", pretrain_lr=0.01, mlm_weight=0)
    source.fit(train, options=TrainingOptions(epochs=100, **QUIET))
    source.save(tmp_path / "run")
    model = create("recformer", **settings, lr=0.001, pretrained=str(tmp_path / "run"))
    model.fit(train, options=TrainingOptions(epochs=40, **QUIET))
    for trained in (source, model):
        hits = 0
        for user in range(20):
            history = train.item_map.name(train.history(user)).to_list()
            hits += trained.recommend(Query(history=history[:-1]), k=1)["item_id"][0] == history[-1]
        assert hits >= 18


def test_a_loss_that_is_not_finite_is_named() -> None:
    with pytest.raises(LexirecError, match="the first 'u"):
        create("recformer", **{**EXACT, "pretrain_epochs": 1, "lr": 1e20, "init_std": 1e10, "warmup": 0}).fit(
            world().train_set(), options=TrainingOptions(epochs=3, **QUIET)
        )


# --- answering -------------------------------------------------------------------------------------------------------------------


def test_batch_equals_single_and_users_equal_histories() -> None:
    model = untrained(world())
    ids = model.item_map.ids.to_list()
    histories = [ids[:1], ids[3:8], ids[2:4], ids[:8] + ids[:6], ids[5:7]]
    together = model.encode_queries([Query(history=h) for h in histories])
    alone = torch.cat([model.encode_queries([Query(history=h)]) for h in histories])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[3], model.encode_queries([Query(history=histories[3][-6:])])[0], atol=1e-5, rtol=1e-5)
    user = model.users.ids[2]
    own = model.item_map.name(model.history_items[model.history_offsets[2] : model.history_offsets[3]]).to_list()
    torch.testing.assert_close(model.encode_queries([Query(user_id=user)]), model.encode_queries([Query(history=own)]))


def test_new_items_histories_and_wishes_are_texts(tmp_path: Path) -> None:
    data = world()
    model = create("recformer", **SHAPE, pretrain_epochs=1).fit(data.train_set(), options=TrainingOptions(epochs=1, **QUIET))
    row = data.items.row(2, named=True)
    model.add_items(pl.DataFrame([{**row, "item_id": "new"}]))
    rows = model.score([Query(history=["i01", "new"]), Query(history=["i01", "i02"])])
    torch.testing.assert_close(rows[0], rows[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.encode_items()[-1], model.encode_items()[2], atol=1e-5, rtol=1e-5)
    model.add_items(pl.DataFrame({"item_id": ["bare"], "title": ["a kettle"]}))  # without brand and categories
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    asked = [Query(history=["i01", "bare"]), Query(intent="a drum"), Query(user_id="u001", intent="a drum", alpha=0.3)]
    assert torch.equal(loaded.score(asked), model.score(asked))
    loaded.add_items(pl.DataFrame({"item_id": ["late"], "title": ["a lamp"]}))
    assert loaded.recommend(Query(history=["late"]), k=3).height == 3
    other = loaded.transfer(markov(0.8, items=8).train_set())
    assert other.encode_items().shape[0] == 8 and loaded.encode_items().shape[0] == 15


@pytest.mark.parametrize("second_stage", [False, True])
def test_new_items_and_wishes_lie_in_the_space_of_the_catalogue(second_stage: bool, tmp_path: Path) -> None:
    """The encoder goes on learning beside the item vectors, which were written before: by it as it was then."""
    data = world()
    settings = {**EXACT, "pretrain_epochs": 1, "lr": 0.05, "warmup": 0, "second_stage": second_stage}
    model = create("recformer", **settings).fit(data.train_set(), options=TrainingOptions(epochs=2, **QUIET))
    table = model.encode_items()
    assert not torch.allclose(
        model.unit(model.read_windows(model.tokens, *(np.arange(12),) * 2, np.ones(12, dtype=np.int64))), table, atol=1e-2
    )
    model.save(tmp_path / "run")
    for one in (model, load_model(tmp_path / "run")):
        torch.testing.assert_close(one.encode_items(data.items), table, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.transfer(data.train_set()).encode_items(), table, atol=1e-5, rtol=1e-5)
        alone = one.encode_items(data.items.select("item_id", "title"))
        torch.testing.assert_close(one.encode_words(data.items["title"].to_list()), alone, atol=1e-5, rtol=1e-5)


def test_a_run_of_an_older_version_is_read_without_the_writer(tmp_path: Path) -> None:
    model = untrained(world())
    model.network.writer = None
    model.save(tmp_path / "older")
    loaded = load_model(tmp_path / "older")
    assert loaded.network.writer is None
    torch.testing.assert_close(loaded.encode_items(model.items), model.encode_items(), atol=1e-5, rtol=1e-5)


def test_new_items_are_no_candidates_while_training() -> None:
    split = markov(0.8).split("cold-items", share=0.3)
    model = create("recformer", **EXACT).fit(split.train, options=TrainingOptions(epochs=0, **QUIET))
    batch = next(iter(model.batches(split.train, np.random.default_rng(0))))
    table = F.normalize(model.network.candidates, dim=1)
    scores = F.normalize(model.network.read(batch.history), dim=1) @ table.T / 0.05
    scores[:, torch.from_numpy(split.train.new_items)] = -torch.inf
    torch.testing.assert_close(model.loss(batch), F.cross_entropy(scores, batch.targets), atol=1e-4, rtol=1e-4)


def test_items_without_a_text_are_told_and_get_the_mean_vector() -> None:
    data = markov(0.8, users=10)
    some = data.items.with_columns(title=pl.when(pl.col("item_id").is_in(["i03", "i04"])).then(None).otherwise("title"))
    with pytest.warns(UserWarning, match=r"2 of 12 have no text in title \(item_id 'i03', 'i04'\); they get the mean vector"):
        model = untrained(Dataset(data.interactions, some, name="some"))
    spoken = torch.tensor([i not in (3, 4) for i in range(12)])
    torch.testing.assert_close(model.table[3], model.table[spoken].mean(0))
    assert torch.equal(model.table[3], model.table[4])
    with pytest.warns(UserWarning, match="1 of 1 have no text"):
        model.add_items(pl.DataFrame({"item_id": ["new"], "title": [""]}))
    torch.testing.assert_close(model.table[12], model.table[3])
    assert model.recommend(Query(history=["i01"]), k=13).height == 12


def test_bad_input() -> None:
    data = markov(0.8, users=10)
    with pytest.raises(InputError, match="did you mean 'title'"):
        create("recformer", columns=["titel"]).fit(data.train_set())
    silent = Dataset(data.interactions, data.items.with_columns(title=pl.lit(None, dtype=pl.String)))
    with pytest.raises(InputError, match="no item has a text in title"):
        create("recformer", **SHAPE).fit(silent.train_set())
    bare = Dataset(data.interactions, data.items.rename({"title": "name"}))
    with pytest.raises(InputError, match="none of the columns title, brand, categories"):
        create("recformer", **SHAPE).fit(bare.train_set())
    with pytest.raises(InputError, match="does not divide"):
        create("recformer", num_heads=7)
    with pytest.raises(InputError, match="window"):
        create("recformer", window=7)
    one = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2]})
    with pytest.raises(InputError, match="no order to learn"):
        create("recformer", **SHAPE).fit(Dataset.from_frames(one, pl.DataFrame({"item_id": ["x", "y"], "title": ["x", "y"]})).train_set())
