"""What is in the cells of a table: numbers, also those written as text, words, and times; imports pyarrow."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute as arrow_compute

from marline.data.formats.arrow import LISTS, plain, to_numpy
from marline.data.formats.times import seconds_of
from marline.data.layout import first_row
from marline.data.mapping import Values
from marline.errors import DataError

compute: Any = arrow_compute  # its functions are made when it is imported
BLANKS = ("", "nan", "none", "null", "<na>", "nat")  # what programs write where there is nothing
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(inf|infinity)$"
TRUE, FALSE = ("true", "yes"), ("false", "no")


class Style(NamedTuple):
    """How numbers and times are written where they are text."""

    decimal: str = "."
    time_format: str = ""
    nothing: tuple[str, ...] = ()


class Cells(NamedTuple):
    """The numbers of a column.

    Attributes:
        values: [n] or [n, k], whole ones as integers; anything where they are missing.
        missing: [n] where something is empty or NaN; None if that is an error, and NaN one that is found later.
    """

    values: np.ndarray
    missing: np.ndarray | None


def cells(
    column: pa.Array,
    what: str,
    known: Values,
    style: Style,
    numbers: np.ndarray,
    *,
    may_miss: bool,
    is_time: bool = False,
) -> Cells:
    """The numbers that a column holds, or that its words stand for.

    Args:
        column: of any type.
        what: names it in messages.
        known: what is said of it.
        style: how numbers and times are written.
        numbers: [n] of the rows in the file, for messages.
        may_miss: whether something may be missing.
        is_time: whether times and dates are numbers, of seconds.

    Raises:
        DataError: text that is no number, an unknown word, lists in lists or of unequal length, or nothing where
            nothing may be missing.
    """
    column = plain(column)
    if known.one_hot or known.choices:
        return _words(column, what, known, style, numbers, may_miss)
    kind = column.type
    if isinstance(kind, LISTS):
        return _lists(column, what, numbers, may_miss)
    if is_time and (pa.types.is_temporal(kind) or is_text(kind)):
        column = _seconds(column, what, style, numbers)
    elif is_text(kind):
        column = _parsed(column, what, style, numbers)
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_null(kind):
        column = pa.nulls(len(column), pa.float64())
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if missing.any():
        _require_may_miss(what, missing, numbers, may_miss)
        column = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    values = to_numpy(column, what, int(numbers[0]) if len(numbers) else 0)
    if may_miss and values.dtype.kind == "f":
        missing = missing | np.isnan(values)
    if known.factor != 1:
        values = values * known.factor
    return Cells(values, missing if may_miss else None)


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def words_of(column: pa.Array, nothing: tuple[str, ...] = ()) -> pa.Array:
    """What a column of words or whole numbers says, as text without blanks around; null where it says nothing.

    `nothing` are words that say nothing, beside the usual ones.
    """
    column = plain(column)
    if pa.types.is_floating(column.type):
        values = column.to_numpy(zero_copy_only=False).astype(np.float64)
        whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53)
        if (whole | np.isnan(values)).all():
            column = pa.array(np.where(whole, values, 0).astype(np.int64), mask=~whole)
    if not is_text(column.type):
        return column.cast(pa.string())
    text = compute.utf8_trim_whitespace(column.cast(pa.string()))
    blank = compute.is_in(compute.utf8_lower(text), pa.array([*BLANKS, *(word.lower() for word in nothing)]))
    return compute.if_else(blank, pa.scalar(None, pa.string()), text)


def _words(column: pa.Array, what: str, known: Values, style: Style, numbers: np.ndarray, may_miss: bool) -> Cells:
    words = known.one_hot or known.choices
    text = words_of(column, style.nothing)
    missing = text.is_null().to_numpy(zero_copy_only=False)
    places = compute.index_in(text, pa.array(words)).fill_null(-1).to_numpy(zero_copy_only=False)
    strange = (places < 0) & ~missing
    if strange.any() and (known.other == "refuse" or (known.other == "missing" and not may_miss)):
        row = first_row(strange)
        which = "one_hot" if known.one_hot else "choices"
        listed = ", ".join(words[:8]) + (", ..." if len(words) > 8 else "")
        ways = 'other = "missing" or "zeros"' if known.one_hot else 'other = "missing"'
        fix = f"add it to them, or say what becomes of such words: {ways} beside them in a mapping"
        if known.other == "missing":
            fix = 'it counts as missing (other), so say missing = "cut" in [rows] of the mapping, or fill'
        raise DataError(
            f"{what} holds {str(text[row])[:40]!r} at row {numbers[row]}, which is none of its {which} ({listed}); "
            f"{fix}"
        )
    if known.other == "missing":
        missing = missing | strange
    _require_may_miss(what, missing, numbers, may_miss)
    values = places.astype(np.int64)
    if known.one_hot:
        values = (np.arange(len(words)) == values[:, None]).astype(np.float32)
    else:
        values = np.maximum(values, 0)  # where it is missing
    return Cells(values, missing if may_miss else None)


def _lists(column: pa.Array, what: str, numbers: np.ndarray, may_miss: bool) -> Cells:
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if not (may_miss and missing.any()):
        values = to_numpy(column, what, int(numbers[0]) if len(numbers) else 0)
    else:
        there = to_numpy(column.filter(pa.array(~missing)), what, int(numbers[0]))
        values = np.zeros((len(column), there.shape[1] if there.ndim == 2 else 0), there.dtype)
        values[~missing] = there
    if may_miss and values.dtype.kind == "f":
        missing = missing | np.isnan(values).any(axis=1)
    return Cells(values, missing if may_miss else None)


def _require_may_miss(what: str, missing: np.ndarray, numbers: np.ndarray, may_miss: bool) -> None:
    if missing.any() and not may_miss:
        raise DataError(
            f"{what} is empty at row {numbers[first_row(missing)]}; fill in every row, or leave out the step: "
            'missing = "cut" in [rows] of a mapping does'
        )


def _parsed(column: pa.Array, what: str, style: Style, numbers: np.ndarray) -> pa.Array:
    """Text as whole numbers, or else numbers, or else truth values; null where there is nothing."""
    text = words_of(column, style.nothing)
    if style.decimal == ",":
        text = compute.replace_substring(text, ",", ".")
    for kind in (pa.int64(), pa.float64()):
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    lower = compute.utf8_lower(text)
    if compute.all(compute.is_in(lower, pa.array([*TRUE, *FALSE, None], pa.string()))).as_py():
        return compute.if_else(
            compute.is_valid(lower), compute.is_in(lower, pa.array(TRUE)), pa.scalar(None, pa.bool_())
        )
    wrong = compute.invert(compute.match_substring_regex(lower, _NUMBER)).fill_null(False).to_numpy(False)
    row = first_row(wrong) if wrong.any() else 0
    raw = str(column[row])
    fix = "export it as numbers, or list its words as one_hot or choices in a mapping"
    if style.decimal == "." and raw.count(",") == 1 and raw.replace(",", "").strip("-+ ").isdigit():
        fix = 'say that numbers have a comma: decimal = "," in [table] of a mapping'
    raise DataError(f"{what} holds {column.type} such as {raw[:40]!r} at row {numbers[row]} instead of numbers; {fix}")


def _seconds(column: pa.Array, what: str, style: Style, numbers: np.ndarray) -> pa.Array:
    """Times as seconds; text that is no time as the numbers that it holds."""
    if is_text(column.type):
        text = words_of(column, style.nothing)
        try:
            return pa.array(seconds_of(text, style.time_format), from_pandas=True)
        except pa.ArrowInvalid as error:
            if style.time_format:
                raise DataError(
                    f"{what} is no time like {style.time_format!r} ({str(error)[:100]}); correct time_format"
                ) from None
        try:
            return _parsed(column, what, style, numbers)
        except DataError:
            raise DataError(
                f"{what} holds {str(column[0])[:40]!r} at row {numbers[0]}, which is no time of ISO 8601 and no "
                'number; say how it is written, such as time_format = "%d.%m.%Y %H:%M:%S" in [table] of a mapping'
            ) from None
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_time(column.type):
        unit = column.type.unit
        whole = column.cast(pa.int32() if unit in ("s", "ms") else pa.int64()).cast(pa.int64())
    else:
        unit, whole = column.type.unit, column.cast(pa.int64())
    seconds = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    return compute.divide(whole.cast(pa.float64(), safe=False), seconds)
