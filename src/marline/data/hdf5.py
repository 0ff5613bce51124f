"""Arrays in HDF5 files: written with a checksum per chunk, read as if a stranger had made the file.

Nothing is followed out of the file, nothing is executed, and what an array claims to be is compared
with what the file stores before any memory is taken.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from marline.data.files import HARMLESS, NO_LOCKS, open_regular, require_plausible
from marline.data.layout import require_keys
from marline.errors import CorruptionError, DataError
from marline.runtime import physical_memory

CHUNK_BYTES = 1 << 20
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LEAST_USER_BLOCK = 512
_FAILURES = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what h5py raises of a damaged file
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
_COMPRESSING = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF}
_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)  # h5py stores booleans as an enumeration
_MOST_COMPRESSED = 1100  # deflate reaches 1032 : 1 at best
_HARD_LINK = 0  # H5L_TYPE_HARD
_LARGEST_CHUNK = 1 << 30
_CACHE_BYTES = 1 << 24  # of each array: rows are read in blocks, and chunks may hold more columns or rows


class ArrayWriter:
    """Writes arrays [n, ...] to a new file, block of rows by block of rows, in chunks of about 1 MiB with a checksum.

    Blocks may be of any length; every one brings the same arrays. A caller that fails calls `close` too.
    """

    def __init__(self, path: Path) -> None:
        self._sink = _Sink(path)
        # Version 1.10 of the format: checksums on its metadata too, and every reader in use knows it.
        self._file = h5py.File(self._sink, "w", libver=("v110", "v110"))
        self._waiting: dict[str, list[np.ndarray]] = {}  # less than a chunk of each: HDF5 rewrites half-filled ones

    def append(self, block: Mapping[str, np.ndarray]) -> None:
        """Add rows to every array.

        Raises:
            OSError: the disk is full.
        """
        for key, rows in block.items():
            waiting = self._waiting.setdefault(key, [])
            waiting.append(rows)
            chunk = _chunk_rows(rows)
            whole = sum(map(len, waiting)) // chunk * chunk
            if whole:
                joined = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                self._write(key, joined[:whole], chunk)
                # a copy, since a slice would keep the whole block alive
                self._waiting[key] = [joined[whole:].copy()] if whole < len(joined) else []
        if self._sink.error is not None:
            raise self._sink.error

    def close(self) -> None:
        """Write what is left.

        Raises:
            OSError: the disk is full.
        """
        for key, waiting in self._waiting.items():
            if waiting:
                rest = np.concatenate(waiting)
                self._write(key, rest, len(rest))
        self._waiting = {}
        self._file.close()
        self._sink.close()
        if self._sink.error is not None:
            raise self._sink.error

    def _write(self, key: str, rows: np.ndarray, chunk: int) -> None:
        if key in self._file:
            array = self._file[key]
            assert isinstance(array, h5py.Dataset)
            before = len(array)
            array.resize(before + len(rows), axis=0)
            array[before:] = rows
        else:
            width = rows.shape[1:]
            self._file.create_dataset(key, data=rows, chunks=(chunk, *width), maxshape=(None, *width), fletcher32=True)


def _chunk_rows(rows: np.ndarray) -> int:
    return max(1, CHUNK_BYTES // max(1, rows.dtype.itemsize * math.prod(rows.shape[1:])))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write non-empty arrays [n, ...] to a new file; see `ArrayWriter`.

    Raises:
        OSError: the disk is full or the path may not be written.
    """
    writer = ArrayWriter(path)
    try:
        writer.append(arrays)
    finally:
        writer.close()


class _Sink(io.FileIO):
    """A new file whose writing never seems to fail: the HDF5 library crashes on a full disk.

    After the first `error` nothing more is written.
    """

    error: OSError | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")

    def write(self, data: Any, /) -> int:
        left = memoryview(data)
        size = len(left)
        try:
            while len(left) and self.error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size) if self.error is None else 0
        except OSError as error:
            self.error = error
            return 0


def read_arrays(path: Path, required: Collection[str], optional: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Read some arrays of the root group; anything else in the file is left alone.

    Args:
        path: an HDF5 file; not a symbolic link.
        required: names that must be there.
        optional: names that may be.

    Raises:
        DataError: not HDF5, a required name is missing, or one is a link, a group, virtual, stored in
            another file, made by an unknown filter, not numbers, or larger than the file can hold or memory.
        CorruptionError: the file is truncated or altered.
    """
    with open_file(path) as file:
        arrays = open_arrays(file, required, optional, path)
        _require_memory(sum(array.size * array.dtype.itemsize for array in arrays.values()), path)
        return {key: np.asarray(array[()]) for key, array in arrays.items()}


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """A plain HDF5 file, open for reading; what the library finds wrong meanwhile becomes `CorruptionError`.

    Raises:
        DataError: it is something else.
        CorruptionError: it is truncated or altered.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not _is_signed(file, size):
            what = "is not an HDF5 file" if size else "is empty"
            raise DataError(f"{path} {what}; export the logs again as HDF5 in D4RL's layout")
    try:
        with _opened(path) as file:
            yield file
    except _FAILURES as error:
        if "unable to lock file" in str(error):
            raise DataError(
                f"{path} is open for writing elsewhere; let that program close it, and try again"
            ) from error
        if "already open for write" in str(error):
            raise DataError(
                f"{path} is open for writing elsewhere, or the program that wrote it never closed it; close it there, "
                "or export the logs again"
            ) from error
        raise CorruptionError(f"{path} is truncated or altered ({error}); restore a copy or export it again") from error


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES, locking=False)  # reading does not need them


