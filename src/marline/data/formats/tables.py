"""Tables with a row per step: Parquet, CSV and JSON lines, of one agent after another or all interleaved.

The columns of a fleet are `agent, episode, step, obs_0, obs_1, ..., action_0, ..., reward, terminated, truncated`;
`table_columns` finds them, and names other than these are given as a mapping from key to column. Imports pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from marline.data.files import open_regular, require_plausible
from marline.data.formats.arrow import plain, to_numpy
from marline.data.formats.log import BLOCK_ROWS, Block
from marline.data.formats.table_columns import LABELS, VECTORS, describe_columns, find_columns
from marline.data.layout import Columns, flags, logs_of
from marline.errors import CorruptionError, DataError
from marline.types import AgentID

_BYTES = 1 << 23  # of text at a time
_LARGEST_VALUE = 8  # bytes of a number
_MOST_AGENTS = 10_000
_MOST_BRACKETS = 1000
_BLANKS = ("", "nan", "none", "null", "<na>", "nat")  # what programs write where there is nothing


def table_blocks(
    paths: Sequence[Path],
    renamed: Mapping[str, str],
    notes: list[str],
    columns: dict[AgentID | None, dict[str, list[str]]],
) -> Iterator[Block]:
    """The rows of some tables, one after the other.

    Agents are told apart by a column; several tables without one hold an agent each, whose name is
    the file's, and a single one holds the rows of all agents together.

    Args:
        paths: of the same columns.
        renamed: column names or patterns by key, where they are not the usual ones; see `find_columns`.
        notes: is told which columns were taken for what, and what is odd.
        columns: is told of every agent which source column each entry of a key is, in order.

    Raises:
        DataError: a column is missing or holds no numbers, or rows are out of order.
        CorruptionError: a file is not of its format, or altered.
    """
    state: dict[AgentID | None, _Previous] = {}
    described: set[tuple[str, ...]] = set()  # tables of a fleet are mostly alike
    for path in paths:
        first = 0
        for batch in _batches(path, renamed):
            names = find_columns(str(path), batch.schema.names, renamed)
            header = tuple(batch.schema.names)
            if header not in described:
                described.add(header)
                notes += describe_columns(str(path), header, names)
            for block in _split(path, batch, names, first, state, notes, path.stem if len(paths) > 1 else None):
                columns.setdefault(block.agent, _entries(names, block.columns))
                yield block
            first += len(batch)
    for agent, last in state.items():
        yield Block(agent, last.row)


class _Previous(NamedTuple):
    """The last row of an agent, kept back because only the next one tells whether an episode ended."""

    row: Columns
    episode: Any
    step: float
    episodes: set[Any]


def _batches(path: Path, renamed: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    def schema_of(head: pa.Schema) -> pa.Schema:
        return _widened(head, find_columns(str(path), head.names, renamed))

    try:
        if path.suffix == ".parquet":
            with open_regular(path) as file:
                parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False)
                require_plausible(str(path), _LARGEST_VALUE * _num_values(parquet.metadata), path.stat().st_size)
                yield from parquet.iter_batches(BLOCK_ROWS)
        elif path.suffix == ".csv":
            yield from _csv(path, schema_of)
        else:
            yield from _json(path, schema_of)
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        what, fix = "altered, or something else", "repair it"
        if "onver" in str(error):
            what, fix = (
                "a column changes its type",
                "write numbers that may have fractions with a point from the start on",
            )
        raise CorruptionError(f"{path} cannot be read as {path.suffix[1:]}: {what} ({error}); {fix}") from error


def _num_values(metadata: pyarrow.parquet.FileMetaData) -> int:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return sum(group.column(i).num_values for group in groups for i in range(group.num_columns))


# Both open the file twice: a reader reads ahead in a thread of its own, and would move the place of the next one.
def _csv(path: Path, schema_of: Callable[[pa.Schema], pa.Schema]) -> Iterator[pa.RecordBatch]:
    read = pyarrow.csv.ReadOptions(block_size=_BYTES)
    with open_regular(path) as file, pyarrow.csv.open_csv(file, read) as head:
        schema = schema_of(head.schema)
    convert = pyarrow.csv.ConvertOptions(column_types=schema, strings_can_be_null=True)
    with open_regular(path) as file, pyarrow.csv.open_csv(file, read, convert_options=convert) as reader:
        yield from reader


def _json(path: Path, schema_of: Callable[[pa.Schema], pa.Schema]) -> Iterator[pa.RecordBatch]:
    _require_flat_lines(path)
    read = pyarrow.json.ReadOptions(block_size=_BYTES)
    with open_regular(path) as file, pyarrow.json.open_json(file, read) as head:
        schema = schema_of(head.schema)
    parse = pyarrow.json.ParseOptions(explicit_schema=schema)
    with open_regular(path) as file, pyarrow.json.open_json(file, read, parse) as reader:
        yield from reader


def _require_flat_lines(path: Path) -> None:
    """Raise `DataError` for a line that opens more brackets than a row has: pyarrow descends until it crashes."""
    with open_regular(path) as file:
        while text := file.read(_BYTES):
            characters = np.frombuffer(text, np.uint8)
            opening = np.flatnonzero((characters == ord("[")) | (characters == ord("{")))
            line = np.searchsorted(np.flatnonzero(characters == ord("\n")), opening)
            if (line[_MOST_BRACKETS:] == line[:-_MOST_BRACKETS]).any():
                raise DataError(f"{path} has a line with over {_MOST_BRACKETS} brackets; write a row per step, flat")


def _widened(schema: pa.Schema, names: Mapping[str, list[str]]) -> pa.Schema:
    """The types of the first rows, but whole numbers as floats where fractions may follow.

    Not so for a single column of actions: from whole numbers on, its actions are choices.
    """
    kept = {name for key in ("agent", "episode", "actions") for name in names.get(key, []) if len(names[key]) == 1}
    return pa.schema([(f.name, f.type if f.name in kept else _wide(f.type)) for f in schema])


def _wide(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind):
        return pa.float64()
    if isinstance(kind, pa.ListType):
        return pa.list_(_wide(kind.value_type))
    return kind


def _split(
    path: Path,
    batch: pa.RecordBatch,
    names: Mapping[str, list[str]],
    first: int,
    state: dict[AgentID | None, _Previous],
    notes: list[str],
    only_agent: AgentID | None,
) -> Iterator[Block]:
    columns: Columns = {}
    for key in names.keys() - set(LABELS):
        parts = [_numbers(path, batch, name, key, first) for name in names[key]]
        columns[key] = _stacked(path, names[key], parts, key)
    for key in ("terminals", "timeouts"):
        columns[key] = flags(str(path), key, columns.get(key, np.zeros(len(batch), np.bool_)), first=first)
    steps = _steps(path, batch, names["step"][0], first) if "step" in names else None
    if steps is not None and "timestamps" not in columns:
        columns["timestamps"] = steps
    episodes = np.zeros(len(batch), object)
    if "episode" in names:
        episodes = _labels(path, batch, names, "episode", first).to_numpy(zero_copy_only=False)
    for agent, rows in _rows_by_agent(path, batch, names, first, only_agent):
        mine = {key: column[rows] for key, column in columns.items()}
        its_steps = None if steps is None else steps[rows]
        where = f"{path}: {'the log' if agent is None else logs_of(agent)}"
        joined, state[agent] = _episodes(where, mine, episodes[rows], its_steps, first + rows, state.get(agent), notes)
        if len(joined["rewards"]):
            yield Block(agent, joined)


def _numbers(path: Path, batch: pa.RecordBatch, name: str, key: str, first: int) -> np.ndarray:
    what = f"{path}: column {name[:40]!r}"
    array = to_numpy(batch.column(name), what, first)
    if array.ndim == 2 and key not in (*VECTORS, "actions"):
        raise DataError(f"{what} holds a list at row {first}; export one number per row")
    return array


def _stacked(path: Path, names: list[str], parts: list[np.ndarray], key: str) -> np.ndarray:
    wide = [name for name, part in zip(names, parts, strict=True) if part.ndim == 2]
    if len(parts) == 1 and (wide or key not in VECTORS):
        part = parts[0]
        # a single column of whole numbers are choices, any other is an action of one dimension
        return part[:, None] if key == "actions" and part.ndim == 1 and part.dtype.kind == "f" else part
    if wide:
        raise DataError(
            f"{path}: the {key} are {len(names)} columns, of which {wide[0][:40]!r} holds lists; "
            "export one column of lists, or a number in each column"
        )
    return np.stack(parts, axis=1)


def _entries(names: Mapping[str, list[str]], columns: Columns) -> dict[str, list[str]]:
    """The source of every entry of a key: its column, or its place in the lists of the one column."""
    entries = {}
    for key, its in names.items():
        width = columns[key].shape[1] if key in columns and columns[key].ndim == 2 else 1
        entries[key] = [f"{its[0]}[{i}]" for i in range(width)] if width > len(its) else list(its)
    return entries


def _steps(path: Path, batch: pa.RecordBatch, name: str, first: int) -> np.ndarray:
    steps = _numbers(path, batch, name, "step", first).astype(np.float64)
    wrong = ~np.isfinite(steps)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{path}: column {name[:40]!r} is {steps[row]} at row {first + row}; number the step of every row"
        )
    return steps


def _labels(path: Path, batch: pa.RecordBatch, names: Mapping[str, list[str]], key: str, first: int) -> pa.Array:
    """What names the agent or the episode of every row: text or whole numbers."""
    name = names[key][0]
    what = f"{path}: column {name[:40]!r}"
    column = plain(batch.column(name))
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not (is_text or is_number or pa.types.is_null(column.type)):
        raise DataError(f"{what} holds {column.type}; name the {key} of every row by text or a whole number")
    missing = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if is_text:
        encoded = column.fill_null("").dictionary_encode()
        blank = [label.strip().lower() in _BLANKS for label in encoded.dictionary.to_pylist()]
        missing = np.array(blank, bool)[encoded.indices.to_numpy()]
    if missing.any():
        row = int(np.argmax(missing))
        shown = f" ({str(column[row])[:40]!r})" if column[row].is_valid else ""
        raise DataError(f"{what} is empty{shown} at row {first + row}; name the {key} of every row")
    if pa.types.is_floating(column.type):
        values = column.to_numpy(zero_copy_only=False).astype(np.float64)
        wrong = values != np.floor(values)  # infinity is its own floor, but is no int64
        wrong |= np.abs(values) > 2**53
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(f"{what} is {values[row]} at row {first + row}; number the {key} of every row")
        column = pa.array(values.astype(np.int64))
    return column


def _rows_by_agent(
    path: Path, batch: pa.RecordBatch, names: Mapping[str, list[str]], first: int, only_agent: AgentID | None
) -> Iterator[tuple[AgentID | None, np.ndarray]]:
    if "agent" not in names:
        yield only_agent, np.arange(len(batch))
        return
    encoded = _labels(path, batch, names, "agent", first).cast(pa.string()).dictionary_encode()
    if len(encoded.dictionary) > _MOST_AGENTS:
        shown = names["agent"][0][:40]
        raise DataError(f"{path}: over {_MOST_AGENTS} agents in column {shown!r}; say which one: --column agent=NAME")
    codes = encoded.indices.to_numpy()
    for code, agent in enumerate(encoded.dictionary.to_pylist()):
        yield agent, np.flatnonzero(codes == code)


def _episodes(
    where: str,
    columns: Columns,
    episodes: np.ndarray,
    steps: np.ndarray | None,
    numbers: np.ndarray,
    previous: _Previous | None,
    notes: list[str],
) -> tuple[Columns, _Previous]:
    """All rows up to the last but one, those before a new episode marked as its end; and the last.

    Args:
        numbers: of these rows in the file, for messages.
    """
    seen = previous.episodes if previous else set()
    if previous:
        columns = {key: np.concatenate([previous.row[key], column]) for key, column in columns.items()}
        episodes = np.concatenate([np.array([previous.episode], object), episodes.astype(object)])
        steps = None if steps is None else np.concatenate([[previous.step], steps])
        numbers = np.concatenate([[-1], numbers])
    else:
        seen.add(episodes[0])
    begins = np.flatnonzero(episodes[1:] != episodes[:-1]) + 1
    for row in begins:
        if episodes[row] in seen:
            raise DataError(
                f"{where} comes back to episode {str(episodes[row])[:40]!r} at row {numbers[row]}; "
                "sort the table by agent, episode and step"
            )
        seen.add(episodes[row])
    if steps is not None:
        _require_growing(where, steps, begins, numbers)
    ends = columns["terminals"] | columns["timeouts"]
    _cut(columns, begins[~ends[begins - 1]], notes, f"{where}: some episodes end neither terminated nor truncated")
    if steps is not None and "next_observations" not in columns:
        jumps = np.diff(steps)
        within = np.delete(jumps, begins - 1)
        gaps = np.flatnonzero(jumps > 1.5 * np.median(within)) + 1 if len(within) else np.zeros(0, int)
        _cut(columns, np.setdiff1d(gaps, begins), notes, f"{where}: steps are missing within some episodes")
    last = {key: column[-1:] for key, column in columns.items()}
    step = 0.0 if steps is None else float(steps[-1])
    return {key: column[:-1] for key, column in columns.items()}, _Previous(last, episodes[-1], step, seen)


def _cut(columns: Columns, rows: np.ndarray, notes: list[str], reason: str) -> None:
    """Let an episode end before each of these rows: what followed is not known."""
    if len(rows):
        columns["timeouts"][rows - 1] = True
        note = f"{reason}; they count as cut there"
        notes += [note] if note not in notes else []


def _require_growing(where: str, steps: np.ndarray, begins: np.ndarray, numbers: np.ndarray) -> None:
    wrong = np.diff(steps) <= 0
    wrong[begins - 1] = False
    if wrong.any():
        row = int(np.argmax(wrong)) + 1
        raise DataError(
            f"{where} goes from step {steps[row - 1]:g} to {steps[row]:g} at row {numbers[row]}; "
            "export each step once, sorted by agent, episode and step"
        )
