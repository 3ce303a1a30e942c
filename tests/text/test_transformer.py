"""``hf:`` encoders: pooling, padding and positions of every family, against one text at a time through plain transformers."""

import hashlib
import json

import numpy as np
import pytest

from lexirec.errors import InputError
from lexirec.text import encoder_from_state, load_encoder
from lexirec.text.encoders.batching import plan_batches
from lexirec.text.encoders.transformer import TransformerEncoder
from tests.text.worlds import save_model, save_tokenizer, sentences

CAUSAL = ["gpt2", "gpt_neo", "opt", "llama"]
BIDIRECTIONAL = ["bert", "roberta", "mpnet", "t5"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {family: save_model(tmp_path_factory.mktemp(family), family) for family in CAUSAL + BIDIRECTIONAL}


def reference(folder, texts, pooling):
    """Each text alone, so that there is nothing to pad: the vectors as the model's authors define them."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    rows = []
    with torch.inference_mode():
        for text in texts:
            output = model(input_ids=torch.tensor([tokenizer(text)["input_ids"]]))
            hidden = output.last_hidden_state[0]
            vector = {"last": hidden[-1], "mean": hidden.mean(0), "cls": hidden[0]}.get(pooling)
            rows.append((output.pooler_output[0] if vector is None else vector).numpy())
    return np.stack(rows)


def close(vectors, expected, tolerance=2e-5):
    assert vectors.shape == expected.shape
    assert vectors.dtype == np.float32
    error = np.abs(vectors - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert error.max() < tolerance, error


@pytest.mark.parametrize("padding", ["right", "left", "none"])
@pytest.mark.parametrize("family", CAUSAL + BIDIRECTIONAL)
def test_batches_equal_single_texts_whatever_the_padding(folders, family, padding):
    texts = sentences(40, shortest=3, longest=20)
    encoder = load_encoder(f"hf:{folders[family]}", padding=padding, precision="float32")
    pooling = "last" if family in CAUSAL else "mean"
    assert encoder.pooling == pooling  # `auto`
    close(encoder.encode(texts), reference(folders[family], texts, pooling))
    lengths = [len(tokens) for tokens in encoder.tokenize(texts)]
    mixed = any(len({lengths[i] for i in batch}) > 1 for batch in plan_batches(lengths, encoder.batch_tokens))
    assert mixed  # padding was at work above, unless forbidden
    # T5 has no explicit positions: padding on the left is not risked there.
    assert encoder._pads() == (padding == "right" or (padding == "left" and family != "t5"))


def test_the_comparison_above_can_fail(folders):
    """Left padding with a mask but without positions, as often seen, moves GPT-2's vectors far beyond the tolerance."""
    import torch

    encoder = load_encoder(f"hf:{folders['gpt2']}", precision="float32")
    tokenizer, model = encoder.load()
    short, long = "red hair brush", "red hair brush and a new rose soap"
    ids = [tokenizer(text)["input_ids"] for text in (short, long)]
    gap = len(ids[1]) - len(ids[0])
    tokens, mask = torch.tensor([[1] * gap + ids[0], ids[1]]), torch.tensor([[0] * gap + [1] * len(ids[0]), [1] * len(ids[1])])
    with torch.inference_mode():
        naive = model(input_ids=tokens, attention_mask=mask).last_hidden_state[:, -1].numpy()
    right = encoder.encode([short, long])
    close(naive[1:], right[1:])
    assert np.abs(naive[0] - right[0]).max() > 1e-2


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", "cls"), ("bert", "pooler"), ("roberta", "pooler"), ("roberta", "last"), ("llama", "mean")]
)
def test_poolings(folders, family, pooling):
    texts = sentences(20, seed=1, shortest=4, longest=12)
    close(
        load_encoder(f"hf:{folders[family]}?pooling={pooling}", precision="float32").encode(texts),
        reference(folders[family], texts, pooling),
    )


def test_the_padding_token_inside_a_text_is_not_masked(folders):
    """GPT-2's way: the end token fills the batch; a text that holds it keeps it."""
    texts = ["red <eos> blue hair", "red <eos> blue hair brush and soap", "rose mint oil cream soap"]
    close(
        load_encoder(f"hf:{folders['llama']}?pooling=mean", precision="float32").encode(texts), reference(folders["llama"], texts, "mean")
    )


@pytest.mark.parametrize("family", ["gpt2", "bert"])
@pytest.mark.parametrize(("precision", "cosine"), [("float32", 1 - 1e-6), ("bfloat16", 0.999)])
def test_a_text_keeps_its_vector_in_any_company(folders, family, precision, cosine):
    texts = sentences(30, seed=2, shortest=2, longest=20)
    encoder = load_encoder(f"hf:{folders[family]}?normalize=true", precision=precision)
    together, alone = encoder.encode(texts), np.concatenate([encoder.encode([text]) for text in texts])
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert (together * alone).sum(axis=1).min() > cosine
    few = TransformerEncoder(str(folders[family]), normalize=True, precision=precision, batch_tokens=16).encode(texts)
    assert (together * few).sum(axis=1).min() > cosine


