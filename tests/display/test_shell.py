"""Commands that are printed can be copied, whatever the names in them."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from processes import finished

from marline.display.shell import command, quoted

NAMES = ["plain", "my logs", "it's", 'a "b"', "$HOME", "a;b", "*", "~", "", "ä", "a\nb", "\x1b[31m", "a\\tb\t'"]


def test_what_a_shell_leaves_alone_is_not_quoted() -> None:
    assert command("status", Path("runs/first")) == "marline status runs/first"
    assert command("ingest", Path("my runs/it's"), "LOGS") == "marline ingest 'my runs/it'\"'\"'s' LOGS"


def test_a_path_that_begins_with_a_dash_is_no_option() -> None:
    assert command("data", "check", Path("-x")) == "marline data check ./-x"
    assert command("report", Path("-my run"), "-o", "page.html") == "marline report './-my run' -o page.html"


@pytest.mark.parametrize("name", NAMES)
def test_a_word_is_on_one_line_and_holds_nothing_that_a_terminal_obeys(name: str) -> None:
    assert quoted(name).isprintable()
    if name.isprintable():
        assert shlex.split(quoted(name)) == [name]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_shell_reads_back_what_was_meant() -> None:
    script = "printf '%s\\0' " + " ".join(map(quoted, NAMES))
    assert finished(["bash", "-c", script]).stdout.split("\0")[:-1] == NAMES
