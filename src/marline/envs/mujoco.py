"""Multi-agent MuJoCo: the joints of one robot are shared out among agents (OTC paper, 4.1; de Witt et al. 2020)."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from marline.envs.task import Actions, TimeStep
from marline.errors import ConfigError, require, require_name
from marline.inputs.arguments import checked
from marline.types import AgentID, Spec

Robot = Literal["HalfCheetah", "Walker2d", "Hopper"]
# length of the observation, number of actuators
SIZES: dict[Robot, tuple[int, int]] = {"HalfCheetah": (17, 6), "Walker2d": (17, 6), "Hopper": (11, 3)}
MODULES: dict[Robot, str] = {"HalfCheetah": "half_cheetah", "Walker2d": "walker2d", "Hopper": "hopper"}
MAX_VELOCITY = 10.0  # of a joint, as those who can fall see it
SURVIVAL = 1.0  # reward of a step in which a robot that can fall stands


class Health(NamedTuple):
    """Open intervals in which a robot that can fall is said to stand."""

    height: tuple[float, float]
    angle: tuple[float, float]
    state: tuple[float, float]  # all but the position and height of the torso


class Rules(NamedTuple):
    """Of Gymnasium's rewards and ends, what differs from robot to robot."""

    control_cost: float  # times the sum of squared actions
    health: Health | None = None


ANY = (-np.inf, np.inf)
RULES: dict[Robot, Rules] = {
    "HalfCheetah": Rules(0.1),
    "Walker2d": Rules(1e-3, Health((0.8, 2.0), (-1.0, 1.0), ANY)),
    "Hopper": Rules(1e-3, Health((0.7, np.inf), (-0.2, 0.2), (-100.0, 100.0))),
}


@dataclasses.dataclass(frozen=True)
@checked
class MultiAgentMujoco:
    """Agents move neighbouring joints of one robot; each sees the whole state and gets the whole reward.

    Agent i drives the i-th of equal, contiguous blocks of actuators, in the order in which the robot's
    model lists them. Reward, termination and observation are those of Gymnasium's environment.
    Partitions that go by joint names (Gymnasium-Robotics) reverse the order within a leg.

    Attributes:
        robot: which one.
        num_agents: must divide the number of its actuators.
        version: of Gymnasium's environment. 4 is the nearest to the physics of D4RL's logs; 5 pays
            Hopper and Walker2d for being healthy only while they are, and changes the friction of one
            foot of Walker2d.
    """

    robot: Robot
    num_agents: int
    version: int = 4
    horizon: int = 1000
    num_environments: int = 16

    def __post_init__(self) -> None:
        require_name(self.robot, SIZES, "robot")
        require(self.version in (4, 5), f"version is {self.version}, but Gymnasium has 4 and 5 of {self.robot}")
        joints = SIZES[self.robot][1]
        require(
            self.num_agents >= 1 and joints % self.num_agents == 0,
            f"num_agents is {self.num_agents}, but must divide the {joints} joints of {self.robot}",
        )

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return tuple(f"agent_{i}" for i in range(self.num_agents))

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        observation_size, num_actuators = SIZES[self.robot]
        return dict.fromkeys(self.agents, Spec(observation_size, num_actuators // self.num_agents))

    @property
    def description(self) -> str:
        joints = SIZES[self.robot][1] // self.num_agents
        each = f"{joints} joints each" if joints > 1 else "a joint each"
        return (
            f"{self.num_agents} agents move {self.robot}-v{self.version}, {each}, in order of its actuators "
            "(Gymnasium; OTC Table 1, Figs. 3-5)"
        )

    def make(self) -> RunningRobot:
        try:
            module = importlib.import_module(f"gymnasium.envs.mujoco.{MODULES[self.robot]}_v{self.version}")
            with _quiet():
                # the mode costs nothing until something is rendered
                robot = getattr(module, f"{self.robot}Env")(render_mode="rgb_array", width=320, height=240)
        except ImportError as error:
            raise ConfigError(
                f"{self.robot} needs Gymnasium and MuJoCo, and {error.name or 'one of them'} is not there: "
                "pip install 'marline[mujoco]'"
            ) from None
        # version 4 pays also for the step in which the robot falls
        return RunningRobot(robot, self.agents, RULES[self.robot], pays_for_falling=self.version == 4)


class RunningRobot:
    """One robot, driven by several agents.

    Gymnasium's environment makes, resets and draws it. Its steps are ours, the same to the last bit: up to half of
    the time of Gymnasium's goes into what nobody here asks for, such as what the reward is made of.
    """

    def __init__(self, robot: Any, agents: tuple[AgentID, ...], rules: Rules, *, pays_for_falling: bool) -> None:
        self._robot, self._agents, self._rules, self._pays_for_falling = robot, agents, rules, pays_for_falling
        self._model, self._data, self._num_frames, self._seconds = robot.model, robot.data, robot.frame_skip, robot.dt
        self._advance = importlib.import_module("mujoco").mj_step
        self._positions, self._velocities, self._control = self._data.qpos, self._data.qvel, self._data.ctrl  # views
        joints = len(self._control) // len(agents)
        self._joints = {agent: slice(i * joints, (i + 1) * joints) for i, agent in enumerate(agents)}

    def reset(self, *, seed: int) -> TimeStep:
        observation, _ = self._robot.reset(seed=seed)
        return TimeStep({agent: observation for agent in self._agents})

    def step(self, actions: Actions) -> TimeStep:
        for agent, joints in self._joints.items():
            self._control[joints] = actions[agent]
        before = self._positions.item(0)
        self._advance(self._model, self._data, self._num_frames)
        reward, terminated, velocities = (self._positions.item(0) - before) / self._seconds, False, self._velocities
        if self._rules.health is not None:
            terminated = not _stands(self._rules.health, self._positions.tolist(), velocities.tolist())
            reward += SURVIVAL * (self._pays_for_falling or not terminated)
            velocities = np.minimum(np.maximum(velocities, -MAX_VELOCITY), MAX_VELOCITY)  # np.clip is slow for few
        squares = 0.0
        for force in self._control.tolist():  # in NumPy's order; `sum` compensates for rounding, which would be another
            squares += force * force
        reward -= self._rules.control_cost * squares
        observation = np.concatenate((self._positions[1:], velocities))
        return TimeStep(
            dict.fromkeys(self._agents, observation),
            dict.fromkeys(self._agents, float(reward)),
            self._agents if terminated else (),
        )

    def render(self) -> np.ndarray:
        if sys.platform == "linux" and not os.environ.get("DISPLAY"):
            os.environ.setdefault("MUJOCO_GL", "egl")  # which needs no screen
        try:
            return self._robot.render()
        except Exception as error:  # of whichever library draws
            raise ConfigError(
                f"MuJoCo cannot draw here ({type(error).__name__}: {error}); install EGL or OSMesa, and set "
                "MUJOCO_GL to egl or osmesa"
            ) from error

    def close(self) -> None:
        self._robot.close()


def _stands(health: Health, positions: list[float], velocities: list[float]) -> bool:
    """Whether everything is within its bounds, which what is no number never is."""
    least, most = health.state
    return (
        health.height[0] < positions[1] < health.height[1]
        and health.angle[0] < positions[2] < health.angle[1]
        and (health.state == ANY or all(least < value < most for value in (*positions[2:], *velocities)))
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MuJoCo from writing of a deprecation in HalfCheetah's model into the working folder."""
    mujoco = importlib.import_module("mujoco")  # its stubs do not name the function
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)
