"""D4RL's flat layout: which columns logs have, what each must look like, and how rows become transitions."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping

import numpy as np

from marline.errors import DataError
from marline.types import Spec

Columns = dict[str, np.ndarray]

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations", "action_masks", "next_action_masks", "timestamps")
DECLARE_CONTINUOUS = (
    'say so: "continuous": true, or "low" and "high", in a --spec file of marline data import, or spec= in Python'
)
# what others call a column, for those who leave out what they do not know
_OTHERS = {
    "truncations": "timeouts",
    "truncated": "timeouts",
    "terminations": "terminals",
    "dones": "terminals",
    "next_obs": "next_observations",
    "masks": "action_masks",
    "legals": "action_masks",
}
_MOST_CHOICES = 10_000
_EXACT = 2**24  # float32 tells all integers apart up to here


def logs_of(agent: str, source: str = "") -> str:
    """How messages name the logs of an agent, whatever its name contains."""
    name = json.dumps(agent if len(agent) <= 40 else agent[:40] + "...")
    return f"logs of agent {name}" + (f" ({source})" if source else "")


def require_keys(present: Iterable[str], required: Iterable[str], where: str) -> None:
    """Raise `DataError`, with the nearest name there is, unless all required keys are present."""
    present = [str(key) for key in present]
    for key in required:
        if key not in present:
            near = difflib.get_close_matches(key, present, n=1, cutoff=0.5)
            fix = f"rename {json.dumps(near[0])} to it" if near else "export it too"
            shown = ", ".join(json.dumps(name[:40]) for name in present[:12]) or "nothing"
            raise DataError(f'{where}: no "{key}" among {shown}; {fix}')


def convert(
    where: str, arrays: Mapping[str, object], spec: Spec | None, notes: list[str], *, first: int = 0
) -> tuple[Columns, Spec]:
    """D4RL's columns in the types that `require_shapes` wants; columns of other names are left out.

    Args:
        where: whose logs they are, for messages.
        arrays: by key, of any numeric type; without `timeouts` no row is one.
        spec: sizes; inferred by `infer_spec` if not given.
        notes: is told what the conversion changed, what was taken for what, and what was left out though its name
            is nearly that of a column.
        first: number of the first row, for messages.

    Returns:
        The columns, and their spec.

    Raises:
        DataError: a column is missing, no array of numbers, misshapen, or of another length.
    """
    require_keys(arrays, REQUIRED, where)
    columns = {key: arrays[key] for key in (*REQUIRED, *OPTIONAL) if key in arrays}
    columns = {key: numbers(where, key, column) for key, column in columns.items()}
    if spec is None:
        columns["actions"] = _undeclared_actions(where, columns, notes)
        spec = infer_spec(where, columns)
    else:
        columns["actions"] = _declared_actions(columns["actions"], spec)
    notes += near_misses(where, arrays)
    if "timeouts" not in columns:
        columns["timeouts"] = np.zeros(columns["terminals"].shape, np.bool_)
        notes.append(f"{where}: no timeouts key, so no episode counts as cut by a time limit")
    for key, column in columns.items():
        if key == "actions" and spec.discrete:
            columns[key] = choices(where, column, first=first)
        elif key in ("observations", "actions", "rewards", "next_observations"):
            columns[key] = real(where, key, column, notes, first=first)
        elif key == "timestamps":
            columns[key] = column.astype(np.float64, copy=False)
        else:
            columns[key] = flags(where, key, column, first=first)
    require_shapes(where, columns, spec)
    return columns, spec


def real(where: str, key: str, values: object, notes: list[str], *, first: int = 0) -> np.ndarray:
    """Numbers as float32, native byte order; `notes` is told when that changes them.

    Raises:
        DataError: not numbers, or finite ones that float32 cannot hold.
    """
    array = numbers(where, key, values)
    if array.dtype == np.float32:
        return array
    with np.errstate(over="ignore"):
        converted = array.astype(np.float32)
    if array.dtype.kind == "f" and array.itemsize <= 4:
        return converted  # half precision, or another byte order: nothing is lost
    lost = np.isinf(converted) & np.isfinite(array)
    if lost.any():
        row = first_row(lost)
        raise DataError(
            f"{where} hold {key} up to {np.abs(array[row]).max():.3g} at row {first + row}, "
            "which float32 cannot hold; rescale them"
        )
    notes.append(f"{where}: {key} came as {array.dtype} and were converted to float32")
    if array.size and np.abs(converted).max() > _EXACT:
        notes.append(
            f"{where}: some {key} are beyond {_EXACT}, where float32 keeps about 7 digits; "
            "subtract an offset if more matter"
        )
    return converted


def flags(where: str, key: str, values: object, *, first: int = 0, row_numbers: np.ndarray | None = None) -> np.ndarray:
    """Booleans; zeros and ones of any type will do.

    Raises:
        DataError: something else is among them.
    """
    array = numbers(where, key, values)
    if array.dtype != np.bool_:
        wrong = (array != 0) & (array != 1)
        if wrong.any():
            row = first_row(wrong)
            number = first + row if row_numbers is None else row_numbers[row]
            raise DataError(f"{where} hold {array[row]} in {key} at row {number}; export only 0 and 1 there")
        array = array.astype(np.bool_)
    return array


def choices(where: str, values: object, *, first: int = 0) -> np.ndarray:
    """Discrete actions as int64; whole numbers of any type will do.

    Raises:
        DataError: fractional or non-finite ones are among them.
    """
    array = numbers(where, "actions", values)
    if array.dtype.kind == "f":
        wrong = ~np.isfinite(array) | (array != np.floor(array))
        if wrong.any():
            row = first_row(wrong)
            raise DataError(
                f"{where} hold the discrete action {array[row]} at row {first + row}, which is no whole number; "
                "export action indices, or declare the actions continuous"
            )
    return array.astype(np.int64, copy=False)


def numbers(where: str, key: str, values: object) -> np.ndarray:
    """Any array of real numbers or booleans; `DataError` for text, objects and ragged lists."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{where}: {key} are ragged ({error}); export one row of equal length per step") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: {key} hold {array.dtype} instead of numbers; export them as float32")
    return array


