"""How far offline rows are weighted: as far as it helps to foretell today's TD errors, and else not at all.

That what follows an agent's actions has changed does not mean that weights help: few rows may be left to learn from,
and those may tell little of where the agent is today. What they are for is the critic. So weights are raised to several
powers, a small network learns the critic's TD errors from rows that are drawn accordingly, and episodes of the current
deployment that it has not seen tell how well: 0 is uniform replay, 1 the whole weights.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from marline.data.experience import Experience
from marline.data.normalization import Normalizer
from marline.errors import require
from marline.nn.batched_cond import batched_cond
from marline.nn.cvae import state_action
from marline.ops.law_ratio import ClusteredMean, clustered_mean
from marline.ops.row_draws import rows_with_replacement
from marline.ops.weighted_rows import alias_table
from marline.samplers.draw_plan import exchanged_offline
from marline.samplers.folds import deal_out
from marline.samplers.td_errors import NUM_DRAWN, Mixtures, Regression
from marline.samplers.weighted_offline import natural_share
from marline.types import Critic, Metrics

POWERS = (0.25, 0.5, 1.0)
STANDARD_ERRORS = 2.0  # by which a power must foretell better than none
TD_ERRORS = Regression()
PURPOSE = zlib.crc32(b"power")  # sets the stream of the judgement apart from that of the weights


def require_powers(powers: tuple[float, ...]) -> None:
    """Refuse what is no list of powers."""
    require(
        all(0 < power < math.inf for power in powers) and list(powers) == sorted(set(powers)),
        f"powers are {powers}, but need positive numbers, each larger than the one before; none: weights as they are",
    )


def best_power(
    powers: Float[Array, " ways"], means: Float[Array, " ways"], gains: ClusteredMean
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Of the powers that are better than none by two standard errors, the one with the least error; else 0.

    Args:
        powers: the first is 0.
        means: held-out error of each.
        gains: of each, by how much its errors are below those of the first.

    Returns:
        The power, and its number.
    """
    is_shown = gains.mean > STANDARD_ERRORS * gains.standard_error
    number = jnp.argmin(jnp.where(is_shown.at[0].set(True), means, jnp.inf))
    return powers[number], number


def useful_power(
    log_weights: Float[Array, " offline"],
    is_due: Bool[Array, ""],
    experience: Experience,
    critic: Critic | None,
    powers: tuple[float, ...],
    *,
    key: PRNGKeyArray,
    regression: Regression = TD_ERRORS,
) -> tuple[Float[Array, ""], Metrics]:
    """The power to raise the weights of the offline rows to.

    Args:
        log_weights: finite.
        is_due: whether rows are to be weighted at all; nothing is computed unless they are.
        experience: the agent's rows.
        critic: whose TD errors they are; an algorithm without values takes weights as they are.
        powers: that are tried beside 0; weights are taken as they are if there is none.
        key: as that of the deployment, of which it takes a stream of its own.
        regression: what learns the TD errors.
    """
    if critic is None or not powers:
        return jnp.float32(1.0), {}
    tried = jnp.array([0.0, *powers], jnp.float32)
    arrays, static = eqx.partition(critic, eqx.is_array)

    def judge(
        changing: tuple[Array, Array, Array, Array],
        log_weights: Float[Array, " offline"],
        experience: Experience,
        arrays: Any,
        words: UInt32[Array, " words"],
    ) -> tuple[Array, Array, Array, Array]:
        row_key, judge_key = jax.random.split(jax.random.wrap_key_data(words))
        num = min(NUM_DRAWN, experience.num_offline)

        def drawn(power: Float[Array, ""]) -> Int[Array, " drawn"]:
            logs = power * log_weights
            table = alias_table(jnp.exp(logs - jnp.max(logs)))
            # as a batch is drawn: rows that weigh little are exchanged for others, and the powers differ in that alone
            return exchanged_offline(
                table, rows_with_replacement(0, experience.num_offline, num, key=row_key), key=row_key
            )

        fresh = jnp.broadcast_to(natural_share(experience), tried.shape)
        ways = Mixtures(fresh, jax.lax.map(drawn, tried))
        its_critic: Any = eqx.combine(arrays, static)
        inputs = Normalizer.fit(state_action(experience.offline(), experience.spec))
        folds = deal_out(experience)
        missed, means = regression.held_out(inputs, experience, its_critic, folds, ways, key=judge_key)
        count = folds.is_logged.astype(jnp.float32)
        gains = jax.vmap(clustered_mean, (0, None, None))(missed[:1] - missed, count, folds.cluster)
        power, number = best_power(tried, means, gains)
        return power, means, gains.mean[number], gains.standard_error[number]

    nothing = jnp.float32(0.0), jnp.zeros(tried.shape), jnp.float32(0.0), jnp.float32(0.0)
    words = jax.random.key_data(jax.random.fold_in(key, PURPOSE))
    power, means, gain, error = batched_cond(is_due, judge, nothing, log_weights, experience, arrays, words)
    return power, {"power": power, "td_error_by_power": means, "td_gain": gain, "td_gain_se": error}
