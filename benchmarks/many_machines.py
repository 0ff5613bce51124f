"""Wall time of a study with one worker and with two, over Ray and by the local engine, and what Ray itself costs.

The sides take turns within each round, each in a run directory of its own, with compiled programs kept between rounds.
Seconds are on the wall, for waiting is what a second worker takes away; so the ratios mean something only on a machine
with two cores to itself, and the load is printed beside them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import interleave

from marline.algorithms import TD3BC
from marline.configuration.run_config import RunConfig
from marline.runs.creation import start_run
from marline.runs.offline_logs import prepare_data
from marline.runtime import set_up_jax
from marline.samplers import OTC, Uniform
from marline.study import ray_cluster as cluster
from marline.study.engines import make_engine

ray = cluster.require_ray()
CALLS = 200
BLOCK = 64 << 20  # bytes


def configure(options: argparse.Namespace) -> RunConfig:
    hidden = (options.hidden, options.hidden)
    return RunConfig(
        task="cooperative-navigation-2",
        algorithm=TD3BC(hidden=hidden),
        samplers={"uniform": Uniform(), "otc-value": OTC("value")},
        seeds=(0, 1),
        dataset_size=options.rows,
        rows_per_deployment=options.rows // 100,
        offline_updates=options.updates,
        deployments=2,
        updates=options.updates // 2,
        evaluation_episodes=10,
    )


def start(num_cpus: int) -> None:
    cluster.start(num_cpus=num_cpus)


def seconds_of(engine: str, shares: list[list[int]], config: RunConfig) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch, "run")
        start_run(run, config)
        prepare_data(run, config)
        began = time.perf_counter()
        make_engine(engine).run(run, config, shares, lambda *_: None)
        return time.perf_counter() - began


def over_ray(num_cpus: int, config: RunConfig) -> float:
    start(num_cpus)
    try:
        return seconds_of("ray", [[0], [1]], config)
    finally:
        ray.shutdown()


def overheads() -> dict[str, list[float]]:
    """Milliseconds of what Ray does for us, each answer awaited before the next call."""

    def nothing(_: object = None) -> None: ...

    class Nobody:
        def nothing(self) -> None: ...

    task, block = ray.remote(nothing), os.urandom(BLOCK)
    began = time.perf_counter()
    nobody = ray.remote(Nobody).remote()
    ray.get(nobody.nothing.remote())
    found = {"an actor's start": [1e3 * (time.perf_counter() - began)]}
    ray.get(task.remote())
    found["a task"] = milliseconds(lambda: ray.get(task.remote()), CALLS)
    found["a call of an actor"] = milliseconds(lambda: ray.get(nobody.nothing.remote()), CALLS)
    found["64 MiB into the store and to a worker"] = milliseconds(lambda: ray.get(task.remote(ray.put(block))), 9)
    return found


def milliseconds(call: Callable[[], object], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - began))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=4000, help="offline; half as many per deployment")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--only", choices=["scaling", "overheads"])
    parser.add_argument("--quick", action="store_true", help="a small version")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.updates, options.rows, options.hidden = 1, 20, 1000, 8
    os.environ["RAY_worker_niceness"] = "0"  # as nice as the local engine's
    set_up_jax()
    if options.only != "overheads":
        print_scaling(options)
    if options.only != "scaling":
        start(2)
        try:
            interleave.print_table(
                ["", "ms"], [[name, interleave.spread(ms, "{:.2f}")] for name, ms in overheads().items()]
            )
        finally:
            ray.shutdown()
    print(f"load of the machine now: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def print_scaling(options: argparse.Namespace) -> None:
    config = configure(options)
    sides: dict[str, Callable[[], float]] = {
        "Ray, 1 worker": lambda: over_ray(1, config),
        "Ray, 2 workers": lambda: over_ray(2, config),
        "local, 2 processes": lambda: seconds_of("local", [[0], [1]], config),
    }
    over_ray(2, config)  # unmeasured, to compile
    rounds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            rounds[name].append(side())
    one, two, local = sides
    rows = [[name, interleave.spread(seconds, "{:.1f}")] for name, seconds in rounds.items()]
    interleave.print_table(["", "s on the wall"], rows)
    print(f"1 worker over 2: {interleave.spread(interleave.ratios(rounds, one, two), '{:.2f}')}")
    print(f"Ray over local, both with 2: {interleave.spread(interleave.ratios(rounds, two, local), '{:.2f}')}")
    print()


if __name__ == "__main__":
    main()
