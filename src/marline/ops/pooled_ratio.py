"""How much likelier an outcome is over all of today's rows than by the logs, for where today has been little.

What others changed may be worth something whatever one does. Seen only where today has rows, it makes what is done
today look better, or worse, than all else. So where today's rows are few, outcomes are taken to be as much likelier as
they are over all of them: c(o) = P_today(o) / (sum_j P_logs(o | s_j, a_j) / k), with (s_j, a_j) of today's k rows on
both sides, so that going elsewhere is no change.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

LEAST = 1e-12  # of a density, in units of the kernel's highest value


class Pooled(NamedTuple):
    """c of references among logged rows, and what tells it of others.

    Attributes:
        visits: how much each reference counts for what the logs foretell over all of today's rows; they sum to 1.
        ratios: c of what came of each.
        is_used: whether today is foretold better so.
    """

    visits: Float[Array, " m"]
    ratios: Float[Array, " m"]
    is_used: Bool[Array, ""]


def visits_of(
    given: Float[Array, "k m"], counts_of_logs: Bool[Array, " m"], counts_of_today: Bool[Array, " k"]
) -> Float[Array, " m"]:
    """v_m = mean over today's rows j of (G_jm + 1 / m) / (sum_m G_jm + 1): as the law of the logs weighs references.

    Args:
        given: kernels between what was seen and done.
        counts_of_logs, counts_of_today: which rows count.
    """
    given = given * counts_of_logs[None, :]
    base = counts_of_logs / jnp.maximum(jnp.sum(counts_of_logs), 1)
    shares = (given + base[None, :]) / (jnp.sum(given, axis=1, keepdims=True) + 1.0)
    num_today = jnp.maximum(jnp.sum(counts_of_today), 1)
    return jnp.sum(shares * counts_of_today[:, None], axis=0) / num_today


def pooled_ratio(
    of_logs: Float[Array, "n m"],
    of_today: Float[Array, "n k"],
    counts: Float[Array, "n k"],
    visits: Float[Array, " m"],
    strength: Float[Array, ""] | float,
) -> Float[Array, " n"]:
    """c_i = (sum_j O_ij + kappa e_i) / ((k + kappa) e_i), with e_i = sum_m v_m O_im; 1 where today has no rows.

    Args:
        of_logs, of_today: kernels between outcomes, to the references of either side.
        counts: which of today's rows count for which row.
        visits: v.
        strength: kappa, how many of today's rows what the logs foretell counts for.
    """
    expected = jnp.maximum(of_logs @ visits, LEAST)
    seen, num_today = jnp.sum(of_today * counts, axis=1), jnp.sum(counts, axis=1)
    return (seen + strength * expected) / ((num_today + strength) * expected)


def pooled_law(
    law: Float[Array, " n"], ratio: Float[Array, " n"], given: Float[Array, "n m"], pooled: Pooled
) -> Float[Array, " n"]:
    """p_i c_i / Z_i, with Z_i the mean of c by the law of the logs, so that the outcomes of an action sum to 1; or p_i.

    Args:
        law: p_i, density of each row's outcome by the logs.
        ratio: c_i.
        given: kernels between what was seen and done, to the references of the logs; 0 for those that do not count.
        pooled: of these references; visits are 0 for those that do not count.
    """
    counts = pooled.visits > 0
    base = jnp.sum(pooled.ratios * counts) / jnp.maximum(jnp.sum(counts), 1)
    total = (given @ (pooled.ratios * counts) + base) / (jnp.sum(given, axis=1) + 1.0)
    return jnp.where(pooled.is_used, law * ratio / jnp.maximum(total, LEAST), law)
