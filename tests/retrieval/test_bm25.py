"""BM25: known values, the reference library, bad input, saving; numbers 20, 21 and 25 of CALRec's conformance list."""

import os
import unicodedata
from pathlib import Path

import bm25s
import numpy as np
import polars as pl
import pytest

from lexirec.errors import InputError
from lexirec.models.calrec.texts import ItemTemplate
from lexirec.models.lir import TEMPLATE
from lexirec.retrieval import bm25 as module
from lexirec.retrieval.bm25 import BM25, tokenise

DOCS = ["title: red drill. brand: acme.", "title: blue drill. brand: acme.", "title: green saw. brand: zed."]


def words(n: int, seed: int = 0) -> list[str]:
    """Texts with Zipf's words, labels that are in every text, and some empty texts."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, 400)
    texts = [" ".join(f"w{w}" for w in rng.choice(399, rng.integers(1, 12), p=share / share.sum())) for _ in range(n)]
    return ["" if i % 37 == 5 else f"title: {text} brand: b{i % 7}" for i, text in enumerate(texts)]


def test_known_values() -> None:
    found = BM25(DOCS).scores(DOCS[:1])[0]
    np.testing.assert_allclose(found, [0.875160, 0.482828, 0.106825], atol=1e-6)
    np.testing.assert_allclose((found - found.min()) / (found.max() - found.min()), [1, 0.489374, 0], atol=1e-6)


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.0), (2.0, 1.0)])
def test_equals_bm25s(k1: float, b: float) -> None:
    texts = words(300)
    reference = bm25s.BM25(k1=k1, b=b, method="lucene")
    reference.index([text.lower().split() for text in texts], show_progress=False)
    queries = [*texts[:20], "w1 w1 w1 brand:", "w7 unheard-of"]
    known = [[word for word in query.split() if word in reference.vocab_dict] for query in queries]
    expected = np.stack([reference.get_scores(some) if some else np.zeros(300) for some in known])
    np.testing.assert_allclose(BM25(texts, k1, b).scores(queries), expected, atol=1e-5)


def test_equal_texts_score_bit_for_bit_alike_and_rows_do_not_depend_on_the_batch() -> None:
    texts = words(200)
    texts[150] = texts[3]
    index = BM25(texts)
    together = index.scores(texts[:50])
    assert np.array_equal(together[:, 3], together[:, 150])
    assert np.array_equal(together, np.concatenate([index.scores([text]) for text in texts[:50]]))


def test_texts_without_a_known_word_score_nothing() -> None:
    index = BM25(["red drill", "", "drill"])
    assert not index.scores(["", "unheard of", "   \n"]).any()
    assert index.scores(["red"])[0, 1] == 0
    assert index.scores([]).shape == (0, 3)
    empty = BM25(["", " "])
    assert empty.scores(["red", ""]).tolist() == [[0, 0], [0, 0]]


def test_other_scripts() -> None:
    index = BM25(["синий чайник", "красный чайник", "青いやかん 大"], tokens="words")
    assert index.scores(["ЧАЙНИК, синий!"])[0].argmax() == 0
    assert index.scores(["青い"])[0].argmax() == 2
    assert tokenise("Élan №5") == ["élan", "№5"]


@pytest.mark.parametrize("text", ["हिन्दी किताब", "தமிழ் புத்தகம்", "বাংলা বই", "كِتَاب", "หนังสือ ภาษาไทย", "نمی\u200cخواهم", "ქართული წიგნი"])
def test_marks_are_part_of_their_word(text: str) -> None:
    assert tokenise(f"«{text}», 3!", "words") == [*text.split(), "3"]


def test_a_word_is_found_however_its_marks_are_written() -> None:
    composed = ["café crème", "한국어 책", "パン屋"]
    torn = [unicodedata.normalize("NFD", text) for text in composed]
    for tokens in ("whitespace", "words"):
        assert [tokenise(text, tokens) for text in torn] == [tokenise(text, tokens) for text in composed]
        assert BM25(composed, tokens=tokens).scores(torn).argmax(1).tolist() == [0, 1, 2]
    # The vowels of these two are marks: without them one would find the other.
    assert BM25(["किताब", "कतब", "नमक"], tokens="words").scores(["किताब"])[0, 1] == 0
    assert tokenise("3\ufe0f\u20e3 don't re-use_it ﾃﾚﾋﾞ 東京\U000e0100", "words") == ["3", "don", "t", "re", "use_it", "ﾃﾚﾋﾞ", "東", "京"]


def test_what_a_text_has_by_its_form_finds_nothing_and_scores_as_before(tmp_path: Path) -> None:
    texts = ["Name: red drill. Price: Unknown.", "Name: green saw. Price: $3."]
    index = BM25(texts, fixed="Name: Unknown. Price: Unknown.")
    asked = ["Name: qqq. Price: Unknown.", "Name: red qqq. Price: Unknown."]
    assert [index.finds(text) for text in asked] == [False, True]
    assert np.array_equal(index.scores(asked), BM25(texts).scores(asked))
    index.save(tmp_path / "index")
    assert [BM25.load(tmp_path / "index").finds(text) for text in asked] == [False, True]


def test_whole_columns_are_kept_for_the_commonest_words_within_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = words(3000)
    whole = BM25(texts)
    monkeypatch.setattr(module, "DENSE", 0)
    monkeypatch.setattr(module, "COMMON", 0.0)
    small = BM25(texts)
    sparse = sum(part.nbytes for matrix in (small.by_word, small.by_item) for part in (matrix.data, matrix.indices, matrix.indptr))
    assert sparse - 4 * len(texts) < small.columns.nbytes <= sparse
    times = np.diff(small.by_word.indptr)
    assert times[small.column >= 0].min() >= times[small.column < 0].max()
    monkeypatch.setattr(module, "COMMON", 2.0)
    none = BM25(texts)
    assert len(none.columns) == 0 < len(small.columns) < len(whole.vocabulary)
    assert np.array_equal(small.scores(texts[:200]), whole.scores(texts[:200]))
    assert np.array_equal(none.scores(texts[:200]), whole.scores(texts[:200]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BM25([]), "no text to index"),
        (lambda: BM25(["a"], k1=0), "k1 = 0"),
        (lambda: BM25(["a"], b=1.5), "b = 1.5"),
        (lambda: BM25(["a"], tokens="letters"), "tokens = 'letters'"),
        (lambda: BM25(["a", None]), "number 1 is None"),
        (lambda: BM25("a text"), "give a list"),
        (lambda: BM25(["a"]).scores("a"), "give a list"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_saved_index_answers_alike(tmp_path: Path) -> None:
    texts = words(120)
    index = BM25(texts, k1=1.2, b=0.5, tokens="words")
    index.save(tmp_path / "index")
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["bm25.safetensors", "words.parquet"]
    loaded = BM25.load(tmp_path / "index")
    assert (loaded.k1, loaded.b, loaded.tokens, len(loaded)) == (1.2, 0.5, "words", 120)
    assert np.array_equal(loaded.scores(texts), index.scores(texts))
    with pytest.raises(InputError, match="exists already"):
        index.save(tmp_path / "index")


def test_an_index_of_an_older_version_is_read_where_its_words_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT", 1)
    BM25(words(50)).save(tmp_path / "plain")
    BM25(["café"]).save(tmp_path / "marks")
    monkeypatch.undo()
    assert np.array_equal(BM25.load(tmp_path / "plain").scores(["w1 w2"]), BM25(words(50)).scores(["w1 w2"]))
    with pytest.raises(InputError, match="older version, which cut words of many scripts apart; build the index again"):
        BM25.load(tmp_path / "marks")


def test_damaged_index_is_refused(tmp_path: Path) -> None:
    BM25(words(50)).save(tmp_path / "one")
    pl.DataFrame({"word": ["a", "b"]}).write_parquet(tmp_path / "one" / "words.parquet")
    with pytest.raises(InputError, match="do not belong together"):
        BM25.load(tmp_path / "one")
    (tmp_path / "one" / "words.parquet").unlink()
    with pytest.raises(InputError, match="missing or damaged"):
        BM25.load(tmp_path / "one")
    (tmp_path / "one" / "bm25.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged"):
        BM25.load(tmp_path / "one")
    with pytest.raises(InputError, match="does not exist"):
        BM25.load(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def scientific() -> list[str]:
    folder = Path(os.environ.get("LEXIREC_DATA", "")) / "amazon2018_scientific"
    if not os.environ.get("LEXIREC_DATA") or not folder.exists():
        pytest.skip("LEXIREC_DATA names no folder with amazon2018_scientific")
    return ItemTemplate.parse(TEMPLATE).write(pl.read_parquet(folder / "items.parquet"))


def test_words_of_the_scientific_catalogue(scientific: list[str]) -> None:
    tokens = [tokenise(text) for text in scientific]
    assert len(scientific) == 5326
    assert np.mean([len(t) for t in tokens]) == pytest.approx(22.8, abs=0.05)
    assert len({word for t in tokens for word in t}) == pytest.approx(19_292, abs=30)


def test_every_scientific_text_finds_itself(scientific: list[str]) -> None:
    index = BM25(scientific)
    optimistic, pessimistic, runners_up = [], [], []
    for start in range(0, 5326, 256):
        scores = index.scores(scientific[start : start + 256])
        own = scores[np.arange(len(scores)), np.arange(start, start + len(scores))][:, None]
        optimistic.append((scores > own).sum(1))
        pessimistic.append((scores >= own).sum(1))
        second = np.partition(scores, -2, axis=1)[:, -2]
        runners_up.append((second - scores.min(1)) / (scores.max(1) - scores.min(1)))
    runner = np.concatenate(runners_up)
    assert (np.concatenate(optimistic) == 0).sum() >= 5325
    assert (np.concatenate(pessimistic) == 1).mean() == pytest.approx(0.9957, abs=0.0006)
    assert np.median(runner) == pytest.approx(0.447, abs=0.002)
    assert (runner > 0.998).mean() == pytest.approx(0.0041, abs=0.0005)
