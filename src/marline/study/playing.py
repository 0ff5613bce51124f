"""What the teams of a study do in its task: they log a deployment, are evaluated, and are shown for an episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from marline.configuration.run_config import RunConfig
from marline.data.dataset import Dataset
from marline.envs import Drifting, Task
from marline.rollouts.collection import collect_teams, collect_teams_in_turns, evaluate_teams, trace
from marline.rollouts.rollout import Policies
from marline.runs.history import Record
from marline.runs.world_keys import evaluation_key, world_key
from marline.types import AgentID


def play_deployment(
    config: RunConfig, task: Task, teams: Mapping[int, Policies], *, number: int
) -> dict[int, dict[AgentID, Dataset]]:
    """What every agent of the teams of some seeds logs in deployment `number`: the same each time."""
    keys = {seed: jax.random.fold_in(world_key(seed, "collection"), number) for seed in teams}
    num_rows, epsilon = config.rows_per_deployment, config.sequential_exploration
    if epsilon is None:
        return collect_teams(task, teams, num_rows, keys=keys, deployment=number)
    return collect_teams_in_turns(task, teams, num_rows, epsilon=epsilon, keys=keys, deployment=number)


def measure(config: RunConfig, task: Task, teams: Mapping[int, Policies], *, number: int) -> dict[int, Record]:
    """How the teams of some seeds do that were tuned on deployment `number`; 0 are the offline teams."""
    keys, episodes = {seed: evaluation_key(config, seed) for seed in teams}, config.evaluation_episodes
    results = evaluate_teams(task, teams, episodes, keys=keys, deployment=number + 1)  # their next, where it drifts
    records: dict[int, Record] = {
        seed: {
            "deployment": number,
            "return": float(result.returns.mean()),
            "returns": [round(float(value), 4) for value in result.returns],
            "agent_returns": result.agent_returns,
            "mean_abs_action": result.mean_abs_action,
            "agents": {},
        }
        for seed, result in results.items()
    }
    if isinstance(task, Drifting):  # in the last world too, where only the policies make a difference
        last = evaluate_teams(task, teams, episodes, keys=keys, deployment=config.deployments + 1)
        for seed, result in last.items():
            records[seed]["return_in_last_world"] = float(result.returns.mean())
    return records


def show(config: RunConfig, task: Task, start: Policies, end: Policies, *, seed: int) -> dict[str, Any]:
    """An episode of the team before the first deployment and after the last."""
    key = evaluation_key(config, seed)
    return {
        when: trace(task, policies, key=key, deployment=number + 1)
        for when, policies, number in (("before", start, 0), ("after", end, config.deployments))
    }
