"""The task catalogue."""

from __future__ import annotations

from marline.data.channels import Channels
from marline.envs import user_tasks
from marline.envs.cooperative_navigation import CooperativeNavigation
from marline.envs.drifting_navigation import DriftingNavigation
from marline.envs.mujoco import MultiAgentMujoco, Robot
from marline.envs.parallel import ParallelTask
from marline.envs.predator_prey import PredatorPrey
from marline.envs.smax import Smax
from marline.envs.starcraft import StarCraft
from marline.envs.task import Actions, Drifting, Environment, Rendering, Scaled, Simulator, Task, TimeStep, World
from marline.errors import ConfigError, require_name
from marline.types import AgentID

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
    "smax-5m_vs_6m": Smax(),
    "smac-5m_vs_6m": StarCraft(),
    **{
        f"{robot.lower()}-{num_agents}x{joints}{suffix}": MultiAgentMujoco(robot, num_agents, version)
        for version, suffix in ((4, ""), (5, "-v5"))
        for robot, num_agents, joints in _ROBOTS
    },
}


_trusted: dict[str, Task] = {}


def make_task(name: str) -> Task:
    """The task of that name; `ConfigError` with the nearest name otherwise, and where it is code not yet trusted."""
    if name in _trusted:
        return _trusted[name]
    if ":" in name:
        raise ConfigError(f"task {name!r} is code that will be imported and run; add --trust if you trust it")
    require_name(name, TASKS, "task")
    return TASKS[name]


def trust(name: str) -> None:
    """Let this process import the code that a task's name, MODULE:NAME, points to; other names need no trust."""
    if ":" in name and name not in _trusted:
        _trusted[name] = user_tasks.load(name)


def channels_of(task: Task) -> dict[AgentID, Channels]:
    """On which scale each agent acts in the environment of a task; nothing is known where it is [-1, 1]."""
    known = task.channels if isinstance(task, Scaled) else {}
    return {agent: known.get(agent, Channels()) for agent in task.agents}


def is_trusted(name: str) -> bool:
    """Whether `trust` was called for a task of the user's."""
    return name in _trusted


__all__ = [
    "TASKS",
    "Actions",
    "CooperativeNavigation",
    "Drifting",
    "DriftingNavigation",
    "Environment",
    "MultiAgentMujoco",
    "ParallelTask",
    "PredatorPrey",
    "Smax",
    "StarCraft",
    "Rendering",
    "Scaled",
    "Simulator",
    "Task",
    "TimeStep",
    "World",
    "channels_of",
    "is_trusted",
    "make_task",
    "trust",
]
