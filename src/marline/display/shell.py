"""Commands that are printed to be copied: whatever paths and names they hold, a shell reads them as they are meant."""

from __future__ import annotations

import shlex
from pathlib import Path


def command(*words: str | Path) -> str:
    """`marline` with these words, on one line, for a POSIX shell; those with control characters need bash, zsh or ksh.

    A path that begins with a dash gets `./` before it, or it would be taken for an option.
    """
    return " ".join(["marline", *(quoted(word) for word in words)])


def quoted(word: str | Path) -> str:
    """A word as a shell reads it back."""
    text = str(word)
    if isinstance(word, Path) and text.startswith("-"):
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    # or a line break would end the line that is copied, and an escape sequence reach the terminal
    return "$'" + "".join(_escaped(character) for character in text) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
