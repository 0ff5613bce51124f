"""Policy networks."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.nn.mlp import MLP
from marline.types import Spec


class DeterministicActor(eqx.Module):
    """tanh of a perceptron: actions in (-1, 1)."""

    mlp: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> DeterministicActor:
        return DeterministicActor(MLP.create(spec.observation_size, spec.action_size, hidden, key=key))

    def __call__(self, observation: Float[Array, " obs"]) -> Float[Array, " act"]:
        return jnp.tanh(self.mlp(observation))
