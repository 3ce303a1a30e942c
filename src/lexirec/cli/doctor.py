"""``lexirec doctor``: what is installed, what the machine can do, and whether the bundled weights are whole."""

import importlib
import importlib.metadata
import json as json_text
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

# Not a dependency of ours by name: transformers and accelerate both need it, so it is there wherever the core is.
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lexirec.errors import InputError

PACKAGE = "lexirec"
OLDEST_PYTHON = (3, 10)
MODULES = {"pyyaml": "yaml"}
"""Import names that differ from the distribution's by more than dashes."""
BROKEN = (ImportError, OSError, AttributeError, ValueError, TypeError, RuntimeError, SyntaxError)
"""What importing a damaged or mismatched binary package raises, as seen with NumPy, torch and transformers."""
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16")
FLAG_ALIASES = {"avx512_f": "avx512f"}
FULL_BELOW = 0.2e9
"""Free bytes below which a run folder can't be expected to fit."""


def doctor(json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Versions, threads, device, cache, and the bundled weights verified; exit code 1 if something essential is broken."""
    report = examine()
    typer.echo(json_text.dumps(report, indent=1, ensure_ascii=False) if json else render(report))
    if not report["ok"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Look at everything.

    Returns:
        ``ok`` (nothing essential is broken), ``problems`` (what is, each with its cure), ``notes`` (what may surprise), and a section
        each for ``python``, ``lexirec``, ``core``, ``extras``, ``threads``, ``device``, ``encoder``, ``cache``, ``disk``. Sizes in bytes.
    """
    problems: list[str] = []
    notes: list[str] = []
    if sys.version_info < OLDEST_PYTHON:
        problems.append(f"Python {platform.python_version()} is too old; install {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    core, extras = requirements(notes)
    report: dict[str, Any] = {
        "python": {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()},
        "lexirec": {"version": version_of(PACKAGE), "folder": str(Path(__file__).resolve().parents[1])},
        "core": [check_core(requirement, problems) for requirement in core],
        "extras": {name: check_extra(name, parts) for name, parts in sorted(extras.items())},
        "threads": threads(),
        "device": device(),
        "encoder": encoder(problems),
        "cache": cache(notes),
        "disk": disk(problems),
    }
    return {"ok": not problems, "problems": problems, "notes": notes, **report}


def version_of(distribution: str) -> str | None:
    """Installed version, or ``None``."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements(notes: list[str]) -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What this package asks for on this Python: the core, and the extras by name; from its own metadata."""
    try:
        lines = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        notes.append("lexirec runs from its source folder without being installed, so its requirements can't be checked: pip install -e .")
        return [], {}
    core: list[Requirement] = []
    extras: dict[str, list[Requirement]] = {}
    names = importlib.metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            core.append(requirement)
            continue
        for name in names:
            if requirement.marker.evaluate({"extra": name}):
                extras.setdefault(name, []).append(requirement)
    return core, extras


def check_core(requirement: Requirement, problems: list[str]) -> dict[str, Any]:
    """One core dependency: there, new enough, and does it import?"""
    name, version = requirement.name, version_of(requirement.name)
    entry = {"name": name, "version": version, "required": str(requirement.specifier), "state": "ok"}
    if version is None:
        entry["state"] = "missing"
        problems.append(f"{name} is not installed: pip install '{name}{requirement.specifier}'")
    elif not requirement.specifier.contains(version, prereleases=True):
        entry["state"] = "too old"
        problems.append(f"{name} {version} does not satisfy {requirement.specifier}: pip install '{name}{requirement.specifier}'")
    else:
        try:
            importlib.import_module(MODULES.get(canonicalize_name(name), name.replace("-", "_")))
        except BROKEN as error:
            entry["state"] = "broken"
            problems.append(
                f"{name} {version} can't be imported ({type(error).__name__}: {error}): pip install --force-reinstall '{name}=={version}'"
            )
    return entry


def check_extra(name: str, parts: list[Requirement]) -> dict[str, Any]:
    """One extra: the versions of its packages, ``None`` where missing or too old, and how to install it. Nothing is imported."""
    found: dict[str, str | None] = {}
    for requirement in parts:
        version = version_of(requirement.name)
        found[requirement.name] = version if version and requirement.specifier.contains(version, prereleases=True) else None
    return {"complete": None not in found.values(), "packages": found, "install": f"pip install '{PACKAGE}[{name}]'"}


def threads() -> dict[str, Any]:
    """Threads that torch will use, and what limits them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limits = {key: os.environ[key] for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS") if key in os.environ}
    found: dict[str, Any] = {"cpus": os.cpu_count(), "allowed": allowed, "torch": None, "limits": limits}
    try:
        import torch
    except BROKEN:
        return found  # reported with the core
    return {**found, "torch": torch.get_num_threads()}


def cpu_flags() -> list[str]:
    """Those of :data:`CPU_FLAGS` that this processor has."""
    words: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        words |= set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    try:
        import torch

        words |= {FLAG_ALIASES.get(key, key) for key, value in torch.cpu.get_capabilities().items() if value is True}
    except (*BROKEN, NameError):
        pass  # an older torch has no such probe; elsewhere than on Linux nothing is known then
    return [flag for flag in CPU_FLAGS if flag in words]


def device() -> dict[str, Any]:
    """What ``device="auto"`` picks, and what the processor and the accelerators can do."""
    found: dict[str, Any] = {"auto": "cpu", "cpu_flags": cpu_flags(), "bf16_encoding": False, "cuda": []}
    try:
        import torch

        from lexirec.text.encoders.precision import cpu_has_bfloat16

        found["bf16_encoding"] = bool(cpu_has_bfloat16())
        if torch.cuda.is_available():
            found["auto"] = "cuda"
            for index in range(torch.cuda.device_count()):
                properties = torch.cuda.get_device_properties(index)
                found["cuda"].append({"name": properties.name, "memory": properties.total_memory})
        elif torch.backends.mps.is_available():
            found["auto"] = "mps"
    except BROKEN:
        found["auto"] = None  # reported with the core
    return found


def encoder(problems: list[str]) -> dict[str, Any]:
    """The bundled encoder's weights against their SHA-256: ``ok``, ``damaged`` or ``missing``."""
    try:
        from lexirec.text.encoders import MINILM_SHA256
        from lexirec.text.encoders.hub import bundled_folder, check_sha256
    except BROKEN as error:
        problems.append(f"the encoders can't be imported ({type(error).__name__}: {error}); mend the packages named above first")
        return {"name": "minilm", "file": None, "state": "unknown"}
    try:
        weights = bundled_folder() / "model.safetensors"
    except InputError as error:
        problems.append(str(error))
        return {"name": "minilm", "file": None, "state": "missing"}
    found: dict[str, Any] = {"name": "minilm", "file": str(weights), "sha256": MINILM_SHA256, "state": "ok"}
    try:
        check_sha256(weights, MINILM_SHA256)
    except (InputError, OSError) as error:
        problems.append(str(error))
        found["state"] = "damaged" if weights.is_file() else "missing"
    return found


def cache(notes: list[str]) -> dict[str, Any]:
    """The folder of cached text vectors, its size, and whether it can be written."""
    from lexirec.text.cache import default_folder

    folder = default_folder()
    sizes = []
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            if path.is_file():
                sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue  # another process has just merged it away
    writable = os.access(nearest_existing(folder), os.W_OK)
    if not writable:
        notes.append(f"{folder} can't be written, so texts are encoded anew in every run; set LEXIREC_CACHE to a folder of yours")
    return {"folder": str(folder), "exists": folder.is_dir(), "files": len(sizes), "bytes": sum(sizes), "writable": writable}


def disk(problems: list[str]) -> dict[str, Any]:
    """Free bytes where runs are written (the working folder) and where vectors are cached."""
    from lexirec.text.cache import default_folder

    places = {"working_folder": Path.cwd(), "cache": nearest_existing(default_folder())}
    free = {name: shutil.disk_usage(path).free for name, path in places.items()}
    if free["working_folder"] < FULL_BELOW:
        problems.append(
            f"{places['working_folder']} has {size(free['working_folder'])} free; a run folder may not fit: make room, or run elsewhere"
        )
    return free


def nearest_existing(path: Path) -> Path:
    """``path``, or the closest folder above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def size(amount: float) -> str:
    """Bytes for people.

    >>> size(90_868_376)
    '90.9 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"


def render(report: dict[str, Any]) -> str:
    """The report as lines of text."""
    python, own, threading, machine, weights, stored, free = (
        report[key] for key in ("python", "lexirec", "threads", "device", "encoder", "cache", "disk")
    )
    flags = ", ".join(machine["cpu_flags"]) or f"none of {', '.join(CPU_FLAGS)}"
    limits = "".join(f", {key}={value}" for key, value in threading["limits"].items())
    lines = [
        f"lexirec   {own['version'] or 'not installed'} in {own['folder']}",
        f"python    {python['version']} ({python['executable']}) on {python['platform']}",
        f"threads   {threading['torch']} used by torch; {threading['allowed']} of {threading['cpus']} CPUs allowed{limits}",
        f"device    {machine['auto']}; CPU has {flags}; encoding in {'bfloat16' if machine['bf16_encoding'] else 'float32'}",
        *(f"          CUDA: {card['name']}, {size(card['memory'])}" for card in machine["cuda"]),
        f"encoder   {weights['name']}: {weights['state']}" + (f" ({weights['file']})" if weights["file"] else ""),
        f"cache     {stored['folder']}: {stored['files']:,} files, {size(stored['bytes'])}"
        + ("" if stored["writable"] else ", can't be written"),
        f"disk      {size(free['working_folder'])} free here, {size(free['cache'])} at the cache",
        "",
        "core",
        *(f"  {row['name']:24}{row['version'] or '-':14}{row['required']:12}{row['state']}" for row in report["core"]),
        "",
        "extras",
    ]
    for name, extra in report["extras"].items():
        versions = ", ".join(f"{package} {version}" for package, version in extra["packages"].items() if version)
        missing = [package for package, version in extra["packages"].items() if not version]
        tail = "" if extra["complete"] else f"{'; ' if versions else ''}missing: {', '.join(missing)} -> {extra['install']}"
        lines.append(f"  {name:10}{versions}{tail}")
    lines += ["", *(f"note: {note}" for note in report["notes"]), *(f"PROBLEM: {problem}" for problem in report["problems"])]
    lines.append("everything essential works" if report["ok"] else f"{len(report['problems'])} essential things are broken")
    return "\n".join(lines)
