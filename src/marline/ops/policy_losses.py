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
