"""Encoders side by side."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lexirec.errors import InputError
from lexirec.text import EmbeddingCache, encoder_from_state, item_vectors, load_encoder

TEXTS = ["red lipstick", "hair brush", "red hair dye", "blue nail polish"]


def test_rows_are_the_parts_beside_each_other_with_equal_shares() -> None:
    joined = load_encoder("join:minilm|lsa?dim=3&seed=1")
    rows = joined.encode(TEXTS)
    meaning, wording = load_encoder("minilm").encode(TEXTS), load_encoder("lsa?dim=3&seed=1").encode(TEXTS)
    assert joined.dim == rows.shape[1] == 384 + 3
    np.testing.assert_allclose(rows @ rows.T, (meaning @ meaning.T + wording @ wording.T) / 2, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_saved_and_made_again_it_reads_alike() -> None:
    joined = load_encoder("join:minilm|lsa?dim=3")
    rows = joined.encode(TEXTS)
    config, arrays = joined.state()
    again = encoder_from_state(config, arrays)
    assert again.fingerprint == joined.fingerprint
    np.testing.assert_array_equal(again.encode(TEXTS), rows)


@pytest.mark.parametrize("name", ["join:minilm", "join:minilm|file:vectors.parquet", "join:minilm|lsb"])
def test_what_cannot_be_joined_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        load_encoder(name)


def test_a_part_that_knows_nothing_of_a_text_has_zeros() -> None:
    joined = load_encoder("join:minilm|lsa?dim=3")
    joined.encode(TEXTS)
    row = joined.encode(["zzzz"])[0]  # no word and no trigram of the catalogue
    np.testing.assert_allclose(row[:384], load_encoder("minilm").encode(["zzzz"])[0] / np.sqrt(2), atol=1e-5)
    assert not row[384:].any()
    assert joined.readable(["zzzz", "🎁"]).tolist() == [True, False]
    with pytest.raises(InputError, match=r"none of the encoders knows a word of 1 of 2 texts \(first: '🎁'\)"):
        joined.encode(["red", "🎁"])


def test_the_cache_of_the_parts_is_the_one_asked_for(tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": list("abcd"), "title": TEXTS})
    plain = item_vectors(items, "join:minilm|random", cache=False)
    assert not list(tmp_path.rglob("*.safetensors"))
    np.testing.assert_array_equal(item_vectors(items, "join:minilm|random", cache=EmbeddingCache(tmp_path / "own")), plain)
    assert len(list((tmp_path / "own" / "embeddings").glob("*/encoder.json"))) == 2
    assert not (tmp_path / "cache").exists()
    item_vectors(items, "join:minilm|random")
    assert len(list((tmp_path / "cache" / "embeddings").glob("*/encoder.json"))) == 2
