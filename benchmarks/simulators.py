"""Steps per second of playing in MuJoCo, against the bare environments on the same trajectories, on one core.

Two kinds of play: uniformly random, as for `marline data make`, and a deployment of TD3+BC actors that were trained on
such logs. Then Gymnasium's environment alone repeats the episodes, action by action, and so does MuJoCo's integrator
alone, without rewards and observations. CPU time of the process, all its threads.
"""

# ruff: noqa: E402
from __future__ import annotations

import interleave

interleave.pin_to_one_core()

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import mujoco
import numpy as np

from marline import tuning
from marline.algorithms import TD3BC
from marline.data.dataset import Dataset
from marline.envs import MultiAgentMujoco, make_task
from marline.policy import RandomPolicy
from marline.rollouts.collection import collect, collect_random
from marline.rollouts.rollout import Policies

KEY = jax.random.key(0)
TRAINING_ROWS = 5000
TASKS = ("halfcheetah-2x3", "walker2d-2x3", "hopper-3x1")


def at_random(task: MultiAgentMujoco) -> Policies:
    """As `marline data make` plays."""
    return {agent: RandomPolicy(spec) for agent, spec in task.specs.items()}


def trained_team(task: MultiAgentMujoco, hidden: tuple[int, ...], num_updates: int) -> Policies:
    """Actors that imitate random play; what matters here is what they compute, and that they do not fall at once."""
    algorithm = TD3BC(hidden=hidden)
    logs = collect_random(task, TRAINING_ROWS, seed=0)
    untrained = tuning.init_team(logs, algorithm, seeds=[0], num_deployments=1, rows_per_deployment=1)
    team = next(tuning.pretrain(untrained, algorithm, num_updates=num_updates, chunk=num_updates))[1]
    return {agent: policy for (_, agent), policy in tuning.policies(team, algorithm).items()}


def repeat(robot: Any, logs: dict[str, Dataset], step: Callable[[np.ndarray], object]) -> float:
    """Seconds of CPU that a function of a joint action takes for the episodes of these logs, from their own starts."""
    joint = np.concatenate([log.actions for log in logs.values()], axis=1).astype(np.float64)
    log = next(iter(logs.values()))
    cuts = np.flatnonzero(log.terminals | log.timeouts)[:-1] + 1
    starts = log.observations[[0, *cuts]].astype(np.float64)
    began = time.process_time()
    for start, actions in zip(starts, np.split(joint, cuts), strict=True):
        robot.reset()
        num_positions = robot.model.nq - 1  # all but the way that was covered
        robot.set_state(np.concatenate([[0.0], start[:num_positions]]), start[num_positions:])
        for action in actions:
            step(action)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random-rows", type=int, default=16_000)
    parser.add_argument("--rows", type=int, default=10_000, help="steps of a deployment")
    parser.add_argument("--updates", type=int, default=2000, help="that the agents were trained for")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--tasks", nargs="+", help="three robots unless given")
    parser.add_argument("--quick", action="store_true", help="few rows, to see that everything runs")
    args = parser.parse_args()
    if args.quick:
        args.random_rows, args.rows, args.updates, args.rounds = 400, 400, 10, 1
        args.tasks = args.tasks or TASKS[-1:]
    table = []
    for name in args.tasks or TASKS:
        task = make_task(name)
        assert isinstance(task, MultiAgentMujoco)
        robot = task.make()._robot

        def integrate(action: np.ndarray, robot: Any = robot) -> None:
            robot.data.ctrl[:] = action
            step = mujoco.mj_step  # pyright: ignore[reportAttributeAccessIssue]
            step(robot.model, robot.data, nstep=robot.frame_skip)

        teams = {
            "random": (at_random(task), args.random_rows),
            "deployment": (trained_team(task, tuple(args.hidden), args.updates), args.rows),
        }
        for kind, (team, num_rows) in teams.items():
            collect(task, team, task.num_environments, key=KEY)  # compile, and make the environments
            ours, bare, physics = [], [], []
            for number in range(args.rounds):
                began = time.process_time()
                logs = collect(task, team, num_rows, key=jax.random.fold_in(KEY, number))
                ours.append(time.process_time() - began)
                bare.append(repeat(robot, logs, robot.step))
                physics.append(repeat(robot, logs, integrate))
            rates = [[num_rows / second for second in seconds] for seconds in (ours, bare)]
            ratios = [
                [one / other for one, other in zip(above, below, strict=True)]
                for above, below in ((bare, ours), (ours, bare), (ours, physics))
            ]
            table.append(
                [
                    f"`{name}`, {kind}",
                    *(interleave.spread(rate, "{:,.0f}") for rate in rates),
                    *(interleave.spread(ratio, "{:.2f}") for ratio in ratios),
                ]
            )
            print(table[-1], flush=True)
    header = ["", "rows/s", "steps/s of Gymnasium's", "rate to it", "time to it", "time to MuJoCo alone"]
    interleave.print_table(header, table)


if __name__ == "__main__":
    main()
