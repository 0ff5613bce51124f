"""An ensemble of deterministic networks that predict what an action changes."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.normalization import Normalizer
from marline.nn.mlp import MLP
from marline.ops.known_rows import mean_of_known
from marline.types import Spec, Transition


class DynamicsScales(eqx.Module):
    """Units of s, a and of what is predicted, frozen at B^0.

    Attributes:
        observation: standardises s.
        action: standardises a.
        outcome: standardises s' - s, of rows whose s' is known, and, if the reward is learned, r behind it.
    """

    observation: Normalizer
    action: Normalizer
    outcome: Normalizer

    @staticmethod
    def fit(rows: Transition, *, learn_reward: bool) -> DynamicsScales:
        change = Normalizer.fit(rows.next_observation - rows.observation, rows.next_is_known)
        outcome = change
        if learn_reward:
            reward = Normalizer.fit(rows.reward[:, None])
            outcome = jax.tree.map(lambda *parts: jnp.concatenate(parts), change, reward)
        return DynamicsScales(Normalizer.fit(rows.observation), Normalizer.fit(rows.action), outcome)

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
        change = rows.next_observation - rows.observation
        outcome = jnp.concatenate([change, rows.reward[..., None]], axis=-1) if self.learn_reward else change
        return self.outcome(outcome)

    def known(self, rows: Transition) -> Bool[Array, "*batch out"]:
        """Which labels were logged: the reward always, s' - s where s' is known."""
        change = jnp.broadcast_to(rows.next_is_known[..., None], rows.observation.shape)
        return jnp.concatenate([change, jnp.ones_like(change[..., :1])], axis=-1) if self.learn_reward else change

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
        self,
        inputs: Float[Array, "members batch in"],
        labels: Float[Array, "members batch out"],
        known: Bool[Array, "members batch out"] | None = None,
    ) -> Float[Array, " members"]:
        """Mean squared error of each member on its own rows, over the labels that are known: all, if not told."""

        def loss(network: MLP, inputs: Array, labels: Array, known: Array | None) -> Array:
            error = jnp.square(jax.vmap(network)(inputs) - labels)
            return mean_of_known(error.ravel(), None if known is None else known.ravel())

        return jax.vmap(loss)(self.networks, inputs, labels, known)
