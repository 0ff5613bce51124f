"""Which columns of a table are what: exact names, numbered ones, or what the caller says."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from marline.data.layout import by_number
from marline.data.mapping import LABELS, is_wild, matches
from marline.errors import DataError, require_name

# What each key is called unless the caller says so: one of these names, or the last of them with a number each.
_NAMES: dict[str, tuple[str, ...]] = {
    "agent": ("agent",),
    "episode": ("episode",),
    "step": ("step",),
    "observations": ("observation", "observations", "obs"),
    "actions": ("actions", "action"),
    "rewards": ("reward", "rewards"),
    "terminals": ("terminated", "terminal", "terminals"),
    "timeouts": ("truncated", "timeout", "timeouts"),
    "next_observations": ("next_observation", "next_observations", "next_obs"),
    "action_masks": ("action_mask", "action_masks", "mask"),
    "next_action_masks": ("next_action_mask", "next_action_masks", "next_mask"),
    "timestamps": ("timestamp", "timestamps", "time"),
    "policy": ("policy_sha256",),
}
VECTORS = ("observations", "next_observations", "action_masks", "next_action_masks")
_NUMBERED = (*VECTORS, "actions")
_NEEDED = ("observations", "actions", "rewards", "terminals")
_WITHOUT = {
    "episode": "an episode ends only where a row is terminated or truncated",
    "step": "rows are taken for consecutive steps, in the order of the file",
    "terminals": "nothing ever ends for good",
    "timeouts": "no row counts as cut by a time limit",
}
_MOST_SHOWN = 20


def find_columns(
    where: str, present: Sequence[str], renamed: Mapping[str, str | Sequence[str]], *, continuing: bool = False
) -> dict[str, list[str]]:
    """The columns of each key that has any, in order; none serves two keys.

    An exact name wins over numbered ones, of which only those that are a stem and a number are taken: the digits
    of `obs_0, obs_1, ...` have no gap and start at 0 or 1. What the caller says comes first, in its order; of a
    pattern with `*`, names are sorted by the numbers in them.

    Args:
        where: the file, for messages.
        present: the columns of the table.
        renamed: names or patterns by key, several in a list or joined by commas; a name wins over a pattern.
        continuing: whether no column need tell that an episode ended for good.

    Raises:
        DataError: a column is there twice or taken twice, a key could be either of two columns, numbers have a
            gap, or a column that is needed is missing.
        ConfigError: a key is none.
    """
    found, problems = look_for_columns(where, present, renamed)
    taken = {name for names in found.values() for name in names}
    free = [name for name in present if name not in taken]
    problems += [
        _missing(where, free, key)
        for key in _NEEDED
        if key not in found and not (continuing and key == "terminals") and not problems
    ]
    if problems:
        raise DataError(problems[0])
    return found


def look_for_columns(
    where: str, present: Sequence[str], renamed: Mapping[str, str | Sequence[str]]
) -> tuple[dict[str, list[str]], list[str]]:
    """What `find_columns` finds, with all that is wrong, but for columns that are needed and missing."""
    for key in renamed:
        require_name(key[:40], _NAMES, "key of columns")
    problems = repeated_columns(where, present)
    asked = {key: [its] if isinstance(its, str) else list(its) for key, its in renamed.items()}
    named = {key: [name for pattern in its for name in _named(present, pattern)] for key, its in asked.items()}
    found: dict[str, list[str]] = {}
    taken: dict[str, str] = {}
    for key in sorted(asked, key=VECTORS.__contains__):  # if two want a column, what is observed goes without
        try:
            matching = [name for pattern in asked[key] for name in _matching(where, present, key, pattern)]
        except DataError as error:
            problems.append(str(error))
            continue
        others = {name for other, names in named.items() if other != key for name in names}
        for name in dict.fromkeys(named[key]):
            if name in taken or named[key].count(name) > 1:
                both = f"the {taken[name]} and the {key}" if name in taken else f"the {key} twice"
                problems.append(
                    f"{where}: column {name[:40]!r} is taken for {both}; a column serves one key, once: take it out"
                )
        names = [name for name in dict.fromkeys(matching) if name in named[key] or name not in others]
        found[key] = [name for name in names if name not in taken]
        clash = next((name for name in names if name in taken and name not in named[key]), None)
        if clash is not None:
            problems.append(
                f"{where}: column {clash[:40]!r} is taken for the {taken[clash]} and the {key}; a column serves one "
                "key, once: name it where it belongs"
            )
        taken |= dict.fromkeys(found[key], key)
    found = {key: names for key, names in found.items() if names}
    free = [name for name in present if name not in taken]
    for key in _NAMES:
        if key not in renamed:
            try:
                names = usual_columns(where, free, key)
            except DataError as error:
                problems.append(str(error))
                continue
            found |= {key: names} if names else {}
    for key in LABELS:
        if len(found.get(key, [])) > 1:
            problems.append(f"{where}: {_shown(found[key])} cannot all be the {key}; give --column {key}=NAME one name")
    return {key: found[key] for key in _NAMES if key in found}, problems


def describe_columns(
    where: str,
    present: Sequence[str],
    found: Mapping[str, Sequence[str]],
    used: Collection[str] = (),
    *,
    has_times: bool = False,
) -> list[str]:
    """Sentences that say which columns were taken for what, which were left out, and what is assumed without one.

    `used` are columns that serve somebody else; `has_times` says that times take the place of steps.
    """
    taken = "; ".join(f"{key} from {_shown(names)}" for key, names in found.items())
    notes = [f"{where}: {taken}"]
    taken_here = {name for names in found.values() for name in names}
    left = [name for name in present if name not in taken_here and name not in used]
    if left:
        notes.append(f"{where}: left out {_shown(left)}; to use one, pass --column KEY=NAME")
    for key, assumed in _WITHOUT.items():
        if key not in found and not (key == "step" and has_times):
            notes.append(f"{where}: no column for the {key}, so {assumed}")
    return notes


def usual_columns(where: str, free: Sequence[str], key: str) -> list[str]:
    """The columns of a key by their usual names, none if there are none; `DataError` where names leave it open."""
    exact = [name for name in _NAMES[key] if name in free]
    if len(exact) > 1:
        raise DataError(
            f"{where}: the {key} may be {' or '.join(map(repr, exact))}; say which: --column {key}={exact[0]}"
        )
    if exact or key not in _NUMBERED:
        return exact
    stem = _NAMES[key][-1]
    numbered = sorted((int(m[1]), name) for name in free if (m := re.fullmatch(rf"{stem}_([0-9]{{1,9}})", name)))
    numbers = [number for number, _ in numbered]
    names = [name for _, name in numbered]
    for one, other in zip(numbered, numbered[1:], strict=False):
        if one[0] == other[0]:
            raise DataError(
                f"{where}: {one[1]!r} and {other[1]!r} have one number; rename one, or say {_say(key, names)}"
            )
        if one[0] + 1 != other[0]:
            raise DataError(
                f"{where}: after {one[1]!r} comes {other[1]!r}, so {stem}_{one[0] + 1} is missing; export it, "
                f"or say {_say(key, names)}"
            )
    if numbers and numbers[0] > 1:
        raise DataError(
            f"{where}: {names[0]!r} comes first, so {stem}_0 is missing; export it, or say {_say(key, names)}"
        )
    return names


def _say(key: str, names: Sequence[str]) -> str:
    return f"--column {key}={','.join(names[:3])}{',...' if len(names) > 3 else ''}"


def _matching(where: str, present: Sequence[str], key: str, pattern: str) -> list[str]:
    if pattern in present:
        return [pattern]
    if "," in pattern:
        return [name for part in pattern.split(",") for name in _matching(where, present, key, part)]
    matching = [name for name in present if matches(pattern, name)] if is_wild(pattern) else []
    if not matching:
        raise DataError(
            f"{where}: no column {pattern[:40]} for the {key} among {_shown(present)}; say which it is: "
            f"--column {key}=NAME"
        )
    numbered = all(any(map(str.isdigit, name)) for name in matching)
    return sorted(matching, key=by_number) if numbered else matching


def repeated_columns(where: str, present: Iterable[str]) -> list[str]:
    """What is wrong with names that several columns have."""
    return [
        f"{where}: there are {times} columns {name[:40]!r}; rename or remove all but one"
        for name, times in Counter(present).items()
        if times > 1
    ]


def _missing(where: str, free: Sequence[str], key: str) -> str:
    names, stem = _NAMES[key], _NAMES[key][-1]
    usual = [*names, f"{stem}_0, {stem}_1, ..."] if key in _NUMBERED else names
    similar = [name for name in free if name.startswith(f"{stem}_")] if key in _NUMBERED else []
    fix = f"say which it is: --column {key}=NAME"
    mark = next((mark for mark in ";\t|" if len(free) == 1 and mark in free[0]), None)
    if mark is not None:
        fix = f"say what stands between columns: separator = {json.dumps(mark)} in [table] of a mapping"
    if similar:
        fix = f"{_shown(similar)} are not numbered: to take them all, pass --column '{key}={stem}_*'"
    return f"{where}: no column {' or '.join(usual)} for the {key} among {_shown(free)}; {fix}"


def _named(present: Sequence[str], pattern: str) -> list[str]:
    """The columns that are named rather than meant by a pattern."""
    parts = [pattern] if pattern in present else pattern.split(",")
    return [name for name in parts if name in present]


def _shown(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(repr(name[:40]) for name in names[:_MOST_SHOWN])
    return shown + (f", ... ({len(names)})" if len(names) > _MOST_SHOWN else "")
