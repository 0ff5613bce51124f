"""What stacking learners saves: time per update and learner, from one learner alone to many at once.

Learners are the seeds of one agent, tuned after a deployment; whatever the device, many are stacked and one alone is
not. Beside the time per update: what a sampler takes beyond the first one, uniform replay unless told otherwise, as
the paper tells it for OTC; the share of the time outside of the compiled program, which is the host's; and how long the
first call takes, which compiles, against that of the fewest that are stacked. What is learned is checked against the
same on the CPU, one learner after another. Time on the wall, for an accelerator works while the host waits. On a CPU
there is nothing to gain.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import interleave
import jax
import jax.numpy as jnp
import numpy as np

from marline import tuning
from marline.agent import tune
from marline.algorithms import AWAC, BCQ, TD3BC, Algorithm
from marline.data.dataset import Dataset
from marline.envs import CooperativeNavigation
from marline.population import map_learners, stacked
from marline.rollouts.collection import collect_random
from marline.samplers import SAMPLERS, Sampler

AGENT = "agent_0"
ALGORITHMS: dict[str, Algorithm[Any]] = {
    "td3-bc-64": TD3BC(hidden=(64, 64)),
    "bcq-64": BCQ(hidden=(64, 64)),
    "awac-256": AWAC(hidden=(256, 256)),
}
WHOLE_RUNS = 3
CHECKED_LEARNERS, CHECKED_UPDATES = 3, 10
TOLERANCE = 1e-2  # of a leaf's largest number, after so few updates that rounding has not grown
Logs = tuple[Dataset, Dataset]  # offline, and of the deployment


def main() -> None:
    options = parse()
    device = jax.devices()[0]
    print(f"{device.device_kind}, jax {jax.__version__}; ms per update and learner, median of {WHOLE_RUNS} (spread)\n")
    task = CooperativeNavigation(4)
    offline, online = (collect_random(task, rows, seed=seed)[AGENT] for seed, rows in enumerate(options.rows))
    logs = offline, online
    rows, is_right = [], True
    uniform: dict[tuple[str, int], float] = {}  # what an update takes, to say what another sampler takes beyond it
    for name in options.algorithms:
        for sampler in options.sampler:
            is_right &= check(name, sampler, logs)
            alone, few = 0.0, 0.0
            for num_learners in options.learners:
                first, whole, program = measure(
                    ALGORITHMS[name], SAMPLERS[sampler], num_learners, logs, options.updates
                )
                each = [1e3 * seconds / options.updates / num_learners for seconds in whole]
                alone = alone or statistics.median(each)
                outside = max(0.0, 1.0 - statistics.median(program) / statistics.median(whole))
                ratio = f"{alone / statistics.median(each):.1f}"
                rows.append([name, sampler, str(num_learners), interleave.spread(each, "{:.4f}"), ratio])
                few = few or (first if num_learners > 1 else 0.0)
                beyond = statistics.median(each) / uniform.setdefault((name, num_learners), statistics.median(each)) - 1
                rows[-1] += [f"{100 * beyond:+.0f} %", f"{100 * outside:.0f} %", f"{first:.1f}"]
                rows[-1] += [f"{first / few:.2f}" if few else ""]
                print(" ".join(rows[-1]), flush=True)
    print()
    header = ["algorithm", "sampler", "learners", "ms per update and learner", "times as fast as alone"]
    header += ["over the first sampler", "outside of the program", "s of the first call", "times the fewest stacked"]
    interleave.print_table(header, rows)
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    if peak:
        print(f"most memory in use on the device: {peak / 2**30:.1f} GiB")
    sys.exit(0 if is_right else "what is learned differs from what it is on the CPU")


def deployed(algorithm: Algorithm[Any], sampler: Sampler[Any], num_learners: int, logs: Logs) -> tuning.Team:
    """A team with the rows of its first deployment."""
    offline, online = logs
    team = tuning.init_team(
        {AGENT: offline},
        algorithm,
        seeds=range(num_learners),
        num_deployments=1,
        rows_per_deployment=len(online),
    )
    team = tuning.init_samplers(team, sampler)
    return tuning.merge(team, dict.fromkeys(team, online), 1, algorithm)


def measure(
    algorithm: Algorithm[Any], sampler: Sampler[Any], num_learners: int, logs: Logs, num_updates: int
) -> tuple[float, list[float], list[float]]:
    """Seconds of the first tuning; of some more, whole; and of their compiled program alone."""
    with stacked(num_learners > 1):
        team = deployed(algorithm, sampler, num_learners, logs)
        adapted, _ = tuning.adapt(team, 1, algorithm, sampler)
        keys = {learner: jax.random.key(number) for number, learner in enumerate(team)}
        fixed = {"algorithm": algorithm, "sampler": sampler, "num_updates": num_updates}
        # stacked before, like the team
        its_keys = map_learners(jnp.asarray, keys, static={})
        first_update = dict.fromkeys(team, jnp.int32(0))
        whole, program = [], []

        def run() -> Any:
            return map_learners(tune, adapted, its_keys, its_keys, first_update, static=fixed)

        for _ in range(1 + WHOLE_RUNS):
            whole.append(seconds(lambda: tuning.tune_on(team, 1, algorithm, sampler, num_updates=num_updates).team))
            program.append(seconds(run))
    return whole[0], whole[1:], program[1:]


def seconds(call: Any) -> float:
    began = time.perf_counter()
    jax.block_until_ready(jax.tree.leaves(call()))
    return time.perf_counter() - began


def check(name: str, sampler: str, logs: Logs) -> bool:
    """Whether stacked learners on this device learn what they do on the CPU one after another; tells how far off."""
    algorithm = ALGORITHMS[name]
    learned = []
    with jax.default_matmul_precision("highest"):
        for device, way in ((jax.devices("cpu")[0], False), (jax.devices()[0], True)):
            with jax.default_device(device), stacked(way):
                team = deployed(algorithm, SAMPLERS[sampler], CHECKED_LEARNERS, logs)
                tuned = tuning.tune_on(team, 1, algorithm, SAMPLERS[sampler], num_updates=CHECKED_UPDATES).team
                learned.append(jax.device_get([tuned[learner].learner for learner in tuned]))
    furthest = max(map(distance, *map(jax.tree.leaves, learned)))
    print(f"{name} {sampler}: learners are at most {furthest:.1e} of a leaf's largest number from those of the CPU")
    return furthest <= TOLERANCE


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.max(np.abs(one - other), initial=0.0) / max(1e-6, float(np.max(np.abs(one), initial=0.0))))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithms", nargs="*", default=[*ALGORITHMS], help=", ".join(ALGORITHMS))
    parser.add_argument("--learners", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--sampler", nargs="+", choices=[*SAMPLERS], default=["uniform", "otc-value"])
    parser.add_argument("--rows", type=int, nargs=2, default=[1_000_000, 10_000], help="offline and online")
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="small data and few learners, to see that everything runs")
    options = parser.parse_args()
    if options.quick:
        options.learners, options.rows, options.updates, options.sampler = [1, 3], [500, 100], 4, ["uniform"]
    return options


if __name__ == "__main__":
    main()
