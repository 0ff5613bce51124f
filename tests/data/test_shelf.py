"""Logs and teams by name: what a shelf's list says, or nothing at all."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import marline
from marline import cli
from marline.data.manifest import write_sealed
from marline.data.migrations import SHELF
from marline.data.shelf import Shelf, make_shelf
from marline.errors import ConfigError, CorruptionError, DataError


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    rows = {"observations": np.zeros((4, 2)), "actions": np.zeros((4, 1)), "rewards": np.ones(4)}
    logs = marline.from_arrays("arm", {**rows, "terminals": np.arange(4) == 3})
    marline.save(tmp_path / "logs", {"arm": logs})
    (tmp_path / "team" / "seed-0").mkdir(parents=True)
    (tmp_path / "team" / "run.json").write_text("{}")
    (tmp_path / "team" / "run.lock").write_text("somebody")
    (tmp_path / "team" / "seed-0" / "policy").write_bytes(b"sound")
    things = {"arm-random": ("four rows", tmp_path / "logs"), "arm-team": ("a team", tmp_path / "team")}
    assert make_shelf(tmp_path / "shelf", things) == Shelf(str(tmp_path / "shelf")).seal
    return tmp_path / "shelf"


@pytest.fixture
def address(shelf: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(shelf))) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_on_a_shelf_comes_whole(shelf: Path, address: str, tmp_path: Path) -> None:
    for number, source in enumerate((str(shelf), f"{address}/")):
        found = Shelf(source)
        assert dict(found.about) == {"arm-random": "four rows", "arm-team": "a team"}
        found.get("arm-random", tmp_path / f"logs-{number}")
        assert len(marline.load(tmp_path / f"logs-{number}")["arm"]) == 4
        found.get("arm-team", tmp_path / f"team-{number}")
        assert sorted(path.name for path in (tmp_path / f"team-{number}").rglob("*")) == [
            "policy",
            "run.json",
            "seed-0",
        ]
    assert Shelf(str(shelf), seal=Shelf(address).seal).seal == Shelf(address).seal


@pytest.mark.parametrize("change", [b"wrong", b"sound and more", None])
def test_what_is_not_as_listed_is_refused_and_leaves_nothing(
    shelf: Path, address: str, tmp_path: Path, change: bytes | None
) -> None:
    policy = shelf / "arm-team" / "seed-0" / "policy"
    policy.unlink() if change is None else policy.write_bytes(change)
    for source in (str(shelf), address):
        with pytest.raises(
            (CorruptionError, DataError), match=r"policy (was altered|is missing|is not what|has|cannot)"
        ):
            Shelf(source).get("arm-team", tmp_path / "here")
        assert not (tmp_path / "here").exists()
    Shelf(str(shelf)).get("arm-random", tmp_path / "here")  # all else is as it was


@pytest.mark.parametrize("about", [None, ["logs"], {"logs": 3}])
def test_a_list_that_does_not_tell_what_is_there_is_refused(about: object, tmp_path: Path) -> None:
    write_sealed(tmp_path / "shelf.json", SHELF.kind, SHELF.newest, {"about": about}, {})
    with pytest.raises(CorruptionError, match="does not tell what is on the shelf"):
        Shelf(str(tmp_path))


def test_shelves_that_are_none_or_others(shelf: Path, tmp_path: Path) -> None:
    for source, told in (("ftp://there/shelf", "not an address that is read"), (str(tmp_path), "it has no shelf.json")):
        with pytest.raises(ConfigError, match=told):
            Shelf(source)
    with pytest.raises(ConfigError, match="it is another one"):
        Shelf(str(shelf), seal="0" * 64)
    with pytest.raises(DataError, match="without a network, give a folder"):
        Shelf("http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="did you mean 'arm-team'"):
        Shelf(str(shelf)).get("arm-tea", tmp_path / "here")
    (shelf / "shelf.json").write_text((shelf / "shelf.json").read_text("utf-8").replace("a team", "A team"), "utf-8")
    with pytest.raises(CorruptionError, match="was altered"):
        Shelf(str(shelf))
    os.symlink(shelf / "arm-team", tmp_path / "team" / "link")
    with pytest.raises(CorruptionError):
        make_shelf(tmp_path / "other", {"team": ("", tmp_path / "team")})
    assert not (tmp_path / "other").exists()


def test_the_command_lists_and_gets(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["data", "get", *arguments])
        told = capsys.readouterr()
        return stop.value.code, told.out, told.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MARLINE_MIRROR", raising=False)
    code, _, told = run()
    assert code == 2 and "--mirror FOLDER" in told
    monkeypatch.setenv("MARLINE_MIRROR", str(shelf))
    assert "arm-random" in run()[1] and json.loads(run("--json")[1])["things"]["arm-team"] == "a team"
    code, told, _ = run("arm-random")
    assert code == 0 and "next: marline data check arm-random" in told and (tmp_path / "arm-random" / "arm.h5").exists()
    assert "next: marline play runs/got" in run("arm-team", "--out", "runs/got")[1]
    assert run("arm-team", "--out", "runs/got")[0] == 2


def test_a_team_is_played_by_its_name_on_a_shelf(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a team plays is in tests/test_experiments_shelf.py; here it is what is said where there is none to play."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.main(["play", *arguments])
        assert stop.value.code
        return capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MARLINE_MIRROR", raising=False)
    assert "arm-team" in run("arm-team")
    assert not (tmp_path / "arm-team").exists()
    assert "did you mean 'arm-team'" in run("arm-tea", "--mirror", str(shelf))
    assert "is a path; with --mirror give what the team is called" in run("runs/arm-team", "--mirror", str(shelf))
    assert "are for a team that is on a shelf" in run("--task", "matrix", "--mirror", str(shelf))
    assert "say where the shelf is" in run("arm-team", "--seal", "0" * 64)
    assert "it is another one" in run("arm-team", "--mirror", str(shelf), "--seal", "0" * 64)
    monkeypatch.setenv("MARLINE_MIRROR", str(shelf))
    assert "arm-random is no team: these are logs; `marline data check arm-random` does" in run("arm-random")
    assert "run.json" in run("arm-team") and (tmp_path / "arm-team" / "seed-0" / "policy").read_bytes() == b"sound"
