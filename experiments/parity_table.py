"""The tables of docs/parity.md: both sides' learning curves, and the last values with intervals.

    python experiments/parity_table.py results/parity.csv

Intervals are 95 % by Student's t over seeds, of differences by Welch's: they tell how far another draw of seeds
would move the figures, on these logs and these episodes.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import scipy.stats

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
    if len(values) < 2:
        return f"{values[0]:.2f}"
    half = scipy.stats.sem(values) * scipy.stats.t.ppf(0.975, len(values) - 1)
    return f"{np.mean(values):.2f} ± {half:.2f}"


def difference(ours: list[float], theirs: list[float]) -> str:
    """`mean [low, high]` of ours minus theirs."""
    if min(len(ours), len(theirs)) < 2:
        return f"{np.mean(ours) - np.mean(theirs):+.2f}"
    low, high = scipy.stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    return f"{np.mean(ours) - np.mean(theirs):+.2f} [{low:+.2f}, {high:+.2f}]"


def print_tables(path: Path, measure: str, title: str) -> None:
    table = read(path, measure)
    updates = sorted({done for sides in table.values() for curve in sides.values() for done in curve})
    header = ["", *map(str, updates), "marline minus theirs, at the last that both have"]
    print(f"{title}, by number of updates\n")
    for cells in (header, ["---"] * len(header)):
        print("| " + " | ".join(cells) + " |")
    for algorithm, sides in table.items():
        for side, curve in sides.items():
            cells = [mean_and_half_width(curve[done]) if done in curve else "" for done in updates]
            last = max(sides["marline"].keys() & curve.keys())
            compared = "" if side == "marline" else difference(sides["marline"][last], curve[last])
            print("| " + " | ".join([f"`{algorithm}`, {side}", *cells, compared]) + " |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="columns side, algorithm, seed, updates, return, mean_q1")
    args = parser.parse_args()
    for measure, title in MEASURES.items():
        print_tables(args.csv, measure, title)


if __name__ == "__main__":
    sys.exit(main())
