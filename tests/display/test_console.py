"""What is told of progress where there is no terminal."""

from __future__ import annotations

import pytest

from marline.display.console import ProgressDisplay


def test_without_a_terminal_lines_tell_how_far_everything_is(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay([("updates", 1000)], every=0.0) as display:
        display.advance(0, "offline training", 250)
        display.advance(0, "offline training", 750)
    first, last = capsys.readouterr().out.splitlines()
    assert first == "offline training: 250 of 1,000 updates (25 %); 0 s so far, about 0 s left"
    assert last.startswith("offline training: 1,000 of 1,000 updates (100 %); ") and "left" not in last
    with ProgressDisplay([("seed 0", 10), ("seed 1", 10)], every=0.0) as display:
        display.advance(1, "deployment 2", 5)
    assert capsys.readouterr().out.startswith("seed 0: starting, 0 %; seed 1: deployment 2, 50 %; 0 s so far")
    for quiet, every in ((True, 0.0), (False, 1e9)):
        with ProgressDisplay([("updates", 10)], quiet=quiet, every=every) as display:
            display.advance(0, "offline training", 5)
        assert capsys.readouterr().out == ""
