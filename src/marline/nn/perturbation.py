"""The perturbation network of BCQ."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.nn.mlp import MLP
from marline.types import Spec


class PerturbationActor(eqx.Module):
    """xi(s, a): the action moved by at most `max_perturbation` in every dimension, and kept in [-1, 1]."""

    mlp: MLP
    max_perturbation: float = eqx.field(static=True)

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], max_perturbation: float, *, key: PRNGKeyArray) -> PerturbationActor:
        mlp = MLP.create(spec.observation_size + spec.action_size, spec.action_size, hidden, key=key)
        return PerturbationActor(mlp, max_perturbation)

    @property
    def action_size(self) -> int:
        return self.mlp.layers[-1].bias.shape[0]

    def __call__(self, observation: Float[Array, " obs"], action: Float[Array, " act"]) -> Float[Array, " act"]:
        moved = action + self.max_perturbation * jnp.tanh(self.mlp(jnp.concatenate([observation, action])))
        return jnp.clip(moved, -1.0, 1.0)
