"""Densities of diagonal Gaussians, plain and squashed by tanh, and bounds on their spread."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def log_density(
    x: Float[Array, " n"], mean: Float[Array, " n"] | float, log_std: Float[Array, " n"] | float
) -> Float[Array, ""]:
    """log N(x; mean, diag(std^2)), summed over dimensions."""
    standardised = (x - mean) * jnp.exp(-jnp.asarray(log_std))
    return jnp.sum(-0.5 * jnp.square(standardised) - log_std - 0.5 * math.log(2.0 * math.pi))


def squashed_log_density(
    unsquashed: Float[Array, " n"], noise: Float[Array, " n"], log_std: Float[Array, " n"]
) -> Float[Array, ""]:
    """log density of a = tanh(u) for a draw u = mean + std * noise (SAC, 1801.01290, appendix C).

    It takes the noise itself: (u - mean) / std would be rounding alone where std is small beside
    the mean.

    Args:
        unsquashed: u.
        noise: the standard normal numbers that u was made of.
        log_std: log standard deviations of u.
    """
    return log_density(noise, 0.0, 0.0) - jnp.sum(log_std) - jnp.sum(log_slope_of_tanh(unsquashed))


def log_slope_of_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2x)), finite wherever tanh has rounded to 1."""
    return 2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x))


def sigmoid_log_std(free: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-6 + 6 sigmoid(l), in [-6, 0]: 0 gives -3, and the slope never quite vanishes (AWAC's code)."""
    return -6.0 + 6.0 * jax.nn.sigmoid(free)


def clamped_log_std(free: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """l clamped to [-20, 2]; beyond the clamp there is no slope."""
    return jnp.clip(free, -20.0, 2.0)
