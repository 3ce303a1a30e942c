"""LSA: known directions, determinism, saving."""

import json

import numpy as np
import pytest

from lexirec.errors import InputError
from lexirec.text import encoder_from_state, load_encoder
from tests.text.worlds import sentences


def test_like_texts_are_near():
    shop = ["red lipstick", "pink lipstick", "lipstick brush", "dog food", "cat food", "dog toy"] * 2
    encoder = load_encoder("lsa?dim=4")
    vectors = encoder.encode(shop)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    wish = encoder.encode(["a lipstick as a gift"])[0]
    similarity = vectors[:6] @ wish
    assert set(np.argsort(-similarity)[:3]) == {0, 1, 2}
    # An unknown spelling still lands near, by its trigrams.
    assert set(np.argsort(-(vectors[:6] @ encoder.encode(["lipstik"])[0]))[:3]) == {0, 1, 2}


def test_equals_a_plain_singular_value_decomposition():
    texts = sentences(60, seed=4)
    encoder = load_encoder("lsa?dim=10").fit(texts)
    from collections import Counter

    from lexirec.text.encoders.lsa import terms

    matrix = np.zeros((60, len(encoder.vocabulary)))
    for row, text in enumerate(sorted(texts)):
        for term, count in Counter(terms(text)).items():
            if term in encoder.vocabulary:
                matrix[row, encoder.vocabulary[term]] = (1 + np.log(count)) * encoder.idf[encoder.vocabulary[term]]
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    expected = left[:, :10] * values[:10]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = encoder.encode(sorted(texts))
    assert np.abs(found @ found.T - expected @ expected.T).max() < 1e-4  # equal up to the signs of the axes


def test_random_projection_keeps_what_the_exact_decomposition_keeps():
    import scipy.sparse as sp

    from lexirec.text.encoders.lsa import DENSE_LIMIT, _right_singular

    rng = np.random.default_rng(0)
    low = rng.standard_normal((500, 15)) * np.linspace(3, 1, 15) @ rng.standard_normal((15, 4100))
    matrix = sp.csr_matrix((low + rng.standard_normal((500, 4100))).astype(np.float32))
    assert np.prod(matrix.shape) > DENSE_LIMIT
    _, values, right = np.linalg.svd(matrix.toarray(), full_matrices=False)
    found = _right_singular(matrix, 15, seed=0)
    assert np.abs(np.abs((found * right[:15].T).sum(axis=0)) - 1).max() < 1e-3  # the same directions, one by one
    assert np.abs(np.linalg.norm(matrix @ found, axis=0) / values[:15] - 1).max() < 1e-3
    assert (found[np.abs(found).argmax(axis=0), np.arange(15)] > 0).all()
    assert (found == _right_singular(matrix, 15, seed=0)).all()


def test_the_same_texts_in_any_order_give_the_same_space():
    texts = sentences(80, seed=6)
    first, second = load_encoder("lsa?dim=16"), load_encoder("lsa?dim=16")
    assert (first.encode(texts) == second.encode(texts[::-1])[::-1]).all()
    assert first.fingerprint == second.fingerprint
    assert load_encoder("lsa?dim=16").fit(texts[:50]).fingerprint != first.fingerprint


def test_saved_and_loaded_equal():
    texts = sentences(80, seed=7)
    encoder = load_encoder("lsa?dim=16&seed=3")
    encoder.encode(texts)
    config, arrays = encoder.state()
    again = encoder_from_state(json.loads(json.dumps(config)), arrays)
    assert (again.encode([*texts, "red blue wish"]) == encoder.encode([*texts, "red blue wish"])).all()
    assert again.fingerprint == encoder.fingerprint
    assert not encoder_from_state(*load_encoder("lsa").state()).fitted
    with pytest.raises(InputError, match="the saved encoder is damaged"):
        encoder_from_state(config, {"idf": arrays["idf"]})


def test_small_and_odd_catalogues():
    assert load_encoder("lsa").encode(["only one"]).shape == (1, 1)
    assert np.isfinite(load_encoder("lsa").encode(["same", "same", "other"])).all()
    assert np.isfinite(load_encoder("lsa").encode(["???", "red!", "香水", "a"])).all()
    assert np.isfinite(load_encoder("lsa").encode(["word " * 200_000, "red"])).all()


def test_what_can_not_be_encoded_is_named():
    encoder = load_encoder("lsa").fit(["red soap", "blue soap"])
    with pytest.raises(InputError, match=r"1 of 2 texts hold no word or trigram of the catalogue \(first: '香水'\)"):
        encoder.encode(["red", "香水"])
    with pytest.raises(InputError, match="no texts to fit"):
        load_encoder("lsa").fit([])
    with pytest.raises(InputError, match="can't be compared by words"):
        load_encoder("lsa").fit([chr(0x4E00 + i) for i in range(60)])
