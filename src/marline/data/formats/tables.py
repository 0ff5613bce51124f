"""Tables with a row per step: Parquet, CSV and JSON lines, of one agent after another or all interleaved.

The columns of a fleet are `agent, episode, step, obs_*, action_*, reward, terminated, truncated`;
names other than these are given as a mapping from key to column. Imports pyarrow.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from marline.data.files import open_regular
from marline.data.formats.arrow import to_numpy
from marline.data.formats.log import BLOCK_ROWS, Block
from marline.data.layout import Columns, by_number, flags, logs_of, require_keys
from marline.errors import CorruptionError, DataError
from marline.types import AgentID

# what each key is called unless the caller says so, the first that is there; * stands for anything
COLUMNS: dict[str, tuple[str, ...]] = {
    "agent": ("agent",),
    "episode": ("episode",),
    "step": ("step",),
    "observations": ("obs_*", "obs", "observation", "observations"),
    "actions": ("action_*", "action", "actions"),
    "rewards": ("reward", "rewards"),
    "terminals": ("terminated", "terminal", "terminals"),
    "timeouts": ("truncated", "timeout", "timeouts"),
    "next_observations": ("next_obs_*", "next_obs", "next_observation", "next_observations"),
    "action_masks": ("mask_*", "mask", "action_mask", "action_masks"),
    "next_action_masks": ("next_mask_*", "next_mask", "next_action_mask", "next_action_masks"),
    "timestamps": ("timestamp", "timestamps", "time"),
}
_NEEDED = ("observations", "actions", "rewards", "terminals")
_VECTORS = ("observations", "next_observations", "action_masks", "next_action_masks")
_BYTES = 1 << 23  # of text at a time
_MOST_AGENTS = 10_000


def table_blocks(paths: Sequence[Path], renamed: Mapping[str, str], notes: list[str]) -> Iterator[Block]:
    """The rows of some tables, one after the other.

    Agents are told apart by a column; several tables without one hold an agent each, whose name is
    the file's, and a single one holds the rows of all agents together.

    Args:
        paths: of the same columns.
        renamed: column names or patterns by key of `COLUMNS`, where they are not the usual ones.
        notes: is told what is odd.

    Raises:
        DataError: a column is missing or holds no numbers, or rows are out of order.
        CorruptionError: a file is not of its format, or altered.
    """
    state: dict[AgentID | None, _Previous] = {}
    for path in paths:
        first = 0
        for batch in _batches(path, renamed):
            names = _find_columns(path, batch.schema.names, renamed)
            yield from _split(path, batch, names, first, state, notes, path.stem if len(paths) > 1 else None)
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
        return _widened(head, _find_columns(path, head.names, renamed))

    try:
        if path.suffix == ".parquet":
            with open_regular(path) as file:
                yield from pyarrow.parquet.ParquetFile(file, pre_buffer=False).iter_batches(BLOCK_ROWS)
        elif path.suffix == ".csv":
            yield from _csv(path, schema_of)
        else:
            yield from _json(path, schema_of)
    except (pa.ArrowException, OSError) as error:
        what = "a column changes its type" if "conversion" in str(error) else "altered, or something else"
        raise CorruptionError(f"{path} cannot be read as {path.suffix[1:]}: {what} ({error}); repair it") from error


# Both open the file twice: a reader reads ahead in a thread of its own, and would move the place of the next one.
def _csv(path: Path, schema_of: Callable[[pa.Schema], pa.Schema]) -> Iterator[pa.RecordBatch]:
    read = pyarrow.csv.ReadOptions(block_size=_BYTES)
    with open_regular(path) as file, pyarrow.csv.open_csv(file, read) as head:
        schema = schema_of(head.schema)
    convert = pyarrow.csv.ConvertOptions(column_types=schema, strings_can_be_null=True)
    with open_regular(path) as file, pyarrow.csv.open_csv(file, read, convert_options=convert) as reader:
        yield from reader


def _json(path: Path, schema_of: Callable[[pa.Schema], pa.Schema]) -> Iterator[pa.RecordBatch]:
    read = pyarrow.json.ReadOptions(block_size=_BYTES)
    with open_regular(path) as file, pyarrow.json.open_json(file, read) as head:
        schema = schema_of(head.schema)
    parse = pyarrow.json.ParseOptions(explicit_schema=schema)
    with open_regular(path) as file, pyarrow.json.open_json(file, read, parse) as reader:
        yield from reader


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


def _find_columns(path: Path, present: Sequence[str], renamed: Mapping[str, str]) -> dict[str, list[str]]:
    """The columns of each key, in the order of the numbers in their names if they have any."""
    require_keys(COLUMNS, renamed, f"{path}: columns are mapped to")
    found: dict[str, list[str]] = {}
    for key, usual in COLUMNS.items():
        patterns = (renamed[key],) if key in renamed else usual
        for pattern in patterns:
            names = [name for part in pattern.split(",") for name in fnmatch.filter(present, part)]
            if names:
                numbered = "*" in pattern and all(any(map(str.isdigit, name)) for name in names)
                found[key] = sorted(names, key=by_number) if numbered else names
                break
        else:
            if key in renamed or key in _NEEDED:
                shown = ", ".join(repr(name[:40]) for name in present[:20])
                raise DataError(
                    f"{path}: no column {' or '.join(patterns)} for the {key} among {shown}; "
                    f"say which it is: --column {key}=NAME"
                )
    return found


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
    for key in names.keys() & {*COLUMNS} - {"agent", "episode", "step"}:
        parts = [to_numpy(batch.column(name), f"{path}: column {name[:40]!r}", first) for name in names[key]]
        columns[key] = _stacked(parts, key)
    for key in ("terminals", "timeouts"):
        columns[key] = flags(str(path), key, columns.get(key, np.zeros(len(batch), np.bool_)), first=first)
    steps = to_numpy(batch.column(names["step"][0]), f"{path}: column 'step'", first) if "step" in names else None
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


def _stacked(parts: list[np.ndarray], key: str) -> np.ndarray:
    if len(parts) == 1 and (parts[0].ndim == 2 or key not in _VECTORS):
        part = parts[0]
        # a single column of whole numbers are choices, any other is an action of one dimension
        return part[:, None] if key == "actions" and part.ndim == 1 and part.dtype.kind == "f" else part
    return np.stack(parts, axis=1)


def _labels(path: Path, batch: pa.RecordBatch, names: Mapping[str, list[str]], key: str, first: int) -> pa.Array:
    """What names the agent or the episode of every row."""
    column = batch.column(names[key][0])
    if column.null_count:
        row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"{path}: column {names[key][0][:40]!r} is empty at row {row}; name the {key} of every row")
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
