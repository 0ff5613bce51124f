"""Algorithms, samplers, distances and tasks of the user's own: how code is named, and who has to trust it.

A name is MODULE:NAME, or that of an entry point of an installed package (groups `marline.algorithms`,
`marline.samplers`, `marline.distances` and `marline.tasks`). To install a package is to trust it; any other code is
imported only when somebody says so, on the command line by --trust: a file alone never imports anything. In Python,
an object that is handed over brings its own type along.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from marline.errors import ConfigError, MarlineError, require, require_name
from marline.inputs.users_code import require_theirs, told

MOST_BYTES = 2**24  # of a configuration
_CODE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*")
ENTRY_POINTS = "marline."  # and algorithms, samplers, distances or tasks

_trusted: set[str] = set()
_types: dict[str, type[Any]] = {}


def is_code(name: str) -> bool:
    """Whether a name points into a module."""
    return ":" in name


def trust(names: Iterable[str]) -> None:
    """Let this process import what these names, MODULE:NAME, point to."""
    _trusted.update(name for name in names if is_code(name))


def trusted() -> frozenset[str]:
    """The names that this process may import, for workers to be told."""
    return frozenset(_trusted)


def register(*types: type[Any]) -> None:
    """Let files name these types, which are here already, so nothing is imported.

    A type that was moved may say by which names older runs know it: `formerly = ("old_module:OldName",)`, a class
    variable. Or the old module keeps the old name for it, which then is found there by those who trust it.

    Raises:
        ConfigError: one is no frozen dataclass at the top of a module, so no file can name it.
    """
    for kind in types:
        name = name_of(kind)
        _types[name] = kind
        _trusted.add(name)
        for former in getattr(kind, "formerly", ()):
            _types.setdefault(former, kind)
            _trusted.add(former)


def name_of(kind: type[Any]) -> str:
    """MODULE:NAME of a type that files may name; `ConfigError` where it cannot be recorded."""
    what = f"{kind.__module__}.{kind.__qualname__}"
    require(
        dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen,  # pyright: ignore[reportAttributeAccessIssue]
        f"{what} is no frozen dataclass, whose fields a run records; write @dataclass(frozen=True) above it",
    )
    require(
        kind.__qualname__ == kind.__name__,
        f"{what} is defined inside something else, where no run could find it again; move it to the top of its module",
    )
    return f"{kind.__module__}:{kind.__name__}"


def find_type(name: str) -> type[Any]:
    """The type that a file names as MODULE:NAME.

    Raises:
        ConfigError: nobody said that this code is to be trusted, or it is not there.
    """
    if name not in _types:
        found = load(name, "type")
        require(isinstance(found, type), f"{name} is {found!r}, but must be a class")
        _types[name] = found
    return _types[name]


def known(name: str) -> type[Any] | None:
    """The type that a file names as MODULE:NAME, if it is here already: nothing is imported."""
    return _types.get(name)


def is_importable(name: str) -> bool:
    """Whether another process would find the same under this name."""
    return not name.startswith("__main__:")


def load(name: str, what: str) -> Any:
    """Import what MODULE:NAME means; modules are looked for in the working directory too.

    Args:
        name: must be trusted, or that of an entry point.
        what: is named so, for messages.

    Raises:
        ConfigError: it may not be imported, cannot be, or is not there.
    """
    if name not in _trusted and name not in installed_values():
        raise ConfigError(f"{what} {name!r} is code that will be imported and run; add --trust if you trust it")
    module_name, _, attribute = name.partition(":")
    if module_name == "__main__" and not hasattr(sys.modules["__main__"], attribute):
        raise ConfigError(
            f"{what} {name!r} is of a script or notebook, where no other process finds it; go on there, or move "
            f"{attribute} to a module before a run is begun"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{what} {name!r}: {module_name} cannot be imported ({error}); call marline where "
            f"{module_name.partition('.')[0]}.py is, or install what is missing"
        ) from error
    except MarlineError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code, which may raise anything
        require_theirs(error)
        raise ConfigError(f"{what} {name!r}: {module_name} fails when imported: {told(error)}") from error
    public = [word for word in vars(module) if not word.startswith("_")]
    require_name(attribute, public, f"name in {module_name}")
    return getattr(module, attribute)


def installed(group: str) -> dict[str, str]:
    """Entry points of installed packages: MODULE:NAME by name.

    Args:
        group: algorithms, samplers, distances or tasks.
    """
    points = importlib.metadata.entry_points(group=ENTRY_POINTS + group)
    return {point.name: point.value for point in points}


def installed_values() -> set[str]:
    """MODULE:NAME of everything that installed packages offer."""
    groups = ("algorithms", "samplers", "distances", "tasks")
    return {value for group in groups for value in installed(group).values()}


def code_in(document: object) -> Iterator[str]:
    """Every MODULE:NAME that a configuration names as a type, at any depth, and its task."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            if key in ("type", "task") and isinstance(value, str):
                yield from code_in_text(value)
            yield from code_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from code_in(value)


def code_in_text(text: str) -> list[str]:
    """Every MODULE:NAME in what somebody wrote, as in mine=package.module:Mine(distance=module:Other)."""
    return _CODE.findall(text)


def trust_configuration(path: Path) -> None:
    """Let this process import the code that the configuration of a run names; nothing if there is no such file."""
    with contextlib.suppress(OSError, ValueError, RecursionError):  # whoever needs it will say what is wrong with it
        with open(path, "rb") as file:
            trust(code_in(json.loads(file.read(MOST_BYTES))))