def _declared_actions(actions: np.ndarray, spec: Spec) -> np.ndarray:
    """One number in a row as [n] if it is a choice, as [n, 1] if it is not."""
    if spec.discrete and actions.ndim == 2 and actions.shape[1] == 1:
        return actions[:, 0]
    return actions[:, None] if not spec.discrete and spec.action_size == 1 and actions.ndim == 1 else actions


def _undeclared_actions(where: str, columns: Columns, notes: list[str]) -> np.ndarray:
    """Actions of which nothing says whether they are choices: whole numbers are, if there is one in a row.

    Raises:
        DataError: there are several whole numbers in a row, which may be anything.
    """
    actions = columns["actions"]
    if actions.dtype.kind not in "iub" or actions.ndim not in (1, 2):
        return actions
    if actions.ndim == 2 and actions.shape[1] != 1:
        raise DataError(several_choices(where, actions.shape[1], is_one_hot(actions)))
    if actions.ndim == 2 or "action_masks" not in columns:
        shape = "[n, 1]" if actions.ndim == 2 else "[n]"
        notes.append(
            f"{where}: actions are whole numbers {shape} and were taken for choices; "
            f"if they are continuous, {DECLARE_CONTINUOUS}"
        )
    return actions[:, 0] if actions.ndim == 2 else actions


def is_one_hot(actions: np.ndarray) -> bool:
    """Whether a single 1 among zeros is all that any row [n, act] of several numbers holds."""
    zeros_and_ones = ((actions == 0) | (actions == 1)).all()
    return actions.shape[1] > 1 and bool(zeros_and_ones and (actions.sum(axis=1) == 1).all())


def several_choices(where: str, size: int, one_hot: bool) -> str:
    """What is wrong with several whole numbers as an action."""
    what = "one-hot choices? store the index of each" if one_hot else "choices? store one"
    return (
        f"{where}: actions are {size} whole numbers in a row; {what}, as integers [n], "
        f"or, if they are continuous, {DECLARE_CONTINUOUS}"
    )


def near_misses(where: str, present: Iterable[object]) -> list[str]:
    """Sentences on names that are left out, though they are nearly those of columns that are missing."""
    names = [str(name) for name in present]
    notes = []
    for name in names:
        if name in REQUIRED or name in OPTIONAL:
            continue
        near = difflib.get_close_matches(name, (*REQUIRED, *OPTIONAL, *_OTHERS), n=1, cutoff=0.85)
        key = _OTHERS.get(near[0], near[0]) if near else name
        if key not in names:
            notes.append(f"{where}: {json.dumps(name[:40])} was left out; if it holds the {key}, rename it to {key}")
    return notes


