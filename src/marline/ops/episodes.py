"""What is told of a row by the episode that it is of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def episode_numbers(ends: Bool[Array, " n"]) -> Int[Array, " n"]:
    """Number of each row's episode, from 0 on, where rows lie in order and `ends` marks the last of an episode."""
    return jnp.cumsum(ends, dtype=jnp.int32) - ends


def episode_returns(rewards: Float[Array, " n"], ends: Bool[Array, " n"]) -> Float[Array, " n"]:
    """For each row the undiscounted return of the whole episode that it is of."""
    number = episode_numbers(ends)
    returns = jax.ops.segment_sum(rewards, number, num_segments=rewards.shape[0], indices_are_sorted=True)
    return returns[number]


def standardised_over_episodes(values: Float[Array, " n"], ends: Bool[Array, " n"]) -> Float[Array, " n"]:
    """How many standard deviations a value lies above the mean over episodes; 0 everywhere where they are all alike.

    Args:
        values: equal for all rows of an episode. Each episode counts once, however long it is.
        ends: the last row of each episode; at least one.
    """
    num = jnp.sum(ends)
    mean = jnp.sum(jnp.where(ends, values, 0.0)) / num
    spread = jnp.sqrt(jnp.sum(jnp.where(ends, jnp.square(values - mean), 0.0)) / num)
    # what rounding of equal returns leaves is no difference between them
    tiny = 1e-6 * jnp.maximum(jnp.abs(mean), 1e-6)
    return jnp.where(spread > tiny, (values - mean) / jnp.maximum(spread, tiny), 0.0)
