"""A walker in the plane whose partner decides the sign of its gain."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from marline.envs.scripted import Moving
from marline.errors import require_shares
from marline.inputs.arguments import checked
from marline.types import ActionMask, AgentID, Policy, Spec

AGENTS = ("agent_0", "agent_1")


class State(NamedTuple):
    """Where the walker is in the arena [-1, 1]^2."""

    position: Float[Array, " 2"]


@dataclasses.dataclass(frozen=True)
@checked
class ContinuousSwap:
    """agent_0 moves by up to 0.2 per axis and step, there if agent_1's action is positive and the other way if not.

    Both pay for the distance to the middle, and for a positive action of agent_1. In the logs of the past team agent_1
    acted positively most of the time and agent_0 went about at random; whoever learns from them as agent_1 finds that
    acting negatively is cheaper, and then all that agent_0 learned leads away from the middle until it corrects. A
    positive action costs more than any distance, so that agent_1 has no reason to change again.

    Observation of both, 2 numbers: the position.

    Attributes:
        max_speed: per axis and step.
        cost: of a step with a positive action of agent_1.
        spread: standard deviation, per axis, of what else moves the walker in a step.
        plain: how often agent_1 acted positively in the past.
    """

    horizon: int = 20
    max_speed: float = 0.2
    cost: float = 1.5
    spread: float = 0.02
    plain: float = 0.85

    def __post_init__(self) -> None:
        require_shares(self, "plain")

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return AGENTS

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        return {AGENTS[0]: Spec(2, 2), AGENTS[1]: Spec(2, 1)}

    @property
    def description(self) -> str:
        return "one agent walks to the middle, the other decides the sign of its gain, and changed its mind (ours)"

    def reset(self, *, key: PRNGKeyArray) -> State:
        """Anywhere."""
        return State(jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0))

    def step(
        self, state: State, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """Move, stop at the walls, and pay for the position reached; never terminates."""
        move, sign = (actions[agent] for agent in AGENTS)
        is_plain = sign[0] > 0
        velocity = jnp.where(is_plain, 1.0, -1.0) * self.max_speed * jnp.clip(move, -1.0, 1.0)
        noise = self.spread * jax.random.normal(key, (2,))
        position = jnp.clip(state.position + velocity + noise, -1.0, 1.0)
        return State(position), -jnp.linalg.norm(position) - self.cost * is_plain, jnp.bool_(False)

    def observe(self, state: State) -> Mapping[AgentID, Float[Array, " obs"]]:
        return dict.fromkeys(AGENTS, state.position)

    def action_masks(self, state: State) -> Mapping[AgentID, ActionMask]:
        return {}

    def drawing(self, state: State) -> Mapping[str, Float[Array, "n 2"]]:
        return {"agents": state.position[None], "landmarks": jnp.zeros((1, 2))}

    def conventions(self) -> Mapping[str, Mapping[AgentID, Policy]]:
        """One past team, in which agent_1 acted positively most of the time, and agent_0 at random."""
        # of random actions half are positive, too
        return {
            "plain": {
                AGENTS[0]: Moving(lambda observation: jnp.zeros(2), 2, noise=1.0),
                AGENTS[1]: Moving(lambda observation: jnp.ones(1), 1, noise=2.0 * (1.0 - self.plain)),
            }
        }
