"""Predator-Prey: three slow predators chase a faster prey that follows a rule (OTC paper, Fig. 6a)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from marline.envs.scripted import NOISE, Moving
from marline.inputs.arguments import checked
from marline.types import ActionMask, AgentID, Policy, Spec

SAME_PLACE = 1e-6  # what rounding leaves between a predator that went where the prey was, and a prey that stayed

AMBUSH = 0.4  # how near the prey comes before a predator that waits goes for it


class State(NamedTuple):
    """Positions in the arena [-1, 1]^2."""

    predators: Float[Array, "3 2"]
    prey: Float[Array, " 2"]


@dataclasses.dataclass(frozen=True)
@checked
class PredatorPrey:
    """Predators move by up to 0.1 per axis and step and are paid 1 for each step that ends with the prey caught.

    The paper gives the numbers of both, who is faster, that an action is a speed in [-0.1, 0.1],
    and +1 for a distance below 0.1. Ours are arena, horizon, observations, and the prey's rule: it
    runs straight away from the nearest predator, 0.15 a step, and so can be driven into a corner. A
    greedy chase earns about 36 an episode, where the axis of the paper's Fig. 6a goes from 15 to 35;
    with a reward for each predator it would be 102. Bodies do not block.

    Observation of predator i, 8 numbers: own position; the prey relative to it; the other two
    predators relative to it, in order of their numbers.

    Attributes:
        reward_each: pay 1 for every predator that is near enough rather than 1 if any is.
    """

    horizon: int = 50
    max_speed: float = 0.1
    prey_speed: float = 0.15
    reach: float = 0.1
    reward_each: bool = False

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return ("agent_0", "agent_1", "agent_2")

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        return dict.fromkeys(self.agents, Spec(8, 2))

    @property
    def description(self) -> str:
        paid = "paid for every predator that is near" if self.reward_each else "paid while any is near"
        return f"3 agents corner a faster prey that runs from the nearest, {paid} (Lowe et al. 2017; OTC Fig. 6a)"

    def reset(self, *, key: PRNGKeyArray) -> State:
        """Everyone uniform in the arena."""
        places = jax.random.uniform(key, (4, 2), minval=-1.0, maxval=1.0)
        return State(places[:3], places[3])

    def step(
        self, state: State, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """All move at once, stop at the walls, and are paid for the positions reached; never terminates."""
        speed = self.max_speed * jnp.clip(jnp.stack([actions[agent] for agent in self.agents]), -1.0, 1.0)
        state = State(
            jnp.clip(state.predators + speed, -1.0, 1.0),
            jnp.clip(state.prey + self.prey_speed * self.flight(state), -1.0, 1.0),
        )
        return state, self.reward(state.predators - state.prey[None, :]), jnp.bool_(False)

    def flight(self, state: State) -> Float[Array, " 2"]:
        """Where the prey runs: away from the nearest predator, the first of equals; from its own place, nowhere."""
        away = state.prey[None, :] - state.predators
        distances = jnp.linalg.norm(away, axis=-1)
        nearest = jnp.argmin(distances)
        distance = distances[nearest]
        return jnp.where(distance > SAME_PLACE, away[nearest] / jnp.maximum(distance, SAME_PLACE), 0.0)

    def reward(self, offsets: Float[Array, "3 2"]) -> Float[Array, ""]:
        """From the positions of the predators relative to the prey."""
        near = jnp.linalg.norm(offsets, axis=-1) < self.reach
        return jnp.where(self.reward_each, jnp.sum(near), jnp.any(near)).astype(jnp.float32)

    def reward_of(
        self, observation: Float[Array, " obs"], action: Array, next_observation: Float[Array, " obs"]
    ) -> Float[Array, ""]:
        """The reward of a step from what any one predator sees after it."""
        prey, others = next_observation[2:4], next_observation[4:].reshape(2, 2)
        return self.reward(jnp.concatenate([jnp.zeros((1, 2)), others]) - prey[None, :])

    def observe(self, state: State) -> Mapping[AgentID, Float[Array, " obs"]]:
        observations = {}
        for i, agent in enumerate(self.agents):
            own = state.predators[i]
            others = jnp.delete(state.predators, i, axis=0, assume_unique_indices=True)
            observations[agent] = jnp.concatenate([own, state.prey - own, (others - own[None, :]).ravel()])
        return observations

    def action_masks(self, state: State) -> Mapping[AgentID, ActionMask]:
        return {}

    def conventions(self) -> Mapping[str, Mapping[AgentID, Policy]]:
        """In team k predator k chases the prey, and the others wait for it in corners, those of the two sides in turn.

        Predators are alike, so that all teams earn the same.
        """
        roles = (None, (0.9, 0.9), (-0.9, -0.9))
        return {
            f"chaser-{chaser}": {
                agent: self._playing(roles[(i - chaser) % len(roles)]) for i, agent in enumerate(self.agents)
            }
            for chaser in range(len(self.agents))
        }

    def _playing(self, waits_at: tuple[float, float] | None) -> Policy:
        """Chases the prey, or waits for it at a place until it is near; and now and then goes anywhere."""

        def rule(observation: Float[Array, " obs"]) -> Float[Array, " 2"]:
            prey = observation[2:4]
            if waits_at is None:
                return prey / self.max_speed
            place = jnp.array(waits_at) - observation[:2]
            return jnp.where(jnp.linalg.norm(prey) < AMBUSH, prey, place) / self.max_speed

        return Moving(rule, 2, NOISE)

    def drawing(self, state: State) -> Mapping[str, Float[Array, "n 2"]]:
        return {"agents": state.predators, "others": state.prey[None, :]}
