"""Arrays in HDF5 files: written with a checksum per chunk, read as if a stranger had made the file.

Nothing is followed out of the file, nothing is executed, and what an array claims to be is compared
with what the file stores before any memory is taken.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from marline.data.files import open_regular
from marline.data.layout import require_keys
from marline.errors import CorruptionError, DataError

CHUNK_BYTES = 1 << 20
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
_COMPRESSING = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF}
_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)  # h5py stores booleans as an enumeration
_MOST_COMPRESSED = 1100  # deflate reaches 1032 : 1 at best
_HARD_LINK = 0  # H5L_TYPE_HARD
_LARGEST_CHUNK = 1 << 30


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write non-empty arrays [n, ...] to a new file, each in chunks of about 1 MiB with a checksum.

    Raises:
        OSError: the disk is full or the path may not be written.
    """
    with _Sink(path) as sink:
        # Version 1.10 of the format: checksums on its metadata too, and every reader in use knows it.
        with h5py.File(sink, "w", libver=("v110", "v110")) as file:
            for key, array in arrays.items():
                row_bytes = array.nbytes // len(array)
                rows = min(len(array), max(1, CHUNK_BYTES // max(1, row_bytes)))
                file.create_dataset(key, data=array, chunks=(rows, *array.shape[1:]), fletcher32=True)
        if sink.error is not None:
            raise sink.error


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
    with open_regular(path) as file:
        start = file.read(len(_SIGNATURE))
    if start != _SIGNATURE:
        what = "is empty" if not start else "is not an HDF5 file"
        raise DataError(f"{path} {what}; export the logs again as HDF5 in D4RL's layout")
    try:
        with h5py.File(path, "r") as file:
            present = [key for key in (*required, *optional) if file.id.links.exists(key.encode())]
            if not set(required) <= set(present):
                require_keys(_some_names(file), required, str(path))
            arrays = {key: _open(file, key, path) for key in present}
            _require_memory(sum(array.size * array.dtype.itemsize for array in arrays.values()), path)
            return {key: np.asarray(array[()]) for key, array in arrays.items()}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise CorruptionError(f"{path} is truncated or altered ({error}); restore a copy or export it again") from error


def _open(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    """The array of this name, found harmless; none of it is read."""

    def require(harmless: bool, what: str, fix: str = "export the logs again as plain arrays") -> None:
        if not harmless:
            raise DataError(f'{path}: "{key}" {what}, which is not read; {fix}')

    require(file.id.links.get_info(key.encode()).type == _HARD_LINK, "is a soft or external link")
    array = file[key]
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
    require(claimed <= possible, f"claims to be {claimed} bytes and stores {stored}", "export the logs again, complete")
    chunk = math.prod(array.chunks or ()) * array.dtype.itemsize
    require(chunk <= _LARGEST_CHUNK, f"has chunks of {chunk} bytes", "repack it with chunks of about 1 MiB")
    return array


def _some_names(file: h5py.File) -> list[str]:
    """The first names of the root group: there may be millions."""
    names: list[str] = []

    def note(name: bytes) -> bool | None:
        names.append(name.decode(errors="replace"))
        return True if len(names) == 100 else None

    file.id.links.iterate(note)
    return names


def _require_memory(num_bytes: int, path: Path) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > memory:
        raise DataError(
            f"{path} holds {num_bytes} bytes of logs and this machine has {memory} bytes of memory; keep fewer rows"
        )
