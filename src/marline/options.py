"""Options of frozen dataclasses: read as people write them, and put in place with the type of their field."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from marline.errors import require, require_name

_WRITTEN = re.compile(r"(?:(?P<name>[^=()]*)=)?(?P<kind>[^=()]+)(?:\((?P<options>.*)\))?", re.DOTALL)
_BETWEEN_OPTIONS = re.compile(r",(?![^(\[]*[)\]])")  # a comma that no bracket holds


class Written(NamedTuple):
    """Something as a person wrote it: NAME=KIND(OPTION=VALUE, ...), the values not yet read."""

    name: str | None
    kind: str
    options: dict[str, str]


def read_written(text: str, what: str) -> Written:
    """Take KIND, KIND(OPTION=VALUE, ...) or NAME=KIND(...) apart; `what` it is, for messages.

    Raises:
        ConfigError: it is something else.
    """
    match = _WRITTEN.fullmatch(text.strip())
    require(match is not None, f"{what} {text!r} is not NAME, NAME(OPTION=VALUE, ...) or VARIANT=NAME(...)")
    assert match is not None
    written = match["options"]
    parts = [part.strip() for part in _BETWEEN_OPTIONS.split(written)] if written and written.strip() else []
    options = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in parts)}
    require(len(options) == len(parts), f"{what} {text!r} sets an option twice")
    return Written(match["name"] and match["name"].strip(), match["kind"].strip(), options)


def read_values(options: Mapping[str, str], kind: str) -> dict[str, Any]:
    """The options of something written; `ConfigError` where one has no value."""
    for name, text in options.items():
        require(bool(name and text), f"{kind}({name}): give every option a value, as in {kind}(alpha=1)")
    return {name: read_value(text) for name, text in options.items()}


def read_pairs(items: Iterable[str], flag: str) -> dict[str, Any]:
    """NAME=VALUE pairs."""
    parsed = {}
    for item in items:
        name, equals, text = item.partition("=")
        require(bool(name and equals and text), f"{flag} {item!r} is not NAME=VALUE; write for example alpha=2")
        parsed[name] = read_value(text)
    return parsed


def read_value(text: str) -> Any:
    """A Python literal, true, false, nan or inf in any case, or else the text itself."""
    words = {"true": True, "false": False, "nan": math.nan, "inf": math.inf}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def write_value(value: Any) -> str:
    """The inverse of `read_value`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_options(value: Any, options: Mapping[str, Any], kind: str) -> Any:
    """A copy of a frozen dataclass with some fields replaced.

    Raises:
        ConfigError: an unknown field, or a value of the wrong type or out of range.
    """
    hints = get_type_hints(type(value))
    own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    parts = {name: part for name, part in own.items() if dataclasses.is_dataclass(part)}
    for name in options:
        require_name(name, option_names(value), f"option of {kind}")
    changed = {name: _fit(option, hints[name], f"{name} of {kind}") for name, option in options.items() if name in own}
    for name, part in parts.items():
        its = {key: option for key, option in options.items() if key not in own and key in option_names(part)}
        if its:
            changed[name] = with_options(part, its, kind)
    return dataclasses.replace(value, **changed)


def option_names(value: Any) -> list[str]:
    """The fields of a frozen dataclass, then those of the frozen dataclasses that it is made of."""
    own = [field.name for field in dataclasses.fields(value)]
    parts = [getattr(value, name) for name in own if dataclasses.is_dataclass(getattr(value, name))]
    return [*own, *(name for part in parts for name in option_names(part) if name not in own)]


def _fit(value: Any, hint: Any, what: str) -> Any:
    """`value` as the type of its field, where that loses nothing: 1 for 1.0, [64] for (64,)."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        require_name(str(value), arguments, what)
        return value
    if origin is tuple:
        items = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(_fit(item, arguments[0], what) for item in items)
    if hint is float and type(value) is int:
        return float(value)
    if hint in (bool, int, float):
        require(type(value) is hint, f"{what} is {value!r}, but must be {_ARTICLES[hint]}")
    return value


_ARTICLES = {bool: "true or false", int: "a whole number", float: "a number"}
