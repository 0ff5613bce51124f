"""A shelf is made, and what is taken from it can be learned from and played."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

import marline
from marline import cli

SCRIPT = Path(__file__).parents[1] / "experiments" / "shelf.py"


@pytest.mark.slow
def test_what_is_taken_from_a_shelf_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"deployments": 1, "offline_updates": 4, "updates": 4, "evaluation_episodes": 2, "hidden": (4,)}
    task = "cooperative-navigation-2"
    seal = runpy.run_path(str(SCRIPT))["main"](tmp_path / "shelf", {task: ("random", "conventions")}, rows=200, **sizes)

    def run(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([*arguments])
        assert stop.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    taken = ("data", "get", "--mirror", str(tmp_path / "shelf"), "--seal", seal)
    assert list(json.loads(run(*taken, "--json"))["things"]) == [
        f"{task}-{kind}" for kind in ("random", "conventions", "team")
    ]
    run(*taken, f"{task}-conventions", "--out", str(tmp_path / "logs"))
    assert len(marline.load(tmp_path / "logs")["agent_0"]) == 200
    run(*taken, f"{task}-team", "--out", str(tmp_path / "team"))
    assert "return" in run("play", str(tmp_path / "team"), "--episodes", "1")
    run("verify", str(tmp_path / "team"))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # taken, and then there
        assert "return" in run("play", f"{task}-team", "--mirror", "shelf", "--seal", seal, "--episodes", "1")
