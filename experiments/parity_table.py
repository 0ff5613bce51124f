"""The tables of docs/parity.md: both sides' learning curves, and the last values with intervals.

    python experiments/parity_table.py results/parity.csv
    python experiments/parity_table.py parity-halfcheetah.csv --margin 0.05

Intervals are 95 % by Student's t over seeds, of differences by Welch's: they tell how far another draw of seeds
would move the figures, on these logs and these episodes.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from marline.report.appearance import number
from marline.statistics.intervals import EQUALITY_MARGIN, MIN_SEEDS, mean_interval, welch_interval

MEASURES = {"return": "Return", "mean_q1": "Q1 on the logs"}


def read(path: Path, measure: str) -> dict[str, dict[str, dict[int, list[float]]]]:
    """Values by algorithm, side and number of updates, one per seed."""
    table: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            table[row["algorithm"]][row["side"]][int(row["updates"])].append(float(row[measure]))
    return table


def mean_and_half_width(values: list[float]) -> str:
    """`mean ± half` of the 95 % interval, or the value alone where there is but one."""
    mean = number(float(np.mean(values)), 2)
    low, high = mean_interval(values)
    return f"{mean} ± {number((high - low) / 2, 2)}" if len(values) > 1 else mean


def difference(ours: list[float], theirs: list[float]) -> str:
    """`mean [low, high]` of ours minus theirs."""
    mean, (low, high) = float(np.mean(ours) - np.mean(theirs)), welch_interval(ours, theirs)
    if not math.isfinite(low):
        return number(mean, 2, sign=True)
    return f"{number(mean, 2, sign=True)} [{number(low, 2, sign=True)}, {number(high, 2, sign=True)}]"


def equal(ours: list[float], theirs: list[float], share: float = EQUALITY_MARGIN) -> str:
    """Whether two one-sided Welch tests show equality within that share of the size of their mean."""
    margin = share * abs(float(np.mean(theirs)))
    low, high = welch_interval(ours, theirs, confidence=0.9)
    if not (-margin < low and high < margin):
        return f"not shown within {margin:.2g}"
    return f"within {margin:.2g}{', a direction' if min(len(ours), len(theirs)) < MIN_SEEDS else ''}"


def table(path: Path, measure: str, share: float = EQUALITY_MARGIN) -> list[str]:
    """One row per algorithm and side, in Markdown."""
    found = read(path, measure)
    updates = sorted({done for sides in found.values() for curve in sides.values() for done in curve})
    header = ["", *map(str, updates), "marline minus theirs, at the last that both have", "equal?"]
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join(["---"] * len(header)) + " |"]
    for algorithm, sides in found.items():
        for side, curve in sides.items():
            cells = [mean_and_half_width(curve[done]) if done in curve else "" for done in updates]
            last = max(sides["marline"].keys() & curve.keys())
            compared = ["", ""]
            if side != "marline":
                pair = sides["marline"][last], curve[last]
                compared = [difference(*pair), equal(*pair, share)]
            lines.append("| " + " | ".join([f"`{algorithm}`, {side}", *cells, *compared]) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="columns side, algorithm, seed, updates, return, mean_q1")
    parser.add_argument("--margin", type=float, default=EQUALITY_MARGIN, help="of their mean, fixed beforehand")
    args = parser.parse_args()
    for measure, title in MEASURES.items():
        print(f"{title}, by number of updates\n", *table(args.csv, measure, args.margin), "", sep="\n")


if __name__ == "__main__":
    sys.exit(main())
