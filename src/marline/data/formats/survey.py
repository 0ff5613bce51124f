"""What is in the columns of tables, before anybody said what they are: types, ranges, words, and what is missing.

Nothing is refused here but what cannot be read at all. Imports pyarrow.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute as arrow_compute

from marline.data.formats.arrow import LISTS, plain
from marline.data.formats.table_columns import repeated_columns
from marline.data.formats.table_files import Kept, batches, opened_table
from marline.data.formats.table_names import stem_of, table_kind
from marline.data.formats.table_values import FALSE, TRUE, Style, cells, is_text, words_of
from marline.data.formats.times import formats_of
from marline.data.mapping import ImportMapping, Values
from marline.errors import CorruptionError, DataError

compute: Any = arrow_compute  # its functions are made when it is imported
MOST_WORDS = 1000  # that are counted
_HEAD = 1 << 16  # bytes of text that tell how it is written
_FRACTION = re.compile(r"[+-]?[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?")
_MOSTLY = 0.9
_SOME = 1000  # texts that tell how times are written
Kind = Literal["nothing", "number", "truth", "words", "time", "list", "other"]


class Place(NamedTuple):
    """A row of one of the tables that are looked through."""

    table: int
    row: int


@dataclasses.dataclass
class Facts:
    """What is in a column.

    Attributes:
        name: of the column.
        kind: what most of it is.
        rows, missing: how many there are, and without anything.
        first_missing: the first such row.
        low, high: of numbers; of times, seconds.
        is_whole: whether all numbers are whole.
        words: how often each of the first words or whole numbers is there.
        has_more: whether there are others than those.
        bad: words among numbers, and the first row of each.
        num_bad: rows with such words.
        time_format: how times are written, if not as ISO 8601 has it.
        other_format: how they may be written as well, day and month exchanged.
        width: numbers in a list.
        type: what the file calls it.
    """

    name: str
    kind: Kind = "nothing"
    rows: int = 0
    missing: int = 0
    first_missing: Place | None = None
    low: float = np.inf
    high: float = -np.inf
    is_whole: bool = True
    words: Counter[str] = dataclasses.field(default_factory=Counter)
    has_more: bool = False
    bad: dict[str, Place] = dataclasses.field(default_factory=dict)
    num_bad: int = 0
    time_format: str = ""
    other_format: str = ""
    width: int = 1
    type: str = ""

    @property
    def is_labels(self) -> bool:
        """Whether it may tell things apart: words or whole numbers."""
        return self.kind == "words" or (self.kind == "number" and self.is_whole)

    @property
    def is_truth(self) -> bool:
        """Whether it may tell of each row whether something is so: truth values, yes and no, or 1 and 0."""
        if self.kind == "words":
            return not self.has_more and {word.lower() for word in self.words} <= {*TRUE, *FALSE}
        return self.kind == "truth" or (self.kind == "number" and {self.low, self.high} <= {0.0, 1.0})


@dataclasses.dataclass
class Survey:
    """What is in some tables.

    Attributes:
        paths: of the tables.
        style: how their text is written, as a mapping has it.
        facts: by column.
        columns: of each table.
        rows: of each table.
    """

    paths: Sequence[Path]
    style: ImportMapping
    facts: dict[str, Facts]
    columns: list[list[str]]
    rows: list[int]

    def where(self, place: Place) -> str:
        """A row, and its table where there are several, for messages."""
        return f"row {place.row}" + (f" of {self.paths[place.table].name}" if len(self.paths) > 1 else "")


def survey(paths: Sequence[Path], given: ImportMapping) -> Survey:
    """Look through tables once.

    Args:
        paths: of the tables.
        given: what is said of them; how text is written is found out where it is not said.

    Raises:
        CorruptionError, DataError: a table cannot be read.
    """
    style = _style(paths[0], given)
    try:
        return _survey(paths, style)
    except CorruptionError as error:
        if style.encoding != "utf-8" or "UTF8" not in str(error):
            raise
        return _survey(paths, dataclasses.replace(style, encoding="cp1252"))


def _survey(paths: Sequence[Path], style: ImportMapping) -> Survey:
    found = Survey(paths, style, {}, [], [])
    for number, path in enumerate(paths):
        names: list[str] = []
        num_rows = 0
        for batch in batches(path, style, lambda present: Kept(present, present, present)):
            names = batch.names
            if batch.first == 0:
                _require_names(path, names)
            num_rows += len(batch.rows)
            for place, name in enumerate(names):
                facts = found.facts.setdefault(name, Facts(name))
                _look(facts, batch.rows.column(place), Place(number, batch.first), style)
        found.columns.append(names)
        found.rows.append(num_rows)
    return found


def _require_names(path: Path, names: Sequence[str]) -> None:
    """Raise `DataError` where the first line of a table holds no names of columns, or one of them twice."""
    values = [name for name in names if _FRACTION.fullmatch(name.strip())]
    if values:
        raise DataError(
            f"{path}: its first line holds values, such as {values[0].strip()}, where the names of the columns belong; "
            "write them there, as in agent,episode,step,..."
        )
    for problem in repeated_columns(str(path), names):
        raise DataError(f"{problem}, or write the names of the columns into the first line if it holds values")


def _look(facts: Facts, column: pa.Array, first: Place, style: ImportMapping) -> None:
    """Take note of a part of a column."""
    facts.type = facts.type or str(column.type)
    facts.rows += len(column)
    column = plain(column)
    kind = column.type
    if isinstance(kind, LISTS):
        _miss(facts, column.is_null().to_numpy(zero_copy_only=False), first)
        facts.kind = "list"
        widths = compute.list_value_length(column).drop_null()
        facts.width = int(widths[0].as_py()) if len(widths) else facts.width
        return
    if not (is_text(kind) or pa.types.is_temporal(kind) or _is_number(kind)):
        facts.kind = "nothing" if pa.types.is_null(kind) else "other"
        _miss(facts, column.is_null().to_numpy(zero_copy_only=False), first)
        return
    if is_text(kind):
        text = words_of(column, style.nothing)
        _look_at_text(facts, text, first, style)
        return
    if pa.types.is_temporal(kind):
        facts.kind = "time"
        _range(facts, column, first, style, is_time=True)
        _count(facts, column.cast(pa.string()) if pa.types.is_date(kind) else None)
        return
    facts.kind = "truth" if pa.types.is_boolean(kind) else "number"
    values = _range(facts, column, first, style)
    _count(facts, words_of(column) if facts.is_whole and values is not None else None)


def _look_at_text(facts: Facts, text: pa.Array, first: Place, style: ImportMapping) -> None:
    missing = text.is_null().to_numpy(zero_copy_only=False)
    there = text.drop_null()
    if not len(there):
        _miss(facts, missing, first)
        return
    readable = _numeric(there, style.decimal)
    share = float(readable.mean())
    if facts.kind in ("nothing", "number") and share >= _MOSTLY:
        facts.kind = "number"
        places = np.flatnonzero(~missing)
        for place in places[~readable]:
            facts.num_bad += 1
            if len(facts.bad) < 20:
                facts.bad.setdefault(str(text[int(place)])[:40], first._replace(row=first.row + int(place)))
        keep = np.zeros(len(text), bool)
        keep[places[readable]] = True
        cleaned = compute.if_else(pa.array(keep), text, pa.scalar(None, pa.string()))
        _range(facts, cleaned, first, style)
        _count(facts, cleaned if facts.is_whole else None)
        return
    if facts.kind in ("nothing", "time"):
        formats = [known] if (known := style.time_format or facts.time_format) else formats_of(there.slice(0, _SOME))
        if formats:
            facts.kind, facts.time_format, facts.other_format = "time", formats[0], (*formats, "")[1]
            timed = dataclasses.replace(style, time_format=formats[0])
            with contextlib.suppress(DataError):
                _range(facts, text, first, timed, is_time=True)
                return
    lower = {str(word).lower() for word in there.unique().to_pylist()[:10]}
    facts.kind = "truth" if lower <= {"true", "false"} and facts.kind in ("nothing", "truth") else "words"
    _miss(facts, missing, first)
    _count(facts, there)


def _numeric(text: pa.Array, decimal: str) -> np.ndarray:
    if decimal == ",":
        text = compute.replace_substring(text, ",", ".")
    pattern = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
    return compute.match_substring_regex(text, pattern).to_numpy(zero_copy_only=False)


def _range(
    facts: Facts, column: pa.Array, first: Place, style: ImportMapping, *, is_time: bool = False
) -> np.ndarray | None:
    numbers = np.arange(first.row, first.row + len(column))
    told = Style(style.decimal, style.time_format)
    found = cells(column, facts.name, Values(), told, numbers, may_miss=True, is_time=is_time)
    missing = np.zeros(len(column), bool) if found.missing is None else found.missing
    values = found.values[~missing].astype(np.float64)
    _miss(facts, missing, first)
    if len(values):
        facts.low, facts.high = min(facts.low, float(values.min())), max(facts.high, float(values.max()))
        with np.errstate(invalid="ignore"):
            facts.is_whole &= bool((values == np.floor(values)).all())
    return values


def _miss(facts: Facts, missing: np.ndarray, first: Place) -> None:
    facts.missing += int(missing.sum())
    if missing.any() and facts.first_missing is None:
        facts.first_missing = first._replace(row=first.row + int(np.argmax(missing)))


def _count(facts: Facts, text: pa.Array | None) -> None:
    if text is None or facts.has_more:
        return
    counted = compute.value_counts(text.drop_null())
    if len(counted) + len(facts.words) > 4 * MOST_WORDS:
        facts.has_more = True
        return
    for word, count in zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True):
        facts.words[str(word)[:200]] += count
    facts.has_more = len(facts.words) > MOST_WORDS


def _is_number(kind: pa.DataType) -> bool:
    return any(of(kind) for of in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal))


def _style(path: Path, given: ImportMapping) -> ImportMapping:
    """How the text of a table is written, where nobody said."""
    if table_kind(path) != ".csv":
        return given
    with opened_table(path) as file:
        head = file.read(_HEAD)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        given = dataclasses.replace(given, encoding="utf-16")
    lines = head.decode(given.encoding, "replace").lstrip("\ufeff").splitlines()[:50]
    lines = lines[:-1] if len(lines) > 1 and len(head) == _HEAD else lines
    if given.separator == "," and lines:
        counts = {mark: [len(next(csv.reader([line], delimiter=mark), [])) for line in lines] for mark in ",;\t|"}
        most = len(lines) / 2  # a broken line or two say nothing against it
        alike = {mark: its[0] for mark, its in counts.items() if its[0] > 1 and its.count(its[0]) > most}
        if alike:
            given = dataclasses.replace(given, separator=max(alike, key=lambda mark: (alike[mark], mark == ",")))
    if given.separator != "," and given.decimal == ".":
        parts = [part.strip() for line in lines[1:] for part in next(csv.reader([line], delimiter=given.separator), [])]
        with_comma = sum(bool(re.fullmatch(r"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?", part)) for part in parts)
        with_point = sum(bool(re.fullmatch(r"[+-]?[0-9]+\.[0-9]+([eE][+-]?[0-9]+)?", part)) for part in parts)
        if with_comma > with_point:
            given = dataclasses.replace(given, decimal=",")
    return given


@dataclasses.dataclass
class Order:
    """In which order the rows of an agent are.

    Attributes:
        rows, episodes: how many there are.
        is_sorted: whether its episodes come one after the other, and steps grow in them.
        repeated: rows of a step that was there before.
        every: how far apart two steps usually are; None where nothing tells.
        is_regular: whether nearly all are that far apart, or a whole number of times as far.
        gaps, lost: where steps are missing within an episode, and how many.
        incomplete: rows in which something is missing.
    """

    rows: int = 0
    episodes: int = 0
    is_sorted: bool = True
    repeated: int = 0
    every: float | None = None
    is_regular: bool = True
    gaps: int = 0
    lost: int = 0
    incomplete: int = 0


def orders(
    paths: Sequence[Path],
    style: ImportMapping,
    *,
    agent: str | None,
    episode: str | None,
    step: str | None,
    is_time: bool,
    needed: dict[str | None, list[str]],
) -> dict[str | None, Order]:
    """How the rows of each agent follow each other.

    Args:
        paths, style: as of a survey.
        agent, episode, step: the columns that tell, if any do.
        is_time: whether the last holds times.
        needed: by agent, columns in which nothing may be missing; under None of all of them.
    """
    parts: dict[str | None, list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]] = {}
    incomplete: Counter[str | None] = Counter()
    codes: dict[str, int] = {}
    wanted = {name for name in (agent, episode, step) if name} | {one for its in needed.values() for one in its}
    kept = Kept(wanted, wanted, wanted)
    for path in paths:
        owner = style.agent_of(stem_of(path)) if len(paths) > 1 and agent is None else None
        owner = owner if owner in needed else None  # whose table it is, if of one with columns of its own
        for batch in batches(path, style, lambda present: kept):
            rows = batch.rows
            number = np.arange(batch.first, batch.first + len(rows))
            episodes = np.zeros(len(rows), np.int64)
            if episode:
                encoded = words_of(rows.column(episode)).fill_null("").dictionary_encode()
                mine = [codes.setdefault(str(word), len(codes)) for word in encoded.dictionary.to_pylist()]
                episodes = np.array(mine, np.int64)[encoded.indices.to_numpy()] if mine else episodes
            steps = None
            if step:
                with contextlib.suppress(DataError):
                    told = Style(style.decimal, style.time_format, style.nothing)
                    found = cells(rows.column(step), step, Values(), told, number, may_miss=True, is_time=is_time)
                    steps = found.values.astype(np.float64)
            for whose, places in _by_label(rows, agent, path if len(paths) > 1 else None):
                parts.setdefault(whose, []).append(
                    (episodes[places], number[places], None if steps is None else steps[places])
                )
            for whose, names in needed.items():
                if owner is not None and whose not in (None, owner):
                    continue
                gone = np.zeros(len(rows), bool)
                for name in names:
                    if name in rows.schema.names:  # tables of one folder need not have the same columns
                        gone |= _absent(rows.column(name), style)
                for label, places in _by_label(rows, agent, path if len(paths) > 1 else None):
                    incomplete[label if whose is None else whose] += int(gone[places].sum())
    return {whose: _order(its, incomplete, whose) for whose, its in parts.items()} | {
        whose: Order(incomplete=incomplete[whose]) for whose in needed if whose is not None and whose not in parts
    }


def _by_label(rows: pa.RecordBatch, agent: str | None, path: Path | None) -> Iterator[tuple[str | None, np.ndarray]]:
    if agent is None:
        yield (None if path is None else stem_of(path)), np.arange(len(rows))
        return
    encoded = words_of(rows.column(agent)).fill_null("").dictionary_encode()
    places = encoded.indices.to_numpy()
    for code, label in enumerate(encoded.dictionary.to_pylist()):
        yield str(label), np.flatnonzero(places == code)


def _absent(column: pa.Array, style: ImportMapping) -> np.ndarray:
    column = plain(column)
    if is_text(column.type):
        return words_of(column, style.nothing).is_null().to_numpy(zero_copy_only=False)
    return column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)


def _order(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]], incomplete: Counter[str | None], whose: str | None
) -> Order:
    episodes = np.concatenate([part[0] for part in parts])
    steps = None
    given = [part[2] for part in parts if part[2] is not None]
    if len(given) == len(parts):
        steps = np.concatenate(given)
    changes = int(np.count_nonzero(episodes[1:] != episodes[:-1])) + bool(len(episodes))
    found = Order(len(episodes), len(np.unique(episodes)), incomplete=incomplete[whose])
    found.is_sorted = changes == found.episodes
    if steps is None or len(steps) < 2:
        return found
    same = episodes[1:] == episodes[:-1]
    found.is_sorted &= not bool((np.diff(steps)[same] < 0).any())
    order = np.lexsort((steps, episodes))
    episodes, steps = episodes[order], steps[order]
    jumps = np.diff(steps)[episodes[1:] == episodes[:-1]]
    found.repeated = int(np.count_nonzero(jumps == 0))
    jumps = jumps[jumps > 0]
    if not len(jumps):
        return found
    found.every = _rounded(float(np.median(jumps)), float(np.abs(steps).max()))
    times = jumps / found.every
    found.is_regular = bool(np.mean(np.abs(times - np.rint(times)) < 0.1) >= _MOSTLY)
    late = np.rint(times[times > 1.5]) - 1
    found.gaps, found.lost = len(late), int(late.sum())
    return found


def _rounded(step: float, most: float) -> float:
    """What is left of a step between numbers as large as `most` without what float64 could not hold of them."""
    digits = math.floor(-math.log10(4 * math.ulp(most))) if most > 0 else 15
    return round(step, digits) or step
