"""Whole studies of robots on an accelerator: BCQ on HalfCheetah with eleven samplers, and the paper's Table 1 reckoned.

`study` runs one study from logs that are at hand to its last evaluation, and tells its time on the wall. `table` makes
two stretches of offline training and two deployments for each robot and algorithm, at the sizes of the real ones, and
reckons the rest: later stretches and deployments take as long as the second, the first has compiled. Before either, a
small study is made on this device and on the CPU, one learner after another, and what was measured is compared. Robots
are stepped by all cores but one. On a CPU there is nothing to gain.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import interleave
import jax
import numpy as np

from marline.configuration.planning import plan_study
from marline.configuration.run_config import RunConfig
from marline.data.dataset import Dataset
from marline.envs import make_task
from marline.population import stacked
from marline.rollouts.collection import collect_random
from marline.runtime import set_up_jax
from marline.study.study import Study

# uniform replay and its windows, fixed shares, weights, and OTC with its controls
SAMPLERS = [
    "uniform",
    "offline-only",
    "online-only",
    "fresh-share",
    "half-and-half",
    "return-weighted",
    "dynamics-ratio",
    "shuffled(dynamics-ratio)",
    "otc-value",
    "shuffled(otc-value)",
    "online-matched(otc-value)",
]
TABLE_SAMPLERS = 7  # of the table, the last of these: what is compared, and its controls
ROBOTS = ("halfcheetah-2x3", "walker2d-2x3", "hopper-3x1")
LOGS_PER_ROBOT = 3
ALGORITHMS = ("bcq", "awac")
TOLERANCE = 2e-2


def main() -> None:
    options = parse()
    set_up_jax()
    with stacked(True), tempfile.TemporaryDirectory() as folder:
        is_right = check(Path(folder) / "check", options)
        if "study" in options.parts:
            study(Path(folder) / "study", options)
        if "table" in options.parts:
            table(Path(folder) / "table", options)
    sys.exit(0 if is_right else "what was measured differs from what it is on the CPU")


def check(folder: Path, options: argparse.Namespace) -> bool:
    """Whether a small study gives what it gives on the CPU, one learner after another; tells how far off."""
    config = configured(ROBOTS[-1], "td3-bc", SAMPLERS[:6], options, seeds=1)
    small = {"offline_updates": 4, "updates": 4, "deployments": 2, "rows_per_deployment": 60, "evaluation_episodes": 2}
    config = dataclasses.replace(config, dataset_size=200, **small)
    logs = collect_random_of(config)
    found = []
    for device, way in ((jax.devices("cpu")[0], False), (jax.devices()[0], True)):
        with jax.default_device(device), stacked(way):
            its = Study.start(folder / str(way), config, logs).run(progress=False)
            found.append([*numbers(its.folder)])
    # not where robots went: a hair's difference in an action grows with every step
    furthest = max(abs(one - other) / max(1.0, abs(one)) for one, other in zip(*found, strict=True))
    print(f"a small study: what was measured of learners is at most {furthest:.1e} from that of the CPU\n")
    return furthest <= TOLERANCE


def numbers(folder: Path) -> Iterator[float]:
    """What was measured of learners on the first deployment, after which teams act differently by rounding."""
    for path in sorted(folder.glob("seed-*/*/metrics.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            record: dict[str, Any] = json.loads(line)
            for of_agent in record["agents"].values() if record["deployment"] == 1 else ():
                yield from (of_agent[name] for name in ("critic_loss", "mean_q", "share_current"))


def study(folder: Path, options: argparse.Namespace) -> None:
    """One study, whole."""
    config = configured(ROBOTS[0], "bcq", SAMPLERS, options, seeds=options.seeds or 10)
    its = Study.start(folder, config, collect_random_of(config))
    began = time.monotonic()
    its.run(progress=timed(began))
    seconds = time.monotonic() - began
    last = {name: np.mean([*its.records.returns(name, config.deployments).values()]) for name in config.samplers}
    print(f"\nreturns after the last deployment: {', '.join(f'{name} {value:.0f}' for name, value in last.items())}")
    name = f"{config.task}, {len(config.seeds)} seeds x {len(config.samplers)} samplers"
    interleave.print_table(["study", "minutes", "aim"], [[name, f"{seconds / 60:.2f}", "6"]])


def table(folder: Path, options: argparse.Namespace) -> None:
    """Table 1, reckoned from a part of each robot and algorithm."""
    rows, total = [], 0.0
    for robot in options.robots:
        for algorithm in ALGORITHMS:
            whole = configured(robot, algorithm, SAMPLERS[-TABLE_SAMPLERS:], options, seeds=options.seeds or 5)
            config = dataclasses.replace(whole, offline_updates=2 * whole.updates, deployments=2)
            its = Study.start(folder / f"{robot}-{algorithm}", config, collect_random_of(config))
            marks: list[tuple[str, float]] = []
            its.run(progress=lambda share, text, done, marks=marks: marks.append((text, time.monotonic())))
            first, second = (took(marks, "offline training", number) for number in (0, 1))
            deployed, again = (took(marks, "deployment", number) for number in (0, 1))
            stretches = whole.offline_updates / whole.updates
            seconds = first + (stretches - 1) * second + deployed + (whole.deployments - 1) * again
            total += LOGS_PER_ROBOT * seconds
            rows.append([robot, algorithm, f"{second:.1f}", f"{again:.1f}", f"{seconds / 60:.2f}"])
            print(" ".join(rows[-1]), flush=True)
    print()
    interleave.print_table(
        ["robot", "algorithm", "s of a stretch of training", "s of a deployment", "minutes, reckoned"], rows
    )
    print(f"all logs of these robots: {total / 60:.1f} minutes, reckoned (aim: 30 for three robots)")


def took(marks: list[tuple[str, float]], what: str, number: int) -> float:
    """Seconds of a stretch of training, or of a deployment, the first being 0."""
    if what == "offline training":
        times = [time for text, time in marks if text == what]
        return times[number + 1] - times[number]
    begun = [time for text, time in marks if f"deployment {number + 1} of" in text and "return" not in text]
    ended = [time for text, time in marks if f"deployment {number + 1} of" in text and "return" in text]
    return ended[-1] - begun[0]


def timed(began: float) -> Any:
    return lambda share, text, done: print(f"[{time.monotonic() - began:7.1f} s] {text}", flush=True)


def configured(task: str, algorithm: str, samplers: list[str], options: argparse.Namespace, *, seeds: int) -> RunConfig:
    return plan_study(
        task=task,
        algorithm=algorithm,
        samplers=samplers,
        seeds=seeds,
        dataset_size=options.rows,
        offline_updates=options.offline_updates,
        deployments=options.deployments,
        updates=options.updates,
        evaluation_episodes=options.episodes,
    )


def collect_random_of(config: RunConfig) -> dict[str, Dataset]:
    return collect_random(make_task(config.task or ""), config.dataset_size or 0, seed=0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["study", "table"], help="study, table")
    parser.add_argument("--robots", nargs="+", default=[*ROBOTS], choices=ROBOTS)
    parser.add_argument("--seeds", type=int, help="10 of the study and 5 of the table unless given")
    parser.add_argument("--rows", type=int, default=1_000_000, help="offline, per agent")
    parser.add_argument("--offline-updates", type=int, default=100_000)
    parser.add_argument("--deployments", type=int, default=10)
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--episodes", type=int, default=10, help="per evaluation")
    parser.add_argument("--quick", action="store_true", help="small, to see that everything runs")
    options = parser.parse_args()
    if options.quick:
        options.robots, options.seeds, options.rows, options.episodes = [ROBOTS[-1]], 1, 300, 1
        options.offline_updates, options.updates, options.deployments = 4, 2, 2
        SAMPLERS[:] = ["uniform", "fresh-share", "otc-value", "shuffled(otc-value)"]
    return options


if __name__ == "__main__":
    main()
