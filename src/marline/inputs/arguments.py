"""What users pass in Python, held against its annotations: one sentence where it is of another type.

`checked` is for frozen dataclasses, `checked_arguments` for functions. What loses nothing is converted: NumPy's numbers
to Python's, 1 to 1.0, a list to a tuple. Annotations that say nothing which could be checked let everything pass.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import operator
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union

import numpy as np
from numpy.typing import ArrayLike

from marline.errors import ConfigError, require, require_name

C = TypeVar("C", bound=type)
P = ParamSpec("P")
R = TypeVar("R")

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a string",
    Path: "a path",
    type(None): "None",
    np.ndarray: "a NumPy array",
}
# where it is not plain how to come by one
_MADE_BY = {"Dataset": "marline.from_arrays or marline.load", "Task": "marline.make_task"}


def checked(kind: C) -> C:
    """Let a dataclass fit its fields to their annotations before its own `__post_init__`.

    To be applied below `@dataclasses.dataclass`, which looks for that method.
    """
    own = getattr(kind, "__post_init__", None)

    def __post_init__(self: Any) -> None:
        hints = _hints(kind)
        for field in dataclasses.fields(self):
            if field.name in hints and hasattr(self, field.name):
                object.__setattr__(self, field.name, fit(getattr(self, field.name), hints[field.name], field.name))
        if own is not None:
            own(self)

    kind.__post_init__ = __post_init__  # pyright: ignore[reportAttributeAccessIssue]
    return kind


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function fit its arguments to their annotations before it does anything."""
    signature = inspect.signature(function)
    various = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    various_names = {name for name, its in signature.parameters.items() if its.kind in various}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound, hints = signature.bind(*args, **kwargs), _hints(function)
        for name, value in list(bound.arguments.items()):
            if name in hints and name not in various_names:
                bound.arguments[name] = fit(value, hints[name], name)
        return function(*bound.args, **bound.kwargs)

    return call


def fit(value: Any, hint: Any, what: str) -> Any:
    """A value as the type of an annotation, where that loses nothing.

    Args:
        value: what was given.
        hint: the annotation, resolved.
        what: the name of the field or argument, for the message.

    Raises:
        ConfigError: it is of another type.
    """
    origin: Any = typing.get_origin(hint) or hint
    inner = typing.get_args(hint)
    if hint == ArrayLike:
        return value
    if origin in (Union, types.UnionType):
        return _fit_one_of(value, hint, what)
    if origin is Literal:
        if value not in inner or type(value) not in map(type, inner):
            require_name(value if isinstance(value, str) else _shown(value), map(str, inner), what)
        return value
    if origin in _SCALARS:
        return _SCALARS[origin](value, what)
    if origin is tuple:
        return _fit_tuple(value, hint, what)
    if origin is Callable:
        require(callable(value), _told(value, hint, what))
        return value
    if not _is_checkable(origin):
        return value
    # a class has what a protocol asks of its instances
    require(isinstance(value, origin) and (origin is type or not isinstance(value, type)), _told(value, hint, what))
    if hasattr(origin, "_fields"):  # a named tuple
        named: Any = value
        hints = _hints(origin)
        return named._replace(
            **{name: fit(getattr(named, name), its, f"{name} of {what}") for name, its in hints.items()}
        )
    if isinstance(value, Mapping) and len(inner) == 2:
        given: Mapping[Any, Any] = value
        names = {key: fit(key, inner[0], f"a name in {what}") for key in given}
        fitted = {names[key]: fit(part, inner[1], f"{what}[{key!r}]") for key, part in given.items()}
        # not a copy where nothing was to be converted: a mapping may be more than its entries
        return given if all(fitted[names[key]] is part for key, part in given.items()) else fitted
    if inner and origin in (Collection, Sequence, Iterable):
        require(not isinstance(value, str | bytes), _told(value, hint, what))  # or its letters would be taken
        return [fit(part, inner[0], f"an entry of {what}") for part in typing.cast(Iterable[Any], value)]
    return value


def _fit_one_of(value: Any, union: Any, what: str) -> Any:
    hints: tuple[Any, ...] = typing.get_args(union)
    reasons: list[ConfigError] = []
    if isinstance(value, type) and any(_is_checkable(kind) and isinstance(value, kind) for kind in hints):
        raise ConfigError(_told(value, union, what))  # a class would pass for a function
    for hint in hints:
        try:
            return fit(value, hint, what)
        except ConfigError as error:
            reasons.append(error)
    # of a mapping that is nearly one of them, what is wrong with an entry
    inside = [error for error in reasons if not str(error).startswith(f"{what} is ")]
    if len(inside) == 1 or (len(hints) == 2 and type(None) in hints):
        raise (inside or [reason for reason, hint in zip(reasons, hints, strict=True) if hint is not type(None)])[0]
    raise ConfigError(_told(value, union, what))


