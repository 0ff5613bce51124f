"""Errors that a user can mend, and how names and values are refused. Imports nothing heavy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# exit statuses of the command line, beside 0 and 1
USAGE_ERROR, DAMAGED, DIVERGED, INTERRUPTED = 2, 3, 4, 130


class MarlineError(Exception):
    """Something the user can mend; the message names the thing, the rule and the fix."""


class ConfigError(MarlineError):
    """An option, name or combination of options that cannot be run."""


class NewerError(ConfigError):
    """A file that a newer marline wrote, or that names what this one does not know."""


class DataError(MarlineError):
    """Logs that break a rule; the message names agent, file and row."""


class CorruptionError(MarlineError):
    """A file that is not what was written: truncated, altered or missing."""


class DivergenceWarning(UserWarning):
    """An agent left the finite numbers and stays as it was before; the others went on."""


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError` unless the condition holds; a comparison with NaN does not."""
    if not condition:
        raise ConfigError(message)


def require_shares(values: object, *names: str) -> None:
    """Raise `ConfigError` unless these attributes are shares, or probabilities."""
    for name in names:
        value = getattr(values, name)
        require(0 <= value <= 1, f"{name} is {value}, but must lie in [0, 1]")


def require_name(name: str, known: Iterable[str], kind: str) -> None:
    """Raise `ConfigError` with the nearest known name unless `name` is one of them."""
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown {kind} {name!r}; {hint}known: {', '.join(known)}")
