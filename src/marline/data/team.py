"""Whether logs are those of a team."""

from __future__ import annotations

from collections.abc import Mapping

from marline.errors import DataError
from marline.types import AgentID, Spec


def require_team(found: Mapping[AgentID, Spec | None], wanted: Mapping[AgentID, Spec], task: str) -> None:
    """Raise `DataError` unless the logs are of exactly these agents, with these sizes.

    Args:
        found: specs of the logs; None where they could not be read.
        wanted: specs of the task's agents.
        task: its name, for messages.
    """
    missing, strange = [a for a in wanted if a not in found], [a for a in found if a not in wanted]
    if missing or strange:
        wrong = [f"{agent!r} is missing" for agent in missing] + [f"{agent!r} is not among them" for agent in strange]
        raise DataError(
            f"the agents of {task} are {', '.join(wanted)}, but {', '.join(wrong)}; name the files after the agents"
        )
    for agent, spec in wanted.items():
        mine = found[agent]
        if mine is not None and _sizes(mine) != _sizes(spec):
            raise DataError(
                f"logs of agent {agent!r} have {_text(mine)}, but in {task} it has {_text(spec)}; "
                "choose the task that they come from"
            )


def _sizes(spec: Spec) -> tuple[int, int, bool]:
    return spec.observation_size, spec.action_size, spec.discrete


def _text(spec: Spec) -> str:
    return f"{spec.observation_size} observations and {spec.action_size} {'choices' if spec.discrete else 'actions'}"
