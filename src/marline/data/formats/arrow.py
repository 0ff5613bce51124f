"""Arrow's columns as NumPy arrays; imports pyarrow, so only what needs it imports this."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from marline.data.files import open_regular
from marline.data.layout import require_keys
from marline.errors import CorruptionError, DataError

LISTS = (pa.FixedSizeListType, pa.ListType, pa.LargeListType)


def read_arrow_file(path: Path, keys: Collection[str]) -> dict[str, np.ndarray | dict[str, np.ndarray]]:
    """Some columns of an Arrow file; a struct becomes its fields by name."""
    with open_regular(path) as file:
        try:
            table = pa.ipc.open_file(file).read_all()
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise CorruptionError(f"{path} is no Arrow file, or is altered ({error}); export it again") from error
    require_keys(table.column_names, keys, str(path))
    columns = {}
    for key in keys:
        column = table[key].combine_chunks()
        if pa.types.is_struct(column.type):
            columns[key] = {f.name: to_numpy(column.field(f.name), f"{path}: {key}") for f in column.type}
        else:
            columns[key] = to_numpy(column, f"{path}: {key}")
    return columns


def plain(column: pa.Array) -> pa.Array:
    """The values themselves, where an array holds each of them once and refers to it."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def to_numpy(column: pa.Array, what: str, first: int = 0) -> np.ndarray:
    """Numbers as [n], lists of numbers of one length as [n, length].

    Args:
        column: without nulls.
        what: names the column in messages.
        first: number of its first row, for messages.

    Raises:
        DataError: text, a null, lists in lists, or lists of unequal length.
    """
    column = plain(column)
    if column.null_count:
        row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"{what} is empty at row {row}; fill in every row, or leave out the step")
    if isinstance(column.type, LISTS):
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        if len(lengths) and (lengths != lengths[0]).any():
            row = int(np.argmax(lengths != lengths[0]))
            raise DataError(
                f"{what} has {lengths[row]} numbers at row {first + row} and {lengths[0]} before; "
                "export as many at every step"
            )
        values = plain(column.flatten())
        if isinstance(values.type, LISTS):
            raise DataError(f"{what} holds lists in lists at row {first}; flatten each of them")
        return to_numpy(values, what, first).reshape(len(column), -1)
    numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
    if not numeric:
        shown = f" such as {str(column[0])[:40]!r} at row {first}" if len(column) else ""
        raise DataError(f"{what} holds {column.type}{shown} instead of numbers; export it as numbers")
    return column.to_numpy(zero_copy_only=False)
