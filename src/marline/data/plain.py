"""A folder may come from a stranger: nothing in it is read or written through a link, a pipe or a device.

Whoever opens one looks through it once, before anything else is done; the folder itself may be given
through a link, which is its user's own choice. What is opened afterwards is opened by `files.open_regular`, and what
is written takes the place of what was there by a rename, so that other names of the same file keep what they had.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from marline.data.scratch import is_scratch
from marline.errors import CorruptionError


def require_plain_folder(folder: Path, patterns: Sequence[str] = ("*",), *, known: Collection[Path] = ()) -> None:
    """Raise `CorruptionError`, naming it, if anything in a folder is no plain file or folder.

    Args:
        folder: looked through to the bottom.
        patterns: what of the entries at its top is looked at.
        known: folders in it that were looked through before, and are not again.
    """
    top = os.fspath(folder)
    passed_over = set(map(os.path.normpath, known))
    remaining = [top]
    while remaining:
        here = remaining.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:  # there may be thousands: none is made a `Path` unless it is looked into
                    if here is top and not any(fnmatch.fnmatchcase(entry.name, one) for one in patterns):
                        continue
                    if entry.is_file(follow_symlinks=False):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        # scratch is never read, and removed without following what is in it
                        if os.path.normpath(entry.path) not in passed_over and not is_scratch(Path(entry.path)):
                            remaining.append(entry.path)
                    # of a writer at work, something may just have gone
                    elif os.path.lexists(entry.path) and not _is_plain(Path(entry.path)):
                        raise CorruptionError(_told(Path(entry.path)))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CorruptionError(f"{here} cannot be looked through: {error.strerror}") from error


def require_plain_path(folder: Path, path: Path) -> None:
    """Raise `CorruptionError` if a path that leads into a folder does so by a link inside it.

    Paths that lead elsewhere are their user's choice, and so is the folder itself.
    """
    folder, path = Path(os.path.abspath(folder)), Path(os.path.abspath(path))
    if not path.is_relative_to(folder):
        return
    for part in reversed([path, *path.parents][: len(path.parts) - len(folder.parts)]):
        if os.path.lexists(part) and not _is_plain(part):
            raise CorruptionError(_told(part))


def _is_plain(path: Path) -> bool:
    return not path.is_symlink() and (path.is_file() or path.is_dir())


def _told(path: Path) -> str:
    what = "a symbolic link" if path.is_symlink() else "a pipe, a socket or a device"
    return f"{path} is {what}, which nothing is read or written through; put the file or folder itself there"
