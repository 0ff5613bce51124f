"""Deviation of next-state values from their mean, the basis of the value distance d_q."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def common_mean_and_std(
    first: Float[Array, " n"], second: Float[Array, " m"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and standard deviation of an equal mixture of both: either counts for half, however many values it has."""
    mean = (jnp.mean(first) + jnp.mean(second)) / 2
    variance = (jnp.mean(jnp.square(first - mean)) + jnp.mean(jnp.square(second - mean))) / 2
    return mean, jnp.sqrt(variance)


def value_deviation(values: Float[Array, " n"], mean: Float[Array, ""], std: Float[Array, ""]) -> Float[Array, " n"]:
    """(V - m) / max(|m|, 0.1 std, 1e-6): V / m - 1 wherever the paper's ratio is well behaved.

    Differences of deviations equal those of the paper's V / E V (section 3.3) when both means
    have one sign and no floor binds; with means near zero or of mixed sign the ratio flips the
    order of states, and this form does not.

    Args:
        values: V(s') of one side, 0 where the transition ended the episode.
        mean: the mean they are measured from and divided by.
        std: the spread that floors the divisor. Under a common mean it is common, too, or a row would
            differ from itself.
    """
    return (values - mean) / jnp.maximum(jnp.abs(mean), _floor(std))


def value_ratio(values: Float[Array, " n"]) -> Float[Array, " n"]:
    """V / E V over the values of one side: the paper's own form (section 3.3), which may divide by 0."""
    return values / jnp.mean(values)


def floor_binds(mean: Float[Array, ""], std: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether the floor rather than |mean| scales `value_deviation`."""
    return _floor(std) > jnp.abs(mean)


def _floor(std: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.maximum(0.1 * std, 1e-6)
