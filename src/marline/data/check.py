"""The rules that logs must keep: what is wrong, where it is, and how to mend it.

One list for all: loading and importing stop at the first error, the linter names everything it finds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from marline.data.channels import Channels
from marline.data.clipping import MOSTLY, TOLERANCE, Reach
from marline.data.dataset import Dataset
from marline.data.lateness import late_observation
from marline.data.layout import Columns, first_row, logs_of, require_shapes
from marline.errors import DataError, MarlineError
from marline.types import AgentID, Spec

LARGEST = 1e18  # squares of values beyond about 1.8e19 are infinite in float32
ROUNDING = 1e-5  # two computations of one observation in float32 may differ by this, and by this of itself
SATURATED = 0.999  # an action this far out is taken for one cut at its bound
GAP = 1.5  # times the usual time between two steps
_FEWEST_ENDS = 2  # of episodes, to tell an agent that is a row behind from one that was logged apart
_FOLD = 64  # rows laid side by side: NumPy reduces narrow columns slowly


class Finding(NamedTuple):
    """What a rule found in the logs of an agent.

    Attributes:
        severity: an error cannot be trained on, a warning is odd.
        rule: its name.
        agent, source: whose logs, and their file.
        row: the first row that it is about, counted from 0; None if it is about all of them.
        message: one sentence with all of this and the way to mend it.
    """

    severity: Literal["error", "warning"]
    rule: str
    agent: AgentID
    source: str
    row: int | None
    message: str


def check(datasets: Mapping[AgentID, Dataset], *, clip_actions: bool = False, but: Collection[str] = ()) -> list[str]:
    """Look through the logs of a team.

    Args:
        datasets: logs by agent. Agents need not have been logged at the same steps, which is told.
        clip_actions: only warn of continuous actions outside [-1, 1]; the caller then uses
            `Dataset.clipped`.
        but: rules whose warnings are left out.

    Returns:
        What is odd but can be trained on, one sentence each; also what was changed on reading.

    Raises:
        DataError: what cannot be trained on: no data, values that are not finite or beyond float32,
            columns of wrong shape or length, actions out of bounds, masks that allow nothing, an agent
            that is a row behind another. Rows are counted from 0.
    """
    if not datasets:
        raise DataError("there are no logs to check; give those of at least one agent")
    warnings = []
    for finding in lint(datasets, clip_actions=clip_actions):
        if finding.severity == "error":
            raise DataError(finding.message)
        if finding.rule not in but:
            warnings.append(finding.message)
    return warnings


def lint(datasets: Mapping[AgentID, Dataset | MarlineError], *, clip_actions: bool = False) -> Iterator[Finding]:
    """Everything that the rules find, agent by agent, then what concerns several of them.

    Args:
        datasets: logs by agent, or why they cannot be read.
        clip_actions: as of `check`.
    """
    team = []
    for agent, dataset in datasets.items():
        if isinstance(dataset, MarlineError):
            yield Finding("error", "unreadable", agent, "", None, str(dataset))
            continue
        where = logs_of(agent, dataset.source)
        channels = dataset.channels
        logs = _Logs(
            agent,
            dataset.source,
            where,
            dataset.columns(),
            dataset.spec,
            clip_actions,
            channels=channels,
            reward_scope=dataset.reward_scope,
        )
        try:
            require_shapes(logs.where, logs.columns, logs.spec)
            channels.require_fit(logs.where, logs.spec)
        except DataError as error:
            yield Finding("error", "shape", agent, dataset.source, None, str(error))
            continue
        if len(dataset) == 0:
            yield logs.error("empty", None, " hold no rows; leave the agent out or export its logs again")
            continue
        yield from (Finding("warning", "converted", agent, dataset.source, None, note) for note in dataset.notes)
        for rule in (*ROW_RULES, *LOG_RULES):
            yield from rule(logs)
        team.append(logs)
    for logs in team[1:]:
        for rule in TEAM_RULES:
            yield from rule(logs, team[0])


def require_sound_rows(
    where: str, columns: Columns, spec: Spec, *, first: int = 0, channels: Channels | None = None
) -> None:
    """Raise `DataError` for the first row that cannot be trained on, whatever comes before and after it.

    Args:
        where: whose logs they are.
        columns: a block of converted rows.
        first: number of the first of them.
        channels: for messages: the scale that actions came on.
    """
    logs = _Logs("", "", where, columns, spec, first=first, is_part=True, channels=channels or Channels())
    for rule in ROW_RULES:
        for finding in rule(logs):
            if finding.severity == "error":
                raise DataError(finding.message)


@dataclasses.dataclass(frozen=True)
class _Logs:
    """Rows of one agent, and what findings about them have in common."""

    agent: AgentID
    source: str
    where: str
    columns: Columns
    spec: Spec
    clip_actions: bool = False
    first: int = 0
    is_part: bool = False
    channels: Channels = Channels()
    reward_scope: str | None = None

    def __len__(self) -> int:
        return len(self.columns["rewards"])

    def error(self, rule: str, row: int | None, text: str) -> Finding:
        return Finding("error", rule, self.agent, self.source, row, self.where + text)

    def warning(self, rule: str, row: int | None, text: str) -> Finding:
        return Finding("warning", rule, self.agent, self.source, row, f"{self.where}: {text}")


def _values(logs: _Logs) -> Iterator[Finding]:
    """Values are finite, small enough to be squared, and not always the same."""
    for key in ("observations", "next_observations", "actions", "rewards"):
        if key not in logs.columns or logs.columns[key].dtype.kind != "f":
            continue
        column = logs.columns[key].reshape(len(logs), -1)
        low, high = _bounds(column)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            yield _not_finite(logs, key, column)
        elif max(-low.min(initial=0), high.max(initial=0)) > LARGEST:
            row = first_row(np.abs(column) > LARGEST)
            value = column[row][np.argmax(np.abs(column[row]))]
            yield logs.error(
                "too-large",
                logs.first + row,
                f" hold {value:.3g} in {key} at row {logs.first + row}; nothing beyond {LARGEST:.0e} can be learned "
                "from in float32: rescale them, or remove the row",
            )
        constant = np.flatnonzero(low == high)
        if key == "rewards" and constant.size:
            text = f"all rewards are {low[0]:.6g}, so there is nothing to improve"
            yield logs.warning("constant-reward", None, text)
        elif key in ("observations", "actions") and constant.size:
            names = logs.channels.observation_names if key == "observations" else logs.channels.action_names
            named = [f"{place} ({names[place]!r})" if names else str(place) for place in constant[:8].tolist()]
            shown = ", ".join(named) + (", ..." if constant.size > 8 else "")
            text = f"{key} never change in column {shown}; they carry no information"
            yield logs.warning("dead-feature", None, text)


def _bounds(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of every column [n, width], n at least 1; NaN where there is one."""
    whole = len(column) // _FOLD * _FOLD
    width = column.shape[1]
    folded = np.ascontiguousarray(column[:whole]).reshape(-1, _FOLD * width)
    parts = [column[whole:], *([folded] if whole else [])]
    with np.errstate(invalid="ignore"):
        low = [part.min(axis=0, initial=np.inf).reshape(-1, width).min(axis=0) for part in parts]
        high = [part.max(axis=0, initial=-np.inf).reshape(-1, width).max(axis=0) for part in parts]
        return np.minimum.reduce(low), np.maximum.reduce(high)


