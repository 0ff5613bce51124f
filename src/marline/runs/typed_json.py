"""JSON held against annotations, and dataclasses made of it; imports no JAX.

Objects may hold more than their annotations name: a later marline adds keys that an earlier one may overlook.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union

T = TypeVar("T")
KEY = "key"  # in the metadata of a field: its key in JSON, where that is no name
_MARKS = (typing.Required, typing.NotRequired)
NULL = "null"  # in the metadata of a field: None is written as null, and not left out


def fits(value: object, hint: Any) -> bool:
    """Whether a value read from JSON is of an annotated type; every whole number is a float, too."""
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is types.NoneType:
        return value is None
    if origin is float:
        return type(value) in (int, float)
    if origin in (int, str, bool):
        return type(value) is origin
    if origin in (list, tuple):  # of one type, and of any length
        return isinstance(value, list) and all(fits(part, inner[0]) for part in value)
    if not isinstance(value, dict):
        return False
    if typing.is_typeddict(origin):
        hints = _hints(origin)
        return _required(origin) <= value.keys() and all(
            fits(part, hints[key]) for key, part in value.items() if key in hints
        )
    return all(fits(part, inner[1]) for part in value.values())


def from_json(kind: type[T], document: object) -> T:
    """A frozen dataclass of what a JSON object holds; `ValueError` where it is of another form."""
    if not isinstance(document, Mapping):
        raise ValueError("it is no JSON object")
    found: dict[str, Any] = {}
    hints = _hints(kind)
    for field in dataclasses.fields(typing.cast(Any, kind)):
        key = field.metadata.get(KEY, field.name)
        if key not in document and field.default is dataclasses.MISSING:
            raise ValueError(f"it has no {key!r}")
        if key in document:
            value, hint = document[key], hints[field.name]
            if not fits(value, hint):
                raise ValueError(f"its {key!r} is of another type")
            found[field.name] = _as(hint, value)
    return kind(**found)


def to_json(value: Any) -> dict[str, Any]:
    """The JSON object that `from_json` makes a dataclass of; what is None or False by default is left out."""
    document = {}
    for field in dataclasses.fields(value):
        its = getattr(value, field.name)
        is_left_out = its is field.default and its in (None, False) and NULL not in field.metadata
        if not is_left_out:
            document[field.metadata.get(KEY, field.name)] = list(its) if isinstance(its, tuple) else its
    return document


def _as(hint: Any, value: Any) -> Any:
    """A value that fits, with a tuple in place of a list, and a float in place of a whole number."""
    if hint is float:
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError("a number is too large") from error
    return tuple(value) if isinstance(value, list) else value


@functools.cache
def _required(kind: Any) -> frozenset[str]:
    """The keys that a typed dictionary must have; `__required_keys__` is wrong where annotations are strings."""
    marks = {name: typing.get_origin(hint) for name, hint in typing.get_type_hints(kind, include_extras=True).items()}
    usual = typing.Required if kind.__total__ else typing.NotRequired
    return frozenset(name for name, mark in marks.items() if (mark if mark in _MARKS else usual) is typing.Required)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    found = typing.get_type_hints(kind)  # without NotRequired and Required
    return {name: hint for name, hint in found.items() if typing.get_origin(hint) is not typing.ClassVar}
