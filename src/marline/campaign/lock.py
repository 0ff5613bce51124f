"""One writer per run directory: the second one leaves within a second and names the first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from marline.errors import ConfigError

PATIENCE = 0.5  # seconds


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the run directory for writing. The kernel lets go of the lock when its holder dies, so none is ever stale.

    Raises:
        ConfigError: another process holds it.
    """
    lock, owner = filelock.FileLock(folder / "run.lock"), folder / "run.pid"
    try:
        lock.acquire(timeout=PATIENCE)
    except filelock.Timeout:
        who = owner.read_text() if owner.exists() else "?"
        raise ConfigError(f"{folder} is being written by process {who}; wait for it, or stop it") from None
    try:
        owner.write_text(str(os.getpid()))
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
