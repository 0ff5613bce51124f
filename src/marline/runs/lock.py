"""One writer per run directory: the second one leaves within a second and names the first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from marline.data.files import StorageError, open_regular
from marline.data.locking import HeldError, locked
from marline.errors import ConfigError, MarlineError
from marline.runs.layout import require_plain_run

PATIENCE = 0.5  # seconds
LONGEST = 20  # bytes of a process's number


@contextlib.contextmanager
def writing(folder: Path, *, known: Collection[Path] = ()) -> Iterator[None]:
    """Hold the run directory for writing.

    Args:
        folder: the run directory.
        known: folders in it that this process has looked through, or written, already.

    Raises:
        ConfigError: another process holds it.
        CorruptionError: something in it is no plain file or folder.
        StorageError: it may not be written, or its file system has no locks.
    """
    require_plain_run(folder, known=known)
    owner = folder / "run.pid"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder / "run.lock", PATIENCE))
        except HeldError:
            raise ConfigError(
                f"{folder} is being written by process {_owner(owner)}; wait for it, or stop it"
            ) from None
        try:
            owner.unlink(missing_ok=True)  # what a killed writer left, or a link to something else
            with open(owner, "x") as file:
                file.write(str(os.getpid()))
        except OSError as error:
            raise StorageError(
                f"cannot write {owner}: {error.strerror}; choose a folder that you may write, or change its permissions"
            ) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a disk that was taken away meanwhile
                owner.unlink()


def _owner(path: Path) -> str:
    """The number of the process that wrote a file, or a question mark."""
    try:
        with open_regular(path) as file:
            text = file.read(LONGEST).decode("ascii", "replace")
    except MarlineError:
        return "?"
    return text if text.isdecimal() else "?"
