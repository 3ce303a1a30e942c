"""``api:`` against a small local server that speaks the embeddings protocol."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lexirec.errors import InputError, MissingExtraError
from lexirec.text import EmbeddingCache, load_encoder
from lexirec.text.encoders import api
from lexirec.text.encoders.api import ApiError, redacted
from tests.text.worlds import HashEncoder

openai = pytest.importorskip("openai", reason="the api: encoder needs the extra `llm`")
KEY = "sk-very-secret-1234567890"
TEXTS = [f"text {i}" for i in range(10)]
MODEL = HashEncoder(dim=6)


class Server(ThreadingHTTPServer):
    """Answers with hashed vectors; ``failures`` are statuses to give first, ``spoil`` changes an answer.

    Requests of over ``most`` bytes are refused with the status and the words of ``too_long``.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.keys, self.failures, self.spoil = [], [], [], lambda data: data
        self.daemon_threads = True
        self.most, self.too_long = float("inf"), (400, "")


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers.get("Authorization"))
        if self.path != "/v1/embeddings":
            return self.answer(404, {"error": {"message": "no such path"}})
        if self.server.failures:
            status = self.server.failures.pop(0)
            message = f"Incorrect API key provided: {KEY} (sk-very***7890)" if status == 401 else "try later"
            return self.answer(status, {"error": {"message": message}})
        if sum(len(text.encode()) for text in body["input"]) > self.server.most:
            status, message = self.server.too_long
            return self.answer(status, {"error": {"message": message}})
        self.server.requests.append(body)
        vectors = [MODEL.vector(text)[: body.get("dimensions", 6)].tolist() for text in body["input"]]
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)][::-1]
        return self.answer(200, {"object": "list", "data": self.server.spoil(data), "model": body["model"], "usage": {}})

    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    yield server
    server.shutdown()
    server.server_close()


def test_batches_in_order_whatever_the_order_of_the_answer(server):
    encoder = load_encoder("api:small-model?batch_size=4")
    vectors = encoder.encode([*TEXTS, TEXTS[0]])
    assert np.allclose(vectors, np.stack([MODEL.vector(t) for t in [*TEXTS, TEXTS[0]]]), atol=1e-6)
    assert [len(request["input"]) for request in server.requests] == [4, 4, 2]
    assert {request["model"] for request in server.requests} == {"small-model"}
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert encoder.dim == 6


def test_options(server):
    encoder = load_encoder("api:m?dimensions=3&prompt=query%3A%20&normalize=true&max_characters=12")
    vectors = encoder.encode(["red soap and more"])
    assert server.requests[0]["input"] == ["query: red"]
    assert server.requests[0]["dimensions"] == 3
    assert vectors.shape == (1, 3)
    assert np.linalg.norm(vectors) == pytest.approx(1, abs=1e-6)
    assert load_encoder("api:m").dim == 6


@pytest.mark.parametrize("failures", [[429, 500, 503], [408], [409]])
def test_passing_failures_are_tried_again(server, failures):
    server.failures = list(failures)
    assert load_encoder("api:m").encode(TEXTS).shape == (10, 6)
    assert len(server.keys) == len(failures) + 1


def test_lasting_failures_are_named(server):
    server.failures = [500] * 9
    with pytest.raises(
        ApiError, match=r"api:m at http://127\.0\.0\.1:\d+/v1 failed after up to 2 retries .InternalServerError.*then run again$"
    ):
        load_encoder("api:m?retries=2").encode(TEXTS)
    assert len(server.keys) == 3
    server.failures = [404]
    with pytest.raises(ApiError, match="check the model's name"):
        load_encoder("api:m").encode(TEXTS)


def test_no_server(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ApiError, match=r"APIConnectionError.*check OPENAI_BASE_URL"):
        load_encoder("api:m?retries=0").encode(["red"])


def test_the_key_stands_nowhere(server, caplog, capfd, tmp_path):
    caplog.set_level(logging.DEBUG, logger="lexirec")
    encoder = load_encoder("api:m")
    EmbeddingCache(tmp_path).encode(encoder, TEXTS)
    server.failures = [401]
    with pytest.raises(ApiError, match="check OPENAI_API_KEY") as caught:
        encoder.encode(["red"])
    seen = [
        str(caught.value),
        repr(encoder),
        encoder.name,
        encoder.fingerprint,
        json.dumps(encoder.state()[0]),
        caplog.text,
        *capfd.readouterr(),
    ]
    seen += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    for text in seen:
        assert KEY not in text
        assert "sk-very" not in text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("limit", [500, 300])
