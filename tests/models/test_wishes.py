"""Wishes: read without the disk, half characters, and words that an encoder does not know."""

import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import TrainSet
from lexirec.evaluation.intention import evaluate_intention
from lexirec.models import create, load_model, reading
from lexirec.models.contract import Recommender
from lexirec.models.layers.encoder import Tokenizer
from lexirec.models.reading import MANY, TextReader
from lexirec.query import Query
from lexirec.text import cache, item_vectors
from lexirec.text.cache import CacheWarning
from lexirec.text.encoders.hub import bundled_folder
from lexirec.text.encoders.joined import JoinedEncoder
from lexirec.training.options import TrainingOptions
from tests.models.text_worlds import tiny_bert
from tests.models.toys import checkerboard
from tests.text.worlds import HashEncoder

HALF = "red fruit " + chr(0xD83C)
SMALL = {"embedding_dim": 8, "batch_size": 32, "encoder": "lsa"}
READERS = {
    "alpharec": {**SMALL, "num_negs": 4},
    "sasrec": {**SMALL, "items": "text", "max_len": 8},
    "llmemb": {**SMALL, "scft": None},
    "zero-shot": {"encoder": "lsa"},
}
"""A model of each kind that reads words through an encoder of a closed vocabulary."""
OTHERS = {
    "easyrec": {"versions": 1, "mlm_weight": 0.0, "batch_size": 20, "read_precision": "float32"},
    "recformer": {"embedding_dim": 8, "num_layers": 1, "pretrain_epochs": 0, "second_stage": False, "max_tokens": 32},
    "lir": {"text": "Title=title,Category=categories?"},
}


def fitted(name: str, settings: dict, train: TrainSet | None = None) -> Recommender:
    model = create(name, **settings)
    epochs = TrainingOptions(epochs=1, progress=False, threads=1)
    return model.fit(checkerboard()[0].train_set() if train is None else train, options=epochs)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recommender]:
    return {name: fitted(name, settings) for name, settings in READERS.items()}


# --- without the disk --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joined", [False, True])
def test_a_wish_never_looks_on_the_disk_and_is_encoded_once(joined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: object) -> None:
        raise AssertionError("the disk was asked")

    for name in ("_read", "_prepare", "_write"):
        monkeypatch.setattr(cache.EmbeddingCache, name, looked)
    encoder = HashEncoder()
    reader = TextReader(JoinedEncoder([encoder, HashEncoder(salt="b")]) if joined else encoder)
    first = reader.words(["a hat", "a scarf", "a hat"])
    np.testing.assert_array_equal(first[0], first[2])
    if not joined:
        np.testing.assert_array_equal(first, [encoder.vector("a hat"), encoder.vector("a scarf"), encoder.vector("a hat")])
    np.testing.assert_array_equal(reader.words(["a coat", "a scarf"])[1], first[1])
    assert encoder.asked == ["a hat", "a scarf", "a coat"]
    assert not (tmp_path / "cache").exists()
    assert reader.words([]).shape == (0, reader.encoder.dim)


def test_many_wishes_are_encoded_once_and_kept_on_the_disk() -> None:
    encoder, texts = HashEncoder(), [f"wish {n}" for n in range(2 * MANY)]
    reader = TextReader(encoder)
    for _ in range(3):  # several weights of the wish
        for start in range(0, len(texts), 100):
            reader.words(texts[start : start + 100])
    assert encoder.asked == texts
    TextReader(encoder).words(texts)  # blocks of 100 were below MANY: nothing was stored
    assert len(encoder.asked) == 2 * len(texts)
    np.testing.assert_array_equal(TextReader(encoder).words(texts[::-1]), [encoder.vector(text) for text in texts[::-1]])
    assert len(encoder.asked) == 2 * len(texts)  # from the disk


def test_what_was_asked_last_is_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "REMEMBERED_BYTES", 3 * 8 * 4)
    encoder = HashEncoder()
    reader = TextReader(encoder)
    for text in ("a", "b", "c", "a", "d"):  # b is the one asked longest ago
        reader.words([text])
    assert list(reader._known) == ["c", "a", "d"]
    assert all(row.base is None for row in reader._known.values())  # no view that keeps a batch
    texts = list("fgahijk")
    np.testing.assert_array_equal(reader.words(texts), [encoder.vector(text) for text in texts])
    assert len(reader._known) == 3


