"""Policies that are not learned, and learned ones for NumPy callers."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from marline.types import Policy, Spec


class RandomPolicy(eqx.Module):
    """Uniform over the action space, whatever it sees."""

    spec: Spec = eqx.field(static=True)

    def __call__(self, observation: Float[Array, " obs"], *, key: PRNGKeyArray) -> Array:
        if self.spec.discrete:
            return jax.random.randint(key, (), 0, self.spec.action_size)
        return jax.random.uniform(key, (self.spec.action_size,), minval=-1.0, maxval=1.0)


class NumpyPolicy:
    """A policy for code that knows no JAX: arrays in, arrays out, its random stream inside.

    Takes one observation `[obs]` or a batch `[n, obs]`.
    """

    def __init__(self, policy: Policy, *, seed: int = 0) -> None:
        self._policy = policy
        self._key = jax.random.key(seed)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        self._key, key = jax.random.split(self._key)
        batch = np.atleast_2d(np.asarray(observation, np.float32))
        actions = np.asarray(_act(self._policy, batch, key))
        return actions if np.ndim(observation) > 1 else actions[0]


@jax.jit
def _act(policy: Any, observations: Array, key: PRNGKeyArray) -> Array:
    keys = jax.random.split(key, observations.shape[0])
    return jax.vmap(lambda observation, key: policy(observation, key=key))(observations, keys)
