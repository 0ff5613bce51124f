"""The task catalogue."""

from __future__ import annotations

from marline.envs.cooperative_navigation import CooperativeNavigation
from marline.envs.drifting_navigation import DriftingNavigation
from marline.envs.mujoco import MultiAgentMujoco, Robot
from marline.envs.predator_prey import PredatorPrey
from marline.envs.task import Actions, Drifting, Environment, Simulator, Task, TimeStep, World
from marline.errors import require_name

_ROBOTS: tuple[tuple[Robot, int, int], ...] = (("HalfCheetah", 2, 3), ("Walker2d", 2, 3), ("Hopper", 3, 1))

TASKS: dict[str, Task] = {
    **{
        f"cooperative-navigation-{n}{'-discrete' if discrete else ''}": CooperativeNavigation(n, discrete=discrete)
        for discrete in (False, True)
        for n in (2, 3, 4, 6, 8)
    },
    "predator-prey": PredatorPrey(),
    "predator-prey-each": PredatorPrey(reward_each=True),
    "drifting-navigation": DriftingNavigation(),
    **{
        f"{robot.lower()}-{num_agents}x{joints}{suffix}": MultiAgentMujoco(robot, num_agents, version)
        for version, suffix in ((4, ""), (5, "-v5"))
        for robot, num_agents, joints in _ROBOTS
    },
}


def make_task(name: str) -> Task:
    """The task of that name; `ConfigError` with the nearest name otherwise."""
    require_name(name, TASKS, "task")
    return TASKS[name]


__all__ = [
    "TASKS",
    "Actions",
    "CooperativeNavigation",
    "Drifting",
    "DriftingNavigation",
    "Environment",
    "MultiAgentMujoco",
    "PredatorPrey",
    "Simulator",
    "Task",
    "TimeStep",
    "World",
    "make_task",
]