@pytest.mark.parametrize(
    "echoed", ["sk-abc123***xyz", "sk_abc123", "sk abc123", "key-abc123", "key_abc123", "key abc123", "Bearer abc123", "Bearer-abc123"]
)
def test_no_form_of_a_key_is_shown(monkeypatch, echoed, limit):
    monkeypatch.setenv("OPENAI_API_KEY", "0wn.key+of/no=form")
    shown = redacted(f"401: 0wn.key+of/no=form ({echoed}) is refused. {'x' * 600}", limit)
    assert shown.startswith("401: *** (***) is refused. xx")
    assert len(shown) == limit
    cut = redacted(f"{'x' * (limit - 5)} 0wn.key+of/no=form", limit)  # nor the first half of one
    assert cut == f"{'x' * (limit - 5)} ***"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "abc123" not in redacted(echoed, limit)


@pytest.mark.parametrize("placeholder", ["x", "test", "none"])
def test_a_placeholder_for_a_key_is_hidden_as_a_word_alone(monkeypatch, placeholder):
    monkeypatch.setenv("OPENAI_API_KEY", placeholder)
    shown = redacted(f"401: the latest tax, nonetheless: {placeholder!r}", 300)
    assert shown == "401: the latest tax, nonetheless: '***'"


def test_keys_in_the_address_are_hidden(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:hidden@host/v1?key=hidden")
    assert "hidden" not in load_encoder("api:m").fingerprint
    assert "hidden" not in load_encoder("api:m", base_url="https://me:hidden@host/v1?key=hidden").name
    monkeypatch.setenv("OPENAI_BASE_URL", "host/v1")
    with pytest.raises(InputError, match="give an address like"):
        load_encoder("api:m")


def test_the_key_is_asked_for_where_it_is_needed(monkeypatch, server):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert load_encoder("api:m").encode(["red"]).shape == (1, 6)  # a server of one's own
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        load_encoder("api:m").encode(["red"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[1:], "answered 10 texts with 9 vectors"),
        (lambda data: [{**entry, "index": 0} for entry in data], "answered 10 texts with 10 vectors"),
        (lambda data: [{**data[0], "embedding": [1.0]}, *data[1:]], r"vectors of \[1, 6\] numbers"),
    ],
)
def test_faulty_answers_are_refused(server, spoil, message):
    server.spoil = spoil
    with pytest.raises(ApiError, match=message):
        load_encoder("api:m").encode(TEXTS)


def test_finished_batches_are_kept(server, tmp_path, monkeypatch):
    from lexirec.text import cache as module

    monkeypatch.setattr(module, "MIN_CHUNK", 4)
    monkeypatch.setattr(module, "MAX_CHUNK", 4)
    cache, encoder = EmbeddingCache(tmp_path), load_encoder("api:m?retries=0")
    cache.encode(encoder, TEXTS[:4])
    encoder.encode(TEXTS[:1])
    server.failures = []
    calls = []
    server.spoil = lambda data: calls.append(1) or (data if len(calls) < 2 else [])
    with pytest.raises(ApiError):
        cache.encode(encoder, TEXTS)
    server.spoil = lambda data: data
    server.requests.clear()
    cache.encode(encoder, TEXTS)
    assert [request["input"] for request in server.requests] == [TEXTS[8:]]


@pytest.mark.parametrize("normalize", ["false", "true"])
def test_what_is_paid_for_is_kept_where_a_later_request_of_a_block_fails(server, tmp_path, normalize):
    cache, encoder = EmbeddingCache(tmp_path), load_encoder(f"api:m?retries=0&batch_size=3&normalize={normalize}")
    paid = []
    server.spoil = lambda data: paid.append(1) or (data if len(paid) < 3 else [])
    with pytest.raises(ApiError, match=r"with 0 vectors.*; 6 finished texts are in the cache: the same again asks only for the others"):
        cache.encode(encoder, TEXTS)
    server.spoil = lambda data: data
    server.requests.clear()
    vectors = cache.encode(encoder, TEXTS)
    assert [request["input"] for request in server.requests] == [TEXTS[6:9], TEXTS[9:]]
    assert np.allclose(vectors, load_encoder(encoder.name).encode(TEXTS), atol=1e-6)
    server.failures = [500]
    with pytest.raises(ApiError, match=r"then run again$"):  # nothing was finished, and without a cache nothing is kept
        cache.encode(encoder, ["new"])
    server.failures, server.spoil = [], lambda data: [] if server.requests[1:] else data
    server.requests.clear()
    with pytest.raises(ApiError, match=r"speaks another protocol$"):
        encoder.encode(TEXTS)


