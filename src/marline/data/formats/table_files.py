"""The rows of table files as they are stored, in batches: Parquet, CSV and JSON lines, the latter two also gzipped.

What is text in a file stays text here: `table_values` tells what is a number. Imports pyarrow.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from marline.data.files import open_regular, require_plausible
from marline.data.formats.log import BLOCK_ROWS
from marline.data.formats.table_names import is_packed, table_kind
from marline.data.mapping import ImportMapping
from marline.errors import CorruptionError, DataError

_BYTES = 1 << 23  # of text at a time
_LARGEST_VALUE = 8  # bytes of a number
_MOST_BRACKETS = 1000


class Kept(NamedTuple):
    """What a reader wants of a table.

    Attributes:
        columns: their names.
        whole: those whose whole numbers are to stay whole.
        text: those of CSV that are to stay text.
    """

    columns: Collection[str]
    whole: Collection[str]
    text: Collection[str] = ()


class Batch(NamedTuple):
    """Consecutive rows of a table.

    Attributes:
        names: of all columns that the table has.
        rows: those that were asked for.
        first: the number of the first row in the file.
    """

    names: list[str]
    rows: pa.RecordBatch
    first: int


def batches(path: Path, mapping: ImportMapping, keep: Callable[[list[str]], Kept]) -> Iterator[Batch]:
    """The rows of a table, from the first to the last.

    Args:
        path: the file.
        mapping: how its text is written.
        keep: which of the columns to read.

    Raises:
        CorruptionError: the file is not of its format, or altered.
        DataError: it unpacks to more than any log does.
    """
    kind = table_kind(path)
    read = {".parquet": _parquet, ".csv": _csv}.get(kind, _json)
    try:
        first = 0
        for names, rows in read(path, mapping, keep):
            yield Batch(names, rows, first)
            first += len(rows)
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeError, MemoryError) as error:
        if "Empty CSV file" in str(error):
            raise DataError(f"{path} is empty; export a row for each step of each agent") from error
        if "columns, got" in str(error):
            raise DataError(
                f"{path} cannot be read as {kind[1:]}: {error}; repair that row, or say what stands between columns: "
                'separator = ";" in [table] of a mapping, such as marline data import writes'
            ) from error
        what, fix = "altered, or something else", "repair it"
        if "onver" in str(error):
            what, fix = (
                "a column changes its type",
                "write numbers that may have fractions with a point from the start on",
            )
        elif isinstance(error, UnicodeError) or "UTF8" in str(error):
            fix = 'repair it, or say how its letters are written: encoding = "latin-1" in [table] of a mapping'
        raise CorruptionError(f"{path} cannot be read as {kind[1:]}: {what} ({error}); {fix}") from error


def _parquet(
    path: Path, mapping: ImportMapping, keep: Callable[[list[str]], Kept]
) -> Iterator[tuple[list[str], pa.RecordBatch]]:
    with open_regular(path) as file:
        parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False)
        require_plausible(str(path), _LARGEST_VALUE * _num_values(parquet.metadata), path.stat().st_size)
        names = parquet.schema_arrow.names
        kept = keep(names).columns
        for batch in parquet.iter_batches(BLOCK_ROWS, columns=[name for name in names if name in kept]):
            yield names, batch


def _num_values(metadata: pyarrow.parquet.FileMetaData) -> int:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return sum(group.column(i).num_values for group in groups for i in range(group.num_columns))


# All open the file twice: a reader reads ahead in a thread of its own, and would move the place of the next one.
def _csv(
    path: Path, mapping: ImportMapping, keep: Callable[[list[str]], Kept]
) -> Iterator[tuple[list[str], pa.RecordBatch]]:
    """Numbers are read as such; from where they are none, as text, of which `table_values` tells what is wrong."""
    read = pyarrow.csv.ReadOptions(block_size=_BYTES, encoding=mapping.encoding)
    parse = pyarrow.csv.ParseOptions(delimiter=mapping.separator)
    with opened_table(path) as file, pyarrow.csv.open_csv(file, read, parse, _conversion(mapping)) as head:
        schema = head.schema
    wanted = keep(schema.names)
    kept = [name for name in schema.names if name in wanted.columns]
    types = {field.name: field.type for field in _widened(schema, wanted.whole)}
    text = {name: pa.string() for name in kept}
    numbers = {
        name: pa.string() if name in wanted.text or pa.types.is_null(types[name]) else types[name] for name in kept
    }
    done = 0
    if numbers != text:
        try:
            with (
                opened_table(path) as file,
                pyarrow.csv.open_csv(file, read, parse, _conversion(mapping, numbers, kept)) as reader,
            ):
                for batch in reader:
                    done += len(batch)
                    yield schema.names, batch
            return
        except pa.ArrowInvalid as error:
            if "conversion error" not in str(error):
                raise
    with (
        opened_table(path) as file,
        pyarrow.csv.open_csv(file, read, parse, _conversion(mapping, text, kept)) as reader,
    ):
        before = 0
        for batch in reader:
            rows = batch.slice(max(0, done - before))
            before += len(batch)
            if len(rows):
                yield schema.names, rows


def _conversion(
    mapping: ImportMapping, types: dict[str, Any] | None = None, kept: list[str] | None = None
) -> pyarrow.csv.ConvertOptions:
    return pyarrow.csv.ConvertOptions(
        column_types=types,
        include_columns=kept,
        strings_can_be_null=True,
        null_values=[*pyarrow.csv.ConvertOptions().null_values, "None", "none", "NaT", *mapping.nothing],
        decimal_point=mapping.decimal,
    )


def _json(
    path: Path, mapping: ImportMapping, keep: Callable[[list[str]], Kept]
) -> Iterator[tuple[list[str], pa.RecordBatch]]:
    _require_flat_lines(path)
    read = pyarrow.json.ReadOptions(block_size=_BYTES)
    with opened_table(path) as file, pyarrow.json.open_json(file, read) as head:
        schema = head.schema
    wanted = keep(schema.names)
    parse = pyarrow.json.ParseOptions(explicit_schema=_widened(schema, wanted.whole))
    with opened_table(path) as file, pyarrow.json.open_json(file, read, parse) as reader:
        for batch in reader:
            yield schema.names, batch.select([name for name in schema.names if name in wanted.columns])


def _require_flat_lines(path: Path) -> None:
    """Raise `DataError` for a line that opens more brackets than a row has: pyarrow descends until it crashes."""
    with opened_table(path) as file:
        while text := file.read(_BYTES):
            characters = np.frombuffer(text, np.uint8)
            opening = np.flatnonzero((characters == ord("[")) | (characters == ord("{")))
            line = np.searchsorted(np.flatnonzero(characters == ord("\n")), opening)
            if (line[_MOST_BRACKETS:] == line[:-_MOST_BRACKETS]).any():
                raise DataError(f"{path} has a line with over {_MOST_BRACKETS} brackets; write a row per step, flat")


def _widened(schema: pa.Schema, whole: Collection[str]) -> pa.Schema:
    """The types of the first rows, but whole numbers as floats where fractions may follow."""
    return pa.schema([(field.name, field.type if field.name in whole else _wide(field.type)) for field in schema])


def _wide(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind):
        return pa.float64()
    if isinstance(kind, pa.ListType):
        return pa.list_(_wide(kind.value_type))
    return kind


@contextlib.contextmanager
def opened_table(path: Path) -> Iterator[io.BufferedIOBase]:
    """A plain file, unpacked on the way where it is gzipped."""
    with open_regular(path) as file:
        if not is_packed(path):
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked, io.BufferedReader(_Bounded(unpacked, path), _BYTES) as bounded:
            yield bounded


class _Bounded(io.RawIOBase):
    """What a gzipped file unpacks to, as long as it is not more than any log does."""

    def __init__(self, unpacked: gzip.GzipFile, path: Path) -> None:
        self._unpacked, self._path, self._stored, self._read = unpacked, path, path.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._unpacked.read(len(buffer))
        buffer[: len(data)] = data
        self._read += len(data)
        require_plausible(str(self._path), self._read, self._stored)
        return len(data)
