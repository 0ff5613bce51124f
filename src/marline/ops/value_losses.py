"""Losses of value functions other than the squared error."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def expectile_loss(error: Float[Array, "*batch"], expectile: float) -> Float[Array, "*batch"]:
    """|tau - 1(u < 0)| u^2, per row, of u = Q(s, a) - V(s) (IQL, 2110.06169, Eq. 5).

    Its minimiser over V is the tau-expectile of Q: the mean at 0.5, towards the maximum at 1.
    """
    return jnp.abs(expectile - (error < 0.0)) * jnp.square(error)