def _not_finite(logs: _Logs, key: str, column: np.ndarray) -> Finding:
    wrong = ~np.isfinite(column)
    row = first_row(wrong)
    count = int(wrong.any(axis=1).sum())
    what = "NaN" if np.isnan(column[row]).any() else "an infinite value"
    return logs.error(
        "not-finite",
        logs.first + row,
        f" hold {what} in {key} at row {logs.first + row}"
        f"{'' if logs.is_part else f' and in {count} of {len(column)} rows altogether'}; "
        "remove those episodes or repair the export",
    )


def _continuous_actions(logs: _Logs) -> Iterator[Finding]:
    """Continuous actions lie in [-1, 1], and not mostly at its ends."""
    if logs.spec.discrete:
        return
    actions = logs.columns["actions"]
    low, high = float(actions.min()), float(actions.max())
    if low < -1 - TOLERANCE or high > 1 + TOLERANCE:
        outside = np.abs(actions) > 1 + TOLERANCE
        row, count = logs.first + first_row(outside), int(outside.any(axis=1).sum())
        found = f" hold actions in [{low:.4g}, {high:.4g}] but its spec is [-1, 1]"
        fix = "re-export with the action scaling used on site, or pass --clip-actions"
        unclippable = Reach.of(actions).unclippable(logs.channels)
        if logs.channels.has_scale:
            place = row - logs.first
            column = int(np.argmax(outside[place]))
            value = logs.channels.to_field(actions[place])[column]
            least, most = (bound[column] for bound in logs.channels.bounds(logs.spec.action_size))
            name, span = logs.channels.action(column), f"[{least:.10g}, {most:.10g}]"
            found = f" hold {value:.6g} as {name}, beyond its range of {span}"
            fix = "correct the range, or remove those steps, or pass --clip-actions"
        if unclippable is not None:
            yield logs.error("action-bounds", row, f"{found} (first at row {row}, {count} rows): {unclippable}")
        elif logs.clip_actions:
            text = f"{logs.where}{found}; {count} rows are clipped"
            yield Finding("warning", "action-bounds", logs.agent, logs.source, row, text)
        else:
            yield logs.error(
                "action-bounds",
                row,
                f"{found} (first at row {row}, {count} rows); {fix}",
            )


