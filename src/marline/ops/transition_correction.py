"""The theory behind OTC for finite state spaces: Theorem 1 and Eq. (2) of the paper."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def corrected_transition(
    offline: Float[Array, " s"], online: Float[Array, " s"], acceptance: Float[Array, "s s"]
) -> Float[Array, " s"]:
    """The law of next states after acceptance: P_B(s') * sum_j P_D(j) f(d(s', j)) / Z (above Eq. 2)."""
    weighted = offline * (acceptance @ online)
    return weighted / jnp.sum(weighted)


def kl_divergence(p: Float[Array, " s"], q: Float[Array, " s"]) -> Float[Array, ""]:
    """KL(p || q), where 0 log 0 = 0."""
    return jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0) / q), 0.0))


def optimal_values(
    reward: Float[Array, "s a"], transition: Float[Array, "s a s"], gamma: float, num_sweeps: int = 2000
) -> Float[Array, " s"]:
    """V* of a finite MDP by value iteration."""

    def sweep(_: Array, value: Array) -> Array:
        return jnp.max(reward + gamma * transition @ value, axis=1)

    return jax.lax.fori_loop(0, num_sweeps, sweep, jnp.zeros(reward.shape[0], reward.dtype))


def value_gap_bound(
    first: Float[Array, "s a s"], second: Float[Array, "s a s"], max_reward: float, gamma: float
) -> Float[Array, ""]:
    """gamma r_max / (1 - gamma)^2 * max_{s,a} sum_{s'} |P1 - P2|: Theorem 1's bound on ||V1* - V2*||_inf."""
    difference = jnp.max(jnp.sum(jnp.abs(first - second), axis=-1))
    return gamma * max_reward / (1.0 - gamma) ** 2 * difference
