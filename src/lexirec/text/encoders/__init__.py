"""Encoders by name: ``minilm``, ``hf:``, ``st:``, ``api:``, ``lsa``, ``random``, ``file:``, and several side by side with ``join:``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from numpy.typing import NDArray

from lexirec.errors import InputError, nearest
from lexirec.text.encoders.base import Encoder, FloatArray

__all__ = ["Encoder", "FloatArray", "encoder_from_state", "load_encoder", "parse_name"]

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
KINDS = ("minilm", "hf", "st", "api", "lsa", "random", "file", "join")
BARE = ("minilm", "lsa", "random")
"""Kinds that need no target."""
OPTIONS: dict[str, tuple[str, ...]] = {
    "minilm": ("max_length", "precision", "device", "batch_tokens"),
    "hf": ("pooling", "max_length", "normalize", "prompt", "revision", "precision", "device", "padding", "batch_tokens"),
    "st": ("normalize", "prompt", "revision", "max_length", "device", "batch_size"),
    "api": ("dimensions", "prompt", "batch_size", "retries", "timeout", "base_url", "max_characters", "normalize"),
    "lsa": ("dim", "seed"),
    "random": ("dim", "seed"),
    "file": ("words",),
    "join": (),
}
"""Options of each kind, as they may stand behind the ``?`` of a name."""


def parse_name(name: str) -> tuple[str, str, dict[str, str]]:
    """Cut an encoder's name into kind, target and options.

    >>> parse_name("hf:gpt2?pooling=last&normalize=true")
    ('hf', 'gpt2', {'pooling': 'last', 'normalize': 'true'})
    >>> parse_name("minilm")
    ('minilm', '', {})

    Raises:
        InputError: for an unknown kind or option, or a missing target.
    """
    if name.startswith("join:"):  # question marks behind it belong to the parts
        return "join", name.removeprefix("join:"), {}
    head, _, query = name.partition("?")
    kind, colon, target = head.partition(":")
    if kind not in KINDS:
        raise InputError(
            f"encoder {name!r} is not known{nearest(kind, KINDS)}; "
            "choose minilm, lsa, random, hf:<model>, st:<model>, api:<model>, file:<vectors.parquet> or join:<encoder>|<encoder>"
        )
    if kind in BARE and colon:
        raise InputError(f"encoder {name!r}: {kind} takes no target; write {kind!r}, options behind a question mark")
    if kind not in BARE and not target:
        raise InputError(f"encoder {name!r} names no target; write {kind}:<{'vectors.parquet' if kind == 'file' else 'model'}>")
    pairs = parse_qsl(query, keep_blank_values=True)
    if query and not pairs:
        raise InputError(f"encoder {name!r}: options are written key=value&key=value")
    options = dict(pairs)
    if len(options) < len(pairs):
        raise InputError(f"encoder {name!r} gives an option twice")
    for option in options:
        check_option(kind, option)
    return kind, target, options


def check_option(kind: str, option: str) -> None:
    """Refuse an option that this kind of encoder doesn't have."""
    if option not in OPTIONS[kind]:
        raise InputError(f"encoder {kind} has no option {option!r}{nearest(option, OPTIONS[kind])}; it has {', '.join(OPTIONS[kind])}")


def load_encoder(name: str, **options: Any) -> Encoder:
    """Make an encoder from its name.

    Args:
        name: ``minilm``; ``hf:<model>?pooling=last|mean|cls|pooler&max_length=128&normalize=true&prompt=...&revision=...``;
            ``st:<model>``; ``api:<model>``; ``lsa``; ``file:<vectors.parquet or .npy>``; ``join:minilm|lsa?dim=512``.
        **options: the same options as behind the ``?``; these win.

    Returns:
        The encoder. Models are loaded at the first text that has to be encoded.

    Raises:
        InputError: for an unknown name or option (the nearest is offered), a missing folder or damaged bundled weights.
        MissingExtraError: for ``api:`` without the ``llm`` extra.

    >>> load_encoder("lsa", dim=8).name
    'lsa?dim=8'
    """
    kind, target, given = parse_name(name)
    if kind in ("hf", "st", "file") and Path(target).expanduser().exists():
        target = str(Path(target).expanduser().resolve())  # a run that remembers it is asked from another folder later
    for option in options:
        check_option(kind, option)
    merged: dict[str, Any] = {**given, **{key: value for key, value in options.items() if value is not None}}
    if kind in ("minilm", "hf"):
        from lexirec.text.encoders.transformer import TransformerEncoder

        if kind == "hf":
            return TransformerEncoder(target, **merged)
        from lexirec.text.encoders.hub import bundled_folder

        # Mean over tokens, unit length, 256 tokens: what the model's own sentence-transformers files say.
        shown = "&".join(f"{key}={merged[key]}" for key in ("max_length", "precision") if key in merged)
        fixed: dict[str, Any] = {"pooling": "mean", "normalize": True, "sha256": MINILM_SHA256, "label": "all-MiniLM-L6-v2"}
        return TransformerEncoder(str(bundled_folder()), name="minilm" + (f"?{shown}" if shown else ""), **fixed, **merged)
    if kind == "st":
        from lexirec.text.encoders.sentence import SentenceTransformersEncoder

        return SentenceTransformersEncoder(target, **merged)
    if kind == "api":
        from lexirec.text.encoders.api import ApiEncoder

        return ApiEncoder(target, **merged)
    if kind == "lsa":
        from lexirec.text.encoders.lsa import LsaEncoder

        return LsaEncoder(**merged)
    if kind == "random":
        from lexirec.text.encoders.random import RandomEncoder

        return RandomEncoder(**merged)
    if kind == "join":
        from lexirec.text.encoders.joined import SIGN, JoinedEncoder

        return JoinedEncoder([load_encoder(part.strip()) for part in target.split(SIGN)])
    from lexirec.text.encoders.file import FileEncoder

    return FileEncoder(target, **merged)


def encoder_from_state(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> Encoder:
    """Make the encoder that ``encoder.state()`` described, fitted parts included.

    Args:
        config: the JSON-able dict.
        arrays: the arrays; needed for ``lsa`` alone or joined.

    Raises:
        InputError: if the encoder made from the name has another fingerprint (another revision or other weights), since its vectors
            must not be mixed with the stored ones. A difference in precision alone is accepted: it is within the stated tolerance.
    """
    kind, _, _ = parse_name(str(config["name"]))
    if kind == "lsa":
        from lexirec.text.encoders.lsa import LsaEncoder

        return LsaEncoder.from_state(config, arrays or {})
    if kind == "join":
        from lexirec.text.encoders.joined import JoinedEncoder

        return JoinedEncoder.from_state(config, arrays or {})
    encoder = load_encoder(str(config["name"]))
    expected = config.get("fingerprint")
    if expected is not None and comparable(encoder.fingerprint) != comparable(str(expected)):
        raise InputError(
            f"encoder {config['name']!r} is now {encoder.fingerprint}, the stored vectors were made by {expected}; restore that model"
        )
    return encoder


def comparable(fingerprint: str) -> dict[str, Any]:
    """The fields of a fingerprint that decide whether vectors may be mixed: all but the precision."""
    fields: dict[str, Any] = json.loads(fingerprint)
    fields.pop("precision", None)
    return fields
