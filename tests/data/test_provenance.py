"""What is remembered of where numbers come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import marline
from marline.data import provenance
from marline.errors import CorruptionError


def test_every_start_is_a_line(tmp_path: Path) -> None:
    assert provenance.read_starts(tmp_path) == []
    provenance.record_start(tmp_path, "first")
    provenance.record_start(tmp_path, "second")
    assert provenance.recorded_configurations(tmp_path) == {"first", "second"}
    starts = provenance.read_starts(tmp_path)
    assert len(starts) in (1, 2) and all(tuple(start) == provenance.FIELDS for start in starts)
    assert starts[0]["marline"] == marline.__version__
    assert "cpu" in starts[0]["device"].lower()


def test_a_line_of_another_form_is_named(tmp_path: Path) -> None:
    (tmp_path / provenance.FILE).write_text('{"date": ["x"]}\n')
    with pytest.raises(CorruptionError, match="provenance.jsonl holds a line that tells of no start"):
        provenance.read_starts(tmp_path)


def test_starts_are_told_as_one() -> None:
    first = dict.fromkeys(provenance.FIELDS, "same") | {"commit": ""}
    second = first | {"command": "marline resume r", "commit": "abc"}
    assert provenance.merged([first, second]) == first | {"command": "same; marline resume r", "commit": "abc"}
    assert provenance.merged([]) == dict.fromkeys(provenance.FIELDS, "")


def test_the_commit_is_that_of_the_source_and_says_where_it_was_changed(tmp_path: Path) -> None:
    source = tmp_path / "src" / "marline" / "data" / "provenance.py"
    source.parent.mkdir(parents=True)
    source.write_text("first")
    assert provenance.commit(source) == "", "an installed wheel has no commit"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert provenance.commit(source) == head
    source.write_text("second")
    assert provenance.commit(source) == f"{head} and changes"
