"""Which number format a model should run in on this machine."""

from functools import cache
from pathlib import Path
from typing import Any

PRECISIONS = ("auto", "float32", "bfloat16")


@cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware (AMX, AVX512-BF16 or Arm BF16) and torch uses it (oneDNN).

    Without such instructions bfloat16 is emulated and slower than float32. On a Zen 4 core oneDNN's bfloat16 product measured
    about 3 times the speed of float32.
    """
    import torch

    if not torch.backends.mkldnn.is_available():
        return False
    probe = getattr(torch.cpu, "get_capabilities", None)
    if probe is not None:
        found = probe()
        if any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16")):
            return True
    try:
        # Older torch has no public probe; the kernel's list also covers Arm ("bf16" among the Features).
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def resolve(precision: str, device: str) -> str:
    """``auto`` becomes ``bfloat16`` where the device computes it fast, else ``float32``."""
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if device == "cpu" and cpu_has_bfloat16() else "float32"


def torch_dtype(precision: str) -> Any:
    """The torch dtype of a resolved precision."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
