"""Which command is meant, and what is said where none is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import marline
from marline import cli
from marline.cli.entry import COMMANDS
from marline.cli.options.study import Run
from marline.errors import USAGE_ERROR


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit status of a command, and what it wrote to standard output and standard error."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, captured.out, captured.err


@pytest.mark.parametrize("alone", [(), ("data",)], ids=["marline", "marline data"])
def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str], alone: tuple[str, ...]) -> None:
    status, said, _ = run(capsys, *alone)
    assert (status, said) == run(capsys, *alone, "--help")[:2]
    assert status == 0
    assert "usage: marline" in said


@pytest.mark.parametrize(
    ("given", "meant"), [(("doctr",), "'doctor'"), (("data", "imprt"), "'import'"), (("repotr", "runs/a"), "'report'")]
)
def test_a_command_that_is_misspelt_is_refused_with_the_nearest_one(
    capsys: pytest.CaptureFixture[str], given: tuple[str, ...], meant: str
) -> None:
    status, _, error = run(capsys, *given)
    assert status == USAGE_ERROR
    assert f"did you mean {meant}?" in error


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"marline {marline.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, said, _ = run(capsys, *name.split(), "--help")
    assert status == 0
    assert f"usage: marline {name}" in said
    for unreadable in ("{None}", "[INT [INT", "[STR [STR", "(default: )", "(default: None)", "--no-"):
        assert unreadable not in said


def test_help_breaks_no_line_where_only_the_docstring_does() -> None:
    annotations = get_type_hints(Run, include_extras=True)
    helps = [its.help for hint in annotations.values() for its in get_args(hint)[1:] if getattr(its, "help", None)]
    assert len(helps) > 20 and not any("\n" in text or "  " in text for text in helps)
    assert any(text.endswith("On a GPU one learns while another plays.") for text in helps)


def test_a_process_that_read_a_table_ends_with_its_status(tmp_path: Path) -> None:
    """Arrow would take down its threads at the end, and sometimes aborts."""
    pytest.importorskip("pyarrow")
    (tmp_path / "table.csv").write_text("v1,0,0,1.0,0.1,0.5\nv2,0,1,2.0,0.2,0.4\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "marline", "data", "import", "table.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert "table.csv: its first line holds values" in done.stderr and done.stderr.count("\n") == 1
