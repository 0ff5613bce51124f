"""A document of plain values as TOML with comments, to be edited by people; `tomllib` reads it back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

Comments = Mapping[tuple[str, ...], str]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 110


def to_toml(document: Mapping[str, Any], comments: Comments | None = None, head: str = "") -> str:
    """The text of a document of texts, numbers, truth values, lists of those, and tables of all this.

    Args:
        document: by key; tables come after what is no table, as TOML wants it.
        comments: what to say above an entry, by the keys that lead to it; several lines may be.
        head: what to say above everything.
    """
    lines = [*_commented(head), ""] if head else []
    lines += _table(document, comments or {}, ())
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Mapping[str, Any], comments: Comments, path: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    for key, value in table.items():
        if key not in inner:
            lines += [*_commented(comments.get((*path, key), "")), f"{_key(key)} = {_value(value)}"]
    for key, value in inner.items():
        here = (*path, key)
        deeper = any(not isinstance(part, Mapping) for part in value.values())
        if deeper or not value:
            lines += ["", *_commented(comments.get(here, "")), f"[{'.'.join(map(_key, here))}]"]
        elif here in comments:
            lines += ["", *_commented(comments[here])]
        lines += _table(value, comments, here)
    return lines


def _commented(text: str) -> list[str]:
    """Lines of a comment; whatever is in them, none ends early."""
    lines = text.split("\n") if text else []
    return [f"# {''.join(letter if letter.isprintable() else '?' for letter in line)}".rstrip() for line in lines]


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, and for what is no letter at all."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    parts = [_value(part) for part in value]
    line = f"[{', '.join(parts)}]"
    return line if len(line) <= _WIDTH else "[\n" + "".join(f"    {part},\n" for part in parts) + "]"
