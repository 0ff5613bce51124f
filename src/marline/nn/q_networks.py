"""State-action value networks."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.nn.mlp import MLP
from marline.types import Spec


class QNetwork(eqx.Module):
    """Q(s, a) for a continuous action."""

    mlp: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> QNetwork:
        return QNetwork(MLP.create(spec.observation_size + spec.action_size, 1, hidden, key=key))

    def __call__(self, observation: Float[Array, " obs"], action: Float[Array, " act"]) -> Float[Array, ""]:
        return self.mlp(jnp.concatenate([observation, action]))[0]

    def of_many(self, observation: Float[Array, " obs"], actions: Float[Array, "n act"]) -> Float[Array, " n"]:
        """Q of several actions in one state; several times one, but for less."""
        return self.mlp.of_many(observation, actions)[:, 0]


class TwinQ(eqx.Module):
    """Two independent Q networks; nothing is shared between them."""

    first: QNetwork
    second: QNetwork

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> TwinQ:
        first_key, second_key = jax.random.split(key)
        return TwinQ(
            QNetwork.create(spec, hidden, key=first_key),
            QNetwork.create(spec, hidden, key=second_key),
        )

    def __call__(
        self, observation: Float[Array, " obs"], action: Float[Array, " act"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return self.first(observation, action), self.second(observation, action)

    def of_many(
        self, observation: Float[Array, " obs"], actions: Float[Array, "n act"]
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Both Q of several actions in one state."""
        return self.first.of_many(observation, actions), self.second.of_many(observation, actions)


class DiscreteQNetwork(eqx.Module):
    """Q(s, .), one value per action."""

    mlp: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> DiscreteQNetwork:
        return DiscreteQNetwork(MLP.create(spec.observation_size, spec.action_size, hidden, key=key))

    def __call__(self, observation: Float[Array, " obs"]) -> Float[Array, " num_actions"]:
        return self.mlp(observation)