def test_long_texts_are_cut_as_if_read_whole(folders):
    from transformers import AutoTokenizer

    encoder = load_encoder(f"hf:{folders['gpt2']}", max_length=12)
    runs = "red" * 40_000  # one unknown word of 0.1 MB
    texts = ["red " * 25_000, f"{runs} blue hair", "a " + " " * 100_000 + "rose oil"]
    tokenizer = AutoTokenizer.from_pretrained(folders["gpt2"])
    assert encoder.tokenize(texts) == [tokenizer(text, truncation=True, max_length=12)["input_ids"] for text in texts]
    assert np.isfinite(encoder.encode(texts)).all()
    assert len(load_encoder(f"hf:{folders['gpt2']}", max_length=500).tokenize(texts[:1])[0]) == 40  # never above the positions
    assert len(load_encoder(f"hf:{folders['roberta']}", max_length=500).tokenize(texts[:1])[0]) == 40


def test_prompt_and_fingerprint(folders):
    folder = folders["bert"]
    plain, prompted = load_encoder(f"hf:{folder}"), load_encoder(f"hf:{folder}?prompt=new%20")
    assert np.allclose(prompted.encode(["red soap"]), plain.encode(["new red soap"]), atol=1e-5)
    fields = json.loads(prompted.fingerprint)
    assert {"model", "revision", "pooling", "prompt", "precision", "dim", "max_length", "normalize"} <= set(fields)
    assert fields["prompt"] == "new "
    assert plain.fingerprint != prompted.fingerprint
    assert load_encoder(f"hf:{folder}?pooling=cls").fingerprint != plain.fingerprint
    assert load_encoder(f"hf:{folder}?max_length=9").fingerprint != plain.fingerprint
    assert load_encoder(f"hf:{folder}").fingerprint == plain.fingerprint
    again = encoder_from_state(*prompted.state())
    assert again.fingerprint == prompted.fingerprint


def test_other_weights_have_another_fingerprint(folders, tmp_path):
    import torch
    from transformers import BertModel

    first = load_encoder(f"hf:{folders['bert']}")
    model = BertModel.from_pretrained(folders["bert"])
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5, 0] += 1
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "bert")
    config, arrays = first.state()
    config["name"] = f"hf:{tmp_path}?pooling=mean&max_length=256&normalize=false"
    with pytest.raises(InputError, match="the stored vectors were made by"):
        encoder_from_state(config, arrays)


def test_dimensions_are_known_without_loading(folders):
    for family, folder in folders.items():
        encoder = load_encoder(f"hf:{folder}")
        assert encoder.dim == 16, family
        assert encoder._loaded is None


def test_a_random_pooler_is_refused(folders, tmp_path):
    from transformers import BertModel

    BertModel.from_pretrained(folders["bert"], add_pooling_layer=False).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "bert")
    with pytest.raises(InputError, match="no trained pooler; use pooling=cls"):
        load_encoder(f"hf:{tmp_path}?pooling=pooler").encode(["red"])
    assert load_encoder(f"hf:{tmp_path}").encode(["red"]).shape == (1, 16)
    with pytest.raises(InputError, match="no trained pooler"):
        load_encoder(f"hf:{folders['llama']}?pooling=pooler").encode(["red"])


