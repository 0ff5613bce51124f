"""The rows of one agent of a table, in the order of its steps: what is missing is filled or left out, ends are marked.

An agent's rows depend on nobody else's: what another one lacks neither stops nor cuts them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from marline.data.layout import Columns
from marline.errors import DataError

_LATE = 1.5  # times the usual distance of two steps


class Rules(NamedTuple):
    """What to do about what is not there, as `ImportMapping` has it.

    Attributes:
        may_miss: whether rows may be left out.
        first_of_repeated: whether the first of rows of one step counts.
        every: how far apart two steps are, where it was said.
        fill: by key, for each entry, rows in a row that the last value may stand for.
        names: by key, the source of each entry.
    """

    may_miss: bool
    first_of_repeated: bool
    every: float | None
    fill: dict[str, np.ndarray]
    names: dict[str, list[str]]

    @property
    def fillable(self) -> int:
        """Steps in a row that may be made up where whole rows are missing."""
        if "next_observations" in self.names:
            return 0  # what came after a row that was not there is in none of its columns
        needed = [key for key in self.names if key in ("observations", "actions", "rewards", "action_masks")]
        return min((int(self.fill[key].min()) if key in self.fill else 0 for key in needed), default=0)


@dataclasses.dataclass
class Rows:
    """Some rows of an agent.

    Attributes:
        columns: by key.
        missing: by key, [n, entries] what is missing; only of keys where something may be.
        episodes: [n] labels.
        steps: [n] numbers that grow within an episode, or None.
        numbers: [n] in the file, -1 for a row that is made up.
    """

    columns: Columns
    missing: dict[str, np.ndarray]
    episodes: np.ndarray
    steps: np.ndarray | None
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.episodes)

    def take(self, rows: Any) -> Rows:
        """Some of them, or all in another order."""
        return Rows(
            {key: column[rows] for key, column in self.columns.items()},
            {key: mask[rows] for key, mask in self.missing.items()},
            self.episodes[rows],
            None if self.steps is None else self.steps[rows],
            self.numbers[rows],
        )

    def after(self, before: Rows) -> Rows:
        """These after others of the same columns."""
        return Rows(
            {key: np.concatenate([before.columns[key], column]) for key, column in self.columns.items()},
            {
                key: np.concatenate([before.missing.get(key, np.zeros((len(before), mask.shape[1]), bool)), mask])
                for key, mask in self.missing.items()
            },
            np.concatenate([before.episodes, self.episodes]),
            None if self.steps is None or before.steps is None else np.concatenate([before.steps, self.steps]),
            np.concatenate([before.numbers, self.numbers]),
        )

    @property
    def begins(self) -> np.ndarray:
        """Rows, but for the first, at which an episode begins."""
        return np.flatnonzero(self.episodes[1:] != self.episodes[:-1]) + 1


class AgentRows:
    """Takes the rows of an agent as they come, and gives them back with their gaps mended and their ends marked.

    Attributes:
        where: whose rows they are, for messages.

    Args:
        where: the same.
        rules: what to do about gaps.
        notes: is told what was done.
        only: sorted keys of `keys_of`, of the steps that are to be kept; all of them if None.
    """

    def __init__(self, where: str, rules: Rules, notes: list[str], only: np.ndarray | None = None) -> None:
        self.where, self._rules, self._notes, self._only = where, rules, notes, only
        self._before: Rows | None = None  # the last row that came
        self._held: Rows | None = None  # the last row to be given: only the next one tells whether an episode ended
        self._was_lost = False  # whether something was between that and what comes
        self._every = rules.every
        self._seen: set[Any] = set()
        self._ages: dict[str, np.ndarray] = {}  # rows since each entry was there
        self._lasts: dict[str, np.ndarray] = {}
        self._counts: Counter[str] = Counter()

    def add(self, rows: Rows) -> Rows:
        """All rows up to the last but one that are kept; those before a new episode or a gap are marked as its end."""
        rows = self._in_order(rows)
        if self._rules.fillable:
            rows = self._with_steps_made_up(rows)
        goes_on = self._before is not None and len(rows) > 0 and self._before.episodes[-1] == rows.episodes[0]
        if len(rows):
            self._before = rows.take(slice(-1, None))
        self._fill(rows, goes_on)
        kept, lost = self._without_missing(rows)
        if not len(kept):
            return kept
        if self._held is not None:
            kept = kept.after(self._held)
            lost = np.concatenate([[False], lost])
        self._mark(kept, lost)
        self._held = kept.take(slice(-1, None))
        return kept.take(slice(0, -1))

    def finish(self) -> Rows | None:
        """The last row, if there is any; tells what was done."""
        counts = self._counts
        told = {
            "repeated": "{} rows repeat a step and were left out",
            "made up": "{} missing steps were made up of the values before them",
            "filled": "{} missing values were filled with those before them",
            "left out": "{} rows in which something is missing were left out, and episodes end before them",
            "beyond": "{} values beyond the range of their column count as missing",
            "not common": "{} rows of steps that not every agent has were left out, and episodes end before them",
        }
        self._notes += [f"{self.where}: {text.format(counts[key])}" for key, text in told.items() if counts[key]]
        return self._held

    def beyond(self, number: int) -> None:
        """Take note of values that count as missing, because they are beyond what their column can be."""
        self._counts["beyond"] += number

    def _in_order(self, rows: Rows) -> Rows:
        """Those that go on; `DataError` for one that goes back."""
        whole = rows if self._before is None else rows.after(self._before)
        new = len(whole) - len(rows)  # 1 where a row came before
        if self._before is None and len(rows):
            self._seen.add(rows.episodes[0])
        begins = whole.begins
        for row in begins:
            if whole.episodes[row] in self._seen:
                raise DataError(
                    f"{self.where} comes back to episode {str(whole.episodes[row])[:40]!r} at row "
                    f"{whole.numbers[row]}; sort the table by agent, episode and step, or let it be sorted: "
                    "sort = true in [rows] of a mapping"
                )
            self._seen.add(whole.episodes[row])
        if whole.steps is None or len(whole) < 2:
            return rows
        within = np.ones(len(whole) - 1, bool)
        within[begins - 1] = False
        jumps = np.diff(whole.steps)
        if self._rules.first_of_repeated and (within & (jumps == 0)).any():
            again = np.append(False, within & (jumps == 0))
            self._counts["repeated"] += int(again.sum())
            rows = rows.take(~again[new:])
            within, jumps = within & (jumps != 0), np.where(jumps == 0, 1, jumps)
        wrong = within & (jumps <= 0)
        if wrong.any():
            row = int(np.argmax(wrong)) + 1
            fix = "sorted by agent, episode and step"
            raise DataError(
                f"{self.where} goes from step {whole.steps[row - 1]:.10g} to {whole.steps[row]:.10g} at row "
                f"{whole.numbers[row]}; export each step once, {fix}, or say sort = true or "
                'repeated = "first" in [rows] of a mapping'
            )
        if self._every is None and within.any():
            self._every = float(np.median(jumps[within]))
        return rows

    def _with_steps_made_up(self, rows: Rows) -> Rows:
        """With a row, in which all is missing, for each of a few steps that are not there."""
        whole = rows if self._before is None else rows.after(self._before)
        new = len(whole) - len(rows)
        if whole.steps is None or self._every is None or len(whole) < 2:
            return rows
        apart = np.rint(np.diff(whole.steps) / self._every).astype(np.int64) - 1
        apart[whole.begins - 1] = 0
        # an end before a gap is one: what follows belongs to something else
        apart[(whole.columns["terminals"] | whole.columns["timeouts"])[:-1]] = 0
        apart[(apart < 0) | (apart > self._rules.fillable)] = 0
        if not apart.any():
            return rows
        self._counts["made up"] += int(apart.sum())
        order = np.repeat(np.arange(len(whole)), np.append(apart, 0) + 1)
        starts = np.flatnonzero(np.append(True, order[1:] != order[:-1]))
        ahead = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        made = whole.take(order)
        fresh = ahead > 0
        assert made.steps is not None
        made.steps = made.steps + ahead * self._every
        made.numbers = np.where(fresh, -1, made.numbers)
        for key in made.missing:
            made.missing[key][fresh] = True
        if "timestamps" in made.columns:
            made.columns["timestamps"] = made.columns["timestamps"] + ahead * self._apart(whole)
        return made.take(slice(new, None))

    def _apart(self, rows: Rows) -> float:
        """How far apart in time two steps are."""
        assert rows.steps is not None
        assert self._every is not None
        steps, times = np.diff(rows.steps), np.diff(rows.columns["timestamps"])
        return float(np.median(times[steps > 0] / steps[steps > 0])) * self._every

    def _fill(self, rows: Rows, is_old: bool) -> None:
        """Let the last value stand for a missing one, for as long as that was allowed; changes `rows`.

        `is_old` tells whether they go on with the episode of those before.
        """
        if not len(rows):
            return
        starts = np.append(0, rows.begins)
        start_of = np.repeat(starts, np.diff(np.append(starts, len(rows))))  # of the episode of each row
        for key, most in self._rules.fill.items():
            if key not in rows.missing:
                continue
            mask, values = rows.missing[key], rows.columns[key].reshape(len(rows), -1)
            places = np.where(mask, -1, np.arange(len(rows))[:, None])
            last = np.maximum.accumulate(places, axis=0)
            usable = (last >= start_of[:, None]) & (np.arange(len(rows))[:, None] - last <= most)
            filled = np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=0), values)
            if is_old and key in self._lasts:
                early = (last < 0) & (start_of[:, None] == 0)
                age = self._ages[key] + np.arange(1, len(rows) + 1)[:, None]
                usable |= early & (age <= most)
                filled = np.where(early, self._lasts[key], filled)
            takes = mask & usable
            self._counts["filled"] += int(takes[rows.numbers >= 0].sum())
            rows.columns[key] = np.where(takes, filled, values).reshape(rows.columns[key].shape)
            mask &= ~takes
            self._remember(key, last, start_of, values, is_old)

    def _remember(self, key: str, last: np.ndarray, start_of: np.ndarray, values: np.ndarray, is_old: bool) -> None:
        """The last value of each entry within the episode, and how long ago it was."""
        never = np.full(values.shape[1], 1 << 40)
        ages = np.where(last[-1] >= start_of[-1], len(values) - 1 - last[-1], never)
        lasts = np.take_along_axis(values, np.maximum(last[-1:], 0), axis=0)[0]
        if is_old and start_of[-1] == 0 and key in self._lasts:
            old = last[-1] < 0
            ages = np.where(old, self._ages[key] + len(values), ages)
            lasts = np.where(old, self._lasts[key], lasts)
        self._ages[key], self._lasts[key] = ages, lasts

    def _without_missing(self, rows: Rows) -> tuple[Rows, np.ndarray]:
        """The rows in which all is there, and which of them come after one that is not."""
        out = np.zeros(len(rows), bool)
        for mask in rows.missing.values():
            out |= mask.any(axis=1)
        there = out & (rows.numbers >= 0)
        if there.any() and not self._rules.may_miss:
            self._refuse(rows, int(np.argmax(there)))
        self._counts["left out"] += int(there.sum())
        if self._only is not None:
            strange = ~out & ~np.isin(keys_of(rows), self._only)
            self._counts["not common"] += int(strange.sum())
            out |= strange
        kept = np.flatnonzero(~out)
        before = np.diff(kept, prepend=-1) > 1
        if len(kept):
            before[0] |= self._was_lost
            self._was_lost = bool(out[kept[-1] + 1 :].any())
        else:
            self._was_lost |= bool(out.any())
        return rows.take(kept), before

    def _refuse(self, rows: Rows, row: int) -> None:
        key = next(key for key, mask in rows.missing.items() if mask[row].any())
        name = self._rules.names[key][int(np.argmax(rows.missing[key][row]))]
        raise DataError(
            f"{self.where} hold nothing in column {name[:40]!r} at row {rows.numbers[row]}, and nothing fills it "
            'for so long; say missing = "cut" in [rows] of a mapping, which leaves such rows out'
        )

    def _mark(self, rows: Rows, lost: np.ndarray) -> None:
        """Let an episode end before another one, and before a gap: what followed is not known. Changes `rows`."""
        begins, columns = rows.begins, rows.columns
        ends = columns["terminals"] | columns["timeouts"]
        self._cut(columns, begins[~ends[begins - 1]], "some episodes end neither terminated nor truncated")
        gaps = np.flatnonzero(lost[1:] & ~ends[:-1]) + 1
        columns["timeouts"][np.setdiff1d(gaps, begins) - 1] = True
        if rows.steps is not None and self._every is not None and "next_observations" not in columns:
            late = np.flatnonzero(np.diff(rows.steps) > _LATE * self._every) + 1
            late = np.setdiff1d(late, np.concatenate([begins, gaps]))
            self._cut(columns, late[~ends[late - 1]], "steps are missing within some episodes")

    def _cut(self, columns: Columns, rows: np.ndarray, reason: str) -> None:
        if len(rows):
            columns["timeouts"][rows - 1] = True
            note = f"{self.where}: {reason}; they count as cut there"
            self._notes += [note] if note not in self._notes else []


def keys_of(rows: Rows) -> np.ndarray:
    """[n] of each row a number that tells its episode and step, the same for all agents."""
    assert rows.steps is not None
    labels: dict[Any, np.uint64] = {}
    codes = np.empty(len(rows), np.uint64)
    starts = np.append(0, rows.begins)
    for start, stop in zip(starts, np.append(starts[1:], len(rows)), strict=True):
        label = rows.episodes[start] if len(rows) else None
        if label not in labels:
            digest = hashlib.blake2b(str(label).encode(), digest_size=8).digest()
            labels[label] = np.uint64(int.from_bytes(digest, "little"))
        codes[start:stop] = labels[label]
    steps = np.ascontiguousarray(rows.steps, np.float64) + 0.0  # no -0.0, whose bits are others
    bits = steps.view(np.uint64)
    with np.errstate(over="ignore"):
        return codes ^ ((bits ^ (bits >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15))


def common(keys: Sequence[np.ndarray]) -> np.ndarray:
    """The keys that are in all of some lists, sorted."""
    found = np.unique(keys[0])
    for others in keys[1:]:
        found = np.intersect1d(found, others)
    return found
