"""Means and weights of rows of which some tell nothing, because what they would tell was never logged."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def mean_of_known(values: Float[Array, "n ..."], known: Bool[Array, " n"] | None) -> Array:
    """Mean over the rows that are known, which without a mask all are; 0 if none is.

    What stands in the others does not matter, and gets no gradient, as long as it is finite.
    """
    if known is None:
        return jnp.mean(values, axis=0)
    where = known.reshape(-1, *(1,) * (values.ndim - 1))
    return jnp.sum(jnp.where(where, values, 0.0), axis=0) / jnp.maximum(jnp.sum(known), 1)


def neutral_where_unknown(log_weights: Float[Array, " n"], known: Bool[Array, " n"]) -> Float[Array, " n"]:
    """Rows of which nothing is known get the logarithm of the mean weight of the others; 0 if none is known."""
    count = jnp.sum(known)
    mean = jax.nn.logsumexp(jnp.where(known, log_weights, -jnp.inf)) - jnp.log(jnp.maximum(count, 1))
    return jnp.where(known, log_weights, jnp.where(count > 0, mean, 0.0))
