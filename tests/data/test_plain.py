"""What is looked through before a run directory is used."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from marline.data.plain import require_plain_folder, require_plain_path
from marline.errors import CorruptionError
from marline.runs.layout import require_plain_run


def link_to_file(path: Path, victim: Path) -> None:
    path.symlink_to(victim / "thesis.tex")


def link_to_folder(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim / "not there")


def pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def listening_socket(path: Path, victim: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


KINDS = [link_to_file, link_to_folder, dangling_link, pipe, listening_socket]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "place", ["run.lock", "provenance.jsonl", "report.html", "data", "seed-3", "seed-0/otc/metrics.jsonl", "data/a.h5"]
)
def test_what_is_no_plain_file_or_folder_is_named(
    make: Callable[[Path, Path], None], place: str, tmp_path: Path
) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis.tex").write_text("years of work")
    run = tmp_path / "run"
    (run / place).parent.mkdir(parents=True)
    require_plain_run(run)
    make(run / place, tmp_path / "victim")
    with pytest.raises(CorruptionError, match=f"{place} is a(?: symbolic link| pipe, a socket or a device), which"):
        require_plain_run(run)
    link = tmp_path / "mine"  # the run directory itself may be a link of its user's
    link.symlink_to(run)
    with pytest.raises(CorruptionError, match=place):
        require_plain_run(link)


def test_folders_that_were_looked_through_are_not_again(tmp_path: Path) -> None:
    team = tmp_path / "seed-0" / "otc"
    for number in (1, 2):
        (team / f"deployment-0{number}").mkdir(parents=True)
    (team / "deployment-01" / "x").symlink_to("/etc")
    require_plain_run(tmp_path, known={team / "deployment-01"})
    (team / "deployment-02" / "x").symlink_to("/etc")
    with pytest.raises(CorruptionError, match="deployment-02/x is a symbolic link"):
        require_plain_run(tmp_path, known={team / "deployment-01"})


def test_what_its_user_keeps_beside_a_run_is_none_of_our_business(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "latest-plot.png").symlink_to("/etc/hostname")
    (tmp_path / "seed-0" / ".otc.0123456789abcdef.partial").mkdir(parents=True)  # which a killed writer left
    (tmp_path / "seed-0" / ".otc.0123456789abcdef.partial" / "x").symlink_to("/etc/hostname")
    require_plain_run(tmp_path)
    with pytest.raises(CorruptionError, match="latest-plot.png is a symbolic link"):
        require_plain_folder(tmp_path)
    (tmp_path / "seed-0" / ".x.partial").symlink_to("/etc")  # only called so
    with pytest.raises(CorruptionError, match=r"\.x\.partial is a symbolic link"):
        require_plain_run(tmp_path)


def test_a_path_into_a_run_takes_no_link_in_it(tmp_path: Path) -> None:
    run, mine = tmp_path / "run", tmp_path / "mine"
    (run / "deep").mkdir(parents=True)
    mine.symlink_to(run)
    (tmp_path / "page.html").symlink_to("/dev/null")
    for path in (run / "page.html", run / "deep" / "page.html", tmp_path / "page.html", Path("/dev/stdout"), run):
        require_plain_path(run, path)
    require_plain_path(mine, mine / "page.html")
    (run / "page.html").symlink_to(tmp_path / "victim")
    (run / "there").symlink_to(tmp_path)
    for path in (run / "page.html", run / "there" / "page.html", run / "deep" / ".." / "there" / "x"):
        with pytest.raises(CorruptionError, match="is a symbolic link"):
            require_plain_path(run, path)
