"""The task catalogue."""

from __future__ import annotations

from marline import plugins
from marline.data.channels import Channels
from marline.envs import user_tasks
from marline.envs.continuous_swap import ContinuousSwap
from marline.envs.cooperative_navigation import CooperativeNavigation
from marline.envs.drifting_navigation import DriftingNavigation
from marline.envs.finite import Finite, FiniteModel
from marline.envs.matrix_game import MatrixGame
from marline.envs.mujoco import MultiAgentMujoco, Robot
from marline.envs.parallel import ParallelTask
from marline.envs.predator_prey import PredatorPrey
from marline.envs.rare_payoff import RarePayoff
from marline.envs.smax import Smax
from marline.envs.starcraft import StarCraft
from marline.envs.swap import Swap
from marline.envs.task import (
    Actions,
    Concurrent,
    Conventional,
    Drifting,
    Environment,
    Rendering,
    Scaled,
    Simulator,
    Task,
    TimeStep,
    World,
)
from marline.envs.traffic import NETWORKS, Traffic
from marline.envs.two_on_ring import Meet, Pass
from marline.errors import require, require_name
from marline.inputs.arguments import checked_arguments
from marline.inputs.options import read_values, read_written, with_options, write_difference
from marline.inputs.users_code import called
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
    "matrix": MatrixGame(),
    "swap": Swap(),
    "pass": Pass(),
    "meet": Meet(),
    "continuous-swap": ContinuousSwap(),
    "rare-payoff": RarePayoff(),
    "smax-5m_vs_6m": Smax(),
    "smac-5m_vs_6m": StarCraft(),
    **{
        f"{robot.lower()}-{num_agents}x{joints}{suffix}": MultiAgentMujoco(robot, num_agents, version)
        for version, suffix in ((4, ""), (5, "-v5"))
        for robot, num_agents, joints in _ROBOTS
    },
    **{f"traffic-{network}": Traffic(network) for network in NETWORKS},
}


_made: dict[str, Task] = {}  # from code of the user's, by what was written


@checked_arguments
def make_task(name: str) -> Task:
    """The task of a name: NAME or NAME(OPTION=VALUE, ...) of the catalogue, of an installed package, or MODULE:NAME.

    Raises:
        ConfigError: an unknown name, with the nearest; an option that it does not have; code that is not yet trusted.

    Example:
        >>> task = marline.make_task("cooperative-navigation-2")
        >>> task.agents, task.horizon
        (('agent_0', 'agent_1'), 50)
        >>> task.specs["agent_0"]
        Spec(observation_size=8, action_size=2, discrete=False)
    """
    if name in _made:
        return _made[name]
    written = read_written(name, "task")
    options = read_values(written.options, written.kind)
    require(written.name is None, f"task {name!r}: a task is its own name; write {name.partition('=')[2]}")
    packaged = plugins.installed("tasks")
    if written.kind in TASKS:
        return with_options(TASKS[written.kind], options, written.kind) if options else TASKS[written.kind]
    if not plugins.is_code(written.kind):
        require_name(written.kind, [*TASKS, *packaged], "task")
    _made[name] = user_tasks.load(packaged.get(written.kind, written.kind), options)
    return _made[name]


def name_task(task: str | Task) -> str:
    """What `make_task` reads as this task.

    Raises:
        ConfigError: nothing that could be written in a run is this task.
    """
    if isinstance(task, str):
        return task
    found = [name for name, known in (*TASKS.items(), *_made.items()) if known == task]
    if found:
        return found[0]
    if type(task) in map(type, TASKS.values()) and not isinstance(task, ParallelTask):
        presets = [(name, known) for name, known in TASKS.items() if type(known) is type(task)]
        return min((write_difference(name, known, task) for name, known in presets), key=len)
    name = user_tasks.name(task)
    _made[name] = task
    return name


def trust(name: str) -> None:
    """Let this process import the code that a task's name points to; other names need no trust."""
    if plugins.is_code(name):
        plugins.trust([read_written(name, "task").kind])
        make_task(name)


def name_of(task: Task) -> str:
    """How messages name a task: as on the command line, or by its type where it has no name there."""
    for name, known in (*_made.items(), *TASKS.items()):
        if known is task or type(known) is type(task) and known == task:
            return name
    return called(task.make_env) if isinstance(task, ParallelTask) else type(task).__name__


def channels_of(task: Task) -> dict[AgentID, Channels]:
    """On which scale each agent acts in the environment of a task; nothing is known where it is [-1, 1]."""
    known = task.channels if isinstance(task, Scaled) else {}
    return {agent: known.get(agent, Channels()) for agent in task.agents}


__all__ = [
    "TASKS",
    "Actions",
    "Concurrent",
    "ContinuousSwap",
    "Conventional",
    "CooperativeNavigation",
    "Drifting",
    "DriftingNavigation",
    "Environment",
    "Finite",
    "FiniteModel",
    "MatrixGame",
    "Meet",
    "MultiAgentMujoco",
    "ParallelTask",
    "Pass",
    "PredatorPrey",
    "RarePayoff",
    "Smax",
    "StarCraft",
    "Swap",
    "Rendering",
    "Robot",
    "Scaled",
    "Simulator",
    "Task",
    "TimeStep",
    "Traffic",
    "World",
    "channels_of",
    "make_task",
    "name_of",
    "name_task",
    "trust",
]