def test_several_threads_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "REMEMBERED_BYTES", 5 * 8 * 4)
    encoder, failed = HashEncoder(), []
    reader = TextReader(encoder)

    def ask(seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(60):
            texts = [f"wish {n}" for n in draw.integers(0, 12, 4)]
            try:
                np.testing.assert_array_equal(reader.words(texts), [encoder.vector(text) for text in texts])
            except Exception as error:  # noqa: BLE001 (a thread's own error would be lost)
                failed.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(reader._known) <= 5


def test_a_full_disk_is_one_warning_and_the_wishes_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    encoder, texts = HashEncoder(), [f"wish {n}" for n in range(3 * MANY)]
    with pytest.warns(CacheWarning, match=r"is on a full disk .*; new vectors aren't kept\. Make room, or set LEXIREC_CACHE") as found:
        vectors = TextReader(encoder).words(texts)
    assert len(found) == 1
    np.testing.assert_array_equal(vectors, [encoder.vector(text) for text in texts])


# --- half a character --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_half_a_character_in_a_wish_is_replaced(name: str, tmp_path: Path) -> None:
    model = fitted(name, OTHERS[name] | ({"encoder": f"hf:{tiny_bert(tmp_path / 'bert')}"} if name == "easyrec" else {}))
    for query, plain in ((Query(intent=HALF), Query(intent="red fruit ?")), (Query(profile=HALF), Query(profile="red fruit ?"))):
        assert query == plain
        assert model.recommend(query, k=3)["answered_by"].to_list() == ["words"] * 3
        assert torch.equal(model.score([query]), model.score([plain]))


def test_half_a_character_in_a_wish_is_replaced_where_an_encoder_reads_it(models: dict[str, Recommender]) -> None:
    for model in models.values():
        assert model.recommend(Query(intent=HALF), k=3)["answered_by"].to_list() == ["words"] * 3


def test_half_a_character_reaches_no_tokenizer() -> None:
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.of(AutoTokenizer.from_pretrained(bundled_folder(), local_files_only=True, trust_remote_code=False))
    assert tokenizer([HALF, "hat"], 16) == tokenizer(["red fruit ?", "hat"], 16)


# --- words that nothing is known of ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("wish", ["🎁", "!!!", "подарок"])
def test_unknown_words_count_as_none_for_that_query_alone(name: str, wish: str, models: dict[str, Recommender], tmp_path: Path) -> None:
    model = models[name]
    model.save(tmp_path / "saved")
    for each in (model, load_model(tmp_path / "saved")):
        queries = [
            Query(intent="red apple"), Query(intent=wish), Query(user_id="u02", intent=wish, alpha=1.0), Query(user_id="u02"),
            Query(user_id="nobody", intent=wish), Query(user_id="u02", intent=f"{wish} red"),
        ]  # fmt: skip
        found = each.recommend(queries, k=4, filter_seen=False)
        rows = found.group_by("query", maintain_order=True).agg("item_id", "score", pl.col("answered_by", "reason").first())
        assert rows["answered_by"].to_list() == ["words", "popularity", "user", "user", "popularity", "user+words"]
        why = "the encoder lsa knows none of the words"
        assert rows["reason"].to_list() == [None, why, None, None, why, None]
        assert rows["item_id"][2].to_list() == rows["item_id"][3].to_list()
        assert rows["score"][2].to_list() == pytest.approx(rows["score"][3].to_list(), abs=1e-6)
        best = np.argsort(-each.popularity, kind="stable")[:4]
        assert rows["score"][1].to_list() == each.popularity[best].tolist()
        alone = each.recommend(queries[0], k=4, filter_seen=False)
        assert rows["item_id"][0].to_list() == alone["item_id"].to_list()
        assert "words" not in each.explain(queries[2], "i00")["kind"].to_list()


def test_encoders_say_what_they_can_read(tmp_path: Path) -> None:
    from lexirec.text import load_encoder, write_vectors

    items = checkerboard()[1]
    texts = ["red apple", "🎁", "!!!", HALF]
    lsa = load_encoder("lsa?dim=4")
    assert lsa.readable(texts).all()  # not fitted yet: these texts would fix the space
    vectors = item_vectors(items, lsa, "title")
    assert lsa.readable(texts).tolist() == [True, False, False, True]
    with pytest.raises(ValueError, match="lsa: 2 of 4 texts hold no word or trigram"):
        lsa.encode(texts)
    assert JoinedEncoder([HashEncoder(), lsa]).readable(texts).tolist() == [True] * 4  # one part is enough
    assert HashEncoder().readable(texts).tolist() == [True] * 4
    write_vectors(tmp_path / "v.parquet", items["item_id"], vectors, {})
    by_file = load_encoder(f"file:{tmp_path / 'v.parquet'}")
    assert not by_file.readable(texts).any()
    assert load_encoder(f"{by_file.name}?words=random?dim={vectors.shape[1]}").readable(texts).all()


def test_a_wish_that_cannot_be_read_is_the_person_at_every_weight() -> None:
    """Two people share it, so that nothing of the first one's answer may go to the second."""
    split = checkerboard()[0].split("leave-one-out")
    model = fitted("alpharec", READERS["alpharec"], split.train)
    ids = split.train.item_map.ids
    names = [ids[at] for at in split.test.item_index.tolist()]
    wishes = pl.DataFrame({"item_id": sorted(set(names)), "intent": ["🎁" if n % 2 else "red apple" for n in range(len(set(names)))]})
    asked = {"seen": (split.valid,), "alphas": (0.0, 0.5, 1.0), "wishes": wishes, "k": 5}
    found = evaluate_intention(model, split.train, split.test, **asked)
    unread = found.per_query.filter(pl.col("intent") == "🎁")
    assert unread["user_id"].n_unique() > 1
    assert unread["ndcg@5 (alpha 0)"].to_list() == unread["ndcg@5 (alpha 1)"].to_list()
    assert unread["ndcg@5 (alpha 0)"].n_unique() > 1
