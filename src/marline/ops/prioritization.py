"""Rank-based acceptance of transitions, Eqs. (3) and (4) of the OTC paper."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.ops.ordering import random_order, search_sorted, stable_order


def rank_order(distances: Float[Array, " n"], *, key: PRNGKeyArray | None = None) -> Int[Array, " n"]:
    """Rows from the smallest distance to the largest; equal distances in random order.

    Args:
        distances: next-state distance of each row.
        key: consumed by the order among ties; without one, ties keep the order of the rows.

    Returns:
        `order`, where `order[r]` is the row of rank r + 1.
    """
    if key is None:
        return stable_order(distances)
    shuffled = random_order(distances.shape[0], key=key)
    return shuffled[stable_order(distances[shuffled])]


def rank_probabilities(num_rows: int, alpha: Float[Array, ""] | float) -> Float[Array, " n"]:
    """P(rank) proportional to rank^-alpha for ranks 1..n; Eq. (3) with p = 1 / rank."""
    log_rank = jnp.log(jnp.arange(1, num_rows + 1, dtype=jnp.float32))
    return jax.nn.softmax(-alpha * log_rank)


def acceptance_probabilities(
    distances: Float[Array, " n"], alpha: Float[Array, ""] | float, *, key: PRNGKeyArray | None = None
) -> Float[Array, " n"]:
    """P(j) of Eq. (3) for each row: `rank_probabilities` handed back to the rows by their rank."""
    order = rank_order(distances, key=key)
    return jnp.zeros_like(distances).at[order].set(rank_probabilities(distances.shape[0], alpha))


def adapted_alpha(
    initial_alpha: Float[Array, ""] | float,
    mean_distance: Float[Array, ""] | float,
    first_mean_distance: Float[Array, ""] | float,
) -> Float[Array, ""]:
    """Raw exponent at deployment k, Eq. (4) in telescoped form: alpha^1 * Dbar_k / Dbar_1.

    The product of the paper's ratios equals this one; written so, a single Dbar_k = 0 does not
    stick. Both means are floored at 1e-12. Clipping is the caller's, who reports both values.
    """
    ratio = jnp.maximum(mean_distance, 1e-12) / jnp.maximum(first_mean_distance, 1e-12)
    return jnp.asarray(initial_alpha * ratio)


def effective_sample_size(probabilities: Float[Array, " n"]) -> Float[Array, ""]:
    """1 / sum P^2: how many equally likely rows would be as diverse as P."""
    return 1.0 / jnp.sum(jnp.square(probabilities))


def draw(probabilities: Float[Array, " n"], num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """`num` independent draws with replacement."""
    return _invert(probabilities, jax.random.uniform(key, (num,)))


def draw_stratified(probabilities: Float[Array, " n"], num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """`num` draws, one from each slice of 1/num of the probability mass (Schaul et al. 2016)."""
    return _invert(probabilities, (jnp.arange(num) + jax.random.uniform(key, (num,))) / num)


def draw_without_replacement(probabilities: Float[Array, " n"], num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """`num` distinct draws, one after another from what is left, by the Gumbel top-k trick."""
    gumbel = jax.random.gumbel(key, probabilities.shape)
    return jax.lax.top_k(gumbel + jnp.log(probabilities), num)[1]


def _invert(probabilities: Float[Array, " n"], uniform: Float[Array, " num"]) -> Int[Array, " num"]:
    cumulative = jnp.cumsum(probabilities)
    # scaled by the last sum, so that rounding can never point past the last row
    index = search_sorted(cumulative, uniform * cumulative[-1], side="right")
    return jnp.minimum(index, probabilities.shape[0] - 1).astype(jnp.int32)
