"""The folder of one team: which checkpoints there are, and what a kill leaves of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from marline.runs.history import History, Record
from marline.runs.layout import checkpoint_steps


def lines(last: int) -> list[Record]:
    return [{"deployment": number, "agents": {}} for number in range(last + 1)]


def names(history: History) -> list[str]:
    return sorted(path.name for path in history.folder.iterdir())


def test_checkpoints_are_counted_by_number_however_many_digits_it_has(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert History(tmp_path / "none").steps() == []
    for step in (9_980_000, 9_990_000, 10_000_000, 123_456_789):
        history.save(step, {}, lines(1))
        assert history.steps()[-1] == step and history.intact_steps() == history.steps()
    assert names(history) == ["checkpoint-10000000", "checkpoint-123456789", "metrics.jsonl"]
    assert history.load(123_456_789, {}) == {} and history.records_at(10_000_000) == lines(1)
    (tmp_path / "checkpoint-0000003").mkdir()
    for strange in (
        "checkpoint-3",
        "checkpoint-010000000",
        "checkpoint-1000000x",
        "checkpoint-\u0661\u0661\u0661\u0661\u0661\u0661\u0661",
    ):
        (tmp_path / strange).mkdir()
    assert checkpoint_steps(tmp_path) == [3, 10_000_000, 123_456_789]


class KilledError(BaseException):
    """In place of SIGKILL: nothing is done after it."""


def test_killed_while_an_old_checkpoint_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path)
    for step in (1, 2):
        history.save(step, {}, lines(step))

    def unlink(path: object, **_: object) -> None:
        if path == "manifest.json":
            raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(os, "unlink", unlink)
        history.save(3, {}, lines(3))
    (left,) = (name for name in names(history) if name.startswith("."))
    assert left.startswith(".checkpoint-0000001.") and left.endswith(".partial")
    assert history.steps() == history.intact_steps() == [2, 3] and history.records() == lines(3)
    history.settle(3)
    assert names(history) == ["checkpoint-0000002", "checkpoint-0000003", "metrics.jsonl"]


def test_killed_right_after_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path)
    for step in (1, 2):
        history.save(step, {}, lines(step))

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(History, "_write_records", killed)
        history.save(3, {}, lines(3))
    assert history.steps() == [1, 2, 3] and history.records() == lines(2) and history.records_at(3) == lines(3)
    history.settle(3)
    assert history.steps() == [2, 3] and history.records() == lines(3)


def test_with_a_damaged_checkpoint_those_before_it_stay(tmp_path: Path) -> None:
    history = History(tmp_path)
    for step in (1, 2):
        history.save(step, {}, lines(step))
    for damaged in (3, 4):
        history.checkpoint(damaged).mkdir()
    (tmp_path / "metrics.jsonl").write_text("{")
    history.settle(history.intact_steps()[-1])
    assert history.steps() == [1, 2, 3, 4] and history.records() == lines(2)


def test_what_a_killed_writer_left_is_not_published(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.save(1, {}, lines(1))
    for folder in (tmp_path / "diverged", history.deployment(1) / "diverged"):
        for name in ("arm", ".arm.0123456789abcdef.partial"):
            (folder / name).mkdir(parents=True)
    found = [str(path.relative_to(tmp_path)) for path in history.published()]
    assert found == ["deployment-01/diverged/arm", "diverged/arm", "checkpoint-0000001", "metrics.jsonl"]


def test_a_checkpoint_that_somebody_else_wrote_is_read_anew(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.save(1, {}, lines(1))
    first = history.records_at(1)
    first[0]["return"] = 7.0  # which is the caller's
    assert history.records_at(1) == lines(1)
    History(tmp_path).save(1, {}, lines(5))
    assert history.records_at(1) == lines(5)
