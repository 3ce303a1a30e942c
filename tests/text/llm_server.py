"""Local servers that speak the chat-completions protocol: one of scripted faults, and what their requests were."""

import contextlib
import json
import threading
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

HANG_UP = "the connection is closed without an answer"
KEY = "sk-very-secret-1234567890"


class Drip(NamedTuple):
    """A fault: the head of an answer, then a blank every so many seconds for as long as the client stays."""

    seconds: float


def profile_answer(body):
    """A valid profile, another one for each prompt."""
    number = zlib.crc32(body["messages"][1]["content"].encode())
    return json.dumps({"summarization": f"A fine thing, number {number}, for people who like it.", "reasoning": "it is so"})


def helpful(body):
    """What an obedient model would say to each of our prompts."""
    system = body["messages"][0]["content"]
    if "REVISED PROFILE:" in system:
        return "REVISED PROFILE: Said otherwise, " + json.loads(body["messages"][1]["content"])["profile"]
    return profile_answer(body)


class Faulty(ThreadingHTTPServer):
    """Answers ``reply(body)``; ``faults`` are given first, one per request: (status, headers, body bytes or None) or a number of seconds.

    :data:`HANG_UP` closes the connection, :class:`Drip` never ends. Another fault that is a string is a reply with that text;
    ``usage`` counts four tokens read and two written per call.
    """

    request_queue_size = 256

    def __init__(self, reply=helpful, faults=(), delay=0.0, every=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        self.reply, self.faults, self.delay, self.every = reply, list(faults), delay, every
        self.requests, self.headers, self.counts = [], [], Counter()
        self.most_at_once = self.at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):  # a client that was killed or gave up waiting is no error here
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(body)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.counts[json.dumps(body["messages"])] += 1
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            fault = server.faults.pop(0) if server.faults else server.every
        try:
            time.sleep(server.delay)
            if isinstance(fault, (int, float)):
                time.sleep(fault)
                fault = None
            if fault == HANG_UP:
                self.close_connection = True
                return None
            if isinstance(fault, Drip):
                return self.drip(fault.seconds)
            if isinstance(fault, tuple):
                return self.answer(*fault)
            text = server.reply(body) if fault is None else fault
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
            return self.answer(200, {}, json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode())
        finally:
            with server.lock:
                server.at_once -= 1

    def answer(self, status, headers, content):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def drip(self, seconds):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" ")
                time.sleep(seconds)
        self.close_connection = True

    def log_message(self, *_):
        pass


def error(status, message="try later", headers=None, code=None):
    """A fault in the protocol's form."""
    return (status, headers or {}, json.dumps({"error": {"message": message, "code": code}}).encode())
