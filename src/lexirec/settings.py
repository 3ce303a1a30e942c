"""Typed settings from a mapping, with errors that say key, value and cure."""

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

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
        singles = given_singly(error)
        if singles:
            return parse_settings(kind, {**settings, **singles}, refusal)
        raise refused(kind, error) from error


def given_singly(error: ValidationError) -> dict[str, Any]:
    """Settings that are lists and were given as one value, or as several between commas; as lists."""
    return {str(e["loc"][0]): _listed(e["input"]) for e in error.errors() if e["type"] in ("tuple_type", "list_type") and _single(e)}


def refused(kind: type[BaseModel], error: ValidationError) -> InputError:
    """What pydantic says, in one line: the setting, its value and what is wrong."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if not place:  # a rule about several settings, which names them itself
        return InputError(f"{kind.__name__}: {first['msg'].removeprefix('Value error, ')}")
    if first["type"] == "extra_forbidden":
        return InputError(f"{place} = {first.get('input')!r}: there is no such setting")
    return InputError(f"{place} = {first.get('input')!r}: {first['msg']}")


def _single(error: Mapping[str, Any]) -> bool:
    """Whether a setting that is a list was given as one value."""
    return len(error["loc"]) == 1 and isinstance(error["input"], (str, int, float))


def _listed(value: str | int | float) -> list[Any]:
    """``"a, b"`` as the list of its parts, any other value as a list of one."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) and "," in value else [value]


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


@dataclass(frozen=True)
class Setting:
    """One setting, for people: its name, the values that it takes, its default and its meaning."""

    name: str
    kind: str
    default: Any
    meaning: str


def describe(kind: type[BaseModel]) -> list[Setting]:
    """The settings of a class with their meanings: the text under each of them in the source, the first paragraph of it.

    >>> from lexirec.training.options import TrainingOptions
    >>> describe(TrainingOptions)[0]
    Setting(name='epochs', kind='whole number, at least 0', default=500, meaning='Upper bound on epochs.')
    """
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        body = cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]).body
        for statement, after in itertools.pairwise(body):
            match statement, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    plain = re.sub(r":\w+:`~?([^`]*)`", r"\1", text.split("\n\n")[0])  # references of docstrings: the name alone
                    meanings[name] = " ".join(plain.split()).replace("``", "")
    schema = kind.model_json_schema()
    return [
        Setting(name, _values(schema["properties"][name], schema), schema["properties"][name].get("default"), meanings.get(name, ""))
        for name in kind.model_fields
    ]


_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _values(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The values that a part of a JSON schema allows, in words."""
    if "$ref" in part:
        name = str(part["$ref"]).rsplit("/", 1)[1]
        return _values(schema["$defs"][name], schema) if schema["$defs"][name].get("type") != "object" else f"settings of {name}"
    if "anyOf" in part:
        return " or ".join(_values(option, schema) for option in part["anyOf"])
    if "enum" in part or "const" in part:
        return ", ".join(str(value) for value in part.get("enum", [part.get("const")]))
    if part.get("type") == "array":
        inner = part.get("items") or (part.get("prefixItems") or [{}])[0]
        return f"list of {_values(inner, schema)}" if inner else "list"
    words = _WORDS.get(str(part.get("type")), str(part.get("type", "any")))
    return ", ".join([words, *(f"{text} {part[key]:g}" for key, text in _BOUNDS.items() if key in part)])
