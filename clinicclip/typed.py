"""JSON as the dataclasses it was written from: every field there, of its kind and within bounds, and nothing else."""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from clinicclip.errors import UserError, nearest

MOST = 2**63 - 1  # of a whole number; none that is stored counts below 0
KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number, 0 or more",
    float: "a finite number",
    tuple: "a list",
    dict: "an object",
}
T = TypeVar("T")


def read(kind: type[T], stored: Any, file: Path, *, mend: str, part: str = "") -> T:
    """A dataclass out of what its file holds; `dataclasses.asdict` wrote it, or its like.

    ``part`` is a key under which the file holds more than the dataclass asks for: fields that may be None may then be
    absent, and others are not looked at. Raises UserError, which names file and key and tells how to ``mend`` it, when
    a field is not there, unknown, or not of its kind, and when the dataclass itself refuses what its fields hold.
    """
    try:
        return typing.cast(T, _value(kind, stored, part, open_=bool(part)))
    except UserError as fault:
        raise UserError(f"{file}: {fault}; {mend}") from None


def _value(kind: Any, stored: Any, key: str, *, open_: bool = False) -> Any:
    """A value of a kind as annotations have it: a dataclass, a text or number, or any number of these."""
    outer, parts = typing.get_origin(kind) or kind, typing.get_args(kind)
    if outer is types.UnionType:  # of something and None
        return None if stored is None else _value(parts[0], stored, key, open_=open_)
    if dataclasses.is_dataclass(outer):
        return _fields(outer, _require(dict, stored, key), key, open_)
    if outer is tuple:
        return tuple(_value(parts[0], one, f"{key}[{place}]") for place, one in enumerate(_require(tuple, stored, key)))
    if outer is Mapping:
        return {name: _value(parts[1], one, f"{key}.{name}") for name, one in _require(dict, stored, key).items()}
    return stored if kind is Any else _require(kind, stored, key)


def _fields(kind: Any, stored: Mapping[str, Any], key: str, open_: bool) -> Any:
    hints = typing.get_type_hints(kind)
    within = f"{key}." if key else ""
    for name in () if open_ else stored:
        if name not in hints:
            raise UserError(f"{within}{reprlib.repr(name)[1:-1]} is unknown{nearest(name, hints)}")
    needed = [name for name, hint in hints.items() if not (open_ and types.NoneType in typing.get_args(hint))]
    if lacking := [f"{within}{name}" for name in needed if name not in stored]:
        raise UserError(f"it lacks {', '.join(lacking)}")
    values = {name: _value(hint, stored.get(name), f"{within}{name}", open_=open_) for name, hint in hints.items()}
    try:
        return kind(**values)
    except UserError as fault:
        raise UserError(f"{key}: {fault}" if key else str(fault)) from None


def _require(kind: type, stored: Any, key: str) -> Any:
    """What is stored, if JSON has it for the kind. Raises UserError."""
    fits = {
        bool: isinstance(stored, bool),
        int: type(stored) is int and 0 <= stored <= MOST,
        float: (type(stored) is float and math.isfinite(stored)) or (type(stored) is int and abs(stored) <= MOST),
        tuple: isinstance(stored, list),
    }.get(kind, isinstance(stored, kind))
    if not fits:
        raise UserError(f"{key} is {reprlib.repr(stored)}, expected {KINDS[kind]}")
    return stored