def _discrete_actions(logs: _Logs) -> Iterator[Finding]:
    """Choices are among those that there are, and that their masks allow; masks allow something."""
    if not logs.spec.discrete:
        return
    actions, masks = logs.columns["actions"], logs.columns.get("action_masks")
    wrong = (actions < 0) | (actions >= logs.spec.action_size)
    if wrong.any():
        row = first_row(wrong)
        yield logs.error(
            "action-range",
            logs.first + row,
            f" hold action {actions[row]} at row {logs.first + row} ({int(wrong.sum())} such rows) but its spec has "
            f"actions 0 to {logs.spec.action_size - 1}; count actions from 0, or correct the spec",
        )
    for key in ("action_masks", "next_action_masks"):
        mask = logs.columns.get(key)
        if mask is not None and not mask.any(axis=1).all():
            row = logs.first + int(np.argmin(mask.any(axis=1)))
            text = f": {key} allow no action at row {row}; allow at least one, such as doing nothing"
            yield logs.error("empty-mask", row, text)
    if masks is not None and not wrong.any():
        allowed = np.take_along_axis(masks, actions[:, None], axis=1)[:, 0]
        if not allowed.all():
            row = int(np.argmin(allowed))
            yield logs.error(
                "forbidden-action",
                logs.first + row,
                f" took action {actions[row]} at row {logs.first + row}, which its mask forbids "
                f"({np.count_nonzero(~allowed)} such rows); export the mask of the same step as the action",
            )


def _saturated(logs: _Logs) -> Iterator[Finding]:
    """Continuous actions are not mostly at their bounds."""
    if logs.spec.discrete:
        return
    actions = logs.columns["actions"]
    share = np.count_nonzero(np.abs(actions) >= SATURATED, axis=0) / len(logs)
    full = np.flatnonzero(share > MOSTLY)
    if full.size and len(logs) > 1:
        shown = ", ".join(f"{column} ({100 * share[column]:.0f} %)" for column in full[:8])
        text = f"actions are mostly at their bounds in column {shown}; if they were clipped, log what was asked for"
        yield logs.warning("saturated", None, text)


def _whole_actions(logs: _Logs) -> Iterator[Finding]:
    """Continuous actions are not choices in disguise."""
    if logs.spec.discrete:
        return
    reach = Reach.of(logs.columns["actions"])
    whole = np.flatnonzero((reach.fractions == 0) & (reach.low < reach.high))
    if whole.size == len(reach.low):
        text = "actions are whole numbers in every row; if they are choices, store them as integers [n]"
        yield logs.warning("whole-numbers", None, text)


def _flags(logs: _Logs) -> Iterator[Finding]:
    """An episode ends in one way, and does not only end because time is up but is said to be over."""
    terminals, timeouts = logs.columns["terminals"], logs.columns["timeouts"]
    both = terminals & timeouts
    if both.any():
        text = f"terminal and timeout are both set at row {first_row(both)} and in {int(both.sum())} rows; "
        yield logs.warning("both-ends", first_row(both), text + "they count as terminal")
    ends = np.flatnonzero(terminals | timeouts)
    lengths = np.diff(ends, prepend=-1)
    if not timeouts.any() and len(ends) >= 3 and lengths[0] > 1 and (lengths == lengths[0]).all():
        yield logs.warning(
            "truncation-as-terminal",
            int(ends[0]),
            f"all {len(ends)} episodes are terminal after {lengths[0]} steps; if a time limit cut them, "
            "store that as timeouts, for a terminal says that no reward follows",
        )
    unfinished = len(logs) - 1 - (int(ends[-1]) if len(ends) else -1)
    if unfinished:
        text = f"the last {unfinished} rows belong to an episode without an end; they are kept"
        yield logs.warning("unfinished", len(logs) - unfinished, text)


