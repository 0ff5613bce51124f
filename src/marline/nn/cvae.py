"""The conditional variational autoencoder of actions: BCQ's, given s, and the embedding of OTC, given s and s'."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.nn.mlp import MLP
from marline.types import Spec, Transition


class ConditionalVAE(eqx.Module):
    """E(mu, log_std | c, a) and D(a | c, z) for a condition c."""

    encoder: MLP
    decoder: MLP

    @staticmethod
    def create(
        condition_size: int, action_size: int, latent_size: int, hidden: Sequence[int], *, key: PRNGKeyArray
    ) -> ConditionalVAE:
        encoder_key, decoder_key = jax.random.split(key)
        return ConditionalVAE(
            MLP.create(condition_size + action_size, 2 * latent_size, hidden, key=encoder_key),
            MLP.create(condition_size + latent_size, action_size, hidden, key=decoder_key),
        )

    def encode(
        self, condition: Float[Array, " c"], action: Float[Array, " act"]
    ) -> tuple[Float[Array, " z"], Float[Array, " z"]]:
        """Mean and log standard deviation of the posterior; discrete actions come one-hot."""
        mean, log_std = jnp.split(self.encoder(jnp.concatenate([condition, action])), 2)
        return mean, jnp.clip(log_std, -4.0, 15.0)

    def decode(self, condition: Float[Array, " c"], latent: Float[Array, " z"]) -> Float[Array, " act"]:
        """Unsquashed action: tanh of it is a continuous action, softmax of it a discrete one."""
        return self.decoder(jnp.concatenate([condition, latent]))

    def reconstruct(
        self, condition: Float[Array, " c"], action: Float[Array, " act"], noise: Float[Array, " z"]
    ) -> tuple[Float[Array, " act"], Float[Array, " z"], Float[Array, " z"]]:
        """The unsquashed action decoded from z = mu + exp(log_std) * noise, and mu and log_std."""
        mean, log_std = self.encode(condition, action)
        return self.decode(condition, mean + jnp.exp(log_std) * noise), mean, log_std


def one_hot_action(action: Array, spec: Spec) -> Float[Array, "*batch act"]:
    """Continuous actions as they are, discrete ones as one-hot vectors."""
    return jax.nn.one_hot(action, spec.action_size) if spec.discrete else action


def state_action(batch: Transition, spec: Spec) -> Float[Array, "*batch sa"]:
    """(s, a) in numbers."""
    return jnp.concatenate([batch.observation, one_hot_action(batch.action, spec)], axis=-1)
