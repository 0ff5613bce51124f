"""Losses of policies on a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def td3_bc_scale(q_values: Float[Array, " batch"], alpha_bc: float) -> Float[Array, ""]:
    """kappa = alpha / mean|Q|, detached (Fujimoto & Gu 2021, 2106.06860, Eq. 5)."""
    return jax.lax.stop_gradient(alpha_bc / (jnp.mean(jnp.abs(q_values)) + 1e-8))


def td3_bc_loss(
    q_values: Float[Array, " batch"],
    policy_action: Float[Array, "batch act"],
    action: Float[Array, "batch act"],
    alpha_bc: float,
) -> Float[Array, ""]:
    """-kappa * mean Q(s, pi(s)) + mean (pi(s) - a)^2 (2106.06860, Eqs. 3-5).

    Args:
        q_values: Q1(s, pi(s)).
        policy_action: pi(s).
        action: the logged actions.
        alpha_bc: weight of the value term; 0 is plain behaviour cloning.
    """
    return -td3_bc_scale(q_values, alpha_bc) * jnp.mean(q_values) + jnp.mean(jnp.square(policy_action - action))


def weighted_cloning_loss(log_density: Float[Array, " batch"], weights: Float[Array, " batch"]) -> Float[Array, ""]:
    """-mean w log pi(a|s), w detached (AWAC, 2006.09359, Eq. 13; IQL, 2110.06169, Eq. 7); w = 1 is plain cloning."""
    return -jnp.mean(jax.lax.stop_gradient(weights) * log_density)


def clipped_exponential_weights(scaled_advantage: Float[Array, " batch"], max_weight: float) -> Float[Array, " batch"]:
    """min(exp(A / lambda), max_weight) of A / lambda, row by row."""
    return jnp.minimum(jnp.exp(scaled_advantage), max_weight)


def softmax_weights(scaled_advantage: Float[Array, " batch"]) -> Float[Array, " batch"]:
    """batch * softmax(A / lambda) over the batch: mean 1, biased by the batch but never overflowing."""
    return scaled_advantage.shape[0] * jax.nn.softmax(scaled_advantage)


def effective_rows(weights: Float[Array, " batch"]) -> Float[Array, ""]:
    """(sum w)^2 / sum w^2: how many rows of equal weight say as much; 0 when all weights have vanished."""
    scaled = weights / jnp.maximum(jnp.max(weights), 1e-30)  # squares of small weights would vanish
    return jnp.square(jnp.sum(scaled)) / jnp.maximum(jnp.sum(jnp.square(scaled)), 1e-30)
