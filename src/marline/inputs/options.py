"""Options of frozen dataclasses: read as people write them, and put in place with the type of their field."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, get_origin, get_type_hints

from marline.errors import ConfigError, require, require_name
from marline.inputs.arguments import fit
from marline.inputs.users_code import users_code

_WRITTEN = re.compile(r"(?:(?P<name>[^=()]*)=)?(?P<kind>[^=()]+)(?:\((?P<options>.*)\))?", re.DOTALL)
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_PLAIN = re.compile(r"[^\s'\"()\[\]{},=]+")  # needs no quotes
_BRACKETS = {")": "(", "]": "[", "}": "{"}


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
    parts = None if match is None else _split(match["options"] or "")
    words = () if match is None else (match["name"], match["kind"])
    if match is None or parts is None or any(word is not None and not word.strip() for word in words):
        raise ConfigError(f"{what} {text!r} is not NAME, NAME(OPTION=VALUE, ...) or VARIANT=NAME(...)")
    options = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in parts)}
    require(len(options) == len(parts), f"{what} {text!r} sets an option twice")
    return Written(match["name"] and match["name"].strip(), match["kind"].strip(), options)


def _split(text: str) -> list[str] | None:
    """Options between the commas that no bracket and no quotes hold; None where brackets do not match."""
    hidden = _QUOTED.sub(lambda quoted: "'" * len(quoted[0]), text)
    opened: list[str] = []
    cuts = [-1]
    for place, letter in enumerate(hidden):
        if letter in _BRACKETS.values():
            opened.append(letter)
        elif letter in _BRACKETS and (not opened or opened.pop() != _BRACKETS[letter]):
            return None
        elif letter == "," and not opened:
            cuts.append(place)
    parts = [text[cut + 1 : end].strip() for cut, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    if not parts[-1]:  # as in Python, a comma may follow the last one
        parts.pop()
    return None if opened else parts


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
    """The inverse of `read_value`, as part of something written."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and read_value(value) == value else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def write_difference(kind: str, usual: Any, value: Any) -> str:
    """KIND(OPTION=VALUE, ...) with the fields in which a frozen dataclass is not the usual one.

    Raises:
        ConfigError: a field cannot be written so that it is read as what it is.
    """
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    changed = {name: its for name, its in fields.items() if getattr(usual, name) != its}
    for name, its in changed.items():
        is_same = read_values(read_written(f"x(y={write_value(its)})", name).options, kind) == {"y": its}
        require(is_same, f"{kind}: {name} is {its!r}, which a run cannot record")
    return f"{kind}({', '.join(f'{name}={write_value(its)}' for name, its in changed.items())})" if changed else kind


def with_options(value: Any, options: Mapping[str, Any], kind: str) -> Any:
    """A copy of a frozen dataclass with some fields replaced.

    Raises:
        ConfigError: an unknown field, or a value of the wrong type or out of range.
    """
    with users_code(f"{kind}: reading the types of its fields"):
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
    with users_code(f"{kind}: making it with {', '.join(changed) or 'its fields'}"):
        try:
            return dataclasses.replace(value, **changed)
        except ConfigError as error:  # of a value out of range, which does not say whose it is
            raise ConfigError(f"{kind}: {error}") from None


def option_names(value: Any) -> list[str]:
    """The fields of a frozen dataclass, then those of the frozen dataclasses that it is made of."""
    own = [field.name for field in dataclasses.fields(value)]
    parts = [getattr(value, name) for name in own if dataclasses.is_dataclass(getattr(value, name))]
    return [*own, *(name for part in parts for name in option_names(part) if name not in own)]


def _fit(value: Any, hint: Any, what: str) -> Any:
    """`value` as the type of its field; 64 is as good as (64,) here."""
    is_one = get_origin(hint) is tuple and not isinstance(value, (tuple, list))
    return fit((value,) if is_one else value, hint, what)
