"""One writer at a time, whatever the file system and whatever lies in the way."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest
from processes import PATIENCE, started

from marline.data.files import StorageError
from marline.data.locking import HeldError, locked
from marline.errors import ConfigError, CorruptionError
from marline.runs.lock import writing


def test_a_lock_is_held_by_one_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        with pytest.raises(HeldError), locked(path):
            pass
    with locked(path):
        pass


def test_a_killed_holder_holds_nobody_up(tmp_path: Path) -> None:
    script = "import sys, time; from pathlib import Path\nfrom marline.data.locking import locked\n"
    script += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(100_000)"
    with started([sys.executable, "-c", script, tmp_path / "lock"], env=dict(os.environ)) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(HeldError), locked(tmp_path / "lock"):
            pass
    with locked(tmp_path / "lock", patience=PATIENCE):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_gets_no_file(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError, match=rf"cannot lock .*run\.lock: {os.strerror(code)}; .* choose a disk"):
        with writing(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)  # root may write everywhere else
    with pytest.raises(StorageError, match=r"cannot write .*run\.lock: Read-only file system; choose a folder"):
        with writing(tmp_path):
            pass


def test_links_in_place_of_lock_and_owner_lead_nowhere(tmp_path: Path) -> None:
    victim, run = tmp_path / "victim", tmp_path / "run"
    run.mkdir()
    victim.write_text("precious")
    for name in ("run.pid", "run.lock"):
        (run / name).symlink_to(victim)
        with pytest.raises(CorruptionError, match=f"{name} is a symbolic link, which nothing is read or"), writing(run):
            pass
        (run / name).unlink()
    with pytest.raises(StorageError, match="it is a symbolic link"):
        (run / "lock").symlink_to(victim)
        with locked(run / "lock"):
            pass
    assert victim.read_text() == "precious" and [path.name for path in run.iterdir()] == ["lock"]


@pytest.mark.parametrize("content", [b"4242", b"", b"\xff\x00", b"1" * 100], ids=str)
def test_whoever_holds_it_is_named_if_a_file_tells(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.pid").write_bytes(content)
    who = "4242" if content == b"4242" else "?" if content != b"1" * 100 else "1" * 20
    with locked(tmp_path / "run.lock"), pytest.raises(ConfigError) as caught, writing(tmp_path):
        pass
    assert f"is being written by process {who}; wait for it, or stop it" in str(caught.value)