def _is_signed(file: io.BufferedReader, size: int) -> bool:
    """Whether HDF5 begins at the start, or behind a block of the user's of 512 bytes, or twice that, and so on."""
    place = 0
    while place < size:
        file.seek(place)
        if file.read(len(_SIGNATURE)) == _SIGNATURE:
            return True
        place = 2 * place or _LEAST_USER_BLOCK
    return False


def open_arrays(
    group: h5py.Group, required: Collection[str], optional: Collection[str], path: Path
) -> dict[str, h5py.Dataset]:
    """The arrays of these names in a group, found harmless; none of them is read. Errors as of `read_arrays`."""
    present = [key for key in (*required, *optional) if group.id.links.exists(key.encode())]
    if not set(required) <= set(present):
        require_keys(member_names(group), required, str(path))
    return {key: open_array(group, key, path) for key in present}


def open_group(group: h5py.Group, key: str, path: Path) -> h5py.Group:
    """A group inside another, not behind a link; `DataError` if it is anything else."""
    if not group.id.links.exists(key.encode()):
        require_keys(member_names(group), [key], str(path))
    if group.id.links.get_info(key.encode()).type != _HARD_LINK:
        raise DataError(f'{path}: "{key}" is a soft or external link, which is not read; export the logs again')
    member = group[key]
    if not isinstance(member, h5py.Group):
        raise DataError(f'{path}: "{key}" is an array where a group is needed; export the logs again')
    return member


def is_group(group: h5py.Group, key: str) -> bool:
    """Whether a name that is there stands for a group, told without following a link."""
    links = group.id.links
    return links.get_info(key.encode()).type == _HARD_LINK and group.get(key, getclass=True) is h5py.Group


def open_array(group: h5py.Group, key: str, path: Path) -> h5py.Dataset:
    """The array of this name, found harmless; none of it is read."""

    def require(harmless: bool, what: str, fix: str = "export the logs again as plain arrays") -> None:
        if not harmless:
            raise DataError(f'{path}: "{key}" {what}, which is not read; {fix}')

    require(group.id.links.get_info(key.encode()).type == _HARD_LINK, "is a soft or external link")
    array = group[key]
    if not isinstance(array, h5py.Dataset):
        raise DataError(f'{path}: "{key}" is a group where an array is needed; export the logs in D4RL\'s flat layout')
    plan = array.id.get_create_plist()
    require(plan.get_layout() != h5py.h5d.VIRTUAL, "is a virtual array, made of other files")
    require(plan.get_external_count() == 0, "is stored in another file")
    require(array.id.get_type().get_class() in _NUMBERS, "holds something other than numbers")
    filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    require(filters <= _FILTERS, f"is packed by filter {max(filters, default=0)}", "repack it with gzip or lzf")
    if array.shape is None:
        raise DataError(f'{path}: "{key}" is empty; export the logs again with at least one row')
    claimed = array.size * array.dtype.itemsize
    stored = min(array.id.get_storage_size(), path.stat().st_size)
    possible = stored * (_MOST_COMPRESSED if filters & _COMPRESSING else 1)
    if possible < claimed <= HARMLESS:
        # the library would read what was never written as zeros: fine for flags, and wrong of all else
        what = f"only {stored:,} of its {claimed:,} bytes were" if stored else "nothing was"
        raise DataError(
            f'{path}: "{key}" has shape {list(array.shape)}, but {what} ever written to it; write the zeros too if it '
            "is all zeros, or export the logs again if the program that wrote it was stopped"
        )
    require(claimed <= possible, f"claims to be {claimed} bytes and stores {stored}", "export the logs again, complete")
    if filters & _COMPRESSING:
        require_plausible(f'{path}: "{key}"', claimed, stored)
    chunk = math.prod(array.chunks or ()) * array.dtype.itemsize
    require(chunk <= _LARGEST_CHUNK, f"has chunks of {chunk} bytes", "repack it with chunks of about 1 MiB")
    return array


def member_names(group: h5py.Group, most: int = 100) -> list[str]:
    """The first names in a group: there may be millions."""
    names: list[str] = []

    def note(name: bytes) -> bool | None:
        names.append(name.decode(errors="replace"))
        return True if len(names) == most else None

    group.id.links.iterate(note)
    return names


def _require_memory(num_bytes: int, path: Path) -> None:
    memory = physical_memory()
    if num_bytes > memory:
        raise DataError(
            f"{path} holds {num_bytes} bytes of logs and this machine has {memory} bytes of memory; keep fewer rows"
        )
