"""A walker on a ring whose partner decides whether its steps go where they should or the other way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.envs.finite import FiniteModel
from marline.envs.ring import NUM_MOVES, law_of_moves, moved, on_circle, place_of
from marline.envs.scripted import Choosing
from marline.errors import require, require_shares
from marline.inputs.arguments import checked
from marline.types import ActionMask, AgentID, Policy, Spec

AGENTS = ("agent_0", "agent_1")
GOAL = 0


class State(NamedTuple):
    """Where the walker is."""

    place: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
@checked
class Swap:
    """agent_0 steps back, stays or steps on; agent_1 turns the step around (0) or leaves it plain (1).

    A step that ends at place 0 pays 1 to both, and leaving steps plain costs both something. In the logs of the past
    team agent_1 left most steps plain, and agent_0 went about at random, so that the goal was reached as often either
    way. Whoever learns from them as agent_1 takes to turning steps around, which is cheaper; then all that agent_0
    learned leads the wrong way until it corrects. A plain step costs more than a step can earn, so that agent_1 has no
    reason to change again, whatever it learns of agent_0.

    Observation of both, 2 numbers: the walker's place as a point of the unit circle.

    Attributes:
        num_places: of the ring.
        slip: how often a step is any of the three instead.
        cost: of leaving a step plain.
        plain: how often agent_1 left steps plain in the past.
    """

    num_places: int = 7
    horizon: int = 20
    slip: float = 0.1
    cost: float = 1.25
    plain: float = 0.85

    def __post_init__(self) -> None:
        require_shares(self, "slip", "plain")
        require(self.num_places >= 2, f"num_places is {self.num_places}, but must be at least 2")

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return AGENTS

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        return {AGENTS[0]: Spec(2, NUM_MOVES, discrete=True), AGENTS[1]: Spec(2, 2, discrete=True)}

    @property
    def description(self) -> str:
        return "one agent walks on a ring, the other decides which way its steps go, and changed its mind (ours)"

    def reset(self, *, key: PRNGKeyArray) -> State:
        """Anywhere."""
        return State(jax.random.randint(key, (), 0, self.num_places, jnp.int32))

    def step(
        self, state: State, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """Step, or slip, and be paid for the place reached; never terminates."""
        move, is_plain = (actions[agent] for agent in AGENTS)
        move = jnp.where(is_plain == 1, move, NUM_MOVES - 1 - move)
        place = moved(state.place, move, self.num_places, self.slip, key=key)
        reward = (place == GOAL) - self.cost * is_plain
        return State(place), reward.astype(jnp.float32), jnp.bool_(False)

    def observe(self, state: State) -> Mapping[AgentID, Float[Array, " obs"]]:
        return dict.fromkeys(AGENTS, on_circle(state.place, self.num_places))

    def action_masks(self, state: State) -> Mapping[AgentID, ActionMask]:
        return {AGENTS[0]: jnp.ones(NUM_MOVES, bool), AGENTS[1]: jnp.ones(2, bool)}

    def drawing(self, state: State) -> Mapping[str, Float[Array, "n 2"]]:
        """The walker on its ring, over the goal."""
        walker, goal = (0.8 * on_circle(jnp.asarray(place), self.num_places) for place in (state.place, GOAL))
        return {"agents": walker[None], "landmarks": goal[None]}

    def conventions(self) -> Mapping[str, Mapping[AgentID, Policy]]:
        """One past team, in which agent_1 left most steps plain."""
        return {
            "plain": {
                AGENTS[0]: Choosing(lambda observation: jnp.full(NUM_MOVES, 1.0 / NUM_MOVES), NUM_MOVES),
                AGENTS[1]: Choosing(lambda observation: jnp.array([1.0 - self.plain, self.plain]), 2),
            }
        }

    def model(self) -> FiniteModel:
        law = law_of_moves(self.num_places, self.slip)
        transition = np.stack([law[:, ::-1], law], axis=2)
        reward = transition[..., GOAL] - self.cost * np.array([0.0, 1.0])
        return FiniteModel(np.full(self.num_places, 1 / self.num_places), transition, reward, self.horizon)

    def states_of(self, observations: Float[np.ndarray, "n obs"], agent: int) -> Int[np.ndarray, " n"]:
        return np.asarray(place_of(jnp.asarray(observations), self.num_places))

    def observations_of(self, agent: int) -> Float[np.ndarray, "S obs"]:
        return np.asarray(jax.vmap(lambda place: on_circle(place, self.num_places))(jnp.arange(self.num_places)))
