"""What a simulated task must offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, PRNGKeyArray

from marline.types import ActionMask, AgentID, Spec


@runtime_checkable
class Task(Protocol):
    """A cooperative world in JAX: a frozen dataclass whose methods are pure and written for one world.

    The reward is shared by all agents. An episode ends after `horizon` steps, which is a
    truncation, or when `step` says that it terminated.
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
        """Points of the plane that show the state to a person: "agents" and, where there are any, "landmarks"."""
        ...