def test_paid_vectors_that_are_no_numbers_or_of_another_length_are_not_kept(server, tmp_path):
    cache, encoder = EmbeddingCache(tmp_path), load_encoder("api:m?retries=0&batch_size=3")

    def spoilt(data):
        if len(server.requests) == 2:
            data[0]["embedding"] = [float("nan")] * 6  # of the last text: the answer is in reverse order
        return data if len(server.requests) < 3 else []

    server.spoil = spoilt
    with pytest.raises(ApiError, match="; 5 finished texts are in the cache"):
        cache.encode(encoder, TEXTS)
    changed = load_encoder("api:m?retries=0&batch_size=3")
    server.requests.clear()
    server.spoil = lambda data: [{**entry, "embedding": [1.0, 2.0]} for entry in data] if len(server.requests) < 2 else []
    with pytest.raises(ApiError, match=r"another protocol$"):
        cache.encode(changed, TEXTS)


def test_long_texts_of_any_script_are_cut_by_bytes_and_shared_out(server, monkeypatch):
    chinese, english = "無線電話" * 10_000, "word " * 10_000
    load_encoder("api:m").encode([chinese, english, "No 1 " + chinese])
    sent = [text for request in server.requests for text in request["input"]]
    assert [len(text.encode()) for text in sent] == [19_998, 19_999, 20_000]
    assert sent[2].startswith("No 1 無線")  # an early space is no place to cut at
    monkeypatch.setattr(api, "REQUEST_BYTES", 45_000)
    server.requests.clear()
    load_encoder("api:m").encode([f"{n}{chinese}" for n in range(5)])
    assert [len(request["input"]) for request in server.requests] == [2, 2, 1]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "This model's maximum context length is 8192 tokens, however you requested 9000 tokens"),
        (400, "max 300000 tokens per request"),
        (413, "batch size 8 is too large"),
        (422, "inputs must have less than 512 tokens"),
    ],
)
def test_what_is_too_long_together_is_asked_by_halves_and_alone_is_named(server, tmp_path, status, words):
    server.most, server.too_long = 40, (status, words)
    texts = [f"number {n} of ten" for n in range(10)]  # 15 bytes each: two of them go
    vectors = EmbeddingCache(tmp_path).encode(load_encoder("api:m?batch_size=4"), texts)
    assert np.allclose(vectors, np.stack([MODEL.vector(text) for text in texts]), atol=1e-6)
    assert [len(request["input"]) for request in server.requests] == [2] * 5
    long = "x" * 60
    told = pytest.raises(ApiError, match=rf"refused the text 'x{{60}}' of 60 bytes .*{words[:20]}.*max_characters= below 60.*; 3 finished")
    with told:
        EmbeddingCache(tmp_path).encode(load_encoder("api:m?batch_size=5"), ["a", "b", "c", long, "d"])
    assert load_encoder("api:m?max_characters=40").encode([long]).shape == (1, 6)


BAD_KEYS = ["sk-proj-abcdefgh12345678\x00", "“sk-proj-abcdefgh12345678”", "sk-proj abcdefgh12345678", "eyJhbGci.SECRET\r.SIGNATURE98"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_can_be_none_is_refused_by_the_name_of_its_variable(monkeypatch, server, key):
    monkeypatch.setattr(api.os, "environ", {**api.os.environ, "OPENAI_API_KEY": key})
    with pytest.raises(InputError, match="OPENAI_API_KEY holds white space, a control character or a letter that is not ASCII") as caught:
        load_encoder("api:m").encode(["red"])
    assert not any(part in str(caught.value) for part in ("abcdefgh", "SECRET", "SIGNATURE"))
    assert not server.keys
    for form in (key, repr(key), ascii(key), repr(key.encode())):
        shown = redacted(f"Illegal header value {form}.", 300)
        assert not any(part in shown for part in ("abcdefgh", "SECRET", "SIGNATURE"))


@pytest.mark.parametrize("ending", ["\r", "\n", " \r\n\t"])
def test_white_space_around_a_key_is_not_part_of_it(monkeypatch, server, ending):
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}{ending}")
    load_encoder("api:m").encode(["red"])
    assert server.keys == [f"Bearer {KEY}"]
    for shown in (f"said {KEY} ", f"said b'Bearer {KEY}' ", f"said {' ' + KEY + ending!r} "):
        assert KEY not in redacted(shown, 300)
    monkeypatch.setenv("OPENAI_API_KEY", ending)
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        load_encoder("api:m").encode(["red"])


def test_the_fingerprint_knows_server_and_options(server, monkeypatch):
    first = load_encoder("api:m").fingerprint
    assert first == load_encoder("api:m?batch_size=3").fingerprint
    assert first != load_encoder("api:m?dimensions=3").fingerprint
    assert first != load_encoder("api:n").fingerprint
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    assert first != load_encoder("api:m").fingerprint


def test_a_missing_library_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lexirec\[llm\]'"):
        load_encoder("api:m")
