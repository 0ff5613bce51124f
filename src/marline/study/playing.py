"""What the teams of a study do in its task: they log a deployment, are evaluated, and are shown for an episode."""

from __future__ import annotations

from typing import Any

import jax

from marline.configuration.run_config import RunConfig
from marline.data.dataset import Dataset
from marline.envs import Drifting, Task
from marline.rollouts.collection import collect, collect_in_turns, evaluate, trace
from marline.rollouts.rollout import Policies
from marline.runs.history import Record
from marline.runs.world_keys import evaluation_key, world_key
from marline.types import AgentID


def play_deployment(
    config: RunConfig, task: Task, policies: Policies, *, seed: int, number: int
) -> dict[AgentID, Dataset]:
    """What every agent of a team logs in deployment `number`: the same each time."""
    key = jax.random.fold_in(world_key(seed, "collection"), number)
    num_rows, epsilon = config.rows_per_deployment, config.sequential_exploration
    if epsilon is None:
        return collect(task, policies, num_rows, key=key, deployment=number)
    return collect_in_turns(task, policies, num_rows, epsilon=epsilon, key=key, deployment=number)


def measure(config: RunConfig, task: Task, policies: Policies, *, seed: int, number: int) -> Record:
    """How a team does that was tuned on deployment `number`; 0 is the offline team."""
    key, episodes = evaluation_key(config, seed), config.evaluation_episodes
    result = evaluate(task, policies, episodes, key=key, deployment=number + 1)  # its next, where it drifts
    record: Record = {
        "deployment": number,
        "return": float(result.returns.mean()),
        "returns": [round(float(value), 4) for value in result.returns],
        "mean_abs_action": result.mean_abs_action,
        "agents": {},
    }
    if isinstance(task, Drifting):  # in the last world too, where only the policies make a difference
        last = evaluate(task, policies, episodes, key=key, deployment=config.deployments + 1)
        record["return_in_last_world"] = float(last.returns.mean())
    return record


def show(config: RunConfig, task: Task, start: Policies, end: Policies, *, seed: int) -> dict[str, Any]:
    """An episode of the team before the first deployment and after the last."""
    key = evaluation_key(config, seed)
    return {
        when: trace(task, policies, key=key, deployment=number + 1)
        for when, policies, number in (("before", start, 0), ("after", end, config.deployments))
    }
