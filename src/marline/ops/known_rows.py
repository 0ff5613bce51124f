"""Means over rows of which some are left out, because what they would tell was never logged."""

from __future__ import annotations

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
