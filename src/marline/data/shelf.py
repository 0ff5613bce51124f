"""Logs and teams to be had by name, from a folder or a web address: each file is what the shelf's list says it is.

A shelf is a folder with a folder for each thing on it, and `shelf.json`, the sealed list of all their files. Who knows
its seal need not trust who hands it on.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from marline.data.files import open_regular, publish_directory
from marline.data.manifest import (
    LARGEST,
    FileRecord,
    Manifest,
    read_intact,
    read_sealed,
    record_file,
    require_file_name,
    write_sealed,
)
from marline.data.migrations import SHELF
from marline.data.plain import require_plain_folder
from marline.errors import CorruptionError, DataError, require, require_name

LIST = "shelf.json"
WAIT = 60  # seconds for an answer from the web
LOCKS = ".lock"  # of who writes into a run directory; they are not carried along


class Shelf:
    """What is on a shelf.

    Attributes:
        source: a folder, or the address of one: http or https.
        about: a line on each thing, by name.
        seal: SHA-256 that vouches for the list, and so for all that is on it.

    Raises:
        ConfigError: nothing of the kind is there, or its seal is another than the one given.
        CorruptionError: the list was altered.
        DataError: it cannot be reached.
    """

    def __init__(self, source: str, *, seal: str | None = None) -> None:
        self.source = source.rstrip("/")
        self._list = self._read_list()
        self.seal = str(self._list["seal"])
        require(
            seal in (None, self.seal), f"the shelf at {source} has the seal {self.seal}, not {seal}: it is another one"
        )
        about = self._list.get("about")
        if not isinstance(about, dict) or not all(isinstance(line, str) for line in about.values()):
            raise CorruptionError(f"{self.source}/{LIST} does not tell what is on the shelf; give another mirror")
        self.about: Mapping[str, str] = about

    def get(self, name: str, folder: Path) -> None:
        """Put a copy of a thing into a new folder, which appears when all of it is what it should be.

        Raises:
            ConfigError: there is no such thing, with the nearest; or the folder exists already.
            CorruptionError: a file is another than the list says, or missing.
            DataError: the shelf cannot be reached.
            StorageError: the disk is full or the folder may not be written.
        """
        require_name(name, self.about, "thing on this shelf")
        files = {path: record for path, record in self._list["files"].items() if path.startswith(f"{name}/")}
        with publish_directory(folder, num_bytes=sum(record["size"] for record in files.values())) as scratch:
            for path, record in files.items():
                place = scratch / path.removeprefix(f"{name}/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(self._read(path, record))

    def _read_list(self) -> Manifest:
        if not _is_address(self.source):
            place = Path(self.source) / LIST
            require(place.is_file(), f"{self.source} is no shelf: it has no {LIST}; give the folder or address of one")
            return read_sealed(place, SHELF)
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / LIST
            place.write_bytes(_download(f"{self.source}/{LIST}", LARGEST))
            return read_sealed(place, SHELF)

    def _read(self, path: str, record: FileRecord) -> bytes:
        if not _is_address(self.source):
            return read_intact(Path(self.source) / path, record)
        data = _download(f"{self.source}/{path}", record["size"])
        if len(data) != record["size"] or hashlib.sha256(data).hexdigest() != record["sha256"]:
            raise CorruptionError(
                f"{self.source}/{path} is not what {LIST} says: its SHA-256 differs; try another mirror"
            )
        return data


def make_shelf(folder: Path, things: Mapping[str, tuple[str, Path]]) -> str:
    """Make a shelf of copies.

    Args:
        folder: to make.
        things: by name a line on it, and the folder that it is: logs, or a run directory.

    Returns:
        Its seal.

    Raises:
        ConfigError: a name cannot name a folder, or the shelf exists already.
        CorruptionError: a folder holds a link or a pipe.
        StorageError: the disk is full or the folder may not be written.
    """
    with publish_directory(folder) as shelf:
        files = {}
        for name, (_, given) in things.items():
            require_file_name(name, "thing")
            require_plain_folder(given)
            for path in sorted(path for path in given.rglob("*") if not path.is_dir() and path.suffix != LOCKS):
                place = shelf / name / path.relative_to(given)
                place.parent.mkdir(parents=True, exist_ok=True)
                with open_regular(path) as original, place.open("wb") as copy:
                    shutil.copyfileobj(original, copy)
                files[place.relative_to(shelf).as_posix()] = record_file(place)
        about = {name: line for name, (line, _) in things.items()}
        write_sealed(shelf / LIST, SHELF.kind, SHELF.newest, {"about": about}, files)
    return str(read_sealed(folder / LIST, SHELF)["seal"])


def _is_address(source: str) -> bool:
    require(
        "://" not in source or source.startswith(("https://", "http://")),
        f"{source} is not an address that is read; give one with https:// or http://, or a folder",
    )
    return "://" in source


def _download(address: str, size: int) -> bytes:
    """What an address gives, of at most so many bytes."""
    try:
        with urllib.request.urlopen(address, timeout=WAIT) as answer:
            data = answer.read(size + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(f"{address} cannot be had: {reason}; without a network, give a folder") from error
    if len(data) > size:
        raise CorruptionError(f"{address} has more than the {size:,} bytes that it should; try another mirror")
    return data
