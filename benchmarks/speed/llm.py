"""Requests per second of the language-model client beside a bare asynchronous loop, against the same local server at the same concurrency.

    python benchmarks/speed/llm.py

The server is another process; it answers each request after a fixed time, as a model would. The bare loop posts the same bodies with the
HTTP library that the `openai` client uses and does nothing else: no cache, no budget, no check of the answer. Both run in turn.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from importlib import import_module

from common import interleaved, rows, write
from pydantic import BaseModel

from lexirec.text.llm import LanguageModel, Prompt, json_answer

BARE, OURS = "bare loop", "lexirec LanguageModel"
SERVER = """
import asyncio, json, sys
delay = float(sys.argv[1])
message = {"role": "assistant", "content": '{"summarization": "A thing."}'}
body = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                   "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}).encode()
answer = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            size = next(int(l.split(b":")[1]) for l in head.lower().split(b"\\r\\n") if l.startswith(b"content-length"))
            await reader.readexactly(size)
            await asyncio.sleep(delay)
            writer.write(answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Answer(BaseModel):
    """Schema of the answers."""

    summarization: str


def http_library():
    """What the installed `openai` builds on: httpx2, or httpx in older versions."""
    try:
        return import_module("httpx2")
    except ModuleNotFoundError:
        return import_module("httpx")


async def bare(url: str, prompts: list[Prompt], concurrency: int) -> None:
    http = http_library()
    limits = http.Limits(max_connections=None, max_keepalive_connections=concurrency)
    async with http.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:
        waiting = iter(prompts)

        async def worker() -> None:
            for prompt in waiting:
                response = await client.post(
                    f"{url}/chat/completions", json={"model": "m", "messages": prompt.messages(), "max_tokens": 400}
                )
                json.loads(response.content)

        await asyncio.gather(*(worker() for _ in range(concurrency)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds that the server takes for an answer")
    parser.add_argument("--calls", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "none")
    os.environ["NO_PROXY"] = "127.0.0.1"
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(args.delay)], stdout=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    turn = iter(range(1000))

    def prompts() -> list[Prompt]:
        number = next(turn)
        return [Prompt("You describe an item. " * 20, f"turn {number}, item {i}: " + "word " * 100) for i in range(args.calls)]

    def ours() -> None:
        with tempfile.TemporaryDirectory() as cache:
            model = LanguageModel("m", base_url=url, concurrency=args.concurrency, cache=cache)
            results = model.ask(prompts(), json_answer(Answer), progress=False)
            if not all(result.value for result in results):
                raise RuntimeError("an answer was lost")

    try:
        times = interleaved({BARE: lambda: asyncio.run(bare(url, prompts(), args.concurrency)), OURS: ours}, args.repeats)
    finally:
        server.terminate()
        server.wait()
    table = rows(times, BARE)
    for row in table:
        row["requests per second"] = round(args.calls / row["seconds"], 1)
    write(
        "llm",
        table,
        calls=args.calls,
        concurrency=args.concurrency,
        seconds_per_answer=args.delay,
        most_possible=args.concurrency / args.delay,
    )


if __name__ == "__main__":
    main()
