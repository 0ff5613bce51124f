"""Flat arrays under D4RL's keys, in HDF5 or NPZ (Fu et al. 2020): joint, or one file for each agent."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from marline.data.files import open_regular
from marline.data.formats.log import BLOCK_ROWS, Block
from marline.data.hdf5 import open_arrays, open_file
from marline.data.layout import OPTIONAL, REQUIRED, require_keys, require_one_length
from marline.errors import CorruptionError, DataError
from marline.types import AgentID

# What zipfile and NumPy say of a damaged NPZ file.
DAMAGED_ARCHIVE = (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError)

_LONGEST_HEADER = 10_000  # bytes that describe an array; NumPy's own limit


def hdf5_blocks(path: Path, agent: AgentID | None) -> Iterator[Block]:
    """The rows of one HDF5 file; groups such as `infos` are left alone."""
    with open_file(path) as file:
        arrays = open_arrays(file, REQUIRED, OPTIONAL, path)
        num_rows = _common_length({key: array.shape for key, array in arrays.items()}, path)
        for start in range(0, num_rows, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, num_rows)
            yield Block(agent, {key: np.asarray(array[start:stop]) for key, array in arrays.items()})


def npz_blocks(path: Path, agent: AgentID | None) -> Iterator[Block]:
    """The rows of one NPZ file, unpacked as a stream; object arrays, which are pickled, are refused."""
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield from _npz_blocks(archive, path, agent)
        except DAMAGED_ARCHIVE as error:
            raise CorruptionError(f"{path} is no NPZ file, or is cut or altered ({error}); save it again") from error


def _npz_blocks(archive: zipfile.ZipFile, path: Path, agent: AgentID | None) -> Iterator[Block]:
    names = archive.namelist()
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".npy") or names.count(name) > 1:
            raise DataError(f"{path} has the entry {name[:60]!r}; use numpy.savez, which writes plain names once")
    keys = [name.removesuffix(".npy") for name in names]
    require_keys(keys, REQUIRED, str(path))
    members = {key: _Member(archive, key, path) for key in (*REQUIRED, *OPTIONAL) if key in keys}
    num_rows = _common_length({key: member.shape for key, member in members.items()}, path)
    for start in range(0, num_rows, BLOCK_ROWS):
        yield Block(agent, {key: member.read(min(BLOCK_ROWS, num_rows - start)) for key, member in members.items()})


class _Member:
    """One array of an archive, read from its first row to its last."""

    def __init__(self, archive: zipfile.ZipFile, key: str, path: Path) -> None:
        self._file: IO[bytes] = archive.open(f"{key}.npy")
        version = np.lib.format.read_magic(self._file)
        read_header: Any = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read_header = np.lib.format.read_array_header_2_0
        self.shape, fortran, self._dtype = read_header(self._file, max_header_size=_LONGEST_HEADER)
        if self._dtype.hasobject:
            raise DataError(f'{path}: "{key}" holds pickled objects, which are not read; save an array of numbers')
        if fortran and len(self.shape) > 1:
            raise DataError(f'{path}: "{key}" is stored by columns; save numpy.ascontiguousarray of it')

    def read(self, num_rows: int) -> np.ndarray:
        width = self.shape[1:]
        num_bytes = num_rows * math.prod(width) * self._dtype.itemsize
        data = self._file.read(num_bytes)
        if len(data) != num_bytes:
            raise EOFError("an array ends early")
        return np.frombuffer(data, self._dtype).reshape(num_rows, *width)


def _common_length(shapes: dict[str, tuple[int, ...]], path: Path) -> int:
    for key, shape in shapes.items():
        if not shape:
            raise DataError(f'{path}: "{key}" is a single number; export an array with a row per step')
    require_one_length(str(path), {key: shape[0] for key, shape in shapes.items()})
    return shapes["rewards"][0]
