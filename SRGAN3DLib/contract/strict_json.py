"""Dataclasses to plain JSON and back, strictly: an unknown key or a value of a wrong kind is a `JobError` that names it."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from .errors import JobError

LARGEST_INT = 2**63 - 1

T = TypeVar("T")


def to_json(config: Any) -> dict[str, Any]:
    """Plain dictionaries, lists, numbers and strings, ready for `json.dumps`."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()}


def from_json(cls: type[T], data: Any, where: str = "") -> T:
    """Build the dataclass `cls` from parsed JSON, strictly.

    Raises `JobError` naming `where`, the key and the value for an unknown or missing key or a value of a wrong kind.
    """
    name = where or cls.__name__
    if not isinstance(data, dict):
        raise JobError(f"{name}: must be an object, not {shown(data)}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    data = {key: value for key, value in data.items() if key not in getattr(cls, "RETIRED", ())}
    for key in data:
        if key not in fields:
            raise JobError(f"{name}: unknown key {shown(key)}; known: {', '.join(fields)}")
    for key, f in fields.items():
        if key not in data and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise JobError(f"{name}: missing key {key!r}")
    return cls(**{key: _decode(hints[key], value, f"{name}.{key}") for key, value in data.items()})


def shown(value: Any) -> str:
    """A value in a message: on one line, not too long, without what a terminal could take for a command."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # numbers of thousands of digits, lists within lists within lists
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _decode(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise JobError(f"{where} is {shown(value)}; choose from {', '.join(map(str, arguments))}")
        return value
    if origin in (typing.Union, types.UnionType):
        for one in arguments:
            try:
                return _decode(one, value, where)
            except JobError:
                continue
        raise JobError(f"{where} is {shown(value)}; it must be {hint}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise JobError(f"{where} is {shown(value)}; it must be a list")
        if Ellipsis in arguments:
            return tuple(_decode(arguments[0], item, where) for item in value)
        if len(value) != len(arguments):
            raise JobError(f"{where} has {len(value)} items; it must have {len(arguments)}")
        return tuple(_decode(one, item, where) for one, item in zip(arguments, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise JobError(f"{where} is {shown(value)}; it must be an object")
        return value
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where)
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise JobError(f"{where} is a number of {len(bin(value)) - 2} bits; too large") from None
    if hint is int and isinstance(value, int) and abs(value) > LARGEST_INT:
        raise JobError(f"{where} is {shown(value)}; at most {LARGEST_INT}")
    if hint is type(None):
        hint = types.NoneType
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise JobError(f"{where} is {shown(value)}; it must be {getattr(hint, '__name__', hint)}")
    return value


def read_json(path: str | Path) -> Any:
    """The JSON of a file. Raises `JobError` naming the file where it cannot be read, is not JSON, or is nested too deeply."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise JobError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise JobError(f"{path}: not readable JSON ({' '.join(str(error).split())[:200]})") from None
