"""How much likelier a row is in deployment than in the logs: losses that estimate it, and what is made of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from marline.ops.known_rows import mean_of_known

EPSILON = 1e-10  # as in Balanced Replay's code: a ratio of 0 has a finite loss, and a mean of 0 divides


def jensen_shannon_loss(offline_ratio: Float[Array, " n"], online_ratio: Float[Array, " m"]) -> Float[Array, ""]:
    """Variational bound whose minimum is -2 JS(online, offline), reached at w = p_online / p_offline.

    L = mean_off[-ln(2 / (w + 1))] - mean_on[ln(2 w / (w + 1))], Balanced Replay (Lee et al. 2021, 2107.00591)
    after Nguyen et al. 2008 (0809.0853).

    Args:
        offline_ratio: w of offline rows; at least 0.
        online_ratio: w of online rows.
    """
    conjugate = -jnp.log(2.0 / (offline_ratio + 1.0) + EPSILON)
    derivative = jnp.log(2.0 * online_ratio / (online_ratio + 1.0) + EPSILON)
    return jnp.mean(conjugate) - jnp.mean(derivative)


def tempered_priorities(
    ratio: Float[Array, " n"],
    offline_ratio: Float[Array, " m"],
    temperature: float,
    bounds: tuple[float, float],
) -> Float[Array, " n"]:
    """clip(w^(1/T) / mean_off(w^(1/T)), low, high): self-normalised, so that offline rows average 1 (2107.00591).

    Args:
        ratio: w of the rows that get priorities.
        offline_ratio: w of offline rows drawn uniformly.
        temperature: T; 1 keeps the ratio, a large one makes all rows alike.
        bounds: lowest and highest priority.
    """
    normalizer = jnp.mean(offline_ratio ** (1.0 / temperature)) + EPSILON
    return jnp.clip(ratio ** (1.0 / temperature) / normalizer, *bounds)


def initial_online_priority(
    num_offline: Int[Array, ""] | int, num_online: Int[Array, ""] | int, online_fraction: float
) -> Float[Array, ""]:
    """M_off f / ((1 - f) M_on): with it online rows hold the share f of all mass, if offline rows have priority 1."""
    odds = online_fraction / (1.0 - online_fraction)
    return jnp.asarray(odds * num_offline / jnp.maximum(num_online, 1), jnp.float32)


def classification_loss(
    offline_logit: Float[Array, " n"],
    online_logit: Float[Array, " m"],
    offline_known: Bool[Array, " n"] | None = None,
    online_known: Bool[Array, " m"] | None = None,
) -> Float[Array, ""]:
    """Cross-entropy of "online" against "offline" over the rows that are known, both classes weighted alike.

    At its minimum the logit is ln(p_online / p_offline), because the priors cancel.
    """
    offline = mean_of_known(jax.nn.softplus(offline_logit), offline_known)
    return 0.5 * (offline + mean_of_known(jax.nn.softplus(-online_logit), online_known))


def dynamics_log_ratio(
    transition_logit: Float[Array, "*batch"], state_action_logit: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """ln p_online(s' | s, a) - ln p_offline(s' | s, a), from two classifiers (Eysenbach et al. 2020, 2006.13916).

    By Bayes' rule it is what (s, a, s') tells of where a row comes from beyond what (s, a) tells.

    Args:
        transition_logit: ln p(online | s, a, s') - ln p(offline | s, a, s').
        state_action_logit: ln p(online | s, a) - ln p(offline | s, a).
    """
    return transition_logit - state_action_logit
