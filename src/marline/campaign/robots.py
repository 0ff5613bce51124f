"""Deployments whose logs come back at once: robots that a function reaches, or a task in their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax

from marline.campaign.read_logs import Logs, as_datasets
from marline.campaign.require_logs import Awaited, require_everyone, require_fitting
from marline.data.channels import Channels
from marline.data.check import check
from marline.data.dataset import Dataset
from marline.data.team import on_task_scale, require_agents, require_sizes
from marline.envs import Task
from marline.inputs.arguments import fit
from marline.policy import NumpyPolicy
from marline.rollouts.collection import collect
from marline.runs.world_keys import world_key
from marline.types import AgentID, Policy

Robots = Callable[[Mapping[AgentID, NumpyPolicy]], Logs]


def logs_from(robots: Robots, policies: Mapping[AgentID, NumpyPolicy], awaited: Awaited) -> dict[AgentID, Dataset]:
    """What robots logged with these policies, checked; `DataError` where it is not what is awaited of everyone."""
    given: Logs = fit(robots(policies), Logs, "what the robots returned")
    # in memory of their own, for robots may log the next deployment into the same arrays
    returned = {agent: _copied(log) for agent, log in as_datasets(given, awaited.channels).items()}
    require_fitting(returned, awaited)
    require_everyone(returned, awaited)
    check(returned)
    return returned


def robots_of(task: Task, policies: Mapping[AgentID, Policy], awaited: Awaited, number: int, *, seed: int) -> Robots:
    """A task in place of robots, with the policies that they have."""
    require_agents(awaited.specs, "the task", task.specs)
    require_sizes(awaited.specs, "the task", task.specs)
    num_rows = awaited.rows_per_deployment
    return lambda _: simulate(task, policies, awaited.channels, number, seed=seed, num_rows=num_rows)


def simulate(
    task: Task,
    policies: Mapping[AgentID, Policy],
    channels: Mapping[AgentID, Channels],
    number: int,
    *,
    seed: int,
    num_rows: int,
) -> dict[AgentID, Dataset]:
    """What deployment `number` of a team brings where a task stands in place of robots: the same each time.

    `channels` are those of the offline logs, on whose scale these are, too: a task that tells another is refused.
    """
    key = jax.random.fold_in(world_key(seed, "collection"), number)
    logs = collect(task, policies, num_rows, key=key, deployment=number)
    for agent, log in logs.items():
        on_task_scale(agent, log, channels[agent])
    return {agent: dataclasses.replace(log, channels=channels[agent]) for agent, log in logs.items()}


def _copied(logs: Dataset) -> Dataset:
    columns = {key: column.copy() for key, column in logs.columns().items()}
    return dataclasses.replace(logs, **columns)
