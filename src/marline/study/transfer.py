"""A history as bytes, between the machine that has the run directory and one that works on a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from marline.data.files import atomic_bytes, publish_directory
from marline.runs.history import History


class Published(NamedTuple):
    """What a history published by one rename: a folder with its files, or one file.

    Attributes:
        place: where it lies in the folder of the history.
        files: contents by name; the one file of a place that is a file has the name "".
    """

    place: str
    files: Mapping[str, bytes]


class Outbox:
    """Packs what is new in a history since it was asked last; at first, since the outbox was made."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._sent = self._stamps()

    def collect(self) -> list[Published]:
        """What was published, in the order in which it is to be unpacked."""
        now = self._stamps()
        news = [path for path, stamp in now.items() if self._sent.get(path) != stamp]
        self._sent = now
        return [_pack(self._history.folder, path) for path in news]

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        # a rename brings another inode, and nothing is written in place
        found = {path: path.stat() for path in self._history.published()}
        return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


def pack(history: History) -> list[Published]:
    """All of a history."""
    return [_pack(history.folder, path) for path in history.published()]


def unpack(history: History, parts: Iterable[Published]) -> None:
    """Publish parts in another history, one by one: after a crash between two, it is as if those after it never came.

    What is in place already is replaced, and checkpoints beyond those kept go.
    """
    for part in parts:
        path = history.folder / part.place
        if "" in part.files:
            atomic_bytes(path, part.files[""])
            continue
        num_bytes = sum(map(len, part.files.values()))
        with publish_directory(path, replaces=("*",), num_bytes=num_bytes) as folder:
            for name, data in part.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
    history.forget()


def _pack(home: Path, path: Path) -> Published:
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    contents = {"" if file == path else str(file.relative_to(path)): file.read_bytes() for file in files}
    return Published(str(path.relative_to(home)), contents)
