"""Targets that critics regress on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.types import Critic, Transition


def next_values(
    critic: Critic, batch: Transition, *, key: PRNGKeyArray, one_draw: bool = False
) -> Float[Array, " batch"]:
    """V(s') of every row, 0 where the transition ended the episode.

    Args:
        critic: the value estimates.
        batch: the transitions.
        key: consumed where V samples actions.
        one_draw: whether all rows are valued with the same random numbers, for values that are compared with each
            other: their noise is then common to them, and a row never differs from itself. Otherwise rows have
            noise of their own, and a mean over them has less.
    """
    keys = key if one_draw else jax.random.split(key, batch.reward.shape[0])

    def value(observation: Array, action_mask: Array | None, key: PRNGKeyArray) -> Float[Array, ""]:
        return critic.v(observation, key=key, action_mask=action_mask)

    values = jax.vmap(value, in_axes=(0, 0, None if one_draw else 0))
    return batch.discount * values(batch.next_observation, batch.next_action_mask, keys)


def one_step_target(
    reward: Float[Array, "*batch"], discount: Float[Array, "*batch"], next_value: Float[Array, "*batch"], gamma: float
) -> Float[Array, "*batch"]:
    """y = r + gamma * (1 - terminated) * V(s')."""
    return reward + gamma * discount * next_value


def twin_minimum(first: Float[Array, "*batch"], second: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """min(Q1, Q2), the clipped double-Q value (Fujimoto et al. 2018, 1802.09477, Eq. 10)."""
    return jnp.minimum(first, second)


def smoothed_action(
    action: Float[Array, "*shape"], noise: Float[Array, "*shape"], noise_clip: float
) -> Float[Array, "*shape"]:
    """clip(a + clip(noise, -c, c), -1, 1): target policy smoothing (1802.09477, Eq. 14)."""
    return jnp.clip(action + jnp.clip(noise, -noise_clip, noise_clip), -1.0, 1.0)


def soft_clipped_value(
    first: Float[Array, "*batch candidates"], second: Float[Array, "*batch candidates"], minimum_weight: float
) -> Float[Array, "*batch"]:
    """max_j [ w min(Q1, Q2) + (1 - w) max(Q1, Q2) ](s', a_j): mixed per candidate, then the best (BCQ, 1812.02900)."""
    mixed = minimum_weight * jnp.minimum(first, second) + (1.0 - minimum_weight) * jnp.maximum(first, second)
    return jnp.max(mixed, axis=-1)
