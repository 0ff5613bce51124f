"""Whether environments that are stepped side by side leave each other alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from marline.envs import parallel
from marline.envs.checked import Checked, Moment
from marline.envs.task import Actions, Simulator
from marline.errors import ConfigError

STEPS = 4  # of the episodes that are compared
FIX = "let it make everything anew each time, or give the task num_environments=1"


def require_apart(environment: Checked, others: Sequence[Checked], task: Simulator, name: str) -> None:
    """Raise `ConfigError` if an environment is, holds or disturbs one of the others, so that their episodes mix.

    That one disturbs another is told by the start of an episode, played alone and beside it, where it is fixed by its
    seed. As they come from one function, two of them are compared.

    Args:
        environment: that comes to the others; no episode is under way in any.
        others: that passed this before.
        task: whose environments they are.
        name: how messages name it.
    """
    mine = {id(part) for part in _environments_in(environment.environment)}
    for other in others:
        same = [part for part in _environments_in(other.environment) if id(part) in mine]
        if same:
            raise ConfigError(
                f"task {name} makes two environments that are or hold the same {type(same[-1]).__name__}, in which "
                f"their episodes would mix; {FIX}"
            )
    if len(others) == 1 and _disturbs(environment, others[0], task):
        raise ConfigError(
            f"task {name} makes environments that share what changes: an episode of a seed goes another way when "
            f"another environment is stepped beside it; a class, a module or NumPy's global generator may hold it; "
            f"{FIX}"
        )


def _environments_in(thing: Any) -> Iterator[Any]:
    """An environment and those that it wraps."""
    pending, seen = [thing], set()
    while pending:
        part = pending.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            ours = type(part).__module__ == parallel.__name__  # which holds nothing that steps but an environment
            pending += [
                value
                for value in getattr(part, "__dict__", {}).values()
                if callable(getattr(type(value), "step", None)) and (ours or _is_environment(value))
            ]


def _is_environment(value: Any) -> bool:
    """Of Gymnasium's or PettingZoo's sort, which have a state; others with their methods may be pure functions."""
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is not None and isinstance(value, gymnasium.Env):
        return True
    kind, own = type(value), getattr(value, "__dict__", {})
    return hasattr(kind, "agent_iter") or hasattr(kind, "possible_agents") or "possible_agents" in own


def _disturbs(first: Checked, second: Checked, task: Simulator) -> bool:
    """Whether an episode goes another way beside a second one, twice, and twice the same way alone."""
    alone = start_of_episode(first, None, task)
    return (
        _equal(start_of_episode(first, None, task), alone)
        and not _equal(start_of_episode(first, second, task), alone)
        and _equal(start_of_episode(first, None, task), alone)
        and not _equal(start_of_episode(first, second, task), alone)
    )


def start_of_episode(first: Checked, second: Checked | None, task: Simulator) -> list[Moment]:
    """The first steps of the episode of a seed, with actions of their own; another one may be stepped in turns."""
    moments = [first.reset(seed=1, episode=0)]
    beside = None if second is None else second.reset(seed=2, episode=1)
    for number in range(min(STEPS, task.horizon)):
        if set(first.present) != set(task.agents) and number > 0:
            break
        moments.append(first.step(_actions(task, first, moments[-1], number)))
        if second is not None and beside is not None and second.present:
            beside = second.step(_actions(task, second, beside, number + STEPS))
    return moments


def _actions(task: Simulator, environment: Checked, now: Moment, number: int) -> Actions:
    """Some allowed action of everybody; others for other numbers."""
    rng = np.random.default_rng(number)
    actions = {}
    for agent in environment.present:
        spec = task.specs[agent]
        if spec.discrete:
            allowed = np.flatnonzero(now.action_masks.get(agent, np.ones(spec.action_size, bool)))
            actions[agent] = np.int32(rng.choice(allowed))
        else:
            actions[agent] = rng.uniform(-1.0, 1.0, spec.action_size).astype(np.float32)
    return actions


def _equal(some: list[Moment], others: list[Moment]) -> bool:
    return len(some) == len(others) and all(
        np.array_equal(a.observations, b.observations) and a.rewards == b.rewards
        for a, b in zip(some, others, strict=True)
    )
