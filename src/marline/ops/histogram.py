"""How distances are spread."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from marline.ops.distance_bins import EDGES


def histogram(distances: Float[Array, " n"]) -> Int[Array, " bins"]:
    """How many distances fall between the edges of `distance_bins`; NaN counts as beyond the last."""
    below = jnp.sum(distances[:, None] < jnp.asarray(EDGES, distances.dtype)[None, :], axis=0)
    return jnp.diff(below, prepend=0, append=distances.shape[0])
