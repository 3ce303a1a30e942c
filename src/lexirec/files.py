"""Files and folders that are whole or absent: written under a temporary name, flushed, then renamed."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lexirec.errors import InputError, LexirecError, StorageError

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Error numbers of a full disk, a full quota, and a file that may not grow."""
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
"""Error numbers of a place that may not be written to."""
_NATIVE = re.compile(r"os error (\d+)|No space left on device")


def storage_errno(error: BaseException) -> int | None:
    """The number under which the operating system refused to write, or ``None`` where an error is another.

    safetensors and polars give it in their message only.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NATIVE.search(str(error))
    return None if found is None else int(found[1] or errno.ENOSPC)


def free_space(path: Path) -> str:
    """``"12 MB free"`` on the disk of ``path``, which need not exist."""
    try:
        existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
        return f"{shutil.disk_usage(existing).free >> 20:,} MB free"
    except (OSError, StopIteration):
        return "free space unknown"


@contextmanager
def storing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say what was to be written, and what to do, where a disk is full or a place takes no files.

    Raises:
        StorageError: in place of what the operating system or a library said.
    """
    try:
        yield
    except LexirecError:  # says more than we know
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None and not Path(str(error.filename)).is_relative_to(Path(path).parent):
            raise  # another file, or one that was read
        number = storage_errno(error)
        # A file that is missing may be one that was to be read; what we make ourselves is not.
        ours = isinstance(error, OSError) and error.filename is not None and _is_ours(Path(str(error.filename)), Path(path))
        if number in FULL:
            space = free_space(Path(path))
            message = f"{path} can't be written: the disk is full ({space}); make room and repeat the command (a training: with --resume)"
        elif number in REFUSED or (ours and number in (errno.ENOENT, errno.EEXIST)):
            message = f"{path} can't be written: no file may be made there ({os.strerror(number)}); choose another place"
        else:
            raise
        raise StorageError(number, message) from error


def _is_ours(file: Path, target: Path) -> bool:
    """Whether a file is one that is made for ``target``: a folder above it, or what it is called before it is whole."""
    return file in target.parents or file.name.startswith(f"{target.name}.tmp-")


def _temporary(path: Path) -> Path:
    # The same folder, so that the rename stays on one file system; pid and random part, so that two processes never share it.
    return path.with_name(f"{path.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes ``path``, on any error nothing is left.

    Raises:
        StorageError: on a full disk or without permission.
    """
    target = Path(path)
    temporary = _temporary(target)
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it becomes ``path``, on any error nothing is left.

    Args:
        path: the folder to make.
        replace: allow an existing folder to be replaced.

    Raises:
        InputError: if ``path`` exists and ``replace`` is false.
        StorageError: on a full disk or without permission.
    """
    target = Path(path)
    if target.exists() and not replace:
        raise InputError(f"{target} exists already; choose another folder or remove it")
    temporary = _temporary(target)
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            yield temporary
            replace_folder(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``; what was there is removed once the new one stands.

    Its files are on the disk by then: after a loss of power a folder that stands is whole.
    """
    for path in new.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    if not target.exists():
        os.replace(new, target)
        return
    old = _temporary(target)
    os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old)


def as_umask_allows(path: str | os.PathLike[str]) -> None:
    """Give a file the mode of any new one beside it; some libraries, such as safetensors, write files that only their owner can read."""
    probe = _temporary(Path(path))
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    Path(path).chmod(mode)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        InputError: if the file is missing, truncated or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); the file is damaged or of another kind") from error


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256_stream(handle)


def _sha256_stream(handle: Any) -> str:
    # Python 3.10 has no hashlib.file_digest.
    digest = hashlib.sha256()
    while block := handle.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
