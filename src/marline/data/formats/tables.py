"""Tables with a row per step: of one agent after another, all interleaved, or with columns of each agent side by side.

The columns of a fleet are `agent, episode, step, obs_0, obs_1, ..., action_0, ..., reward, terminated, truncated`;
`table_columns` finds them, and an `ImportMapping` says what is called otherwise. Imports pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from marline.data.formats.agent_rows import AgentRows, Rows, Rules, common, keys_of
from marline.data.formats.arrow import plain
from marline.data.formats.found import Found
from marline.data.formats.log import BLOCK_ROWS, Block
from marline.data.formats.table_columns import VECTORS, describe_columns, find_columns
from marline.data.formats.table_files import Batch, Kept, batches
from marline.data.formats.table_names import stem_of
from marline.data.formats.table_values import BLANKS, Cells, Style, cells, is_text
from marline.data.layout import Columns, flags, logs_of
from marline.data.mapping import LABELS, ImportMapping, Values
from marline.errors import DataError
from marline.types import AgentID

_MOST_AGENTS = 10_000
_MOST_POLICIES = 100  # more than one is an error already
Names = Mapping[str, list[str]]  # of columns, by key


def table_blocks(paths: Sequence[Path], mapping: ImportMapping, found: Found) -> Iterator[Block]:
    """The rows of some tables, one after the other.

    Agents are told apart by a column, or have columns of their own; several tables without either hold an agent each,
    whose name is the file's, and a single one holds the rows of all agents together.

    Args:
        paths: of the same columns.
        mapping: what is called otherwise than usual, and what to do about gaps.
        found: is told what turns out.

    Raises:
        DataError: a column is missing or holds no numbers, or rows are out of order.
        CorruptionError: a file is not of its format, or altered.
    """
    only = None
    if mapping.align:
        keys: dict[AgentID | None, list[np.ndarray]] = {}
        for agent, rows in _rows(paths, mapping, Found(), None):
            keys.setdefault(agent, []).append(keys_of(rows))
        only = common([np.concatenate(its) for its in keys.values()]) if keys else None
        if only is not None and not len(only):
            raise DataError(
                f"{paths[0].parent if len(paths) > 1 else paths[0]}: no step is there for every agent; leave out "
                "--align, or see whether all of them count steps and episodes alike"
            )
    for agent, rows in _rows(paths, mapping, found, only):
        if len(rows):
            yield Block(agent, rows.columns)


def _rows(
    paths: Sequence[Path], mapping: ImportMapping, found: Found, only: np.ndarray | None
) -> Iterator[tuple[AgentID | None, Rows]]:
    state: dict[AgentID | None, AgentRows] = {}
    described: set[tuple[str, ...]] = set()  # tables of a fleet are mostly alike
    first = next(iter(mapping.agents), None)
    for path in paths:
        only_agent = mapping.agent_of(stem_of(path)) if len(paths) > 1 else None
        for batch, numbers in _ordered(path, mapping, only_agent):
            header = tuple(batch.names)
            reader = _Reader(path, batch.rows, numbers, mapping)
            for names, whose in _by_columns(path, batch.names, mapping, only_agent):
                if (*header, str(whose)) not in described:
                    described.add((*header, str(whose)))
                    used = (
                        _used(path, batch.names, mapping, only_agent)
                        if whose in (None, only_agent, first)
                        else batch.names
                    )
                    shown = str(path) if whose == only_agent else f"{path}: {logs_of(str(whose))}"
                    found.notes += describe_columns(
                        shown, batch.names, names, used, has_times=mapping.every is not None
                    )
                policies = reader.policies(names)
                for agent, rows, places in reader.rows_by_agent(names, whose):
                    _learn(agent, rows, names, mapping, found)
                    if policies is not None:
                        _remember(found.policies.setdefault(agent, {}), policies[places], rows.numbers)
                    if agent not in state:
                        where = f"{path}: {'the log' if agent is None else logs_of(agent)}"
                        state[agent] = AgentRows(where, _rules(agent, mapping, found), found.notes, only=only)
                    if mapping.align and rows.steps is None:
                        raise DataError(
                            f"{path} has no column of steps or times to align by; say which: --column step=NAME"
                        )
                    _mask_beyond(rows, found.values[agent], state[agent], mapping)
                    yield agent, state[agent].add(rows)
    for agent, its in state.items():
        last = its.finish()
        if last is not None:
            yield agent, last


def _by_columns(
    path: Path, present: Sequence[str], mapping: ImportMapping, only_agent: AgentID | None
) -> Iterator[tuple[dict[str, list[str]], AgentID | None]]:
    """The columns of each key, of everyone or of each agent that has its own; of one alone in a table of its name."""
    if not mapping.has_own_columns:
        yield find_columns(str(path), present, mapping.columns, continuing=mapping.continuing), only_agent
        return
    for agent in [only_agent] if only_agent in mapping.agents else mapping.agents:
        where = f"{path}, agent {agent}"
        names = find_columns(where, present, mapping.columns_of(agent), continuing=mapping.continuing)
        yield {key: its for key, its in names.items() if key != "agent"}, agent


def _used(path: Path, present: Sequence[str], mapping: ImportMapping, only_agent: AgentID | None) -> set[str]:
    return {
        name for names, _ in _by_columns(path, present, mapping, only_agent) for its in names.values() for name in its
    }


def _ordered(path: Path, mapping: ImportMapping, only_agent: AgentID | None) -> Iterator[tuple[Batch, np.ndarray]]:
    """The rows of a table and their numbers, sorted if that was asked for."""

    def keep(present: list[str]) -> Kept:
        whole: set[str] = set()
        for names, _ in _by_columns(path, present, mapping, only_agent):
            # from whole numbers on, the actions of a single column are choices
            labels = (*LABELS, "actions", "timestamps")
            whole |= {name for key in labels for name in names.get(key, []) if len(names[key]) == 1}
        used = _used(path, present, mapping, only_agent)
        text = {name for name in used if (known := mapping.values_of(name)).one_hot or known.choices}
        for names, _ in _by_columns(path, present, mapping, only_agent):
            keys = ("agent", "policy", *(("step", "timestamps") if mapping.time_format else ()))
            text |= {name for key in keys for name in names.get(key, [])}
        return Kept(used, whole, text)

    read = batches(path, mapping, keep)
    if not mapping.sort:
        for batch in read:
            yield batch, np.arange(batch.first, batch.first + len(batch.rows))
        return
    everything = list(read)
    if not everything:
        return
    names = everything[0].names
    table = pa.Table.from_batches([batch.rows for batch in everything]).combine_chunks()
    (whole,) = table.to_batches() or [everything[0].rows]
    found = next(iter(_by_columns(path, names, mapping, only_agent)))[0]
    reader = _Reader(path, whole, np.arange(len(whole)), mapping)
    steps, episodes = reader.steps(found), reader.episodes(found)
    if steps is None:
        raise DataError(f"{path} has no column of steps or times to sort by; say which: --column step=NAME")
    _, codes = np.unique(episodes.astype(str), return_inverse=True)
    order = np.lexsort((steps, codes))
    for start in range(0, len(order), BLOCK_ROWS):
        rows = order[start : start + BLOCK_ROWS]
        yield Batch(names, whole.take(pa.array(rows)), start), rows


class _Reader:
    """The columns of a batch as arrays; row numbers are for messages."""

    def __init__(self, path: Path, batch: pa.RecordBatch, numbers: np.ndarray, mapping: ImportMapping) -> None:
        self._path, self._batch, self._numbers, self._mapping = path, batch, numbers, mapping
        self._style = Style(mapping.decimal, mapping.time_format, mapping.nothing)

    def rows_by_agent(
        self, names: Names, only_agent: AgentID | None
    ) -> Iterator[tuple[AgentID | None, Rows, np.ndarray]]:
        """The rows of each agent in the batch, and where they are in it."""
        columns: Columns = {}
        missing: dict[str, np.ndarray] = {}
        for key in names.keys() - set(LABELS):
            columns[key], mask = self._key(names[key], key)
            if mask is not None:
                missing[key] = mask
        for key in ("terminals", "timeouts"):
            given = columns.get(key, np.zeros(len(self._batch), np.bool_))
            if key in missing:
                given = np.where(missing[key][:, 0], 0, given)
            columns[key] = np.array(flags(str(self._path), key, given, row_numbers=self._numbers))
        steps = self.steps(names)
        if "step" in names and steps is not None and "timestamps" not in columns:
            columns["timestamps"] = steps
        whole = Rows(columns, missing, self.episodes(names), steps, self._numbers)
        for agent, rows in self._by_agent(names, only_agent):
            yield agent, whole.take(rows), rows

    def episodes(self, names: Names) -> np.ndarray:
        """[n] labels."""
        if "episode" not in names:
            return np.zeros(len(self._batch), object)
        return self._labels(names, "episode").to_numpy(zero_copy_only=False).astype(object)

    def steps(self, names: Names) -> np.ndarray | None:
        """[n] what grows within an episode, if anything is known to: steps, or times that are so far apart."""
        key = "step" if "step" in names else "timestamps"
        rows = self._mapping
        if key not in names or (key == "timestamps" and not (rows.every or rows.sort or rows.align)):
            return None
        name = names[key][0]
        steps = self._cells(name, key, may_miss=False).values.astype(np.float64)
        wrong = ~np.isfinite(steps)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{self._path}: column {name[:40]!r} is {steps[row]} at row {self._numbers[row]}; "
                "number the step of every row"
            )
        return steps

    def policies(self, names: Names) -> np.ndarray | None:
        """[n] the policies that rows name, if they do."""
        return self._labels(names, "policy").to_numpy(zero_copy_only=False) if "policy" in names else None

    def _key(self, names: list[str], key: str) -> tuple[np.ndarray, np.ndarray | None]:
        """The array of a key, and what is missing in it by entry."""
        may_miss = key not in ("timestamps",)
        its = [self._cells(name, key, may_miss=may_miss and self._may_miss(name)) for name in names]
        array, widths = self._stacked(names, its, key)
        if all(one.missing is None for one in its):
            return array, None
        masks = [np.zeros(len(array), bool) if one.missing is None else one.missing for one in its]
        return array, np.repeat(np.stack(masks, axis=1), widths, axis=1)

    def _may_miss(self, name: str) -> bool:
        known = self._mapping.values_of(name)
        return self._mapping.missing == "cut" or known.fill > 0

    def _cells(self, name: str, key: str, *, may_miss: bool) -> Cells:
        what = f"{self._path}: column {name[:40]!r}"
        known = self._mapping.values_of(name)
        if known.choices and key not in ("actions", "terminals", "timeouts"):
            raise DataError(f"{what} has choices, but is taken for the {key}; only an action is one, say one_hot")
        found = cells(
            self._batch.column(name),
            what,
            known,
            self._style,
            self._numbers,
            may_miss=may_miss,
            is_time=key in ("timestamps", "step"),
        )
        one = found.values.ndim == 1 or key in (*VECTORS, "actions")
        if not one:
            raise DataError(f"{what} holds a list at row {self._numbers[0]}; export one number per row")
        return found

    def _stacked(self, names: list[str], its: list[Cells], key: str) -> tuple[np.ndarray, list[int]]:
        """The entries of a key side by side, and how many of them each column gave."""
        is_list = [
            one.values.ndim == 2 and not self._mapping.values_of(name).one_hot
            for one, name in zip(its, names, strict=True)
        ]
        widths = [one.values.shape[1] if one.values.ndim == 2 else 1 for one in its]
        if len(its) == 1 and (is_list[0] or widths[0] > 1 or key not in VECTORS):
            part = its[0].values
            # a single column of whole numbers are choices, any other is an action of one dimension
            as_vector = key == "actions" and part.ndim == 1 and part.dtype.kind == "f"
            return (part[:, None] if as_vector else part), widths
        if any(is_list):
            name = names[is_list.index(True)]
            raise DataError(
                f"{self._path}: the {key} are {len(names)} columns, of which {name[:40]!r} holds lists; "
                "export one column of lists, or a number in each column"
            )
        if key == "actions" and any(self._mapping.values_of(name).choices for name in names):
            raise DataError(
                f"{self._path}: the actions are {len(names)} columns, of which one holds choices; an agent has one "
                "choice or several numbers: join the choices into one column"
            )
        return np.concatenate([one.values.reshape(len(one.values), -1) for one in its], axis=1), widths

    def _by_agent(self, names: Names, only_agent: AgentID | None) -> Iterator[tuple[AgentID | None, np.ndarray]]:
        if "agent" not in names:
            yield only_agent, np.arange(len(self._batch))
            return
        encoded = self._labels(names, "agent").cast(pa.string()).dictionary_encode()
        if len(encoded.dictionary) > _MOST_AGENTS:
            shown = names["agent"][0][:40]
            raise DataError(
                f"{self._path}: over {_MOST_AGENTS} agents in column {shown!r}; say which one: --column agent=NAME"
            )
        codes = encoded.indices.to_numpy()
        for code, label in enumerate(encoded.dictionary.to_pylist()):
            yield self._mapping.agent_of(label), np.flatnonzero(codes == code)

    def _labels(self, names: Names, key: str) -> pa.Array:
        """What names the agent, the episode or the policy of every row: text, dates or whole numbers."""
        name = names[key][0]
        what = f"{self._path}: column {name[:40]!r}"
        column = plain(self._batch.column(name))
        if pa.types.is_temporal(column.type) and key == "episode":
            column = column.cast(pa.string())
        text = is_text(column.type)
        is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        if not (text or is_number or pa.types.is_null(column.type)):
            raise DataError(f"{what} holds {column.type}; name the {key} of every row by text or a whole number")
        missing = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        if text:
            encoded = column.fill_null("").dictionary_encode()
            blank = [label.strip().lower() in BLANKS for label in encoded.dictionary.to_pylist()]
            missing = np.array(blank, bool)[encoded.indices.to_numpy()]
        if missing.any():
            row = int(np.argmax(missing))
            shown = f" ({str(column[row])[:40]!r})" if column[row].is_valid else ""
            raise DataError(f"{what} is empty{shown} at row {self._numbers[row]}; name the {key} of every row")
        if pa.types.is_floating(column.type):
            values = column.to_numpy(zero_copy_only=False).astype(np.float64)
            wrong = values != np.floor(values)  # infinity is its own floor, but is no int64
            wrong |= np.abs(values) > 2**53
            if wrong.any():
                row = int(np.argmax(wrong))
                raise DataError(f"{what} is {values[row]} at row {self._numbers[row]}; number the {key} of every row")
            column = pa.array(values.astype(np.int64))
        return column


def _remember(known: dict[str, int], policies: np.ndarray, numbers: np.ndarray) -> None:
    """Take note of the policies that rows name, and of the first row of each."""
    names, first = np.unique(policies.astype(str), return_index=True)
    for name, place in zip(names.tolist(), first.tolist(), strict=True):
        if len(known) < _MOST_POLICIES:
            known.setdefault(name, int(numbers[place]))


def _learn(agent: AgentID | None, rows: Rows, names: Names, mapping: ImportMapping, found: Found) -> None:
    """Take note of what an agent's columns are."""
    if agent in found.columns:
        return
    found.columns[agent] = entries = {}
    found.values[agent] = known = {}
    for key, its in names.items():
        width = rows.columns[key].shape[1] if key in rows.columns and rows.columns[key].ndim == 2 else 1
        entries[key], known[key] = [], []
        for name in its:
            values = mapping.values_of(name, agent)
            parts = [name]
            if values.one_hot:
                parts = [f"{name}={word}" for word in values.one_hot]
            elif len(its) == 1 and width > 1:
                parts = [f"{name}[{i}]" for i in range(width)]
            entries[key] += parts
            known[key] += [values] * len(parts)
    choices = [values.choices for values in known["actions"] if values.choices]
    if choices:
        found.choices[agent] = choices[0]


