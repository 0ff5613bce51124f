"""What the teams of a study do in its task: they log a deployment, are evaluated, and are shown for an episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from marline.configuration.run_config import RunConfig
from marline.data.dataset import Dataset
from marline.envs import Drifting, Task
from marline.rollouts.collection import collect_teams, collect_teams_in_turns, evaluate_teams, trace_teams
from marline.rollouts.rollout import Policies
from marline.runs.history import Record
from marline.runs.world_keys import evaluation_key, world_key
from marline.types import AgentID

Whose = tuple[int, str]  # a team, by its seed and the name of its sampler


def play_deployment(
    config: RunConfig, task: Task, teams: Mapping[Whose, Policies], *, number: int
) -> dict[Whose, dict[AgentID, Dataset]]:
    """What every agent of some teams logs in deployment `number`: the same each time."""
    keys = {who: jax.random.fold_in(world_key(who[0], "collection"), number) for who in teams}
    num_rows, epsilon = config.rows_per_deployment, config.sequential_exploration
    if epsilon is None:
        return collect_teams(task, teams, num_rows, keys=keys, deployment=number)
    return collect_teams_in_turns(task, teams, num_rows, epsilon=epsilon, keys=keys, deployment=number)


def measure(config: RunConfig, task: Task, teams: Mapping[Whose, Policies], *, number: int) -> dict[Whose, Record]:
    """How teams do that were tuned on deployment `number`; 0 are the offline teams."""
    keys, episodes = _evaluation_keys(config, teams), config.evaluation_episodes
    results = evaluate_teams(task, teams, episodes, keys=keys, deployment=number + 1)  # their next, where it drifts
    records: dict[Whose, Record] = {
        who: {
            "deployment": number,
            "return": float(result.returns.mean()),
            "returns": [round(float(value), 4) for value in result.returns],
            "agent_returns": result.agent_returns,
            "mean_abs_action": result.mean_abs_action,
            "agents": {},
        }
        for who, result in results.items()
    }
    if isinstance(task, Drifting):  # in the last world too, where only the policies make a difference
        last = evaluate_teams(task, teams, episodes, keys=keys, deployment=config.deployments + 1)
        for who, result in last.items():
            records[who]["return_in_last_world"] = float(result.returns.mean())
    return records


def show(
    config: RunConfig, task: Task, start: Mapping[Whose, Policies], end: Mapping[Whose, Policies]
) -> dict[Whose, dict[str, Any]]:
    """An episode of each team as it was before the first deployment and as it is after the last."""
    shown: dict[Whose, dict[str, Any]] = {who: {} for who in end}
    for when, teams, number in (("before", start, 0), ("after", end, config.deployments)):
        episodes = trace_teams(task, teams, keys=_evaluation_keys(config, teams), deployment=number + 1)
        for who in end:
            shown[who][when] = episodes[who]
    return shown


def _evaluation_keys(config: RunConfig, teams: Iterable[Whose]) -> dict[Whose, PRNGKeyArray]:
    return {who: evaluation_key(config, who[0]) for who in teams}
