"""Answers of a language model kept on disk, so that a prompt is paid for once: an SQLite file in the cache folder.

    <cache folder>/llm/answers.sqlite    key (SHA-256 of model, parameters and messages) -> answer, tokens read and written

Each answer is committed when it arrives: a process that is killed loses those on their way and no other. Several processes may write at
the same time (write-ahead log). Keys for services stand in no column.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexirec.errors import InputError
from lexirec.text.cache import CacheError, default_folder

WAIT_SECONDS = 60.0
"""How long another process that writes is waited for."""


@dataclass(frozen=True)
class Answer:
    """What a model said to one prompt.

    Attributes:
        text: its words as they came.
        input_tokens, output_tokens: as the server counted them, else estimated.
        ended: why the server ended the answer early, in its own word: ``length`` at the limit of tokens, ``content_filter``, ...;
            ``refusal`` where ``text`` is what the model said instead of an answer; empty for a whole answer.
    """

    text: str
    input_tokens: int
    output_tokens: int
    ended: str = ""


class AnswerCache:
    """Answers by key.

    Args:
        folder: the cache folder; :func:`~lexirec.text.cache.default_folder` if ``None``.

    Raises:
        InputError: if the file can't be opened or is no SQLite file.
    """

    def __init__(self, folder: "str | os.PathLike[str] | None" = None) -> None:
        self.path = answer_file(folder)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Autocommit. The client's event loop lives in a thread of its own, which is the only one that uses the connection at a time.
            self._base = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=WAIT_SECONDS)
            # A killed process loses nothing (its pages are with the system); a machine that loses its power may lose the last answers.
            self._write_ahead()
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, model TEXT, answer TEXT NOT NULL, input_tokens INTEGER, "
                "output_tokens INTEGER, truncated INTEGER) WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"the file of a language model's answers, {self.path}, can't be used ({error}); remove it if it is damaged, or set "
                "LEXIREC_CACHE to another folder"
            ) from error

    def _write_ahead(self) -> None:
        """Switch to the write-ahead log; SQLite does not wait for another process that is doing the same, so this does."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self._base.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def get(self, key: bytes) -> Answer | None:
        """The answer under a key, if there is one.

        Raises:
            CacheError: if the file is damaged there.
        """
        try:
            row = self._base.execute("SELECT answer, input_tokens, output_tokens, truncated FROM answers WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise CacheError(
                f"answers can't be read from {self.path} ({error}); remove it if it is damaged, or set LEXIREC_CACHE to another folder"
            ) from error
        return None if row is None else Answer(row[0], row[1], row[2], {0: "", 1: "length"}.get(row[3], str(row[3])))

    def put(self, key: bytes, model: str, answer: Answer) -> None:
        """Keep an answer; a later one replaces an earlier one.

        Raises:
            CacheError: if the disk is full or the file is locked for a minute.
        """
        # Files of earlier versions hold 0 and 1 there; a word beside them is kept as it is.
        ended: int | str = {"": 0, "length": 1}.get(answer.ended, answer.ended)
        row = (key, model, answer.text, answer.input_tokens, answer.output_tokens, ended)
        try:
            self._base.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise CacheError(
                f"an answer can't be kept in {self.path} ({error}); make room, or set LEXIREC_CACHE to another folder"
            ) from error

    def __len__(self) -> int:
        return int(self._base.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def answer_file(folder: "str | os.PathLike[str] | None" = None) -> Path:
    """Where answers are kept in a cache folder; :func:`~lexirec.text.cache.default_folder` if ``None``."""
    return (Path(folder) if folder is not None else default_folder()) / "llm" / "answers.sqlite"


def answer_key(model: str, parameters: Mapping[str, Any], messages: Sequence[Mapping[str, str]]) -> bytes:
    """SHA-256 over model, parameters and messages, 32 bytes. The server's address is not part of it."""
    document = {"model": model, "parameters": dict(parameters), "messages": [dict(message) for message in messages]}
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=True).encode()).digest()
