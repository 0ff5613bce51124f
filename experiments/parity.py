"""Our side of docs/parity.md: learning curves of every offline algorithm on one agent's random logs.

    python experiments/parity.py                  # all, some minutes on one core
    python experiments/parity.py bcq iql --seeds 1
    python experiments/parity.py td3-bc --task hopper
    python experiments/parity.py bcq awac --task halfcheetah --logs medium --table-3 --updates 100000 --seeds 10

One agent seeks one landmark (`CooperativeNavigation(1)`), or moves all joints of MuJoCo's Hopper or HalfCheetah;
100,000 transitions of random play, or of the medium policy that comes with marline, 64 x 64 units, batch 128, 10,000
updates, and the options below, which are those of the implementations compared with; with `--table-3` widths and rates
of the OTC paper. Five times on the way 100 episodes are played, always the same ones, and Q is averaged over the first
10,000 logged rows. `--keep-logs` writes the logs, so that the other side learns from the same rows.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marline import tuning
from marline.algorithms import AWAC, BCQ, IQL, TD3BC, ContinuousCQL
from marline.behaviour_policy.folder import read_policy
from marline.behaviour_policy.team import share_out, shipped_policy
from marline.behaviour_policy.training import Training
from marline.data import dataset
from marline.data.dataset import Dataset
from marline.envs import CooperativeNavigation, MultiAgentMujoco, Task
from marline.errors import ConfigError, require, require_name
from marline.rollouts.collection import collect, collect_random, evaluate
from marline.types import AgentID

TASKS: dict[str, Task] = {
    "cooperative-navigation": CooperativeNavigation(1),
    "hopper": MultiAgentMujoco("Hopper", 1),
    "halfcheetah": MultiAgentMujoco("HalfCheetah", 1),
}
NUM_ROWS, NUM_UPDATES, LOOKS, EPISODES, SCORED = 100_000, 10_000, 5, 100, 10_000
WIDTHS = (64, 64)
ALGORITHMS: dict[str, Any] = {
    "td3-bc": TD3BC(hidden=WIDTHS, alpha_bc=100.0),
    "bcq": BCQ(hidden=WIDTHS, actor_learning_rate=1e-3, critic_learning_rate=1e-3),
    "awac": AWAC(hidden=WIDTHS, actor_learning_rate=3e-4, critic_learning_rate=3e-4, weight_decay=0.0),
    "iql": IQL(hidden=WIDTHS),
    "cql-continuous": ContinuousCQL(hidden=WIDTHS, actor_learning_rate=3e-4, critic_learning_rate=3e-4, alpha_cql=1.0),
}
TABLE_3: dict[str, Any] = {"bcq": BCQ(), "awac": AWAC()}


def logs_of(task: Task, kind: str) -> dict[AgentID, Dataset]:
    """Logs of random play, or of the policy that comes with marline for a robot."""
    if kind == "random":
        return collect_random(task, NUM_ROWS, seed=0)
    if not isinstance(task, MultiAgentMujoco):
        raise ConfigError(f"--logs {kind} is of the robots: take --task hopper or halfcheetah")
    folder = shipped_policy(task.robot, task.version, kind)
    assert folder is not None
    policies = share_out(read_policy(folder, Training(task.robot, task.version)), task.specs)
    return collect(task, policies, NUM_ROWS, key=jax.random.key(0))


def curve(
    task: Task, logs: Mapping[AgentID, Dataset], algorithm: Any, seed: int, num_updates: int
) -> Iterator[tuple[int, float, float]]:
    """Updates, mean return, and mean Q1 on logged rows."""
    (agent,) = task.agents
    team = tuning.init_team(logs, algorithm, seeds=[seed], num_deployments=0, rows_per_deployment=1)
    rows = team[seed, agent].experience[jnp.arange(SCORED)]
    for done, trained, *_ in tuning.pretrain(team, algorithm, num_updates=num_updates, chunk=num_updates // LOOKS):
        learner = trained[seed, agent].learner
        result = evaluate(task, {agent: algorithm.policy(learner)}, EPISODES, key=jax.random.key(1000))
        yield done, float(result.returns.mean()), float(mean_q1(algorithm, learner, rows))


def mean_q1(algorithm: Any, learner: Any, rows: Any) -> jax.Array:
    """The first critic alone, whatever a sampler would see."""
    network = learner.critic.model.first
    observation = learner.normalizer(rows.observation) if isinstance(algorithm, TD3BC) else rows.observation
    return jnp.mean(jax.vmap(network)(observation, rows.action))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithms", nargs="*", metavar="ALGORITHM", help=f"{', '.join(ALGORITHMS)}; all unless given")
    parser.add_argument("--task", choices=TASKS, default="cooperative-navigation")
    parser.add_argument("--logs", choices=("random", "medium"), default="random")
    parser.add_argument("--table-3", action="store_true", help=f"of the OTC paper: {', '.join(TABLE_3)}")
    parser.add_argument("--updates", type=int, default=NUM_UPDATES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--csv", type=Path, help="also write the curves here")
    parser.add_argument("--keep-logs", type=Path, help="also write the logs here, a dataset folder")
    args = parser.parse_args()
    task, algorithms = TASKS[args.task], TABLE_3 if args.table_3 else ALGORITHMS
    names = args.algorithms or list(algorithms)
    for name in names:
        require_name(name, algorithms, "algorithm")
    require(args.updates >= LOOKS, f"--updates is {args.updates}, but must be at least {LOOKS}")
    logs = logs_of(task, args.logs)
    if args.keep_logs:
        dataset.save(args.keep_logs, logs, {"task": args.task, "policy": args.logs})
    lines = [("side", "algorithm", "seed", "updates", "return", "mean_q1")]
    for name in names:
        for seed in range(args.seeds):
            for done, mean_return, q_value in curve(task, logs, algorithms[name], seed, args.updates):
                lines.append(("marline", name, str(seed), str(done), f"{mean_return:.3f}", f"{q_value:.3f}"))
                print(*lines[-1], flush=True)
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    final = [line for line in lines[1:] if line[3] == str(args.updates)]
    for name in names:
        returns = np.array([float(line[4]) for line in final if line[1] == name])
        spread = f"seeds {returns.min():.2f} to {returns.max():.2f}"
        print(f"{name}: {returns.mean():.2f} after {args.updates} updates, {spread}")


if __name__ == "__main__":
    sys.exit(main())
