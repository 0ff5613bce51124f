"""Commands that are printed to be copied: whatever paths and names they hold, a shell reads them as they are meant."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

NAME = "marline"


def command(*words: str | Path) -> str:
    """This program with these words, on one line, for a POSIX shell.

    It begins with `marline` where a shell finds this program by that name, and else with the way it was called, such as
    `.venv/bin/marline`. A path that begins with a dash gets `./` before it, or it would be taken for an option. Words
    with control characters need bash, zsh or ksh.
    """
    return " ".join([*_called(), *map(quoted, words)])


def command_elsewhere(*words: str | Path) -> str:
    """`command` for a page, which is read where nobody knows how this program was called: it begins with `marline`."""
    return " ".join([NAME, *map(quoted, words)])


def _called() -> list[str]:
    """The words that call this program: `marline`, unless a shell would find nothing by that name, or another one."""
    script = Path(sys.argv[0]) if sys.argv else Path()
    if script.name == NAME and script.exists():
        found = shutil.which(NAME)
        return [NAME] if found is not None and script.samefile(found) else [quoted(script)]
    if script.parts[-2:] == (NAME, "__main__.py"):
        return [quoted(Path(sys.orig_argv[0])), "-m", NAME]
    return [NAME]  # from Python


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
