"""Item and history texts, their tokens, and the sequences made of them: items 1, 2, 9, 10 and 25 of the conformance list."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lexirec.data.dataset import Dataset
from lexirec.errors import InputError
from lexirec.models import model_class
from lexirec.models.calrec import CALRec
from lexirec.models.calrec.config import TEMPLATE
from lexirec.models.calrec.sequences import Pieces
from lexirec.models.calrec.stage_zero import WriteEverything
from lexirec.models.calrec.steps import Histories
from lexirec.models.calrec.texts import FIRST_ITEM, LATER_ITEM, USER_PREFIX, USER_SUFFIX, ItemTemplate, history_prompt, mixing_weights
from lexirec.models.calrec.vocabulary import Vocabulary
from lexirec.models.config import ModelConfig
from lexirec.text.templates import parse_template
from lexirec.training.options import TrainingOptions

CONFIGS = Path(__file__).parents[3] / "configs"
FOUR = ItemTemplate.parse("Title=title,Category=kind,Brand=brand,Price=price")
TEXTS = ["Title: Red Drill. Price: $5.", "Title: Blue Saw 12 inch. Price: Unknown.", "", "Title: Grüne Säge \N{HAMMER} 日本. Price: $7."]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.trained([t for t in TEXTS if t] * 3, 400, ["Title: ", ". Price: ", "."])


def test_item_text_is_exact() -> None:
    items = pl.DataFrame(
        {"title": ["Red Drill"], "kind": ["Tools"], "brand": [None], "price": ["$5"]}, schema_overrides={"brand": pl.String}
    )
    assert FOUR.write(items) == ["Title: Red Drill. Category: Tools. Brand: Unknown. Price: $5."]


def test_an_item_without_any_value_has_no_text_and_one_with_some_has() -> None:
    items = pl.DataFrame(
        {"title": [None, ""], "kind": [None, None], "brand": [None, "Acme"], "price": [None, None]},
        schema_overrides=dict.fromkeys(("title", "kind", "brand", "price"), pl.String),
    )
    assert FOUR.write(items) == ["", "Title: Unknown. Category: Unknown. Brand: Acme. Price: Unknown."]


def test_a_template_that_lacks_a_column() -> None:
    shop = pl.DataFrame({"title": ["a"], "brnd": ["b"]})
    with pytest.raises(InputError, match=r"Brand=brand finds no such column.*did you mean 'brnd'"):
        ItemTemplate.parse("Title=title,Brand=brand").write(shop)
    assert ItemTemplate.parse("Title=title,Brand=brand?").write(shop) == ["Title: a. Brand: Unknown."]
    assert ItemTemplate.parse("Title=title,Brand=brand|brnd").write(shop) == ["Title: a. Brand: b."]
    for bad in ("title", "Title=", "Title=title,Title=brnd", "=title"):
        with pytest.raises(InputError, match="text = "):
            ItemTemplate.parse(bad)


def test_the_first_column_with_a_value_is_written() -> None:
    shop = pl.DataFrame({"title": ["a", "b"], "main": ["Tools", None], "categories": [["x"], ["Home > Garden", "Home > Art"]]})
    texts = ItemTemplate.parse("Title=title,Category=main|categories").write(shop)
    assert texts == ["Title: a. Category: Tools.", "Title: b. Category: Home, Garden, Art."]


@pytest.mark.parametrize(("first", "second"), [("calrec-stage1", "calrec-stage2"), ("unisrec-pretrain", "unisrec-text")])
def test_both_stages_of_the_configurations_read_items_alike(first: str, second: str) -> None:
    before, after = resolve_config(CONFIGS / "mix" / f"{first}.yaml"), resolve_config(CONFIGS / "amazon2018_scientific" / f"{second}.yaml")
    assert parsed(before) == parsed(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("amazon2018_scientific/calrec-tiny-8k", "mix/calrec-tiny-stage1"),
        ("mix/calrec-tiny-stage1", "amazon2018_scientific/calrec-tiny-two-stage"),
        ("mix/calrec-stage1", "amazon2018_scientific/calrec-stage2"),
    ],
)
def test_a_run_that_a_configuration_starts_from_is_named_and_has_its_language_model(before: str, after: str) -> None:
    first, second = CONFIGS / f"{before}.yaml", CONFIGS / f"{after}.yaml"
    assert first.name in second.read_text(encoding="utf-8").splitlines()[0]
    assert resolve_config(first).taken_over() == resolve_config(second).taken_over()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["beta-zero", "beta-positive", "without-contrast"])
def test_an_ablation_of_the_contrasts_differs_from_its_baseline_by_their_weights_alone(name: str) -> None:
    base, other = (CONFIGS / "amazon2018_scientific" / f"calrec-tiny-{one}.yaml" for one in ("contrasts", name))
    assert base.name in other.read_text(encoding="utf-8").splitlines()[0]
    ours, theirs = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (other, base))
    weights = {"alpha": theirs["config"].pop("alpha"), "beta": theirs["config"].pop("beta")}
    assert weights == {"alpha": 0.125, "beta": -0.025} != {of: ours["config"].pop(of) for of in weights}
    assert {**ours, "variant": None} == {**theirs, "variant": None}


def resolve_config(path: Path) -> ModelConfig:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return model_class(document["model"]).Config.parse(document["config"])


def parsed(config: ModelConfig) -> object:
    text: str = config.text  # type: ignore[attr-defined]
    return (ItemTemplate.parse(text).labels, ItemTemplate.parse(text).columns) if "=" in text else parse_template(text)


def test_a_start_token_stands_once_in_front_of_every_prompt(vocabulary: Vocabulary) -> None:
    begun = Vocabulary(vocabulary.tokenizer, vocabulary.end, start=7)
    assert Vocabulary.restored(begun.state()).start == 7 and Vocabulary.restored(vocabulary.state()).start is None
    plain, pieces = Pieces(vocabulary, TEXTS, 1024, 80), Pieces(begun, TEXTS, 1024, 80).appended(["Title: Red Saw. Price: $9."])
    history, counts = np.array([0, 1, 3]), np.array([2, 1])
    for targets in (None, np.array([3, 0])):  # asked, and trained
        before, now = plain.joined(history, counts, targets), pieces.joined(history, counts, targets)
        assert np.array_equal(now.lengths, before.lengths + 1) and np.array_equal(now.borders, before.borders + 1)
        starts = np.cumsum(now.lengths) - now.lengths
        assert (now.tokens[starts] == 7).all() and np.array_equal(np.delete(now.tokens, starts), before.tokens)
    assert np.array_equal(pieces.targets(np.array([0])).tokens, plain.targets(np.array([0])).tokens)


def test_a_named_tokenizer_brings_the_start_that_it_writes(tmp_path: Path) -> None:
    for writes in (True, False):
        tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "red": 2, "?": 3}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        if writes:
            tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        folder = tmp_path / str(writes)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
        assert Vocabulary.of_model(folder).start == (0 if writes else None)


def test_prompt_of_one_item() -> None:
    prompt = history_prompt(["X"])
    assert prompt == USER_PREFIX + FIRST_ITEM + "X" + USER_SUFFIX
    assert prompt.endswith("\n") and prompt.count("first item") == 1 and prompt.count("next item") == 1
    assert history_prompt(["X", "Y"]) == USER_PREFIX + FIRST_ITEM + "X" + LATER_ITEM + "Y" + USER_SUFFIX


def test_byte_pairs_are_lossless_and_state_restores(vocabulary: Vocabulary) -> None:
    flat, offsets = vocabulary.encode([*TEXTS, history_prompt(TEXTS[:2])])
    ids = [flat[a:b].tolist() for a, b in pairwise(offsets)]
    assert vocabulary.decode(ids) == [t.strip() for t in [*TEXTS, history_prompt(TEXTS[:2])]]
    again = Vocabulary.restored(vocabulary.state())
    assert np.array_equal(again.encode(TEXTS)[0], vocabulary.encode(TEXTS)[0]) and again.end == vocabulary.end
    assert len(ids[0]) == 7  # "Title: ", Red, Drill, ". Price: ", $, 5, "."


def test_phrases_are_shorter_and_lossless() -> None:
    texts = [f"Title: Blue Steel Hammer {n} inch. Price: Unknown." for n in range(20)]
    words, phrases = (Vocabulary.trained(texts, 400, ["Title: ", ". Price: ", "."], merges) for merges in ("words", "phrases"))
    assert phrases.encode(texts)[1][-1] < 0.7 * words.encode(texts)[1][-1]
    flat, offsets = phrases.encode(["Title: Red steel saw. Price: $5.", *texts])
    assert phrases.decode([flat[a:b].tolist() for a, b in pairwise(offsets)]) == ["Title: Red steel saw. Price: $5.", *texts]


def spelt(pieces: Pieces, packed: object, row: int) -> str:
    start = int(packed.lengths[:row].sum())
    return pieces.vocabulary.tokenizer.decode(packed.tokens[start : start + packed.lengths[row]].tolist(), skip_special_tokens=False)


def test_sequences_spell_the_prompt_and_the_target(vocabulary: Vocabulary) -> None:
    pieces = Pieces(vocabulary, TEXTS, 1024, 80)
    assert pieces.readable.tolist() == [True, True, False, True]
    history, counts = np.array([0, 2, 1, 3]), np.array([3, 1])  # item 2 has no text
    packed = pieces.joined(history, counts, np.array([3, 0]))
    assert spelt(pieces, packed, 0) == history_prompt([TEXTS[0], TEXTS[1]]) + TEXTS[3]
    assert spelt(pieces, packed, 1) == history_prompt([TEXTS[3]]) + TEXTS[0]
    alone = pieces.joined(history, counts)
    assert spelt(pieces, alone, 0) == history_prompt([TEXTS[0], TEXTS[1]])
    assert np.array_equal(packed.borders, alone.lengths) and np.array_equal(alone.borders, alone.lengths)
    assert pieces.joined(history[:0], counts[:0]).tokens.size == 0


def test_long_histories_lose_whole_oldest_items(vocabulary: Vocabulary) -> None:
    whole = Pieces(vocabulary, TEXTS, 1024, 80)
    items = np.array([0, 1, 3, 1, 0])
    for limit in range(30, 90):
        packed = Pieces(vocabulary, TEXTS, limit, 80).joined(items, np.array([5]), np.array([3]))
        kept = [history_prompt([TEXTS[i] for i in items[k:]]) + TEXTS[3] for k in range(5)]
        text = spelt(whole, packed, 0)
        if packed.borders[0] < limit or text in kept:
            assert text in kept
        assert packed.borders[0] <= limit
        k = kept.index(text)
        if k:  # one more would not have fitted
            assert whole.joined(items[k - 1 :], np.array([6 - k])).lengths[0] > limit
    with pytest.raises(InputError, match="max_tokens = 3 leaves no place"):
        Pieces(vocabulary, TEXTS, 3, 80)


def test_an_item_longer_than_the_context_is_cut_and_the_suffix_stays(vocabulary: Vocabulary) -> None:
    text = "Title: " + "Red Drill " * 200 + ". Price: $5."
    pieces = Pieces(vocabulary, [text, TEXTS[1]], 64, 20)
    packed = pieces.joined(np.array([1, 0]), np.array([2]), np.array([0]))
    assert packed.borders[0] == 64 and packed.lengths[0] == 84
    assert spelt(pieces, pieces.joined(np.array([1, 0]), np.array([2])), 0).endswith(USER_SUFFIX)


def test_new_items_extend_the_pool(vocabulary: Vocabulary) -> None:
    parts, whole = Pieces(vocabulary, TEXTS[:2], 1024, 80).appended(TEXTS[2:]), Pieces(vocabulary, TEXTS, 1024, 80)
    history, counts = np.array([0, 3, 1, 2]), np.array([2, 2])
    assert np.array_equal(parts.joined(history, counts).tokens, whole.joined(history, counts).tokens)
    assert np.array_equal(parts.item(3), whole.item(3)) and np.array_equal(parts.readable, whole.readable)


def test_shortening_removes_the_last_events() -> None:
    log = pl.DataFrame({"user_id": ["u"] * 5 + ["v"] * 2, "item_id": list("abcde") + list("ab"), "timestamp": range(7)})
    train = Dataset(log, pl.DataFrame({"item_id": list("abcde"), "title": list("abcde")})).train_set()
    histories = Histories(train, np.ones(5, dtype=bool))
    batch = histories.batch(np.array([0]), np.array([2]))
    assert batch.history.tolist() == [0, 1] and batch.targets.tolist() == [2]
    drawn = histories.shortened(np.repeat([0, 1], [4000, 100]), 4, np.random.default_rng(0))
    assert set(drawn[:4000].tolist()) == {0, 1, 2, 3} and not drawn[4000:].any()  # one history item remains
    assert np.allclose(np.bincount(drawn[:4000]) / 4000, 0.25, atol=0.03)


def test_what_stands_once_is_no_token() -> None:
    """Whole titles of a small catalogue as tokens would share nothing with each other, nor with a new item's."""
    texts = [f"Title: {colour} {tool}." for colour in ("red", "blue", "green") for tool in ("drill", "saw", "lamp")]
    vocabulary = Vocabulary.trained(texts, 5000, ["Title: ", "."], "phrases")
    flat, offsets = vocabulary.encode(texts)
    assert (np.diff(offsets) >= 3).all()  # label, words, full stop
    assert (np.bincount(flat, minlength=len(vocabulary))[np.unique(flat)] >= 2).all()