def test_missing_weights_are_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in folders["bert"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(key for key in weights if "layer.1.output.dense.weight" in key)
    save_file({key: value for key, value in weights.items() if key != gone}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights are missing .*would be random"):
        load_encoder(f"hf:{tmp_path}").encode(["red"])


def test_pickled_weights_are_refused(folders, tmp_path):
    for file in folders["bert"].iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=r"no \.safetensors weights"):
        load_encoder(f"hf:{tmp_path}").encode(["red"])


def test_truncated_weights_are_refused(folders, tmp_path):
    for file in folders["bert"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="can't be loaded as a transformers model"):
        load_encoder(f"hf:{tmp_path}").encode(["red"])


def test_nan_weights_are_refused(folders, tmp_path):
    from transformers import BertModel

    model = BertModel.from_pretrained(folders["bert"])
    model.encoder.layer[0].output.dense.bias.data[:] = float("nan")
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "bert")
    with pytest.raises(InputError, match=r"1 of 1 texts gave NaN or infinite values \(first: 'red'\)"):
        load_encoder(f"hf:{tmp_path}").encode(["red"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:/nowhere/at/all", "is no folder"),
        ("hf:", "names no target"),
        ("hf", "names no target"),
        ("minilm:x", "takes no target"),
        ("minilmm", r"did you mean 'minilm'\?"),
        ("minilm?precison=float32", r"did you mean 'precision'\?"),
        ("minilm?precision=int8", "choose one of auto, float32, bfloat16"),
        ("minilm?max_length=0", "must be at least 1"),
        ("minilm?max_length=ten", "whole number"),
        ("minilm?max_length=1&max_length=2", "twice"),
        ("minilm?x", "has no option 'x'"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(InputError, match=message):
        load_encoder(name)


def test_bad_options_of_a_folder(folders):
    for options, message in (
        ({"pooling": "max"}, "choose one of auto, last"),
        ({"normalize": "maybe"}, "give true or false"),
        ({"padding": "up"}, "choose one of right"),
        ({"revision": "main"}, "revisions belong to names on the hub"),
    ):
        with pytest.raises(InputError, match=message):
            load_encoder(f"hf:{folders['bert']}", **options)


def test_texts_are_checked(folders):
    encoder = load_encoder(f"hf:{folders['bert']}")
    assert encoder.encode([]).shape == (0, 16)
    with pytest.raises(InputError, match="give a list of strings"):
        encoder.encode("red soap")
    with pytest.raises(InputError, match=r"texts\[1\] is 'None' of type NoneType"):
        encoder.encode(["red", None])
    with pytest.raises(InputError, match=r"2 of 3 are empty \(first: row 1\)"):
        encoder.encode(["red", " ", ""])
    assert np.isfinite(encoder.encode(["red \ud800 soap", "\x00", "é" * 50])).all()


def test_distinct_texts_are_encoded_once(folders, monkeypatch):
    encoder = load_encoder(f"hf:{folders['bert']}")
    seen = []
    inner = encoder._encode
    monkeypatch.setattr(encoder, "_encode", lambda texts, progress: seen.extend(texts) or inner(texts, progress))
    vectors = encoder.encode(["red", "blue", "red", "red"])
    assert seen == ["red", "blue"]
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[0] == vectors[3]).all()
    assert (vectors[0] != vectors[1]).any()


def test_an_encoder_without_its_decoder_is_enough(folders, tmp_path):
    """GTR and the like are saved as the encoder alone."""
    from transformers import T5EncoderModel

    T5EncoderModel.from_pretrained(folders["t5"]).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "bert")
    found = load_encoder(f"hf:{tmp_path}", precision="float32").encode(["red soap"])
    close(found, load_encoder(f"hf:{folders['t5']}", precision="float32").encode(["red soap"]))


def test_several_threads_may_ask_at_once(folders):
    from concurrent.futures import ThreadPoolExecutor

    encoder = load_encoder(f"hf:{folders['bert']}", precision="float32")
    texts = sentences(40, seed=8)
    expected = encoder.encode(texts)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda text: encoder.encode([text])[0], texts))
    close(np.stack(rows), expected, 1e-4)


def test_names_on_the_hub(folders, monkeypatch, tmp_path):
    """A local copy is found by its commit; without one and without network there is a named error."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    commit = "0123456789" * 4
    snapshot = tmp_path / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in folders["bert"].iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    asked = []

    def download(name, revision=None, local_files_only=False, **_):
        asked.append((name, revision, local_files_only))
        if name == "org/here":
            return str(snapshot)
        raise LocalEntryNotFoundError("no copy") if local_files_only else ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    encoder = load_encoder("hf:org/here?revision=main")
    assert asked == [("org/here", "main", True)]  # the network is not asked
    fields = json.loads(encoder.fingerprint)
    assert (fields["model"], fields["revision"]) == ("org/here", commit)
    assert encoder.encode(["red"]).shape == (1, 16)
    with pytest.raises(InputError, match=r"org/gone is not on this machine and can't be fetched .ConnectionError.; check the name"):
        load_encoder("hf:org/gone")
    assert asked[-1] == ("org/gone", None, False)


def test_importing_text_loads_no_model_library():
    import subprocess
    import sys

    libraries = ("torch", "transformers", "sentence_transformers", "scipy", "openai")
    script = f"import sys, lexirec.text; print([m for m in {libraries} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_slow_tokenizers_files_are_part_of_the_identity(tmp_path):
    from lexirec.text.encoders.hub import identity

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("not read")
    names = ("config.json", "model.safetensors")
    lines = "".join(f"{name} {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}\n" for name in names)
    bare = identity(tmp_path)
    assert bare == hashlib.sha256(lines.encode()).hexdigest()  # folders without such files keep their identity
    seen = {bare}
    for name, content in (("spiece.model", "1"), ("spiece.model", "2"), ("added_tokens.json", "{}"), ("added_tokens.json", '{"a": 1}')):
        (tmp_path / name).write_text(content)
        seen.add(identity(tmp_path))
    assert len(seen) == 5
    (tmp_path / "tokenizer.json").write_text("{}")  # holds all of it, and is what is read
    fast = identity(tmp_path)
    (tmp_path / "spiece.model").write_text("3")
    assert identity(tmp_path) == fast
