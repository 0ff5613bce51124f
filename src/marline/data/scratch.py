"""What durable writing and removing are made of: scratch directories, flushing, and the exchange of two directories.

A scratch directory lies beside its destination, is named `.<name>.<16 hex digits>.partial` and is
locked by its writer. The kernel lets go of the lock when the writer dies, so that leftovers can be
told from work in progress. Whatever has such a name counts for nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".partial"
_NAME = re.compile(rf"\..+\.[0-9a-f]{{16}}{re.escape(SUFFIX)}", re.DOTALL)


@contextlib.contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """A new locked directory beside `path`, removed at the end if it is still there.

    Scratch directories in that folder whose writer is gone are removed first.
    """
    sweep(path.parent)
    scratch, lock = _make_locked(path)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _make_locked(path: Path) -> tuple[Path, int]:
    while True:
        scratch = _scratch_name(path)
        scratch.mkdir()
        with contextlib.suppress(FileNotFoundError):  # taken for a leftover before it was locked: make another
            lock = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
            if _locks(lock) and os.fstat(lock).st_nlink > 0:
                return scratch, lock
            os.close(lock)


def is_scratch(path: Path) -> bool:
    """Whether a path is a scratch directory by its name: of a writer at work, or of one that was killed."""
    return path.name.startswith(".") and path.name.endswith(SUFFIX)


def discard(directory: Path) -> None:
    """Remove a directory in one step: it takes a scratch name before the first of its files goes.

    After a kill half way it is still there as a whole, or is a leftover for `sweep`.
    """
    scratch = _scratch_name(directory)
    os.rename(directory, scratch)
    sync(directory.parent)
    shutil.rmtree(scratch, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the scratch directories in a folder whose writer is gone."""
    for name in filter(_NAME.fullmatch, os.listdir(folder)):
        with contextlib.suppress(OSError):
            lock = os.open(folder / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            if _locks(lock, where_unsupported=False):
                shutil.rmtree(folder / name, ignore_errors=True)
            os.close(lock)


def _scratch_name(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(8)}{SUFFIX}"


def _locks(descriptor: int, *, where_unsupported: bool = True) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return where_unsupported  # some network disks have no locks: write all the same, but remove nothing
    return True


def sync(path: Path) -> None:
    """Return when a file, or the list of names in a directory, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # some network disks do not sync names
            raise
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Return when everything in a directory is on the disk."""
    for folder, _, files in os.walk(directory, topdown=False):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))


def exchange(first: Path, second: Path) -> None:
    """Swap two directories in one step, which plain rename cannot do when the destination is not empty."""
    libc = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(first), os.fsencode(second)
    try:
        if sys.platform == "darwin":
            failed = libc.renamex_np(a, b, 2)  # RENAME_SWAP
        else:
            failed = libc.renameat2(-100, a, -100, b, 2)  # AT_FDCWD twice, RENAME_EXCHANGE
    except AttributeError:
        failed = True
        ctypes.set_errno(errno.ENOSYS)
    if failed:
        code = ctypes.get_errno()
        if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise OSError(code, "this file system cannot exchange two directories in one step")
        raise OSError(code, os.strerror(code))
