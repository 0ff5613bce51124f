"""The smallest of several shares that will do, by held-out errors."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from marline.ops.law_ratio import ClusteredMean


def smallest_share_that_does(
    means: Float[Array, " shares"], excess: Callable[[Int[Array, ""], Int[Array, ""]], ClusteredMean]
) -> Int[Array, ""]:
    """The first whose error is at most one standard error above the least one (Breiman et al. 1984, section 3.4.3).

    The standard error is that of the *difference* to the best, which is judged on the same rows.

    Args:
        means: held-out error of each, shares in ascending order.
        excess: by how much the error of one, by number, exceeds that of another, with its standard error.
    """
    best = jnp.argmin(means)
    numbers = jnp.arange(means.shape[0])
    above = jax.vmap(excess, (0, None))(numbers, best)
    return jnp.argmax((above.mean <= above.standard_error) | (numbers == best))
