"""Durable writing: what is there after success, failure, a full disk and a torn line."""

import errno
import hashlib
import os
import resource
import stat
from pathlib import Path

import numpy as np
import pytest

from marline.data.files import (
    StorageError,
    append_line,
    atomic_bytes,
    atomic_json,
    open_regular,
    publish_directory,
    read_lines,
    require_space,
    require_writable,
    sha256_file,
    to_json,
    write_atomically,
    write_output,
)
from marline.data.scratch import discard, exchange, is_scratch
from marline.errors import ConfigError, CorruptionError


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_an_atomic_write_makes_parents_and_leaves_nothing_else(tmp_path: Path) -> None:
    atomic_bytes(tmp_path / "a" / "b" / "c.bin", b"one")
    atomic_bytes(tmp_path / "a" / "b" / "c.bin", b"two")
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"two"
    assert names(tmp_path / "a" / "b") == ["c.bin"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    atomic_bytes(tmp_path / "x", b"old")

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "x", fail)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_the_file_behind_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "x")
    atomic_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "x").read_bytes() == b"new"


def test_json_takes_numpy_scalars_paths_and_nan(tmp_path: Path) -> None:
    value = {"n": np.int64(3), "x": np.float32(0.5), "path": Path("a/b"), "nan": float("nan"), "flag": np.True_}
    atomic_json(tmp_path / "x.json", value)
    assert (tmp_path / "x.json").read_text().replace("\n", "").replace("  ", "") == (
        '{"n": 3,"x": 0.5,"path": "a/b","nan": NaN,"flag": true}'
    )


def test_json_refuses_what_has_no_json_form() -> None:
    with pytest.raises(ConfigError, match="object has no JSON form; use plain numbers"):
        to_json({"x": object()})


def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path: Path) -> None:
    atomic_bytes(tmp_path / "x", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the kernel refuses longer files from here on
    try:
        with pytest.raises(StorageError) as caught:
            atomic_bytes(tmp_path / "x", bytes(5000))
        with pytest.raises(StorageError), publish_directory(tmp_path / "folder") as folder:
            (folder / "y").write_bytes(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"cannot write {tmp_path / 'x'} (5000 bytes)" in str(caught.value)
    assert "free some space" in str(caught.value)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_appending_to_a_full_disk_names_the_bytes() -> None:
    with pytest.raises(StorageError, match=r"cannot write /dev/full \(10 bytes\): No space left"):
        append_line(Path("/dev/full"), {"a": 10})


def test_space_is_checked_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"it needs 1000000000000000000 bytes and its disk has \d+ left; free some"):
        require_space(tmp_path / "not" / "yet", 10**18)
    with pytest.raises(StorageError, match="it needs"), publish_directory(tmp_path / "x", num_bytes=10**18):
        pytest.fail("the block must not be entered")
    assert names(tmp_path) == []


def test_a_path_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir()
    (tmp_path / "shut").chmod(0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # the superuser may write anywhere
    try:
        with pytest.raises(StorageError, match="Permission denied; choose a folder that you may write"):
            atomic_bytes(tmp_path / "shut" / "x", b"")
    finally:
        if user == 0:
            os.seteuid(0)


def test_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot write .*/file/x"):
        atomic_bytes(tmp_path / "file" / "x", b"")


def test_a_directory_appears_as_a_whole(tmp_path: Path) -> None:
    with publish_directory(tmp_path / "out" / "folder") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_bytes(b"1")
        assert not (tmp_path / "out" / "folder").exists()
    assert (tmp_path / "out" / "folder" / "sub" / "x").read_bytes() == b"1"
    assert names(tmp_path / "out") == ["folder"]


def test_a_directory_whose_writing_fails_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), publish_directory(tmp_path / "folder") as folder:
        (folder / "x").write_bytes(b"1")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_directory_is_replaced_only_if_it_is_of_the_kind(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with publish_directory(path) as folder:  # an empty one may be filled
        (folder / "a.bin").write_bytes(b"1")
    with pytest.raises(ConfigError, match=r"exists already and holds .*a\.bin"), publish_directory(path):
        pytest.fail("the block must not be entered")
    with publish_directory(path, replaces=["*.bin"]) as folder:
        (folder / "b.bin").write_bytes(b"2")
    assert names(path) == ["b.bin"]
    (path / "notes.txt").write_text("mine")
    with (
        pytest.raises(ConfigError, match=r"notes\.txt; choose another name"),
        publish_directory(path, replaces=["*.bin"]),
    ):
        pytest.fail("the block must not be entered")
    with pytest.raises(ConfigError, match="is no directory"), publish_directory(path / "notes.txt"):
        pytest.fail("the block must not be entered")
    assert names(path) == ["b.bin", "notes.txt"]
    assert names(tmp_path) == ["folder"]


def test_a_disk_without_exchange_refuses_and_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(first: Path, second: Path) -> None:
        raise OSError(errno.EINVAL, "this file system cannot exchange two directories in one step")

    with publish_directory(tmp_path / "x") as folder:
        (folder / "old").write_bytes(b"")
    monkeypatch.setattr("marline.data.files.exchange", unsupported)
    with (
        pytest.raises(StorageError, match="in one step; write to a new name, or remove the old directory first"),
        publish_directory(tmp_path / "x", replaces=["*"]) as folder,
    ):
        (folder / "new").write_bytes(b"")
    assert names(tmp_path / "x") == ["old"]


def test_exchange_swaps_two_directories(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"")
    exchange(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path / "a") == ["b"]
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "c")


def test_leftovers_go_and_work_in_progress_stays(tmp_path: Path) -> None:
    left = tmp_path / ".x.0123456789abcdef.partial"
    left.mkdir()
    (left / "half").write_bytes(b"")
    unrelated = tmp_path / ".x.mine.partial"
    unrelated.mkdir()
    with publish_directory(tmp_path / "x") as first:
        (first / "one").write_bytes(b"")
        atomic_bytes(tmp_path / "y", b"")  # another destination
        with publish_directory(tmp_path / "x") as second:
            (second / "two").write_bytes(b"")
            assert first.exists()
        with publish_directory(tmp_path / "x", replaces=["two"]) as third:
            (third / "three").write_bytes(b"")
        os.remove(tmp_path / "x" / "three")
    assert names(tmp_path) == [".x.mine.partial", "x", "y"]
    assert names(tmp_path / "x") == ["one"]


def test_a_directory_goes_in_one_step_and_what_is_left_of_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").mkdir()
    for name in ("one", "two"):
        (tmp_path / "x" / name).write_bytes(b"")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            discard(tmp_path / "x")
    (left,) = tmp_path.iterdir()
    assert is_scratch(left) and names(left) == ["one", "two"]
    atomic_bytes(tmp_path / "y", b"")  # any write into the folder
    assert names(tmp_path) == ["y"]


def test_what_is_no_file_is_written_to_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDWR)
    write_output(tmp_path / "pipe", "\u03b1")
    assert os.read(pipe, 8) == "\u03b1".encode() and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    os.close(pipe)
    write_output(tmp_path / "new" / "file", "\u03b1\n")
    assert (tmp_path / "new" / "file").read_bytes() == "\u03b1\n".encode() and names(tmp_path / "new") == ["file"]


