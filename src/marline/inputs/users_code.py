"""What goes wrong in code of the user's, told in a sentence that names the place in that code."""

from __future__ import annotations

import contextlib
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from marline.errors import ConfigError, MarlineError

LONGEST = 300  # characters of somebody's message; JAX's go on for pages
_OURS = str(Path(__file__).parents[1])
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


@contextlib.contextmanager
def users_code(doing: str) -> Iterator[None]:
    """Raise `ConfigError` for whatever a block raises that runs code of the user's; `doing` says which."""
    try:
        yield
    except MarlineError:
        raise
    except (Exception, SystemExit) as error:  # which may be anything
        require_theirs(error)
        raise ConfigError(f"{doing} failed with {told(error)}") from error


def require_theirs(error: BaseException) -> None:
    """Raise again what is no failure of code of the user's: the end of the process, which a signal's handler raises."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SystemExit) and frames and frames[-1].filename.startswith(_OURS):
        raise error


def told(error: BaseException) -> str:
    """Type, message, and file and line: the innermost of the user's own, not of a library that it calls."""
    message = " ".join(str(error).split())
    message = message if len(message) <= LONGEST else message[:LONGEST] + " ..."
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OURS)]
    theirs = [frame for frame in frames if not frame.filename.startswith((*_INSTALLED, "<"))] or frames
    where = f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""
    return f"{type(error).__name__}: {message}".rstrip(": ") + where


def called(function: object) -> str:
    """How messages name a function: MODULE:NAME, as on the command line."""
    name = getattr(function, "__qualname__", None)
    return repr(function) if name is None else f"{getattr(function, '__module__', None) or '?'}:{name}"
