"""The linter of logs: what is wrong, where it is, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from marline.data.dataset import Dataset
from marline.data.layout import first_row, logs_of, require_shapes
from marline.errors import DataError
from marline.types import AgentID

LARGEST = 1e18  # squares of values beyond about 1.8e19 are infinite in float32
TOLERANCE = 1e-6  # of the bounds on actions: scaling in float32 may step over by this
_FOLD = 64  # rows laid side by side: NumPy reduces narrow columns slowly


def check(datasets: Mapping[AgentID, Dataset], *, clip_actions: bool = False) -> list[str]:
    """Look through the logs of a team.

    Args:
        datasets: logs by agent; the rows of all agents must belong to the same steps.
        clip_actions: only warn of continuous actions outside [-1, 1]; the caller then uses
            `Dataset.clipped`.

    Returns:
        What is odd but can be trained on, one sentence each; also what was changed on reading.

    Raises:
        DataError: what cannot be trained on: no data, values that are not finite or beyond float32,
            columns of wrong shape or length, actions out of bounds, masks that allow nothing, agents
            out of step with each other. Rows are counted from 0.
    """
    if not datasets:
        raise DataError("there are no logs to check; give those of at least one agent")
    warnings = []
    for agent, dataset in datasets.items():
        where = logs_of(agent, dataset.source)
        require_shapes(where, dataset.columns(), dataset.spec)
        if len(dataset) == 0:
            raise DataError(f"{where} hold no rows; leave the agent out or export its logs again")
        warnings += dataset.notes
        warnings += _check_values(where, dataset)
        warnings += _check_actions(where, dataset, clip_actions)
        warnings += _check_episodes(where, dataset)
    return warnings + _check_team(datasets)


def _check_values(where: str, dataset: Dataset) -> list[str]:
    """Raise on values that are not finite or too large; warn of those that never change."""
    warnings = []
    columns = dataset.columns()
    for key in ("observations", "next_observations", "actions", "rewards"):
        if columns[key].dtype.kind != "f":
            continue
        column = columns[key].reshape(len(dataset), -1)
        low, high = _bounds(column)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            _raise_not_finite(where, key, column)
        if max(-low.min(initial=0), high.max(initial=0)) > LARGEST:
            row = first_row(np.abs(column) > LARGEST)
            value = column[row][np.argmax(np.abs(column[row]))]
            raise DataError(
                f"{where} hold {value:.3g} in {key} at row {row}; nothing beyond {LARGEST:.0e} can be learned from "
                "in float32: rescale them, or remove the row"
            )
        constant = np.flatnonzero(low == high)
        if key == "rewards" and constant.size:
            warnings.append(f"{where}: all rewards are {low[0]:.6g}, so there is nothing to improve")
        elif key in ("observations", "actions") and constant.size:
            shown = ", ".join(map(str, constant[:8])) + (", ..." if constant.size > 8 else "")
            warnings.append(f"{where}: {key} never change in column {shown}; they carry no information")
    return warnings


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


def _raise_not_finite(where: str, key: str, column: np.ndarray) -> None:
    wrong = ~np.isfinite(column)
    row = first_row(wrong)
    count = int(wrong.any(axis=1).sum())
    what = "NaN" if np.isnan(column[row]).any() else "an infinite value"
    raise DataError(
        f"{where} hold {what} in {key} at row {row} and in {count} of {len(column)} rows altogether; "
        "remove those episodes or repair the export"
    )


def _check_actions(where: str, dataset: Dataset, clip_actions: bool) -> list[str]:
    """Raise on actions outside the spec or against their mask, and on masks that allow nothing."""
    actions, spec = dataset.actions, dataset.spec
    if not spec.discrete:
        return _check_continuous(where, actions, clip_actions)
    wrong = (actions < 0) | (actions >= spec.action_size)
    if wrong.any():
        row = first_row(wrong)
        raise DataError(
            f"{where} hold action {actions[row]} at row {row} ({int(wrong.sum())} such rows) but its spec has actions "
            f"0 to {spec.action_size - 1}; count actions from 0, or correct the spec"
        )
    for key in ("action_masks", "next_action_masks"):
        mask = getattr(dataset, key)
        if mask is not None and not mask.any(axis=1).all():
            row = first_row(~mask.any(axis=1))
            raise DataError(f"{where}: {key} allow no action at row {row}; allow at least one, such as doing nothing")
    if dataset.action_masks is not None:
        allowed = np.take_along_axis(dataset.action_masks, actions[:, None], axis=1)
        if not allowed.all():
            row = first_row(~allowed)
            raise DataError(
                f"{where} took action {actions[row]} at row {row}, which its mask forbids "
                f"({int((~allowed).sum())} such rows); export the mask of the same step as the action"
            )
    return []


def _check_continuous(where: str, actions: np.ndarray, clip_actions: bool) -> list[str]:
    low, high = float(actions.min()), float(actions.max())
    if low >= -1 - TOLERANCE and high <= 1 + TOLERANCE:
        return []
    outside = np.abs(actions) > 1 + TOLERANCE
    count = int(outside.any(axis=1).sum())
    found = f"{where} hold actions in [{low:.4g}, {high:.4g}] but its spec is [-1, 1]"
    if clip_actions:
        return [f"{found}; {count} rows are clipped"]
    raise DataError(
        f"{found} (first at row {first_row(outside)}, {count} rows); "
        "re-export with the action scaling used on site, or pass --clip-actions."
    )


def _check_episodes(where: str, dataset: Dataset) -> list[str]:
    """Warn of episode ends and of next observations that look wrong."""
    warnings = []
    terminals, timeouts = dataset.terminals, dataset.timeouts
    both = terminals & timeouts
    if both.any():
        warnings.append(
            f"{where}: terminal and timeout are both set at row {first_row(both)} and in {int(both.sum())} rows; "
            "they count as terminal"
        )
    ends = np.flatnonzero(terminals | timeouts)
    lengths = np.diff(ends, prepend=-1)
    if not timeouts.any() and len(ends) >= 3 and lengths[0] > 1 and (lengths == lengths[0]).all():
        warnings.append(
            f"{where}: all {len(ends)} episodes are terminal after {lengths[0]} steps; if a time limit cut them, "
            "store that as timeouts, for a terminal says that no reward follows"
        )
    unfinished = len(dataset) - 1 - (int(ends[-1]) if len(ends) else -1)
    if unfinished:
        warnings.append(f"{where}: the last {unfinished} rows belong to an episode without an end; they are kept")
    goes_on = ~(terminals | timeouts)[:-1]
    jumps = goes_on & (dataset.next_observations[:-1] != dataset.observations[1:]).any(axis=1)
    if jumps.any():
        warnings.append(
            f"{where}: the next observation is not the observation of the following row at row {first_row(jumps)} "
            f"and in {int(jumps.sum())} rows; fine if rows were shuffled or left out, else episode ends are missing"
        )
    return warnings + _check_repeats(where, dataset, ends)


def _check_repeats(where: str, dataset: Dataset, ends: np.ndarray) -> list[str]:
    """Warn of episodes that occur twice, told by a hash of all their rows."""
    if len(ends) < 2:
        return []
    hashes = _row_hashes(dataset)[: ends[-1] + 1]
    starts = np.concatenate([[0], ends[:-1] + 1])
    position = np.arange(len(hashes), dtype=np.uint64) - np.repeat(starts, np.diff(ends, prepend=-1)).astype(np.uint64)
    mixed = (hashes ^ (hashes >> np.uint64(29))) * (2 * position + np.uint64(1))
    _, first, count = np.unique(np.add.reduceat(mixed, starts), return_index=True, return_counts=True)
    repeats = len(starts) - len(first)
    if repeats == 0:
        return []
    example = starts[first[count > 1][0]]
    return [
        f"{where}: {repeats} of {len(starts)} episodes repeat an earlier one, such as the one from row {example}; "
        "the same log may have been exported twice"
    ]


def _row_hashes(dataset: Dataset) -> np.ndarray:
    """A 64-bit hash of observation, action and reward of every row, from their bits."""
    rng = np.random.default_rng(0)
    hashes = np.zeros(len(dataset), np.uint64)
    for column in (dataset.observations, dataset.actions, dataset.rewards):
        bits = np.ascontiguousarray(column).view(np.uint32).reshape(len(dataset), -1)
        odd = rng.integers(1 << 63, size=bits.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        for j in range(bits.shape[1]):
            hashes += bits[:, j] * odd[j]
    return hashes


def _check_team(datasets: Mapping[AgentID, Dataset]) -> list[str]:
    """Raise unless all agents have the same steps; warn where their rewards differ."""
    (first, reference), *others = datasets.items()
    name = logs_of(first, reference.source)
    warnings = []
    for agent, dataset in others:
        where = logs_of(agent, dataset.source)
        if len(dataset) != len(reference):
            raise DataError(
                f"{where} have {len(dataset)} rows, {name} have {len(reference)}; "
                "export the same steps for every agent, in the same order"
            )
        for key in ("terminals", "timeouts"):
            wrong: np.ndarray = getattr(dataset, key) != getattr(reference, key)
            if wrong.any():
                raise DataError(
                    f"{where} and {name} differ in {key} from row {first_row(wrong)} on ({int(wrong.sum())} rows): "
                    "their rows are not the same steps; export them aligned"
                )
        differs = dataset.rewards != reference.rewards
        if differs.any():
            warnings.append(
                f"{where} and {name} differ in rewards from row {first_row(differs)} on ({int(differs.sum())} rows); "
                "a team that shares its reward logs the same for everyone"
            )
    return warnings
