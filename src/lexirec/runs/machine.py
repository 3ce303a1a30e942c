"""What a result says of the machine and the command that made it."""

import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("lexirec", "torch", "numpy", "polars", "transformers", "sentence-transformers", "scipy")


def versions() -> dict[str, str]:
    """Versions of Python and the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """``"2 CPU threads"`` or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"


def peak_memory_mb() -> int:
    """Peak resident memory of this process so far, in MB; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ModuleNotFoundError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1 << 20) if sys.platform == "darwin" else peak / 1024)


def own_command() -> str:
    """The present command line with paths shortened to their last part, so that results can be published."""
    words = [Path(sys.argv[0]).name if sys.argv else "lexirec", *sys.argv[1:]]
    return shlex.join([_short(word) for word in words])


def _short(word: str) -> str:
    """A word of a command with a path in it, or behind its ``=``, shortened."""
    option, sign, value = word.partition("=")
    if sign and not Path(option).is_absolute():
        return f"{option}={_short(value)}"
    return Path(word).name if Path(word).is_absolute() or word.startswith("..") else word