def test_lines_come_back_and_a_torn_last_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "log" / "events.jsonl"
    assert read_lines(path) == []
    append_line(path, {"a": 1})
    append_line(path, [1.5, "x\ny", None])
    with open(path, "ab") as file:
        file.write(b'{"torn": ' + b"1" * 10_000)
    assert read_lines(path) == [{"a": 1}, [1.5, "x\ny", None]]
    append_line(path, "next")
    assert read_lines(path) == [{"a": 1}, [1.5, "x\ny", None], "next"]
    assert len(path.read_bytes().splitlines()) == 3


def test_a_torn_first_line_is_no_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"torn')
    assert read_lines(tmp_path / "x") == []
    append_line(tmp_path / "x", 1)
    assert (tmp_path / "x").read_bytes() == b"1\n"


def test_a_broken_line_that_is_not_the_last_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"a": 1}\n{"a" 2}\n{"a": 3}\n')
    with pytest.raises(CorruptionError, match=r"x, line 2 is not JSON .* restore a copy"):
        read_lines(tmp_path / "x")


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for name, message in [
        ("pipe", "pipe is not a plain file"),
        ("link", "link cannot be read: is a symbolic link; put the file itself there"),
        ("none", "none cannot be read: No such file"),
        (".", "is not a plain file"),
    ]:
        with pytest.raises(CorruptionError, match=message):
            open_regular(tmp_path / name)


def test_folders_above_go_again_where_nothing_came_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    with pytest.raises(ZeroDivisionError), publish_directory(path):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda scratch: 1 // 0)  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(ZeroDivisionError), publish_directory(path):
        raise ZeroDivisionError
    assert [str(place.relative_to(tmp_path)) for place in tmp_path.rglob("*")] == ["a"]  # which was there


def test_where_a_file_cannot_be_put_is_told_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    require_writable(tmp_path / "file")
    require_writable(tmp_path / "new" / "folder" / "file")
    with pytest.raises(StorageError, match="it is a folder"):
        require_writable(tmp_path)
    with pytest.raises(StorageError, match="file is no folder"):
        require_writable(tmp_path / "file" / "below")


def test_what_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", forbidden)  # root may read everything else
    with pytest.raises(StorageError, match="cannot read .*: Permission denied; ask its owner"):
        open_regular(tmp_path / "file")
