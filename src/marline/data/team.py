"""Whether logs are those of a team."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def _sizes(spec: Spec) -> tuple[int, int, bool]:
    return spec.observation_size, spec.action_size, spec.discrete


def _text(spec: Spec) -> str:
    return f"{spec.observation_size} observations and {spec.action_size} {'choices' if spec.discrete else 'actions'}"
