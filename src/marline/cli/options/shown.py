"""How options read in `--help`: types and defaults as people write them."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

from tyro.conf import Positional, arg

C = TypeVar("C", bound=type)
_WORDS: dict[Any, str] = {Path: "PATH", int: "INT", float: "FLOAT", str: "TEXT"}
_IS_POSITIONAL = get_args(Positional[int])[1]


@dataclass_transform(frozen_default=True)
def command_options(cls: C) -> C:
    """A frozen dataclass of the options of a command.

    A list is shown as `INT ...`, what need not be given by its type alone, a positional argument by its own name, and a
    default only where there is one: what holds otherwise is for the docstring to say. Lines of the docstring of a field
    are joined, for where they break has nothing to do with the width of a terminal.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    hints, told = get_type_hints(cls, include_extras=True), _docstrings(cls.__module__).get(cls.__name__, {})
    cls.__annotations__ = {
        field.name: _shown(field.name, hints[field.name], told.get(field.name)) for field in dataclasses.fields(cls)
    }
    return cls


@functools.cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """What stands below the fields of each class in a module, in one line."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    found: dict[str, dict[str, str]] = {}
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, below in itertools.pairwise(cls.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found.setdefault(cls.name, {})[name] = " ".join(text.split())
                case _:
                    pass
    return found


def _shown(name: str, hint: Any, told: str | None) -> Any:
    plain, extras = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
    word = _word(plain, name.upper() if _IS_POSITIONAL in extras else "")
    if word is None:
        return hint
    return Annotated[hint, arg(metavar=word or None, help=told, help_behavior_hint=_default)]


def _word(hint: Any, own: str = "") -> str | None:
    """What to write, such as "PATH", or `own` where it may be anything; None where it is for tyro to say."""
    inner = [part for part in get_args(hint) if part is not types.NoneType]
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, inner)) + "}"
    if get_origin(hint) is tuple:
        return f"{_word(inner[0], own.removesuffix('S'))} ..."
    if get_origin(hint) in (Union, types.UnionType):
        word = _word(inner[0], own) if len(inner) == 1 else None
        return f"[{word}]" if own and word else word
    return own or _WORDS.get(hint, "" if hint is bool else None)


def _default(label: str) -> str:
    return f"(default: {label})" if label not in ("", "None", "False") else ""