def _rules(agent: AgentID | None, mapping: ImportMapping, found: Found) -> Rules:
    fill = {key: np.array([its.fill for its in values]) for key, values in found.values[agent].items()}
    fill = {key: most for key, most in fill.items() if most.any()}
    first = mapping.repeated == "first"
    return Rules(mapping.missing == "cut", first, mapping.every, fill, found.columns[agent])


def _mask_beyond(rows: Rows, known: Mapping[str, list[Values]], state: AgentRows, mapping: ImportMapping) -> None:
    """Let values beyond what a column can be count as missing; those of actions are refused elsewhere."""
    for key, values in known.items():
        if key in (*LABELS, "actions") or not any(its.low is not None or its.high is not None for its in values):
            continue
        array = rows.columns[key].reshape(len(rows), -1)
        low = np.array([-np.inf if its.low is None else its.low for its in values])
        high = np.array([np.inf if its.high is None else its.high for its in values])
        wrong = (array < low) | (array > high)
        if not wrong.any():
            continue
        if mapping.missing == "refuse" and key not in rows.missing:
            row, column = (int(place[0]) for place in np.nonzero(wrong))
            raise DataError(
                f"{state.where} hold {array[row, column]:.6g} in {key} at row {rows.numbers[row]}, beyond the range of "
                f'its column, [{low[column]:g}, {high[column]:g}]; correct the range, or say missing = "cut" in [rows]'
            )
        state.beyond(int(wrong.sum()))
        there = rows.missing.get(key, np.zeros_like(wrong))
        rows.missing[key] = there | wrong