def test_held_out_items_never_stand_in_a_training_sequence() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{u}-{t}", t) for u in range(30) for t in range(int(rng.integers(5, 9)))]  # every event an item of its own
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": log["item_id"], "title": log["item_id"]})
    split = Dataset(log, items).split("leave-one-out")
    histories = Histories(split.train, np.ones(items.height, dtype=bool))
    users = histories.draw(30, 0.3, rng)
    batch = histories.batch(users, histories.shortened(users, 4, rng))
    held_out = set(split.valid.item_index.tolist()) | set(split.test.item_index.tolist())
    assert not held_out & (set(batch.history.tolist()) | set(batch.targets.tolist()) | set(histories.items.tolist()))


def test_the_name_of_the_end_token_in_a_title_is_text() -> None:
    vocabulary = Vocabulary.trained(["red <|end|> drill", "blue drill", "red saw"], 300, [])
    for found in (vocabulary, Vocabulary.restored(vocabulary.state())):
        tokens, _ = found.encode(["red <|end|> drill"])
        assert found.end not in tokens and found.decode([tokens.tolist()]) == ["red <|end|> drill"]


@pytest.mark.parametrize("protocol", ["leave-one-out", "cold-items", "temporal"])
def test_stage_zero_and_the_vocabulary_read_the_training_part_only(protocol: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Number 10 for what comes before stage I: neither an item that is new in the held-out part nor one that nobody took is read."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{int(item)}", u * 20 + t) for u in range(30) for t, item in enumerate(rng.integers(u, u + 30, 8))]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").unique(["user_id", "item_id"])
    ids = [*log["item_id"].unique(maintain_order=True), "nobody"]
    items = pl.DataFrame({"item_id": ids, "title": [f"title of {name}" for name in ids]})
    train = Dataset(log, items).split(protocol).train
    unread = (train.popularity == 0) | train.new_items
    assert unread.sum() > 1 and train.items["item_id"].to_list()[int(np.flatnonzero(unread)[-1])] == "nobody"
    read: list[str] = []
    trained = Vocabulary.trained

    def listening(texts: list[str], *args: object) -> Vocabulary:
        read.extend(texts)
        return trained(texts, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Vocabulary, "trained", listening)
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path))
    settings = {"text": "Title=title", "lm": "tiny", "lm_dim": 16, "lm_layers": 1, "lm_heads": 2, "vocabulary": 300, "lm_epochs": 0}
    model = CALRec(**settings).fit(train, options=TrainingOptions(epochs=0, progress=False, threads=1))
    texts = dict(enumerate(model.texts))
    assert sorted(read) == sorted(texts[i] for i in np.flatnonzero(~unread))
    stage = WriteEverything(model.step.towers, model.histories, model.config, train, model.texts)
    spelt_out = " ".join(model.vocabulary.tokenizer.decode(batch.tokens.tolist()) for batch in stage.plan(rng))
    assert all((texts[i] in spelt_out) != unread[i] for i in range(train.n_items))
    assert model.pieces.readable.all()  # asked, all can be read and written


