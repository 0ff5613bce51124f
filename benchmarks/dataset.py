"""Seconds to make a data set of random play in memory, to write it to disk, and to load it back.

Cooperative Navigation with four agents, a million transitions of each; on all cores that there are.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import interleave
import numpy as np

import marline
from marline.collection import collect_random


def timed(seconds: list[tuple[float, float]], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of a call; its time on the wall and that of all cores are appended."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*args, **kwargs)
    seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    return result


def require_same(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """What is not the same data again was not loaded, however quickly."""
    if not all(np.array_equal(ours[key], theirs[key]) for key in ours):
        raise SystemExit("what was loaded differs from what was saved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="transitions per agent")
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; the system's temporary folder if not given")
    parser.add_argument("--quick", action="store_true", help="few rows, to see that everything runs")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.rounds = 20_000, 2
    task = marline.CooperativeNavigation(args.agents)
    made, saved, loaded = [], [], []
    num_bytes = 0
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            data = timed(made, collect_random, task, args.rows, seed=number)
            timed(saved, marline.save, Path(folder, "data"), data)
            back = timed(loaded, marline.load, Path(folder, "data"))
            num_bytes = sum(file.stat().st_size for file in Path(folder, "data").iterdir())
            for agent in data:
                require_same(data[agent].columns(), back[agent].columns())
    print(f"{args.agents} agents, {args.rows:,} transitions of each, {num_bytes / 2**20:.0f} MiB on disk\n")
    rows = [
        [what, *(interleave.spread([second[clock] for second in seconds], "{:.2f}") for clock in (0, 1))]
        for what, seconds in (("make in memory", made), ("write to disk", saved), ("load back", loaded))
    ]
    interleave.print_table(["", "s", "s of CPU, all cores"], rows)
    print("The first round's making, which includes compilation: " + f"{made[0][0]:.2f} s")


if __name__ == "__main__":
    main()
