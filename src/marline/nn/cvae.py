"""The conditional variational autoencoder that embeds a transition (OTC paper, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.nn.mlp import MLP
from marline.types import Spec


class ConditionalVAE(eqx.Module):
    """E(mu, log_std | s, a, s') and D(a | s, s', z)."""

    encoder: MLP
    decoder: MLP

    @staticmethod
    def create(spec: Spec, embedding_size: int, hidden: Sequence[int], *, key: PRNGKeyArray) -> ConditionalVAE:
        encoder_key, decoder_key = jax.random.split(key)
        states, actions = 2 * spec.observation_size, spec.action_size
        return ConditionalVAE(
            MLP.create(states + actions, 2 * embedding_size, hidden, key=encoder_key),
            MLP.create(states + embedding_size, actions, hidden, key=decoder_key),
        )

    def encode(
        self, observation: Float[Array, " obs"], action: Float[Array, " act"], next_observation: Float[Array, " obs"]
    ) -> tuple[Float[Array, " z"], Float[Array, " z"]]:
        """Mean and log standard deviation of the posterior; discrete actions come one-hot."""
        mean, log_std = jnp.split(self.encoder(jnp.concatenate([observation, action, next_observation])), 2)
        return mean, jnp.clip(log_std, -4.0, 15.0)

    def decode(
        self, observation: Float[Array, " obs"], next_observation: Float[Array, " obs"], latent: Float[Array, " z"]
    ) -> Float[Array, " act"]:
        """Unsquashed action: tanh of it is a continuous action, softmax of it a discrete one."""
        return self.decoder(jnp.concatenate([observation, next_observation, latent]))


def one_hot_action(action: Array, spec: Spec) -> Float[Array, "*batch act"]:
    """Continuous actions as they are, discrete ones as one-hot vectors."""
    return jax.nn.one_hot(action, spec.action_size) if spec.discrete else action
