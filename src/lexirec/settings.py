"""Typed settings from a mapping, with errors that say key, value and cure."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from lexirec.errors import InputError, nearest

Settings = TypeVar("Settings", bound=BaseModel)


def parse_settings(kind: type[Settings], settings: Mapping[str, Any], refusal: str) -> Settings:
    """Build ``kind`` from a mapping.

    Args:
        kind: a pydantic model.
        settings: key -> value.
        refusal: how the error for an unknown key begins, such as ``"SASRecConfig has no setting"``.

    Raises:
        InputError: for an unknown key (nearest name offered), a value out of range, or settings that don't go together.
    """
    for key in settings:
        if key not in kind.model_fields:
            raise InputError(f"{refusal} {key!r}{nearest(key, kind.model_fields)}; there are {', '.join(kind.model_fields)}")
    try:
        return kind(**settings)
    except ValidationError as error:
        singles = {str(e["loc"][0]): [e["input"]] for e in error.errors() if e["type"] in ("tuple_type", "list_type") and _single(e)}
        if singles:  # one value where a list is asked for
            return parse_settings(kind, {**settings, **singles}, refusal)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if not place:  # a rule about several settings, which names them itself
            raise InputError(f"{kind.__name__}: {first['msg'].removeprefix('Value error, ')}") from error
        if first["type"] == "extra_forbidden":
            raise InputError(f"{place} = {first.get('input')!r}: there is no such setting") from error
        raise InputError(f"{place} = {first.get('input')!r}: {first['msg']}") from error


def _single(error: Mapping[str, Any]) -> bool:
    """Whether a setting that is a list was given as one value."""
    return len(error["loc"]) == 1 and isinstance(error["input"], (str, int, float))


def parse_set(setting: str) -> tuple[str, Any]:
    """Key and value of ``key=value``; the value is read as YAML.

    >>> parse_set("lr=1e-3"), parse_set("hidden=[64, 32]")
    (('lr', 0.001), ('hidden', [64, 32]))

    Raises:
        InputError: without ``=``, or if the value is no YAML.
    """
    key, sign, text = setting.partition("=")
    if not sign:
        raise InputError(f"--set {setting!r} has no '='; write key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {setting!r}: the value is not valid YAML ({error})") from error
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        value = float(value)  # YAML reads 1e-3 as text
    return key, value
