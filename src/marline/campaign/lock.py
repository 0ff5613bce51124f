"""One writer per run directory: the second one leaves within a second and names the first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from marline.data.files import atomic_bytes, read_regular
from marline.data.plain import require_plain_run
from marline.errors import ConfigError, CorruptionError

PATIENCE = 0.5  # seconds


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the run directory for writing. The kernel lets go of the lock when its holder dies, so none is ever stale.

    Raises:
        ConfigError: another process holds it.
        CorruptionError: the lock or the name of its holder is something else than a file of ours.
    """
    require_plain_run(folder)
    _require_own(folder / "run.lock")
    lock, owner = filelock.FileLock(folder / "run.lock"), folder / "run.pid"
    try:
        lock.acquire(timeout=PATIENCE)
    except filelock.Timeout:
        who = read_regular(owner, 64).decode(errors="replace") if owner.exists() else "?"
        raise ConfigError(f"{folder} is being written by process {who}; wait for it, or stop it") from None
    try:
        atomic_bytes(owner, str(os.getpid()).encode())  # which never writes into another name of somebody's file
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _require_own(path: Path) -> None:
    """Raise `CorruptionError` for a file under several names that holds something: who locks it empties it."""
    if path.exists() and (found := path.stat()).st_nlink > 1 and found.st_size > 0:
        raise CorruptionError(f"{path} is another name of a file that is not marline's; remove that name")
