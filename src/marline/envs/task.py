"""What a task must offer: a world written in JAX, or a simulator that is stepped from Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.channels import Channels
from marline.types import ActionMask, AgentID, Policy, Spec


@runtime_checkable
class Task(Protocol):
    """What is known of a task before an episode is played; a `World` or a `Simulator` says how to play one.

    An episode ends after `horizon` steps, which is a truncation, or when the task says that it terminated.
    """

    @property
    def agents(self) -> tuple[AgentID, ...]: ...

    @property
    def specs(self) -> Mapping[AgentID, Spec]: ...

    @property
    def horizon(self) -> int: ...

    @property
    def description(self) -> str:
        """One line for people: what the agents do, and where the task comes from."""
        ...


@runtime_checkable
class World(Task, Protocol):
    """A cooperative world in JAX: a frozen dataclass whose methods are pure and written for one world.

    The reward is shared by all agents.
    """

    def reset(self, *, key: PRNGKeyArray) -> Any:
        """The state in which an episode starts."""
        ...

    def step(
        self, state: Any, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[Any, Float[Array, ""], Bool[Array, ""]]:
        """Next state, shared reward, terminated."""
        ...

    def observe(self, state: Any) -> Mapping[AgentID, Float[Array, " obs"]]:
        """What each agent sees."""
        ...

    def action_masks(self, state: Any) -> Mapping[AgentID, ActionMask]:
        """The actions allowed now, for every agent whose actions are discrete."""
        ...

    def drawing(self, state: Any) -> Mapping[str, Float[Array, "n 2"]]:
        """Points of the square [-1, 1]^2 that show the state to a person, by what they are.

        "agents" and, where there are any: "landmarks", which stay; "goals", one of each agent in their order; "others",
        which move and do not learn; "fallen", places of those that are out. A row is NaN while it is not to be seen.
        """
        ...


@runtime_checkable
class Drifting(Protocol):
    """A world that is another at every deployment."""

    def enter(self, state: Any, deployment: Int[Array, ""]) -> Any:
        """The same start of an episode in the world of a deployment; 0 is where the offline logs are made."""
        ...


@runtime_checkable
class Conventional(Protocol):
    """A task with past teams, whose members agreed on something that a newcomer cannot know."""

    def conventions(self) -> Mapping[str, Mapping[AgentID, Policy]]:
        """Policies of each past team, by the name of its convention."""
        ...


@runtime_checkable
class Scaled(Protocol):
    """A task that says on which scale its environment acts; of others that scale is [-1, 1]."""

    @property
    def channels(self) -> Mapping[AgentID, Channels]:
        """Names, units and ranges by agent, as far as they are known; the task scales actions from [-1, 1] itself."""
        ...


Actions = Mapping[AgentID, np.ndarray | np.integer]  # vectors in [-1, 1] if continuous, numbers if discrete


class TimeStep(NamedTuple):
    """What the agents of a running environment see and get at one moment, in NumPy; it is checked and copied.

    Attributes:
        observations: a flat vector for every agent that is there, the last one of those who just left too.
        rewards: of the same agents; empty at a reset.
        terminated: agents for whom it just ended for good.
        truncated: agents whose episode was just cut.
        action_masks: boolean vectors of the actions allowed, for agents of which some are forbidden; one that allows
            nothing only of who just ended for good.
    """

    observations: Mapping[AgentID, np.ndarray]
    rewards: Mapping[AgentID, float] = {}
    terminated: Collection[AgentID] = ()
    truncated: Collection[AgentID] = ()
    action_masks: Mapping[AgentID, np.ndarray] = {}


@runtime_checkable
class Environment(Protocol):
    """One running environment of a `Simulator`."""

    def reset(self, *, seed: int) -> TimeStep:
        """Start an episode that is fixed by the seed."""
        ...

    def step(self, actions: Actions) -> TimeStep:
        """One step of all agents that are there."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Concurrent(Protocol):
    """A running environment that computes elsewhere, so that several can step at once."""

    def begin(self, actions: Actions) -> None:
        """Set out on a step; `step` with the same actions waits for what comes of it."""
        ...


@runtime_checkable
class Rendering(Protocol):
    """A running environment that shows itself."""

    def render(self) -> np.ndarray:
        """What it looks like now, `[height, width, 3]` in uint8; `ConfigError` says why it cannot be seen."""
        ...


@runtime_checkable
class Simulator(Task, Protocol):
    """A task that is stepped from Python, one environment after the other; hashable, and cheap to make."""

    @property
    def num_environments(self) -> int:
        """How many environments are worth running side by side in one process, so that policies act in batches."""
        ...

    def make(self) -> Environment:
        """A running environment; `ConfigError` says what to install where something is missing."""
        ...
