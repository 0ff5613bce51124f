"""One writer at a time: a lock that the kernel lets go of when its holder dies, so that none is ever stale."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from marline.data.files import StorageError

BETWEEN = 0.02  # seconds from one attempt to the next


class HeldError(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file, which is made if it is not there.

    Args:
        path: the file, in a folder that is there; no link is followed.
        patience: seconds to wait for another holder.

    Raises:
        HeldError: another process holds it.
        StorageError: the file may not be written, or the file system has no locks.
    """
    is_new = not os.path.lexists(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        what = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise StorageError(
            f"cannot write {path}: {what}; choose a folder that you may write, or change its permissions"
        ) from error
    try:
        _acquire(descriptor, time.monotonic() + patience)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise HeldError from None
        if is_new:
            path.unlink(missing_ok=True)
        raise StorageError(
            f"cannot lock {path}: {error.strerror}; without locks two commands could write there at once, so choose a "
            "disk that has them, such as a local one, or have this one mounted with them"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(BETWEEN)
