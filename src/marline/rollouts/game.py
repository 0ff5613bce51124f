"""One episode in a running environment, and what the agents in many of them see side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from marline.envs import Actions, Environment, Simulator, name_of
from marline.envs.apart import require_apart
from marline.envs.checked import Checked, require_task
from marline.inputs.users_code import users_code
from marline.types import AgentID, Spec, Transition

Outline = Mapping[str, tuple[Any, tuple[int, ...]]]  # type and shape of arrays, by name


class Seats(NamedTuple):
    """What the agents in all seats of all teams see; an empty seat shows what was last seen there.

    Attributes:
        observations: of all agents side by side.
        masks: of agents whose actions are discrete, by agent, `[teams, seats, actions]`.
        moments: number of the episode, and steps played of it.
    """

    observations: Float32[np.ndarray, "teams seats total"]
    masks: Mapping[AgentID, np.ndarray]
    moments: Int32[np.ndarray, "teams 2 seats"]

    @staticmethod
    def outline(
        specs: Mapping[AgentID, Spec], num_teams: int, num_seats: int
    ) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """Type and shape of each array, by name; masks by "mask" and the agent."""
        total = sum(spec.observation_size for spec in specs.values())
        return {
            "observations": (np.float32, (num_teams, num_seats, total)),
            "moments": (np.int32, (num_teams, 2, num_seats)),
            **{
                f"mask {agent}": (np.bool_, (num_teams, num_seats, spec.action_size))
                for agent, spec in specs.items()
                if spec.discrete
            },
        }

    @staticmethod
    def on(arrays: Mapping[str, np.ndarray], specs: Mapping[AgentID, Spec]) -> Seats:
        """Of arrays as in `outline`, which are zeros but for masks that allow everything."""
        masks = {agent: arrays[f"mask {agent}"] for agent, spec in specs.items() if spec.discrete}
        return Seats(arrays["observations"], masks, arrays["moments"])

    def copy(self) -> Seats:
        """In memory of its own."""
        masks = {agent: its.copy() for agent, its in self.masks.items()}
        return Seats(self.observations.copy(), masks, self.moments.copy())

    def see(self, team: int, seat: int, game: Game) -> None:
        self.moments[team, :, seat] = game.number, game.time
        self.observations[team, seat] = game.now.observations
        for agent, masks in self.masks.items():
            masks[team, seat] = game.now.action_masks.get(agent, True)


class Game:
    """One episode: while it runs, what happened step by step; afterwards, the rows of each agent."""

    def __init__(
        self,
        task: Simulator,
        environment: Checked,
        number: int,
        entropy: list[int],
        watch: Callable[[Environment], None] | None,
    ) -> None:
        self.number, self.time = number, 0
        self._specs, self._horizon, self._environment, self._watch = task.specs, task.horizon, environment, watch
        seed = np.random.SeedSequence([*entropy, number]).generate_state(1)
        self.now = environment.reset(seed=int(seed[0]), episode=number)
        self.present = environment.present  # nobody once it is over
        self._steps = [self.now]
        self._actions: list[Actions] = []
        self._lengths = dict.fromkeys(self.present, 0)
        if watch is not None:
            watch(environment.environment)

    def begin(self, actions: Actions) -> None:
        """Let an environment that computes elsewhere set out on the step that comes next."""
        self._environment.begin(actions)

    def step(self, actions: Actions) -> None:
        self.now = self._environment.step(actions)
        self.time += 1
        self._steps.append(self.now)
        self._actions.append(actions)
        if self._watch is not None:
            self._watch(self._environment.environment)
        stays = self._environment.present if self.time < self._horizon else ()
        if len(stays) < len(self.present):
            self._lengths |= {agent: self.time for agent in self.present if agent not in stays}
            self.present = stays

    def close(self) -> None:
        """Put what happened into arrays, which take far less memory."""
        observations = np.concatenate([step.observations for step in self._steps])  # flat, for NumPy is slow at lists
        observations = observations.reshape(len(self._steps), -1)
        self.transitions, stop = {}, 0
        for agent, spec in self._specs.items():
            start, stop = stop, stop + spec.observation_size
            if agent in self._lengths:
                length = self._lengths[agent]
                self.transitions[agent] = self._rows(agent, observations[: length + 1, start:stop], spec)
        rewards = [[step.rewards[agent] for step in self._steps[1 : n + 1]] for agent, n in self._lengths.items()]
        self.total = float(np.mean([sum(earned) for earned in rewards]))
        self._steps, self._actions = [], []

    def _rows(self, agent: AgentID, observations: np.ndarray, spec: Spec) -> Transition:
        length = len(observations) - 1
        steps = self._steps[: length + 1]
        discount = np.ones(length, np.float32)
        discount[-1] = agent not in steps[-1].terminated
        masks = None
        if spec.discrete:
            everything = np.ones(spec.action_size, bool)
            masks = np.array([step.action_masks.get(agent, everything) for step in steps])
        leaves: dict[str, Any] = {
            "observation": observations[:-1],
            "action": np.array([taken[agent] for taken in self._actions[:length]]),
            "reward": np.array([step.rewards[agent] for step in steps[1:]], np.float32),
            "discount": discount,
            "next_observation": observations[1:],
            "action_mask": None if masks is None else masks[:-1],
            "next_action_mask": None if masks is None else masks[1:],
        }
        return Transition(**leaves)


@functools.cache
def environment_of(task: Simulator, seat: int) -> Checked:
    """The environment of a seat, kept for the next call."""
    environment = make(task)
    others = [environment_of(task, other) for other in range(seat)]
    require_apart(environment, others, task, name_of(task))
    return environment


def make(task: Simulator) -> Checked:
    """A new environment, every reply of which is checked."""
    require_task(task, name_of(task))
    with users_code(f"task {name_of(task)}: make()"):
        return Checked(task.make(), name_of(task), task.specs)
