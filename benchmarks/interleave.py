"""Measuring several sides in turn on one core, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Run = Callable[[int], object]  # makes that many updates, and returns when they are done
Rounds = Mapping[str, list[float]]


def pin_to_one_core() -> None:
    """Stay on one core; to be called before JAX and PyTorch are imported, which size their thread pools by it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def measure(sides: Mapping[str, Run], *, num_rounds: int, num_updates: int) -> dict[str, list[float]]:
    """Milliseconds of CPU time per update of each side, round by round: A B C A B C ...

    CPU time of the process, not time on the wall: on a core that is shared, the latter counts the
    work of others too. Every side runs once before, unmeasured, to compile and to warm up.
    """
    for run in sides.values():
        run(num_updates)
    rounds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(num_rounds):
        for name, run in sides.items():
            began = time.process_time()
            run(num_updates)
            rounds[name].append(1e3 * (time.process_time() - began) / num_updates)
    return rounds


def ratios(rounds: Rounds, above: str, below: str) -> list[float]:
    """One side over another, both taken from the same round."""
    return [x / y for x, y in zip(rounds[above], rounds[below], strict=True)]


def spread(values: Sequence[float], form: str = "{:.3f}") -> str:
    """Median and, in brackets, least and greatest."""
    median, least, greatest = (form.format(f(values)) for f in (statistics.median, min, max))
    return f"{median} ({least} to {greatest})"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(row) + " |")
    print()
