"""Flat arrays under D4RL's keys, in HDF5 or NPZ (Fu et al. 2020): joint, or one file for each agent."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from marline.data.files import open_regular, require_plausible
from marline.data.formats.log import BLOCK_ROWS, Block, block_rows
from marline.data.hdf5 import member_names, open_arrays, open_file
from marline.data.layout import OPTIONAL, REQUIRED, near_misses, require_keys, require_one_length
from marline.errors import CorruptionError, DataError
from marline.types import AgentID

# What zipfile, zlib and NumPy say of a damaged NPZ file.
DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    EOFError,
    ValueError,
    RuntimeError,  # locked by a password, packed in an unknown way, nested too deeply
    MemoryError,
    OverflowError,
    OSError,
)

_LONGEST_HEADER = 10_000  # bytes that describe an array; NumPy's own limit


def hdf5_blocks(path: Path, agent: AgentID | None, notes: list[str] | None = None) -> Iterator[Block]:
    """The rows of one HDF5 file; groups such as `infos` are left alone, and `notes` told of what seems misnamed."""
    with open_file(path) as file:
        if notes is not None:
            notes += near_misses(str(path), member_names(file))
        arrays = open_arrays(file, REQUIRED, OPTIONAL, path)
        num_rows = _common_length({key: array.shape for key, array in arrays.items()}, path)
        size = block_rows(
            str(path), sum(math.prod(a.shape[1:]) * a.dtype.itemsize for a in arrays.values()), BLOCK_ROWS
        )
        for start in range(0, num_rows, size):
            stop = min(start + size, num_rows)
            yield Block(agent, {key: np.asarray(array[start:stop]) for key, array in arrays.items()})


def npz_blocks(path: Path, agent: AgentID | None, notes: list[str] | None = None) -> Iterator[Block]:
    """The rows of one NPZ file, unpacked as a stream; object arrays, which are pickled, are refused."""
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if notes is not None:
                    notes += near_misses(str(path), [name.removesuffix(".npy") for name in archive.namelist()[:100]])
                yield from _npz_blocks(archive, path, agent)
        except DAMAGED_ARCHIVE as error:
            what = str(error).partition("\n")[0][:200]
            raise CorruptionError(f"{path} is no NPZ file, or is cut or altered ({what}); save it again") from error


def _npz_blocks(archive: zipfile.ZipFile, path: Path, agent: AgentID | None) -> Iterator[Block]:
    names = archive.namelist()
    seen: set[str] = set()
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".npy") or name in seen:
            raise DataError(f"{path} has the entry {name[:60]!r}; use numpy.savez, which writes plain names once")
        seen.add(name)
    keys = [name.removesuffix(".npy") for name in names]
    require_keys(keys, REQUIRED, str(path))
    members = {key: _Member(archive, key, path) for key in (*REQUIRED, *OPTIONAL) if key in keys}
    num_rows = _common_length({key: member.shape for key, member in members.items()}, path)
    for member in members.values():
        member.require_stored()
    size = block_rows(str(path), sum(member.row_bytes for member in members.values()), BLOCK_ROWS)
    for start in range(0, num_rows, size):
        yield Block(agent, {key: member.read(min(size, num_rows - start)) for key, member in members.items()})


class _Member:
    """One array of an archive, read from its first row to its last."""

    def __init__(self, archive: zipfile.ZipFile, key: str, path: Path) -> None:
        entry = archive.getinfo(f"{key}.npy")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f'{path}: "{key}" is packed in a way that NumPy does not use; save it with numpy.savez')
        require_plausible(f'{path}: "{key}"', entry.file_size, entry.compress_size)
        self._file: IO[bytes] = archive.open(entry)
        version = np.lib.format.read_magic(self._file)
        read_header: Any = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read_header = np.lib.format.read_array_header_2_0
        self.shape, fortran, self._dtype = read_header(self._file, max_header_size=_LONGEST_HEADER)
        if self._dtype.hasobject:
            raise DataError(f'{path}: "{key}" holds pickled objects, which are not read; save an array of numbers')
        if fortran and len(self.shape) > 1:
            raise DataError(f'{path}: "{key}" is stored by columns; save numpy.ascontiguousarray of it')
        self._key, self._stored = key, entry.file_size

    def require_stored(self) -> None:
        """Raise `EOFError` unless the array is as large as it claims to be."""
        if min(self.shape) < 0 or math.prod(self.shape) * self._dtype.itemsize > self._stored:
            claimed = f"{list(self.shape)} of {self._dtype}"
            raise EOFError(f'"{self._key}" claims to be {claimed} and has {self._stored} bytes')

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self._dtype.itemsize

    def read(self, num_rows: int) -> np.ndarray:
        num_bytes = num_rows * self.row_bytes
        data = self._file.read(num_bytes)
        if len(data) != num_bytes:
            raise EOFError("an array ends early")
        return np.frombuffer(data, self._dtype).reshape(num_rows, *self.shape[1:])


def _common_length(shapes: dict[str, tuple[int, ...]], path: Path) -> int:
    for key, shape in shapes.items():
        if not shape:
            raise DataError(f'{path}: "{key}" is a single number; export an array with a row per step')
    require_one_length(str(path), {key: shape[0] for key, shape in shapes.items()})
    return shapes["rewards"][0]