def _fit_tuple(value: Any, hint: Any, what: str) -> Any:
    parts = typing.get_args(hint)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if len(parts) == 2 and parts[1] is Ellipsis:
        require(is_sequence, _told(value, hint, what))
        return tuple(fit(part, parts[0], f"an entry of {what}") for part in value)
    require(is_sequence and len(value) == len(parts), _told(value, hint, what))
    return tuple(fit(part, its, f"an entry of {what}") for part, its in zip(value, parts, strict=True))


def _fit_bool(value: Any, what: str) -> bool:
    require(isinstance(value, bool | np.bool_), _told(value, bool, what))
    return bool(value)


def _fit_int(value: Any, what: str) -> int:
    try:
        require(not isinstance(value, bool | np.bool_), _told(value, int, what))
        return operator.index(value)
    except TypeError:
        raise ConfigError(_told(value, int, what)) from None


def _fit_float(value: Any, what: str) -> float:
    is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    require(is_number and math.isfinite(value), _told(value, float, what))
    return float(value)


def _fit_str(value: Any, what: str) -> str:
    require(isinstance(value, str), _told(value, str, what))
    return value


def _fit_path(value: Any, what: str) -> Path:
    is_path = isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)
    require(is_path, _told(value, Path, what))
    return Path(value)


_SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    bool: _fit_bool,
    int: _fit_int,
    float: _fit_float,
    str: _fit_str,
    Path: _fit_path,
}


def _is_checkable(kind: Any) -> bool:
    if not isinstance(kind, type) or kind in (object, Any) or kind.__module__.startswith("jaxtyping"):
        return False
    return not getattr(kind, "_is_protocol", False) or getattr(kind, "_is_runtime_protocol", False)


def _told(value: Any, hint: Any, what: str) -> str:
    return f"{what} is {_shown(value)}, but must be {_describe(hint)}{_example(value, hint)}"


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | bytes | bool | Real):
        text = repr(value.item() if isinstance(value, np.generic) else value)
        return text if len(text) <= 60 else f"{text[:60]}..."
    name = type(value).__name__
    return f"{_article(name)} {name}"


def _article(name: str) -> str:
    return "an" if name[0] in "aeioAEIO" else "a"


def _is_told(hints: Sequence[Any]) -> bool:
    return bool(hints) and hints[0] not in (Any, object)


def _describe(hint: Any) -> str:
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in _WORDS:
        return _WORDS[origin]
    if origin in (Union, types.UnionType):
        return ", or ".join(map(_describe, inner))
    if origin is tuple and inner[1:] != (Ellipsis,):
        return f"a tuple of {len(inner)}"
    if origin in (tuple, Collection, Sequence, Iterable):
        return f"a sequence, each entry {_describe(inner[0])}" if _is_told(inner) else "a sequence"
    if origin is Callable:
        return "a function"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping by name, each entry {_describe(inner[1])}" if _is_told(inner[1:]) else "a mapping by name"
    name = getattr(origin, "__name__", str(origin))
    made_by = f", made by {_MADE_BY[name]}" if name in _MADE_BY else ""
    return f"{_article(name)} {name}{made_by}"


def _example(value: Any, hint: Any) -> str:
    """How the value would be written as a sequence of one, or the instance of a class, where that is all it lacks."""
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if isinstance(value, type) and origin not in _WORDS:
        return f"; write {value.__name__}(...)"
    of_any_length = inner[1:] == (Ellipsis,) if origin is tuple else origin in (Collection, Sequence, Iterable)
    is_one = not isinstance(value, Iterable) or (isinstance(value, str) and inner[:1] == (str,))
    return f"; write ({_shown(value)},)" if of_any_length and is_one and value is not None else ""


@functools.cache
def _hints(thing: Any) -> dict[str, Any]:
    """The annotations of fields or parameters, resolved; that of what a function returns may not be."""
    if isinstance(thing, type):
        return typing.get_type_hints(thing)
    function = inspect.unwrap(thing)
    own = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    return typing.get_type_hints(types.SimpleNamespace(__annotations__=own), function.__globals__)
