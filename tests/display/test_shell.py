"""Commands that are printed can be copied, whatever the names in them."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest
from processes import finished

from marline.display.shell import command, command_elsewhere, quoted

NAMES = ["plain", "my logs", "it's", 'a "b"', "$HOME", "a;b", "*", "~", "", "ä", "a\nb", "\x1b[31m", "a\\tb\t'"]


def test_what_a_shell_leaves_alone_is_not_quoted() -> None:
    assert command("status", Path("runs/first")) == "marline status runs/first"
    assert command("ingest", Path("my runs/it's"), "LOGS") == "marline ingest 'my runs/it'\"'\"'s' LOGS"


def test_a_path_that_begins_with_a_dash_is_no_option() -> None:
    assert command("data", "check", Path("-x")) == "marline data check ./-x"
    assert command("report", Path("-my run"), "-o", "page.html") == "marline report './-my run' -o page.html"


def test_a_command_begins_as_this_program_was_called_where_marline_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("this one", "another"):
        script = tmp_path / folder / "bin" / "marline"
        script.parent.mkdir(parents=True)
        script.touch(0o755)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "marline").symlink_to(tmp_path / "this one" / "bin" / "marline")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["this one/bin/marline"])
    for path, called in [
        ("nowhere", "'this one/bin/marline'"),
        ("another/bin", "'this one/bin/marline'"),
        ("this one/bin", "marline"),
        ("linked", "marline"),
    ]:
        monkeypatch.setenv("PATH", str(tmp_path / path))
        assert command("status", Path("runs/a")) == f"{called} status runs/a"
        assert command_elsewhere("status", Path("runs/a")) == "marline status runs/a"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "src" / "marline" / "__main__.py")])
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "marline"])
    assert command("status") == "python3 -m marline status"
    monkeypatch.setattr(sys, "argv", ["study.py"])
    assert command("status") == "marline status"


@pytest.mark.parametrize("name", NAMES)
def test_a_word_is_on_one_line_and_holds_nothing_that_a_terminal_obeys(name: str) -> None:
    assert quoted(name).isprintable()
    if name.isprintable():
        assert shlex.split(quoted(name)) == [name]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_shell_reads_back_what_was_meant() -> None:
    script = "printf '%s\\0' " + " ".join(map(quoted, NAMES))
    assert finished(["bash", "-c", script]).stdout.split("\0")[:-1] == NAMES
