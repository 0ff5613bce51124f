"""Standardisation of observations, frozen at B^0."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from marline.ops.known_rows import mean_of_known

EPSILON = 1e-3  # as in TD3+BC's code; a constant feature is divided by this


class Normalizer(eqx.Module):
    """The affine map (x - mean) / (std + 1e-3), fitted once and never again.

    Refitting after a merge would silently change the function that trained weights represent.
    """

    mean: Float[Array, " features"]
    scale: Float[Array, " features"]

    @staticmethod
    def fit(x: Float[Array, "n features"], known: Bool[Array, " n"] | None = None) -> Normalizer:
        """Mean and population standard deviation of the rows of `x`, or of those that are known; of none, 0."""
        mean = mean_of_known(x, known)
        mean += mean_of_known(x - mean[None, :], known)  # a second pass takes out the rounding of the first
        return Normalizer(mean, jnp.sqrt(mean_of_known(jnp.square(x - mean[None, :]), known)) + EPSILON)

    @staticmethod
    def identity(size: int) -> Normalizer:
        """The map that changes nothing."""
        return Normalizer(jnp.zeros(size), jnp.ones(size))

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        shape = (1,) * (x.ndim - 1) + self.mean.shape
        return (x - self.mean.reshape(shape)) / self.scale.reshape(shape)