def test_mixing_weights_and_draws_follow_the_exponent() -> None:
    assert mixing_weights([1000, 100, 10], 0.3).round(6).tolist() == [0.570654, 0.286004, 0.143342]
    assert mixing_weights([4, 0], 0.3).tolist() == [1.0, 0.0]
    histories = object.__new__(Histories)
    histories.by_domain = [np.arange(1000), np.arange(1000, 1100), np.arange(1100, 1110)]
    drawn = histories.draw(20_000, 0.3, np.random.default_rng(0))
    shares = np.bincount(np.searchsorted([1000, 1100], drawn, side="right")) / 20_000
    assert np.allclose(shares, [0.570654, 0.286004, 0.143342], atol=0.015)
    times = np.bincount(histories.draw(500, 0.0, np.random.default_rng(0)), minlength=1110)
    for users in histories.by_domain:  # nobody again before everybody was there
        assert times[users].max() - times[users].min() <= 1


def test_statistics_of_the_scientific_catalogue() -> None:
    folder = Path(os.environ.get("LEXIREC_DATA", ""), "amazon2018_scientific")
    if "LEXIREC_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("LEXIREC_DATA names no folder with amazon2018_scientific")
    words = [text.lower().split() for text in ItemTemplate.parse(TEMPLATE).write(pl.read_parquet(folder / "items.parquet"))]
    assert np.mean([len(w) for w in words]) == pytest.approx(22.79, abs=0.05)
    assert len({w for text in words for w in text}) == pytest.approx(19_292, abs=60)