def _following(logs: _Logs) -> Iterator[Finding]:
    """Within an episode the next observation is the observation of the next row."""
    going_on = ~(logs.columns["terminals"] | logs.columns["timeouts"])[:-1]
    ends, starts = logs.columns["next_observations"][:-1], logs.columns["observations"][1:]
    (rows,) = np.nonzero(going_on & (ends != starts).any(axis=1))
    jumps = rows[~np.isclose(ends[rows], starts[rows], rtol=ROUNDING, atol=ROUNDING).all(axis=1)]
    if len(jumps):
        yield logs.warning(
            "not-following",
            int(jumps[0]),
            f"the next observation is not the observation of the following row at row {jumps[0]} and in {len(jumps)} "
            "rows; fine if rows were shuffled or left out, else episode ends are missing",
        )


def _late(logs: _Logs) -> Iterator[Finding]:
    """What is seen was written before the action of its row, not after it."""
    late = late_observation(logs.columns, logs.spec)
    if late is not None:
        names = logs.channels.observation_names
        column = f"{late.column} ({names[late.column]!r})" if names else str(late.column)
        yield logs.warning(
            "late-observation",
            None,
            f"observations change in column {column} by the action of the next row ({100 * late.following:.0f} % of "
            f"the change), and not by those of their own row and before ({100 * late.own:.0f} %), so they seem to be "
            "written after the action of their row; write what was seen before it, or move them down by a row within "
            "each episode",
        )


def _repeats(logs: _Logs) -> Iterator[Finding]:
    """No episode occurs twice, told by a hash of all its rows."""
    ends = np.flatnonzero(logs.columns["terminals"] | logs.columns["timeouts"])
    if len(ends) < 2:
        return
    hashes = _row_hashes(logs.columns)[: ends[-1] + 1]
    starts = np.concatenate([[0], ends[:-1] + 1])
    position = np.arange(len(hashes), dtype=np.uint64) - np.repeat(starts, np.diff(ends, prepend=-1)).astype(np.uint64)
    mixed = (hashes ^ (hashes >> np.uint64(29))) * (2 * position + np.uint64(1))
    _, first, count = np.unique(np.add.reduceat(mixed, starts), return_index=True, return_counts=True)
    repeats = len(starts) - len(first)
    if repeats:
        example = int(starts[first[count > 1][0]])
        yield logs.warning(
            "repeated-episode",
            example,
            f"{repeats} of {len(starts)} episodes repeat an earlier one, such as the one from row {example}; "
            "the same log may have been exported twice",
        )


