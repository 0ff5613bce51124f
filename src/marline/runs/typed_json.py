"""JSON held against annotations, and dataclasses made of it; imports no JAX.

Objects may hold more than their annotations name: a later marline adds keys that an earlier one may overlook.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Union

T = TypeVar("T")
KEY = "key"  # in the metadata of a field: its key in JSON, where that is no name
_PLAIN: Mapping[Any, frozenset[type]] = {
    float: frozenset((int, float)),
    **{kind: frozenset((kind,)) for kind in (int, str, bool, types.NoneType)},
}
_MARKS = (typing.Required, typing.NotRequired)
NULL = "null"  # in the metadata of a field: None is written as null, and not left out


def fits(value: object, hint: Any) -> bool:
    """Whether a value read from JSON is of an annotated type; every whole number is a float, too."""
    return _check(hint)(value)


@functools.cache
def _check(hint: Any) -> Callable[[Any], bool]:
    """`fits` for one annotation: ledgers hold millions of numbers, and annotations are slow to look at."""
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Any:
        return lambda value: True
    if origin in (Union, types.UnionType):
        checks = [_check(one) for one in inner]
        return lambda value: any(check(value) for check in checks)
    if origin in _PLAIN:
        plain = _PLAIN[origin]
        return lambda value: type(value) in plain
    if origin in (list, tuple):  # of one type, and of any length
        plain, check = _PLAIN.get(inner[0]), _check(inner[0])
        if plain is not None:
            return lambda value: isinstance(value, list) and plain.issuperset(map(type, value))
        return lambda value: isinstance(value, list) and all(map(check, value))
    if typing.is_typeddict(origin):
        required, known = _required(origin), {name: _check(hint) for name, hint in _hints(origin).items()}
        return lambda value: (
            isinstance(value, dict)
            and required <= value.keys()
            and all(known[key](part) for key, part in value.items() if key in known)
        )
    check = _check(inner[1])
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


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
