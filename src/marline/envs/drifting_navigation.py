"""One agent walks to a landmark while the world changes from deployment to deployment (OTC paper, 4.5, Fig. 6c)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.errors import require_name
from marline.inputs.arguments import checked
from marline.types import ActionMask, AgentID, Spec

AGENT = "agent_0"


class State(NamedTuple):
    """Positions in the arena [-1, 1]^2, the number of the deployment, 0 for the offline logs, and their beta."""

    position: Float[Array, " 2"]
    landmark: Float[Array, " 2"]
    deployment: Int[Array, ""]
    offline_beta: Float[Array, ""]  # of the whole episode, where it is not drawn at every step


@dataclasses.dataclass(frozen=True)
@checked
class DriftingNavigation:
    """An action a moves the agent by beta a; the landmark pays 10 and ends the episode.

    In the offline logs beta is drawn uniformly from [-0.2, 0.2], so that no action leads anywhere on
    average; online it is 0.1 at the first deployment and grows to 0.2 at the tenth, after which it
    stays. All this is the paper's. Ours are: that offline beta is drawn at every step, where
    `offline_beta_per="episode"` draws it once an episode; one beta for both axes, constant within a
    deployment; arena and horizon; a reach of 0.1; a start at least as far from the landmark;
    observations. Random play offline returns 0.44 an episode, and whoever knows beta reaches every
    landmark from 0.1 on.

    Observation, 4 numbers: own position; the landmark relative to it.
    """

    horizon: int = 25
    reach: float = 0.1
    prize: float = 10.0
    offline_beta: float = 0.2
    first_beta: float = 0.1
    last_beta: float = 0.2
    num_drifting: int = 10
    offline_beta_per: Literal["step", "episode"] = "step"

    def __post_init__(self) -> None:
        require_name(self.offline_beta_per, ("step", "episode"), "time that an offline beta lasts")

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return (AGENT,)

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        return {AGENT: Spec(4, 2)}

    @property
    def description(self) -> str:
        return "an agent walks to a landmark; how far an action carries drifts between deployments (OTC 4.5, Fig. 6c)"

    def reset(self, *, key: PRNGKeyArray) -> State:
        """Agent and landmark uniform in the arena, drawn again while they are within reach."""

        def draw(key: PRNGKeyArray) -> Float[Array, "2 2"]:
            return jax.random.uniform(key, (2, 2), minval=-1.0, maxval=1.0)

        def again(carry: tuple[PRNGKeyArray, Array]) -> tuple[PRNGKeyArray, Array]:
            key = jax.random.fold_in(carry[0], 1)
            return key, draw(key)

        def too_near(carry: tuple[PRNGKeyArray, Array]) -> Bool[Array, ""]:
            return jnp.linalg.norm(carry[1][0] - carry[1][1]) < self.reach

        _, (position, landmark) = jax.lax.while_loop(too_near, again, (key, draw(key)))
        return State(position, landmark, jnp.int32(0), self._offline_beta(key=jax.random.fold_in(key, 2)))

    def enter(self, state: State, deployment: Int[Array, ""]) -> State:
        """The same start in the world of a deployment."""
        return state._replace(deployment=jnp.asarray(deployment, jnp.int32))

    def beta(self, deployment: Int[Array, ""], *, key: PRNGKeyArray) -> Float[Array, ""]:
        """How far an action carries; offline it is drawn anew with every key."""
        offline = self._offline_beta(key=key)
        progress = (jnp.clip(deployment, 1, self.num_drifting) - 1) / max(self.num_drifting - 1, 1)
        online = self.first_beta + (self.last_beta - self.first_beta) * progress
        return jnp.where(deployment == 0, offline, online)

    def _offline_beta(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.uniform(key, (), minval=-self.offline_beta, maxval=self.offline_beta)

    def step(
        self, state: State, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """Move and stop at the walls; within reach of the landmark it is over."""
        beta = self.beta(state.deployment, key=key)
        if self.offline_beta_per == "episode":
            beta = jnp.where(state.deployment == 0, state.offline_beta, beta)
        move = beta * jnp.clip(actions[AGENT], -1.0, 1.0)
        state = state._replace(position=jnp.clip(state.position + move, -1.0, 1.0))
        reached = self.reached(state.landmark - state.position)
        return state, jnp.where(reached, self.prize, 0.0), reached

    def reached(self, offset: Float[Array, " 2"]) -> Bool[Array, ""]:
        return jnp.linalg.norm(offset) < self.reach

    def reward_of(
        self, observation: Float[Array, " obs"], action: Array, next_observation: Float[Array, " obs"]
    ) -> Float[Array, ""]:
        """The reward of a step from what the agent sees after it."""
        return jnp.where(self.reached(next_observation[2:]), self.prize, 0.0)

    def observe(self, state: State) -> Mapping[AgentID, Float[Array, " obs"]]:
        return {AGENT: jnp.concatenate([state.position, state.landmark - state.position])}

    def action_masks(self, state: State) -> Mapping[AgentID, ActionMask]:
        return {}

    def drawing(self, state: State) -> Mapping[str, Float[Array, "n 2"]]:
        return {"agents": state.position[None, :], "landmarks": state.landmark[None, :]}