def _row_hashes(columns: Columns) -> np.ndarray:
    """A 64-bit hash of observation, action and reward of every row, from their bits."""
    rng = np.random.default_rng(0)
    hashes = np.zeros(len(columns["rewards"]), np.uint64)
    for column in (columns["observations"], columns["actions"], columns["rewards"]):
        bits = np.ascontiguousarray(column).view(np.uint32).reshape(len(hashes), -1)
        odd = rng.integers(1 << 63, size=bits.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        for j in range(bits.shape[1]):
            hashes += bits[:, j] * odd[j]
    return hashes


def _time(logs: _Logs) -> Iterator[Finding]:
    """Within an episode time goes on, in steps of one length."""
    times = logs.columns.get("timestamps")
    if times is None or len(logs) < 2:
        return
    steps = np.diff(times)
    within = ~(logs.columns["terminals"] | logs.columns["timeouts"])[:-1]
    backward = within & ~(steps > 0)  # so written, NaN goes backward too
    if backward.any():
        row = first_row(backward) + 1
        yield logs.error(
            "time-order",
            row,
            f" go from time {times[row - 1]:.10g} to {times[row]:.10g} at row {row} ({int(backward.sum())} such rows); "
            "sort the rows of every episode by time, each once",
        )
    elif within.any():
        usual = float(np.median(steps[within]))
        late = within & (steps > GAP * usual)
        if late.any():
            row = first_row(late) + 1
            yield logs.warning(
                "time-gap",
                row,
                f"{steps[row - 1]:.4g} instead of {usual:.4g} pass before row {row} and {int(late.sum())} rows "
                "altogether; steps are missing, so end the episode there",
            )


class Steps(NamedTuple):
    """How the rows of an agent fall into episodes: enough to tell whether two agents were logged at the same steps."""

    where: str
    num_rows: int
    terminals: np.ndarray
    timeouts: np.ndarray


class Difference(NamedTuple):
    """How the steps of an agent differ from those of another.

    Attributes:
        row: the first row that it is about; None if it is about all of them.
        is_behind: whether they are the same but for a row, which is an error of whoever exported them.
        message: one sentence.
    """

    row: int | None
    is_behind: bool
    message: str


def steps_differ(mine: Steps, theirs: Steps) -> Difference | None:
    """How two agents were logged at other steps; None if they have as many rows, and episodes end at the same ones."""
    own = (
        "each learns from its own, which is fine where one lost a row or was logged for longer; "
        "--align of marline data import keeps the steps that all have"
    )
    if mine.num_rows != theirs.num_rows:
        episodes = [len(np.union1d(steps.terminals, steps.timeouts)) for steps in (mine, theirs)]
        return Difference(
            None,
            False,
            f"{mine.where}: {mine.num_rows} rows and {episodes[0]} ends of episodes, but {theirs.num_rows} and "
            f"{episodes[1]} in {theirs.where}; {own}",
        )
    for key in ("terminals", "timeouts"):
        wrong = np.setxor1d(getattr(mine, key), getattr(theirs, key), assume_unique=True)
        if len(wrong):
            is_behind = _is_behind(mine, theirs) or _is_behind(theirs, mine)
            behind = (
                f"{mine.where} and {theirs.where} differ in {key} from row {wrong[0]} on ({len(wrong)} rows): "
                "their rows are not the same steps; export them aligned"
            )
            apart = f"{mine.where}: other {key} than {theirs.where} from row {wrong[0]} on ({len(wrong)} rows); {own}"
            return Difference(int(wrong[0]), is_behind, behind if is_behind else apart)
    return None


def _is_behind(late: Steps, early: Steps) -> bool:
    """Whether episodes of one agent end a row later than those of another, all of them."""
    ends = [np.union1d(steps.terminals, steps.timeouts) for steps in (late, early)]
    shifted, expected = ends[0][ends[0] > 0], ends[1][ends[1] < early.num_rows - 1] + 1
    return len(expected) >= _FEWEST_ENDS and np.array_equal(shifted, expected)


def _same_steps(logs: _Logs, other: _Logs) -> Iterator[Finding]:
    """Episodes of all agents end at the same rows; if not, that is odd, and an error where all are a row late."""
    found = steps_differ(_steps(logs), _steps(other))
    if found is not None:
        severity, rule = ("error", "misaligned") if found.is_behind else ("warning", "other-steps")
        yield Finding(severity, rule, logs.agent, logs.source, found.row, found.message)


def _steps(logs: _Logs) -> Steps:
    ends = [np.flatnonzero(logs.columns[key]) for key in ("terminals", "timeouts")]
    return Steps(logs.where, len(logs), *ends)


def _same_rewards(logs: _Logs, other: _Logs) -> Iterator[Finding]:
    """A shared reward is the same for everyone, and not a step behind."""
    mine, theirs = logs.columns["rewards"], other.columns["rewards"]
    if len(mine) != len(theirs):
        return
    differs = mine != theirs
    if not differs.any():
        return
    row = first_row(differs)
    for late, early in ((logs, other), (other, logs)):
        # only where they change can equal rewards tell two steps apart
        if len(mine) > 2 and np.array_equal(late.columns["rewards"][1:], early.columns["rewards"][:-1]):
            text = f" hold the rewards of {early.where} one row later: they are a step behind; export them aligned"
            yield late.error("misaligned", row, text)
            return
    if logs.reward_scope == "per-agent":
        return
    is_said = logs.reward_scope == "shared"
    text = f"{logs.where}: other rewards than {other.where} from row {row} on ({int(differs.sum())} rows); " + (
        "they are declared shared, and a team that shares its reward logs the same for everyone"
        if is_said
        else "if each has its own, say so with --rewards per-agent when importing; a team that shares its reward logs "
        "the same for everyone"
    )
    yield Finding("warning", "reward-mismatch", logs.agent, logs.source, row, text)


def _own_actions(logs: _Logs, other: _Logs) -> Iterator[Finding]:
    """No two agents act alike all the time."""
    mine, theirs = logs.columns["actions"], other.columns["actions"]
    if len(logs) > 1 and len(np.unique(mine[:1000])) > 1 and np.array_equal(mine, theirs):
        text = f"its actions are those of {other.where} at every row; export to each agent its own actions only"
        yield logs.warning("same-actions", None, text)


Rule = Callable[[_Logs], Iterator[Finding]]
TeamRule = Callable[[_Logs, _Logs], Iterator[Finding]]
ROW_RULES: tuple[Rule, ...] = (_values, _continuous_actions, _discrete_actions)  # errors show in a row alone
LOG_RULES: tuple[Rule, ...] = (_flags, _following, _late, _repeats, _time, _saturated, _whole_actions)
TEAM_RULES: tuple[TeamRule, ...] = (_same_steps, _same_rewards, _own_actions)
