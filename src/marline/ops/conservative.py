"""The conservative term of CQL(H) (Kumar et al. 2020, 2006.04779, Eq. 4), and Q values under masks.

Everything is written for one state.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from marline.types import ActionMask

FORBIDDEN = -1e9  # below any value met in training, and unlike -inf it has differences and gradients


def masked_q(q_values: Float[Array, " num_actions"], action_mask: ActionMask | None) -> Float[Array, " num_actions"]:
    """Q with -1e9 at the actions that are not allowed; all are allowed without a mask."""
    return q_values if action_mask is None else jnp.where(action_mask, q_values, FORBIDDEN)


def masked_max(q_values: Float[Array, " num_actions"], action_mask: ActionMask | None = None) -> Float[Array, ""]:
    """The largest Q among the actions allowed."""
    return jnp.max(masked_q(q_values, action_mask))


def masked_argmax(q_values: Float[Array, " num_actions"], action_mask: ActionMask | None = None) -> Int[Array, ""]:
    """The action of the largest Q among those allowed; ties go to the lowest number."""
    return jnp.argmax(masked_q(q_values, action_mask)).astype(jnp.int32)


def conservative_gap(
    q_values: Float[Array, " num_actions"], action: Int[Array, ""], action_mask: ActionMask | None = None
) -> Float[Array, ""]:
    """log sum_b exp Q(s, b) - Q(s, a) over the actions allowed; never negative when a is one of them.

    Without the mask an action that is never allowed, and so never trained, could own the sum.
    """
    return jax.nn.logsumexp(masked_q(q_values, action_mask)) - q_values[action]


def sampled_conservative_gap(
    q_values: Float[Array, " n"], log_density: Float[Array, " n"], data_q: Float[Array, ""]
) -> Float[Array, ""]:
    """`conservative_gap` for continuous actions, by importance sampling as in the authors' code.

    A sampled action enters with Q minus the log density it was drawn from, so that the sum
    estimates n times the integral of exp Q; the constant log n stays in.

    Args:
        q_values: Q of sampled actions, whatever laws they come from.
        log_density: of each action under its own law; detached here.
        data_q: Q of the logged action.
    """
    return jax.nn.logsumexp(q_values - jax.lax.stop_gradient(log_density)) - data_q


def uniform_log_density(action_size: int) -> float:
    """-d log 2, of uniform actions in [-1, 1]^d."""
    return -action_size * math.log(2.0)
