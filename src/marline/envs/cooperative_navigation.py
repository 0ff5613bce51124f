"""Cooperative Navigation: N agents cover N landmarks (OTC paper, Figs. 6-8; Lowe et al. 2017)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.envs.scripted import NOISE, Choosing, Moving
from marline.inputs.arguments import checked
from marline.types import ActionMask, AgentID, Policy, Spec

MOVES = ((0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))  # of discrete actions: stay, then both axes


class State(NamedTuple):
    """Positions in the arena [-1, 1]^2."""

    positions: Float[Array, "agents 2"]
    landmarks: Float[Array, "agents 2"]


@dataclasses.dataclass(frozen=True)
@checked
class CooperativeNavigation:
    """Agents move by up to 0.1 per axis and step; each landmark costs its distance to the closest agent.

    The paper gives the reward, the number of agents and that an action is a speed in
    [-0.1, 0.1]; arena, horizon and observations are ours: random play returns about -112 per
    episode at N = 4, which the axis of the paper's Fig. 6b confirms. Bodies do not block.

    Observation of agent i, 4N numbers: own position; every landmark relative to it; every other
    agent relative to it, in order of their numbers.

    With `discrete` actions an agent stays, or moves along one axis at full speed, as in the
    original particle worlds; a move into a wall is not allowed.
    """

    num_agents: int = 4
    horizon: int = 50
    max_speed: float = 0.1
    discrete: bool = False

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return tuple(f"agent_{i}" for i in range(self.num_agents))

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        spec = Spec(4 * self.num_agents, len(MOVES), discrete=True) if self.discrete else Spec(4 * self.num_agents, 2)
        return dict.fromkeys(self.agents, spec)

    @property
    def description(self) -> str:
        return (
            f"{self.num_agents} agents cover {self.num_agents} landmarks in the plane"
            f"{', in 5 discrete moves' if self.discrete else ''} (Lowe et al. 2017; OTC Figs. 6-8)"
        )

    def reset(self, *, key: PRNGKeyArray) -> State:
        """Agents and landmarks uniform in the arena."""
        agent_key, landmark_key = jax.random.split(key)
        shape = (self.num_agents, 2)
        return State(
            jax.random.uniform(agent_key, shape, minval=-1.0, maxval=1.0),
            jax.random.uniform(landmark_key, shape, minval=-1.0, maxval=1.0),
        )

    def step(
        self, state: State, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """Move, stop at the walls, and pay for the positions reached; never terminates."""
        chosen = jnp.stack([actions[agent] for agent in self.agents])
        speed = self.max_speed * (jnp.array(MOVES)[chosen] if self.discrete else jnp.clip(chosen, -1.0, 1.0))
        state = state._replace(positions=jnp.clip(state.positions + speed, -1.0, 1.0))
        return state, self.reward(state), jnp.bool_(False)

    def reward(self, state: State) -> Float[Array, ""]:
        """Minus the sum over landmarks of the distance to the closest agent."""
        offset = state.landmarks[:, None, :] - state.positions[None, :, :]
        distance = jnp.sqrt(jnp.sum(jnp.square(offset), axis=-1))
        return -jnp.sum(jnp.min(distance, axis=1))

    def reward_of(
        self, observation: Float[Array, " obs"], action: Array, next_observation: Float[Array, " obs"]
    ) -> Float[Array, ""]:
        """The reward of a step from what any one agent sees after it: offsets to itself say it all."""
        landmarks, others = jnp.split(next_observation[2:], [2 * self.num_agents])
        own = jnp.zeros((1, 2))
        return self.reward(State(jnp.concatenate([own, others.reshape(-1, 2)]), landmarks.reshape(-1, 2)))

    def observe(self, state: State) -> Mapping[AgentID, Float[Array, " obs"]]:
        observations = {}
        for i, agent in enumerate(self.agents):
            own = state.positions[i]
            others = jnp.delete(state.positions, i, axis=0, assume_unique_indices=True)
            parts = [own, (state.landmarks - own[None, :]).ravel(), (others - own[None, :]).ravel()]
            observations[agent] = jnp.concatenate(parts)
        return observations

    def action_masks(self, state: State) -> Mapping[AgentID, ActionMask]:
        if not self.discrete:
            return {}
        after = state.positions[:, None, :] + self.max_speed * jnp.array(MOVES)[None, :, :]
        inside = jnp.all(jnp.abs(after) <= 1.0, axis=-1)
        return {agent: inside[i] for i, agent in enumerate(self.agents)}

    def conventions(self) -> Mapping[str, Mapping[AgentID, Policy]]:
        """Team k sends agent i to landmark i + k; landmarks are alike, so that all earn the same."""
        return {
            f"shift-{shift}": {
                agent: self._towards((i + shift) % self.num_agents) for i, agent in enumerate(self.agents)
            }
            for shift in range(self.num_agents)
        }

    def _towards(self, landmark: int) -> Policy:
        """Straight to a landmark, and now and then anywhere."""

        def offset(observation: Float[Array, " obs"]) -> Float[Array, " 2"]:
            return observation[2 + 2 * landmark : 4 + 2 * landmark]

        def move(observation: Float[Array, " obs"]) -> Int[Array, ""]:
            gains = jnp.array(MOVES) @ offset(observation)  # stay where no move brings it nearer
            return jnp.argmax(gains - 0.5 * self.max_speed * jnp.array([0.0, 1.0, 1.0, 1.0, 1.0]))

        if self.discrete:
            return Choosing(move, len(MOVES), NOISE)
        return Moving(lambda observation: offset(observation) / self.max_speed, 2, NOISE)

    def drawing(self, state: State) -> Mapping[str, Float[Array, "n 2"]]:
        return {"agents": state.positions, "landmarks": state.landmarks}
