"""Whether logs are those of a team."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from marline.data.channels import Channels
from marline.data.dataset import Dataset
from marline.data.layout import logs_of
from marline.errors import DataError
from marline.types import AgentID, Spec


def require_agents(found: Iterable[AgentID], task: str, specs: Mapping[AgentID, Spec]) -> None:
    """Raise `DataError` unless there are logs of exactly the agents of a task."""
    found = list(found)
    missing, strange = [a for a in specs if a not in found], [a for a in found if a not in specs]
    if missing or strange:
        wrong = [f"{agent!r} is missing" for agent in missing] + [f"{agent!r} is not among them" for agent in strange]
        raise DataError(
            f"the agents of {task} are {', '.join(specs)}, but {', '.join(wrong)}; name the files after the agents"
        )


def require_sizes(found: Mapping[AgentID, Spec], task: str, specs: Mapping[AgentID, Spec]) -> None:
    """Raise `DataError` unless the logs of every agent have the sizes that it has in a task."""
    for agent, spec in found.items():
        if agent in specs and _sizes(spec) != _sizes(specs[agent]):
            raise DataError(
                f"logs of agent {agent!r} have {_text(spec)}, but in {task} it has {_text(specs[agent])}; "
                "choose the task that they come from"
            )


def on_task_scale(agent: AgentID, log: Dataset, theirs: Channels, task: str = "the offline logs") -> Dataset:
    """Logs whose actions are on the scale of a task; where only one of both tells its scale, that is meant by both.

    Raises:
        DataError: both tell their scale, and they differ.
    """
    mine = log.channels
    if mine.has_scale and theirs.has_scale and not mine.same_scale(theirs):
        raise DataError(
            f"{logs_of(agent, log.source)} have actions in {mine.scale()}, but in {task} they lie in {theirs.scale()}; "
            "choose the task that they come from, or import them with its range"
        )
    return dataclasses.replace(log, channels=mine.or_else(theirs))


def _sizes(spec: Spec) -> tuple[int, int, bool]:
    return spec.observation_size, spec.action_size, spec.discrete


def _text(spec: Spec) -> str:
    return f"{spec.observation_size} observations and {spec.action_size} {'choices' if spec.discrete else 'actions'}"
