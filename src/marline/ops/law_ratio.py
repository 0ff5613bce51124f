"""From two laws of what happens to weights of logged rows, and whether the laws differ at all."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc
from jaxtyping import Array, Float, Int

BISECTIONS = 24  # of the exponent: to one in 17 million


def agreed_log_ratio(log_ratios: Float[Array, " members"]) -> Float[Array, ""]:
    """The log ratio nearest to 0 of those that all members give, and 0 where they do not agree on its sign.

    A lower bound of how far a row departs from 1. Where members were not trained they go on as they happen to, each in
    its own direction, so that it is 1 there.
    """
    least, most = jnp.min(log_ratios), jnp.max(log_ratios)
    return jnp.maximum(least, 0.0) + jnp.minimum(most, 0.0)


def agreed_prediction(reference: Float[Array, " out"], members: Float[Array, "members out"]) -> Float[Array, " out"]:
    """Of each number what all members depart by from a reference, at least: it itself if they lie on both sides of it.

    The prediction nearest to that of the logs on which members agree, in the sense of `agreed_log_ratio`.

    Args:
        reference: what is to be taken where nothing else is sure.
        members: what each of them predicts.
    """
    return reference + jax.vmap(agreed_log_ratio, 1)(members - reference[None, :])


def effective_share(log_weights: Float[Array, " n"], exponent: Float[Array, ""] | float = 1.0) -> Float[Array, ""]:
    """(sum w^t)^2 / (n sum w^2t): as what part of the rows, equally likely, weighted draws are worth (Kish 1965)."""
    log_weights = exponent * (log_weights - jnp.max(log_weights))
    return jnp.square(jnp.mean(jnp.exp(log_weights))) / jnp.mean(jnp.exp(2.0 * log_weights))


def tempering_exponent(log_weights: Float[Array, " n"], least_share: float) -> Float[Array, ""]:
    """The largest exponent t in (0, 1] at which w^t is worth `least_share` of the rows, by bisection.

    The effective share falls as t grows: its logarithm has the slope 2 (E_t[log w] - E_2t[log w]), with means under w^t
    and w^2t, of which the second is the larger one.

    Args:
        log_weights: finite.
        least_share: in [0, 1); at 0 nothing is tempered.
    """

    def halve(_: Int[Array, ""], bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        is_enough = effective_share(log_weights, middle) >= least_share
        return jnp.where(is_enough, middle, low), jnp.where(is_enough, high, middle)

    low, _ = jax.lax.fori_loop(0, BISECTIONS, halve, (jnp.float32(0.0), jnp.float32(1.0)))
    return jnp.where(effective_share(log_weights) >= least_share, 1.0, low)


def episode_numbers(
    observation: Float[Array, "n obs"],
    next_observation: Float[Array, "n obs"],
    discount: Float[Array, " n"],
) -> Int[Array, " n"]:
    """0, 1, 2, ... for rows in the order in which they were logged: an episode goes on where its next observation does.

    An episode that a time limit cut ends as well, unless the next one begins at the very observation it ended at.
    """
    goes_on = (discount[:-1] > 0) & jnp.all(next_observation[:-1] == observation[1:], axis=-1)
    return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(~goes_on, dtype=jnp.int32)])


def clusters(
    episodes: Int[Array, " n"], num_rows: Int[Array, ""] | int, *, fewest: int, num_blocks: int
) -> Int[Array, " n"]:
    """Numbers of what is taken to be independent: episodes, or blocks of consecutive rows if those are too few.

    Args:
        episodes: `episode_numbers`.
        num_rows: how many of the rows, the first ones, there are.
        fewest: episodes that are enough.
        num_blocks: blocks instead, at most.
    """
    count = jnp.maximum(jnp.asarray(num_rows), 1)
    rows_per_block = (count + num_blocks - 1) // num_blocks
    blocks = (jnp.arange(episodes.shape[0]) // rows_per_block).astype(jnp.int32)
    num_episodes = episodes[count - 1] + 1
    return jnp.where(num_episodes >= fewest, episodes, blocks)


class ClusteredMean(NamedTuple):
    """A weighted mean over rows, its standard error over clusters of rows, and how many clusters had any."""

    mean: Float[Array, ""]
    standard_error: Float[Array, ""]
    num_clusters: Int[Array, ""]


def clustered_mean(values: Float[Array, " n"], weights: Float[Array, " n"], cluster: Int[Array, " n"]) -> ClusteredMean:
    """sum w x / sum w; its error as that of a ratio of cluster sums (Cochran 1977, section 6.4).

    se^2 = C / (C - 1) sum_c (sum_{i in c} w_i (x_i - mean))^2 / (sum w)^2, with C clusters. Rows of a cluster may
    depend on each other as they like; with clusters of one row and weights 1 it is the standard error of a mean. Of
    one cluster it is 0.

    Args:
        values: finite.
        weights: not negative; a row of weight 0 does not count.
        cluster: in [0, n).
    """
    num = values.shape[0]
    total = jnp.maximum(jnp.sum(weights), 1e-30)
    mean = jnp.sum(weights * values) / total
    sums = jax.ops.segment_sum(weights * (values - mean), cluster, num)
    num_clusters = jnp.sum(jax.ops.segment_sum(weights, cluster, num) > 0)
    widened = num_clusters / jnp.maximum(num_clusters - 1, 1)
    return ClusteredMean(mean, jnp.sqrt(widened * jnp.sum(jnp.square(sums / total))), num_clusters)


def majority_of_logs(
    log_density_ratio: Float[Array, "*n"], num_logs: Int[Array, ""] | int, num_today: Int[Array, ""] | int
) -> Float[Array, "*n"]:
    """By how much logged rows near (s, a) outnumber today's: max(0, (n_l p_l - n_t p_t) / (n_l p_l + n_t p_t)).

    Like overlap weights (Li, Morgan & Zaslavsky 2018, 1404.1785), but 0 where today's rows are the most: there more is
    known of the law today than the logs could tell, whether or not it changed.

    Args:
        log_density_ratio: ln p_t(s, a) - ln p_l(s, a).
        num_logs: rows of the logs, n_l.
        num_today: rows of today, n_t.
    """
    return jnp.maximum(jnp.tanh(0.5 * (jnp.log(num_logs / jnp.maximum(num_today, 1)) - log_density_ratio)), 0.0)


def p_value_of_gain(gain: ClusteredMean) -> Float[Array, ""]:
    """One-sided p-value of a mean above 0, by Student's t with a degree of freedom less than there are clusters.

    P(T > t) = I(d / (d + t^2); d / 2, 1 / 2) / 2 for t > 0, with the regularised incomplete beta function I. Below two
    clusters, and without any variation where the mean is not above 0, it is 1.
    """
    freedom = jnp.maximum(gain.num_clusters - 1, 1).astype(gain.mean.dtype)
    statistic = gain.mean / jnp.maximum(gain.standard_error, 1e-30)
    statistic = jnp.clip(statistic, -1e6, 1e6)
    tail = 0.5 * betainc(0.5 * freedom, 0.5, freedom / (freedom + jnp.square(statistic)))
    tail = jnp.where(statistic > 0, tail, 1.0 - tail)
    is_known = (gain.num_clusters >= 2) & ((gain.standard_error > 0) | (gain.mean > 0))
    return jnp.where(is_known, tail, 1.0)
