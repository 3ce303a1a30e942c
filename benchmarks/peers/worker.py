"""The far end of a toolkit's process: a command a line in, a JSON line out. Standard library only: it runs in every environment."""

import json
import os
import sys
import time


def serve(commands):
    """Answer until the input ends.

    Args:
        commands: name -> function of a dict of arguments that returns a dict; wall seconds are added as ``seconds`` unless it
            gives them itself.
    """
    # Toolkits print and log to stdout as they like; answers have a channel of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        try:
            answer = commands[request.pop("command")](request)
        except Exception as error:
            answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
            answers.flush()
            raise
        answer.setdefault("seconds", time.perf_counter() - started)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def peak_memory_mb():
    """Largest resident size of this process so far, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