def infer_spec(where: str, columns: Columns) -> Spec:
    """Sizes from shapes: integer actions [n] are discrete, as many as the mask or the largest action says.

    Raises:
        DataError: the shapes do not say.
    """
    observations, actions = columns["observations"], columns["actions"]
    if observations.ndim != 2:
        raise DataError(f"{where}: observations have shape {observations.shape} instead of [n, size]; flatten each row")
    if actions.ndim == 2:
        return Spec(observations.shape[1], actions.shape[1])
    if actions.ndim != 1 or actions.dtype.kind not in "iub":
        raise DataError(
            f"{where}: actions have shape {actions.shape} and type {actions.dtype}; "
            "export continuous actions as [n, size], discrete ones as integers [n]"
        )
    masks = columns.get("action_masks")
    if masks is not None and masks.ndim == 2:
        return Spec(observations.shape[1], masks.shape[1], discrete=True)
    return Spec(observations.shape[1], count_choices(where, actions), discrete=True)


def count_choices(where: str, actions: np.ndarray) -> int:
    """How many choices there are, if the largest one seen is the last; `DataError` if no agent has so many."""
    number = int(actions.max(initial=0)) + 1
    if number > _MOST_CHOICES:
        raise DataError(f"{where}: actions go up to {number - 1}; if these are no choices, {DECLARE_CONTINUOUS}")
    return number


def require_shapes(where: str, columns: Mapping[str, np.ndarray], spec: Spec) -> None:
    """Raise `DataError` unless every column has the type and width of the spec, and all one length."""
    if spec.observation_size < 1 or spec.action_size < 1:
        raise DataError(f"{where}: {spec} leaves nothing to observe or to do; export at least one column of each")
    vector = (np.dtype(np.float32), (spec.observation_size,))
    mask = (np.dtype(np.bool_), (spec.action_size,))
    wanted = {
        "observations": vector,
        "actions": (np.dtype(np.int64), ()) if spec.discrete else (np.dtype(np.float32), (spec.action_size,)),
        "rewards": (np.dtype(np.float32), ()),
        "terminals": (np.dtype(np.bool_), ()),
        "timeouts": (np.dtype(np.bool_), ()),
        "next_observations": vector,
        "action_masks": mask,
        "next_action_masks": mask,
        "timestamps": (np.dtype(np.float64), ()),
    }
    for key, column in columns.items():
        dtype, width = wanted[key]
        if column.dtype != dtype or column.ndim != 1 + len(width) or column.shape[1:] != width:
            shape = ", ".join(["n", *map(str, width)])
            raise DataError(
                f"{where}: {key} have type {column.dtype} and shape {column.shape} instead of {dtype} and [{shape}]; "
                "reshape them, or correct the spec"
            )
    require_one_length(where, {key: len(column) for key, column in columns.items()})


def require_one_length(where: str, lengths: Mapping[str, int]) -> None:
    """Raise `DataError` unless all columns have as many rows as there are rewards."""
    rows = lengths["rewards"]
    for key, length in lengths.items():
        if length != rows:
            fix = "export one row per step everywhere"
            if key == "observations" and length == rows + 1:
                fix = "split them into observations[:-1] and next_observations = observations[1:]"
            raise DataError(f"{where}: {key} have {length} rows and rewards {rows}; {fix}")


def rows_to_transitions(columns: Columns) -> Columns:
    """Take each row's next observation from the row that follows.

    Rows with a time-out, and a last row that is not terminal, have no next observation and are dropped, as
    D4RL's own reader does. Where a dropped row cut an episode, the row before it becomes the time-out, so
    that episodes stay apart.

    A terminal row needs none and is kept. What follows it is another episode, which has nothing to do with
    it, so it is given its own observation: the sign that what came after was not logged (`Transition`).
    """
    terminals = columns["terminals"]
    keep = rows_kept(columns)
    cut = np.zeros_like(keep)
    cut[:-1] = ~keep[1:] & ~terminals[:-1]
    following = np.flatnonzero(keep) + ~terminals[keep]
    made = {"timeouts": cut[keep], "next_observations": columns["observations"][following]}
    if "action_masks" in columns:
        made["next_action_masks"] = columns["action_masks"][following]
    return {key: column[keep] for key, column in columns.items()} | made


def rows_were_completed(where: str, num_dropped: int) -> str:
    """What a reader is told of `rows_to_transitions`."""
    return (
        f"{where}: no next_observations, so the next row was taken and rows without one dropped ({num_dropped}); "
        "what came after a terminal row is not known, and nothing learns from it"
    )


def rows_kept(columns: Columns) -> np.ndarray:
    """Which rows `rows_to_transitions` keeps, if nothing follows the last."""
    goes_on = ~columns["timeouts"]
    goes_on[-1:] = False
    return goes_on | columns["terminals"]


def first_row(wrong: np.ndarray) -> int:
    """Index of the first row with a true entry, counted from 0."""
    return int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))


def by_number(name: str) -> list[str | int]:
    """A key to sort names by, numbers in them counted as numbers: `a_2` before `a_10`."""
    # every second part is a number; other digits, such as a superscript, are not
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]
