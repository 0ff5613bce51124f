"""Steps per second of collecting in MuJoCo, against the bare environments on the same trajectories, on one core.

A team of fresh TD3+BC actors plays; then Gymnasium's environment alone repeats its episodes, action by action.
CPU time of the process, all its threads.
"""

# ruff: noqa: E402
from __future__ import annotations

import interleave

interleave.pin_to_one_core()

import argparse
import time

import jax
import numpy as np

from marline.algorithms import TD3BC
from marline.collection import collect, collect_random
from marline.data.experience import Experience
from marline.envs import MultiAgentMujoco, make_task
from marline.types import Policy

KEY = jax.random.key(0)


def fresh_team(task: MultiAgentMujoco, hidden: tuple[int, ...]) -> dict[str, Policy]:
    """Untrained policies."""
    algorithm = TD3BC(hidden=hidden)
    logs = collect_random(task, 50, seed=0)
    experience = {
        agent: Experience.create(log.transition(), log.spec, num_deployments=1, rows_per_deployment=1)
        for agent, log in logs.items()
    }
    return {agent: algorithm.policy(algorithm.init(its, key=KEY)) for agent, its in experience.items()}


def repeat(task: MultiAgentMujoco, starts: list[np.ndarray], episodes: list[np.ndarray]) -> float:
    """Seconds of CPU that the bare environment takes for these joint actions from these observations."""
    robot = task.make()._robot
    began = time.process_time()
    for start, actions in zip(starts, episodes, strict=True):
        robot.reset()
        num_positions = robot.model.nq - 1  # all but the way that was covered
        robot.set_state(np.concatenate([[0.0], start[:num_positions]]), start[num_positions:])
        for action in actions:
            robot.step(action)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16_000, help="16 episodes of HalfCheetah, one in each environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--tasks", nargs="+", default=["halfcheetah-2x3", "walker2d-2x3", "hopper-3x1"])
    parser.add_argument("--quick", action="store_true", help="few rows, to see that everything runs")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.rounds = 400, 1
    table = []
    for name in args.tasks:
        task = make_task(name)
        assert isinstance(task, MultiAgentMujoco)
        team = fresh_team(task, tuple(args.hidden))
        collect(task, team, task.num_environments, key=KEY)  # compile, and make the environments
        ours, bare = [], []
        for number in range(args.rounds):
            began = time.process_time()
            logs = collect(task, team, args.rows, key=jax.random.fold_in(KEY, number))
            ours.append(args.rows / (time.process_time() - began))
            joint = np.concatenate([log.actions for log in logs.values()], axis=1).astype(np.float64)
            log = logs[task.agents[0]]
            cuts = np.flatnonzero(log.terminals | log.timeouts)[:-1] + 1
            starts = log.observations[[0, *cuts]].astype(np.float64)
            bare.append(args.rows / repeat(task, list(starts), np.split(joint, cuts)))
        ratios = [one / other for one, other in zip(ours, bare, strict=True)]
        table.append(
            [
                name,
                *(interleave.spread(v, form) for v, form in ((ours, "{:,.0f}"), (bare, "{:,.0f}"), (ratios, "{:.2f}"))),
            ]
        )
    interleave.print_table(["", "rows/s collected", "steps/s bare", "ratio"], table)


if __name__ == "__main__":
    main()
