"""Weights of transitions in offline decentralised Q-learning, in our reading of MABCQ (Jiang & Lu 2021, 2108.01832).

Of that paper its abstract, the beginning of its introduction and its description in the OTC paper could be read, and
none of its formulas: transition normalisation flattens P_B(s'|s, a), value deviation raises next states better than
expected.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def optimistic_deviation(
    next_values: Float[Array, "*n"], expected: Float[Array, "*n"], optimism: float, *, floor: Float[Array, ""] | float
) -> Float[Array, "*n"]:
    """lambda_vd = clip(1 + (V(s') - E V) / max(|E V|, floor), 1 - optimism, 1 + optimism).

    Args:
        next_values: V(s'), 0 where the transition ended the episode.
        expected: E V(s') given (s, a).
        optimism: how far the weight may be from 1.
        floor: least divisor.
    """
    deviation = (next_values - expected) / jnp.maximum(jnp.abs(expected), floor)
    return 1.0 + jnp.clip(deviation, -optimism, optimism)


def normalizing_weight(
    log_density: Float[Array, "*n"],
    log_density_given_next: Float[Array, "*n"],
    action_size: int,
    bounds: tuple[float, float] = (0.2, 5.0),
) -> Float[Array, "*n"]:
    """lambda_tn ~ 1 / P_B(s'|s, a), as [p(a|s) / p(a|s, s')]^(1/d_a) by Bayes' rule, clipped.

    The factor P(s'|s) is left out: it cannot be estimated from one row.
    """
    return jnp.clip(jnp.exp((log_density - log_density_given_next) / action_size), *bounds)


def transition_weights(deviation: Float[Array, " n"], normalization: Float[Array, " n"]) -> Float[Array, " n"]:
    """lambda_vd * lambda_tn over its mean in the batch, detached."""
    weight = deviation * normalization
    return jax.lax.stop_gradient(weight / jnp.mean(weight))
