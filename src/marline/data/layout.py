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
        notes: is told what the conversion changed.
        first: number of the first row, for messages.

    Returns:
        The columns, and their spec.

    Raises:
        DataError: a column is missing, no array of numbers, misshapen, or of another length.
    """
    require_keys(arrays, REQUIRED, where)
    columns = {key: arrays[key] for key in (*REQUIRED, *OPTIONAL) if key in arrays}
    columns = {key: numbers(where, key, column) for key, column in columns.items()}
    spec = spec or infer_spec(where, columns)
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


def flags(where: str, key: str, values: object, *, first: int = 0) -> np.ndarray:
    """Booleans; zeros and ones of any type will do.

    Raises:
        DataError: something else is among them.
    """
    array = numbers(where, key, values)
    if array.dtype != np.bool_:
        wrong = (array != 0) & (array != 1)
        if wrong.any():
            row = first_row(wrong)
            raise DataError(f"{where} hold {array[row]} in {key} at row {first + row}; export only 0 and 1 there")
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
    if actions.ndim != 1 or actions.dtype.kind not in "iu":
        raise DataError(
            f"{where}: actions have shape {actions.shape} and type {actions.dtype}; "
            "export continuous actions as [n, size], discrete ones as integers [n]"
        )
    masks = columns.get("action_masks")
    if masks is not None and masks.ndim == 2:
        return Spec(observations.shape[1], masks.shape[1], discrete=True)
    return Spec(observations.shape[1], int(actions.max(initial=0)) + 1, discrete=True)


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

    As D4RL's own reader does: rows with a time-out and the last row have no next observation and are
    dropped; the next observation of a terminal row is the first of the next episode, which a discount
    of 0 makes harmless. Where a dropped row cut an episode, the row before it becomes the time-out, so
    that episodes stay apart.
    """
    terminals, timeouts = columns["terminals"], columns["timeouts"]
    keep = ~timeouts
    keep[-1:] = False
    following = {"next_observations": columns["observations"][1:]}
    if "action_masks" in columns:
        following["next_action_masks"] = columns["action_masks"][1:]
    cut = np.zeros_like(keep)
    cut[:-1] = ~keep[1:] & ~terminals[:-1]
    kept = {key: column[keep] for key, column in columns.items()}
    return kept | {key: column[keep[:-1]] for key, column in following.items()} | {"timeouts": cut[keep]}


def first_row(wrong: np.ndarray) -> int:
    """Index of the first row with a true entry, counted from 0."""
    return int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))


def by_number(name: str) -> list[str | int]:
    """A key to sort names by, numbers in them counted as numbers: `a_2` before `a_10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]
