"""Writing that survives a crash: after a kill or a power cut there is the old state or the new one, never half.

Everything is first written into a scratch directory beside its destination (see `scratch`), flushed to
the disk, and then renamed into place. What a killed writer leaves behind ends in `.partial` and is
removed at the next write into the same folder.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import io
import json
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from marline.data.scratch import exchange, scratch_directory, sync, sync_tree
from marline.errors import ConfigError, CorruptionError, DataError, MarlineError

HARMLESS = 1 << 30  # bytes that anything may unpack to
_MOST_PACKED = 200  # times what is stored; logs are packed to a tenth or so

FORBIDDEN = (errno.EACCES, errno.EPERM)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)  # of a file system without any
LARGEST_CONFIGURATION = 1 << 26  # bytes of run.json
LARGEST_LINES = 1 << 30  # bytes of any other text, or of a policy: more would exhaust memory, and no run writes it


class StorageError(MarlineError):
    """The disk is full, or the path may not be written."""


def write_atomically(path: Path, write: Callable[[Path], None], *, num_bytes: int | None = None) -> None:
    """Put a file in place in one step; an existing file is replaced.

    Args:
        path: destination; missing parent directories are made, a symbolic link is followed.
        write: writes the whole file to the path that it is given, which ends in the same name.
        num_bytes: size of the file where it is known beforehand, for the message when the disk is full.

    Raises:
        StorageError: the disk is full or the path may not be written; `path` is as it was.
    """
    with _prepared(path) as path, _explained(path, num_bytes), scratch_directory(path) as scratch:
        written = scratch / path.name
        write(written)
        sync(written)
        sync(scratch)
        os.replace(written, path)
        sync(path.parent)


def atomic_bytes(path: Path, data: bytes) -> None:
    """Put a file with this content in place in one step; see `write_atomically`."""
    write_atomically(path, lambda scratch: _write_bytes(scratch, data), num_bytes=len(data))


def atomic_json(path: Path, value: object) -> None:
    """Put a JSON file in place in one step; see `write_atomically` and `to_json`."""
    atomic_bytes(path, _json_bytes(value))


def json_sha256(value: object) -> str:
    """SHA-256, in hexadecimal, of the file that `atomic_json` writes."""
    return hashlib.sha256(_json_bytes(value)).hexdigest()


def _json_bytes(value: object) -> bytes:
    return to_json(value, indent=2).encode() + b"\n"


@contextlib.contextmanager
def publish_directory(path: Path, *, replaces: Collection[str] = (), num_bytes: int | None = None) -> Iterator[Path]:
    """Fill a directory that appears at `path` as a whole when the block ends, or not at all.

    Args:
        path: destination; missing parent directories are made, a symbolic link is followed.
        replaces: an existing directory is replaced, in one step, if the name of every file in it
            matches one of these patterns; without them nothing but an empty directory is.
        num_bytes: size of the content where known; checked against the free space before the start.

    Yields:
        A temporary directory on the same disk, to write into.

    Raises:
        ConfigError: `path` exists and may not be replaced.
        StorageError: the disk is full or the path may not be written; `path` is as it was.
    """
    require_space(path, num_bytes or 0)
    with _prepared(path) as path, _explained(path, num_bytes), scratch_directory(path) as scratch:
        require_replaceable(path, replaces)
        yield scratch
        sync_tree(scratch)
        if path.exists() and any(path.iterdir()):
            exchange(scratch, path)  # what was there is removed with the scratch directory
        else:
            os.rename(scratch, path)
        sync(path.parent)


def append_line(path: Path, value: object) -> None:
    """Append one JSON line; when this returns, the line is on the disk.

    The remains of a line that an earlier writer did not finish are cut off first. One writer at a time.

    Raises:
        StorageError: the disk is full or the path may not be written; the earlier lines are as they were.
    """
    line = to_json(value).encode() + b"\n"
    with _prepared(path) as path, _explained(path, len(line)):
        with open(path, "ab+", buffering=0) as file:
            end = _end_of_last_line(file)
            if end != file.seek(0, os.SEEK_END):
                file.truncate(end)
            try:
                written = file.write(line)
                if written != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
        if end == 0:  # perhaps a new file
            sync(path.parent)


def read_lines(path: Path) -> list[object]:
    """The values that `append_line` wrote, in order; none if there is no file.

    A last line without a line end was never acknowledged and is left out.

    Raises:
        CorruptionError: another line is not JSON, or the file is too large or no plain file.
    """
    if not os.path.lexists(path):
        return []
    values = []
    for number, line in enumerate(read_regular(path, LARGEST_LINES).split(b"\n")[:-1], start=1):
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise CorruptionError(
                f"{path}, line {number} is not JSON ({error}): the file was altered since; restore a copy"
            ) from error
    return values


def sha256_file(path: Path) -> str:
    """SHA-256 of a regular file, in hexadecimal. Releases the interpreter lock, so threads help."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_regular(path: Path, most: int) -> bytes:
    """The content of a plain file of at most so many bytes; see `open_regular`.

    Raises:
        CorruptionError: it is larger, is no plain file, or cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise CorruptionError(f"{path} has {size:,} bytes, more than anything that marline writes there")
        return file.read(size)


def small_sha256(path: Path) -> str:
    """SHA-256 of a file that no run writes large, such as a list of files; `CorruptionError` where it is."""
    return hashlib.sha256(read_regular(path, LARGEST_LINES)).hexdigest()


def write_output(path: Path, text: str) -> None:
    """Write what the user asked for to where the user wants it: a file is replaced in one step, a link is followed.

    A pipe or a device of the user's is written to. For errors see `write_atomically`.
    """
    data = text.encode("utf-8")
    if path.exists() and not path.is_file() and not path.is_dir():
        with _explained(path, len(data)):
            path.write_bytes(data)
    else:
        atomic_bytes(path, data)


def open_regular(path: Path) -> io.BufferedReader:
    """Open for reading what is a plain file: not a link out of its folder, nor a pipe that would block.

    Raises:
        CorruptionError: there is no such file, or it is something else.
        StorageError: it may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in FORBIDDEN:
            raise StorageError(
                f"cannot read {path}: {error.strerror}; ask its owner for it, or change its permissions"
            ) from error
        what = "is a symbolic link; put the file itself there" if error.errno == errno.ELOOP else str(error.strerror)
        raise CorruptionError(f"{path} cannot be read: {what}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptionError(f"{path} is not a plain file; put a file there, or restore a copy")
    return open(descriptor, "rb")


def require_plausible(what: str, claimed: int, stored: int) -> None:
    """Raise `DataError` if so many bytes are packed into so few that only a trap, or nothing but one value, does.

    Up to 1 GiB anything goes: logs of that size harm nobody.
    """
    if claimed > HARMLESS and claimed > _MOST_PACKED * stored:
        raise DataError(
            f"{what} unpacks from {stored:,} to {claimed:,} bytes, as no log does; if it is one, save it unpacked"
        )


def require_space(path: Path, num_bytes: int) -> None:
    """Raise `StorageError` unless the disk of `path` has room for so many bytes."""
    free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
    if num_bytes > free:
        raise StorageError(
            f"cannot write {path}: it needs {num_bytes} bytes and its disk has {free} left; "
            "free some space or choose another disk"
        )


def require_writable(path: Path) -> None:
    """Raise `StorageError` unless a file can be put there, as far as can be told before."""
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder; choose another name")
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        what = "may not be written" if above.is_dir() else "is no folder"
        raise StorageError(f"cannot write {path}: {above} {what}; choose a folder that you may write")


def state_of(path: Path) -> tuple[int, ...]:
    """What changes when a file is written, or put in the place of another; () where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def to_json(value: object, *, indent: int | None = None) -> str:
    """JSON of plain values, NumPy scalars and paths. NaN and infinities are written as Python writes and reads them.

    Raises:
        ConfigError: something in `value` has no JSON form.
    """
    try:
        return json.dumps(value, indent=indent, default=_plain)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"cannot be stored as JSON: {error}; use plain numbers, strings, lists and mappings"
        ) from error


def _end_of_last_line(file: io.FileIO) -> int:
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 4096)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@contextlib.contextmanager
def _prepared(path: Path) -> Iterator[Path]:
    """The path without links, its parent directories made and on the disk; they go again where nothing came of it."""
    path = Path(os.path.realpath(path))
    with _explained(path, None):
        missing = [parent for parent in path.parents if not parent.exists()]
    try:
        with _explained(path, None):
            for parent in reversed(missing):
                parent.mkdir(exist_ok=True)
                sync(parent.parent)
        yield path
    except BaseException:
        with contextlib.suppress(OSError):  # somebody else put something there
            for parent in missing:
                parent.rmdir()
        raise


@contextlib.contextmanager
def _explained(path: Path, num_bytes: int | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        need = "" if num_bytes is None else f" ({num_bytes} bytes)"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            fix = "free some space or choose another disk"
        elif error.errno in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            fix = "write to a new name, or remove the old directory first"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fix = "choose a folder that you may write, or change its permissions"
        else:
            fix = "nothing was changed there"
        raise StorageError(f"cannot write {path}{need}: {error.strerror or error}; {fix}") from error


def require_replaceable(path: Path, patterns: Collection[str]) -> None:
    """Raise `ConfigError` if there is anything at `path` but a directory of such files."""
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise ConfigError(f"{path} exists already and is no directory; choose another name")
    for folder, _, files in os.walk(path):
        for name in files:
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                raise ConfigError(
                    f"{path} exists already and holds {Path(folder, name)}; choose another name or move it"
                )
