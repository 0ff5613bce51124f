"""An ensemble of deterministic networks that predict what an action changes."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.normalization import Normalizer
from marline.nn.mlp import MLP
from marline.types import Spec, Transition


class DynamicsScales(eqx.Module):
    """Units of s, a and of what is predicted, frozen at B^0.

    Attributes:
        observation: standardises s.
        action: standardises a.
        outcome: standardises s' - s and, if the reward is learned, r behind it.
    """

    observation: Normalizer
    action: Normalizer
    outcome: Normalizer

    @staticmethod
    def fit(rows: Transition, *, learn_reward: bool) -> DynamicsScales:
        return DynamicsScales(
            Normalizer.fit(rows.observation), Normalizer.fit(rows.action), Normalizer.fit(_outcome(rows, learn_reward))
        )

    @property
    def learn_reward(self) -> bool:
        """Whether the reward is among what is predicted."""
        return self.outcome.mean.shape != self.observation.mean.shape

    def inputs(
        self, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch act"]
    ) -> Float[Array, "*batch in"]:
        """What a network reads."""
        return jnp.concatenate([self.observation(observation), self.action(action)], axis=-1)

    def labels(self, rows: Transition) -> Float[Array, "*batch out"]:
        """What a network should say."""
        return self.outcome(_outcome(rows, self.learn_reward))

    def predict(
        self, network: MLP, observation: Float[Array, " obs"], action: Float[Array, " act"]
    ) -> tuple[Float[Array, " obs"], Float[Array, ""] | None]:
        """Next observation and, if learned, reward."""
        outcome = self.outcome.mean + self.outcome.scale * network(self.inputs(observation, action))
        size = observation.shape[0]
        return observation + outcome[:size], outcome[size] if self.learn_reward else None


class DynamicsEnsemble(eqx.Module):
    """Networks of one shape, stacked: every leaf has a leading axis of members."""

    networks: MLP

    @staticmethod
    def create(
        spec: Spec, num_members: int, hidden: Sequence[int], *, learn_reward: bool, key: PRNGKeyArray
    ) -> DynamicsEnsemble:
        """Members differ in their initial weights."""
        out_size = spec.observation_size + learn_reward
        keys = jax.random.split(key, num_members)

        def create_one(key: PRNGKeyArray) -> MLP:
            return MLP.create(spec.observation_size + spec.action_size, out_size, hidden, key=key)

        return DynamicsEnsemble(jax.vmap(create_one)(keys))

    def member(self, number: Int[Array, ""] | int) -> MLP:
        """One network."""
        return jax.tree.map(lambda leaf: leaf[number], self.networks)

    def losses(
        self, inputs: Float[Array, "members batch in"], labels: Float[Array, "members batch out"]
    ) -> Float[Array, " members"]:
        """Mean squared error of each member on its own rows."""

        def loss(network: MLP, inputs: Array, labels: Array) -> Array:
            return jnp.mean(jnp.square(jax.vmap(network)(inputs) - labels))

        return jax.vmap(loss)(self.networks, inputs, labels)


def _outcome(rows: Transition, learn_reward: bool) -> Float[Array, "*batch out"]:
    change = rows.next_observation - rows.observation
    return jnp.concatenate([change, rows.reward[..., None]], axis=-1) if learn_reward else change
