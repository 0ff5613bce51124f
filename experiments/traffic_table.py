"""What controls of traffic came to on the same days: the table and sentences of docs/traffic.md.

They come from the CSV file that `examples/traffic.py` writes.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from pathlib import Path

from marline.report.appearance import number
from marline.report.statements import interval
from marline.statistics.intervals import mean_interval, paired_difference

LEARNED = ("learned offline", "tuned")  # what the names of teams that learned begin with
Days = dict[str, dict[str, list[float]]]  # by control: "delay", seconds that a vehicle lost, and "return", a day each
TIMES = {"tuned 1 times": "tuned once", "tuned 2 times": "tuned twice"}
SENTENCES = ("lost", "worse-days", "most", "better-returns")


@functools.lru_cache
def read(path: Path) -> Days:
    """Every control on the same days, in their order."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found: Days = {}
    days: dict[str, list[str]] = {}
    for row in rows:
        for what in ("delay", "return"):
            found.setdefault(row["control"], {"delay": [], "return": []})[what].append(float(row[what]))
        days.setdefault(row["control"], []).append(row["day"])
    if len({tuple(its) for its in days.values()}) != 1:
        raise ValueError(f"{path}: not every control has the same days")
    return found


def table(path: Path) -> list[str]:
    """A line per control: seconds lost and return, and, of teams that learned, differences to controls of today."""
    days = read(path)
    today = [control for control in days if not control.startswith(LEARNED)]
    head = ["control", "lost by a vehicle", "return", *(f"to {control.replace('-', ' ')}" for control in today)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for control, its in days.items():
        low, high = mean_interval(its["delay"])
        mean = sum(its["delay"]) / len(its["delay"])
        cells = [
            TIMES.get(control, control),
            f"{number(mean, 1)} s [{number(low, 1)}, {number(high, 1)}]",
            number(sum(its["return"]) / len(its["return"]), 0),
            *(
                "" if control in today else interval(paired_difference(its["delay"], days[other]["delay"]))
                for other in today
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def sentence(path: Path, what: str) -> str:
    """Part of a sentence about two controls.

    `lost A / B`: seconds that a vehicle loses with A, less those with B. `worse-days A / B`: on how many days B loses
    more. `most A / B`: by how many seconds at most. `better-returns A / B`: on how many days A has the better return.
    """
    kind, _, names = what.partition(" ")
    one, other = (read(path)[name.strip()] for name in names.split("/"))
    more = [theirs - mine for mine, theirs in zip(one["delay"], other["delay"], strict=True)]
    if kind == "lost":
        return interval(paired_difference(one["delay"], other["delay"])).replace(" [", " s [")
    if kind == "worse-days":
        return _of([its > 0 for its in more])
    if kind == "most":
        return f"{max(more):.0f} s"
    if kind == "better-returns":
        return _of([mine > theirs for mine, theirs in zip(one["return"], other["return"], strict=True)])
    raise LookupError(f"unknown sentence {kind!r}; known: {', '.join(SENTENCES)}")


def _of(true: Sequence[bool]) -> str:
    return f"{sum(true)} of {len(true)} days"
