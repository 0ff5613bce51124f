"""Deviation of next-state values from their mean, the basis of the value distance d_q."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def value_deviation(
    values: Float[Array, " n"], mean: Float[Array, ""], *, scaled_by: Float[Array, " m"] | None = None
) -> Float[Array, " n"]:
    """(V - m) / max(|m|, 0.1 std(V), 1e-6): V / m - 1 wherever the paper's ratio is well behaved.

    Differences of deviations equal those of the paper's V / E V (section 3.3) when both means
    have one sign and no floor binds; with means near zero or of mixed sign the ratio flips the
    order of states, and this form does not.

    Args:
        values: V(s') of one side, 0 where the transition ended the episode.
        mean: the mean it is measured from and divided by.
        scaled_by: the values whose spread floors the divisor; `values` unless given.
    """
    return (values - mean) / _scale(values if scaled_by is None else scaled_by, mean)


def floor_binds(values: Float[Array, " n"], mean: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether the floor rather than |mean| scales `value_deviation`."""
    return _scale(values, mean) > jnp.abs(mean)


def _scale(values: Float[Array, " n"], mean: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.maximum(jnp.abs(mean), jnp.maximum(0.1 * jnp.std(values), 1e-6))
