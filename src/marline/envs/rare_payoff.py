"""A walker in a world that never changes, in which what is best pays rarely."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.envs.ring import NUM_MOVES, moved, on_circle
from marline.errors import require, require_shares
from marline.inputs.arguments import checked
from marline.types import ActionMask, AgentID, Spec

AGENT = "agent_0"
SURE = 0


class State(NamedTuple):
    """Where the walker is."""

    place: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
@checked
class RarePayoff:
    """One agent steps back, stays or steps on around a ring, where one place pays surely and another one rarely.

    A step that ends at place 0 pays `sure`. One that ends at the place across the ring pays `prize` with probability
    `chance`, which is more on average. Logs tell all there is to know, for nothing ever changes; but the few rows of a
    deployment may well hold no prize, and whoever takes that for a change unlearns what is best.

    Observation, 2 numbers: the own place as a point of the unit circle.

    Attributes:
        num_places: of the ring, an even number.
        slip: how often a step is any of the three instead.
    """

    num_places: int = 8
    horizon: int = 20
    slip: float = 0.1
    sure: float = 0.2
    prize: float = 10.0
    chance: float = 0.05

    def __post_init__(self) -> None:
        require_shares(self, "slip", "chance")
        is_even = self.num_places >= 2 and self.num_places % 2 == 0
        require(is_even, f"num_places is {self.num_places}, but must be an even number, at least 2")

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return (AGENT,)

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        return {AGENT: Spec(2, NUM_MOVES, discrete=True)}

    @property
    def description(self) -> str:
        return "one agent on a ring: one place pays surely, another rarely but more; nothing ever changes (ours)"

    @property
    def across(self) -> int:
        """The place that pays rarely."""
        return self.num_places // 2

    def reset(self, *, key: PRNGKeyArray) -> State:
        """Anywhere."""
        return State(jax.random.randint(key, (), 0, self.num_places, jnp.int32))

    def step(
        self, state: State, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """Step, or slip, and be paid for the place reached; never terminates."""
        move_key, prize_key = jax.random.split(key)
        place = moved(state.place, actions[AGENT], self.num_places, self.slip, key=move_key)
        wins = (place == self.across) & (jax.random.uniform(prize_key) < self.chance)
        reward = self.sure * (place == SURE) + self.prize * wins
        return State(place), reward.astype(jnp.float32), jnp.bool_(False)

    def observe(self, state: State) -> Mapping[AgentID, Float[Array, " obs"]]:
        return {AGENT: on_circle(state.place, self.num_places)}

    def action_masks(self, state: State) -> Mapping[AgentID, ActionMask]:
        return {AGENT: jnp.ones(NUM_MOVES, bool)}

    def drawing(self, state: State) -> Mapping[str, Float[Array, "n 2"]]:
        """The walker on its ring, over both places that pay."""
        points = jax.vmap(lambda place: 0.8 * on_circle(place, self.num_places))
        return {"agents": points(state.place[None]), "landmarks": points(jnp.array([SURE, self.across]))}
