"""The share of a campaign's time that goes into checkpoints, of its offline training and of a deployment.

Two agents of Cooperative Navigation, TD3+BC, trained offline and tuned on one deployment. Both sides come from one run:
the seconds inside `History.save`, `save_policies` and `save_learners`, with every fsync, over those of `train` and
`tune`. On the wall, since what a disk takes is waiting; a second run in the same process has nothing to compile, and is
the one that counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import interleave

from marline.algorithms import TD3BC
from marline.campaign.campaign import Campaign
from marline.envs import CooperativeNavigation
from marline.rollouts.collection import collect_random
from marline.runs.history import History
from marline.samplers import OTC


class Clock:
    """Adds up the seconds spent in functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def measure(options: argparse.Namespace, clock: Clock) -> dict[str, tuple[float, float]]:
    """By phase, seconds in checkpoints and in all."""
    task = CooperativeNavigation(2)
    found = {}
    with tempfile.TemporaryDirectory(dir=options.disk) as folder:
        run = Campaign.create(
            Path(folder) / "run",
            collect_random(task, options.rows, seed=0),
            algorithm=TD3BC(hidden=(options.hidden, options.hidden)),
            sampler=OTC("value"),
            deployments=2,
            offline_updates=options.offline_updates,
            updates=options.updates,
            rows_per_deployment=options.rows // 100,
        )
        logs = collect_random(task, options.rows // 100, seed=1)
        for phase, work in (("offline", run.train), ("deployment", run.tune)):
            if phase == "deployment":
                run.ingest(logs)
            clock.seconds, began = 0.0, time.perf_counter()
            work()
            found[phase] = clock.seconds, time.perf_counter() - began
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--offline-updates", type=int, default=10_000)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--disk", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--quick", action="store_true", help="a small version")
    options = parser.parse_args()
    if options.quick:
        options.hidden, options.rows, options.offline_updates, options.updates = 8, 1000, 50, 20
    clock = Clock()
    for name in ("save", "save_policies", "save_learners"):
        setattr(History, name, clock.around(getattr(History, name)))
    measure(options, clock)
    rows = [
        [phase, f"{saving:.3f}", f"{total:.1f}", f"{100 * saving / total:.2f} %"]
        for phase, (saving, total) in measure(options, clock).items()
    ]
    interleave.print_table(["", "s in checkpoints", "s in all", "share"], rows)


if __name__ == "__main__":
    main()
