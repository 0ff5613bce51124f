"""Q-learning on a table: an algorithm without networks, so that what it learns is what it was shown."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.ops.value_targets import next_values
from marline.types import Metrics, Transition


class Greedy(eqx.Module):
    """The best action of the table; the first of equals."""

    table: Float[Array, "states actions"]
    observations: Float[Array, "states obs"]

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: Bool[Array, " act"] | None = None
    ) -> Int[Array, ""]:
        return jnp.argmax(self.table[state_of(observation, self.observations)])


class Critic(eqx.Module):
    """Q(s, a) read off the table, and V(s) = max_a Q(s, a)."""

    table: Float[Array, "states actions"]
    observations: Float[Array, "states obs"]
    gamma: float = eqx.field(static=True)

    def q(self, observation: Float[Array, " obs"], action: Int[Array, ""]) -> Float[Array, ""]:
        return self.table[state_of(observation, self.observations), action]

    def v(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: Bool[Array, " act"] | None = None
    ) -> Float[Array, ""]:
        return jnp.max(self.table[state_of(observation, self.observations)])


class State(NamedTuple):
    """The table, and what each of its rows looks like to the agent."""

    table: Float[Array, "states actions"]
    observations: Float[Array, "states obs"]


@dataclasses.dataclass(frozen=True)
class TabularQ:
    """Expected Bellman updates: each pair (s, a) of a batch steps towards its mean target there.

    Pairs that the batch lacks keep their value, and how often a pair is drawn does not matter, so
    that Q(s, a) estimates the mean over whatever rows of (s, a) the sampler prefers.

    Attributes:
        observations: of each state, what the agent sees.
        gamma: discount of future rewards.
        step_size: share of the mean target that enters the table.
    """

    observations: tuple[tuple[float, ...], ...]
    gamma: float = 0.9
    step_size: float = 0.1

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        del key
        table = jnp.zeros((len(self.observations), experience.spec.action_size))
        return State(table, jnp.array(self.observations, jnp.float32))

    def update(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> tuple[State, Metrics]:
        critic = self.critic(state)
        target = batch.reward + self.gamma * next_values(critic, batch, key=key)
        error = target - jax.vmap(critic.q)(batch.observation, batch.action)
        states = jax.vmap(state_of, in_axes=(0, None))(batch.observation, state.observations)
        total = jnp.zeros_like(state.table).at[states, batch.action].add(error)
        count = jnp.zeros_like(state.table).at[states, batch.action].add(1.0)
        table = state.table + self.step_size * total / jnp.maximum(count, 1.0)
        return state._replace(table=table), {"critic_loss": jnp.mean(jnp.square(error)), "mean_q": jnp.mean(table)}

    def policy(self, state: State) -> Greedy:
        return Greedy(state.table, state.observations)

    def critic(self, state: State) -> Critic:
        return Critic(state.table, state.observations, self.gamma)


def state_of(observation: Float[Array, " obs"], observations: Float[Array, "states obs"]) -> Int[Array, ""]:
    """Number of the state that looks like this."""
    return jnp.argmin(jnp.sum(jnp.abs(observations - observation[None, :]), axis=1))
