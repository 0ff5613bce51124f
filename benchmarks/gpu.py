"""What stacking learners saves: time per update and learner, from one learner alone to many at once.

TD3+BC tuned by OTC or by uniform replay. Learners are the seeds of one agent, so its rows are held once. On a CPU
learners take turns, and nothing is to be seen. Time on the wall, for an accelerator works while the CPU waits.
"""

from __future__ import annotations

import argparse
import statistics
import time

import interleave
import jax

from marline import tuning
from marline.algorithms import TD3BC
from marline.envs import CooperativeNavigation
from marline.rollouts.collection import collect_random
from marline.samplers import SAMPLERS, trains

AGENT = "agent_0"
WHOLE_RUNS = 3


def main() -> None:
    options = parse()
    device = jax.devices()[0]
    print(f"{device.device_kind}, jax {jax.__version__}; ms per update and learner, median of {WHOLE_RUNS} (spread)\n")
    rows = []
    for name in options.sampler:
        alone = 0.0
        for num_learners in options.learners:
            measured = [1e3 * seconds / options.updates / num_learners for seconds in run(name, num_learners, options)]
            alone = alone or statistics.median(measured)
            ratio = alone / statistics.median(measured)
            rows.append([name, str(num_learners), interleave.spread(measured, "{:.4f}"), f"{ratio:.1f}"])
            print(" ".join(rows[-1]), flush=True)
    print()
    interleave.print_table(["sampler", "learners", "ms per update and learner", "times as fast as alone"], rows)
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    if peak:
        print(f"most memory in use on the device: {peak / 2**30:.1f} GiB")


def run(name: str, num_learners: int, options: argparse.Namespace) -> list[float]:
    """Seconds of whole tunings after a deployment, compilation left out."""
    task, sampler = CooperativeNavigation(4), SAMPLERS[name]
    algorithm = TD3BC(hidden=tuple(options.hidden))
    offline = collect_random(task, options.offline_rows, seed=0)
    online = collect_random(task, options.online_rows, seed=1)
    team = tuning.init_team(
        {AGENT: offline[AGENT]},
        algorithm,
        seeds=range(num_learners),
        num_deployments=1,
        rows_per_deployment=options.online_rows,
    )
    team = tuning.init_samplers(team, sampler)
    team = tuning.merge(team, dict.fromkeys(team, online[AGENT]), 1, algorithm)
    times = []
    for _ in range(1 + WHOLE_RUNS):
        began = time.perf_counter()
        result = tuning.tune_on(team, 1, algorithm, sampler, num_updates=options.updates)
        jax.block_until_ready([state.learner for state in result.team.values()])
        times.append(time.perf_counter() - began)
    return times[1:]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    names = [name for name, sampler in SAMPLERS.items() if trains(sampler)]
    parser.add_argument("--sampler", nargs="+", choices=names, default=["uniform", "otc-value"])
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--offline-rows", type=int, default=1_000_000)
    parser.add_argument("--online-rows", type=int, default=10_000)
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="small data and few learners, to see that everything runs")
    options = parser.parse_args()
    if options.quick:
        options.learners, options.offline_rows, options.online_rows, options.updates = [1, 2], 2000, 500, 20
        options.hidden = [8]
    return options


if __name__ == "__main__":
    main()
