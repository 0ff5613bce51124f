"""What samplers by fixed weights have in common: offline rows by weight, online rows alike and at a share of their own.

How fresh the drawn rows are and which of the logged ones are preferred are two questions. Weights answer the second
alone, so that a sampler by weights differs from uniform replay, at the natural share, by its weights and nothing else.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.ops.row_draws import rows_with_replacement
from marline.ops.weighted_rows import AliasTable
from marline.samplers.draw_plan import FLIPPED, ONE, DrawPlan, exchanged_offline, plan_of_windows


def require_online_share(share: float | None) -> None:
    """Refuse what is no share."""
    require(
        share is None or 0 <= share <= 1,
        f"online_share is {share}, but must lie in [0, 1], or be None: the share that online rows have in all rows",
    )


def natural_share(experience: Experience) -> Float[Array, ""]:
    """What part of all rows was logged online."""
    return (experience.size - experience.num_offline) / experience.size


def sample_weighted(
    table: AliasTable, experience: Experience, num: int, online_share: float | None, *, key: PRNGKeyArray
) -> Int[Array, " num"]:
    """One batch: offline rows by the weights that the table was made of, online rows all equally likely.

    With equal weights and the natural share it draws the very rows that `Uniform` draws under the same key.

    Args:
        table: of the offline rows.
        experience: where the rows are.
        num: rows to draw, with replacement.
        online_share: probability that a row is online, or None for the share that online rows have in all rows.
            Before the first deployment all rows are offline whatever it is.
        key: consumed.
    """
    first_online = experience.num_offline
    if online_share is None:
        rows = rows_with_replacement(0, experience.size, num, key=key)
    else:
        source_key, offline_key, online_key = jax.random.split(key, 3)
        is_online = jax.random.uniform(source_key, (num,)) < online_share
        is_online &= experience.size > first_online
        offline = rows_with_replacement(0, first_online, num, key=offline_key)
        online = rows_with_replacement(first_online, experience.size, num, key=online_key)
        rows = jnp.where(is_online, online, offline)
    return exchanged_offline(table, rows, key=key)


def weighted_plan(table: AliasTable, experience: Experience, online_share: float | None) -> DrawPlan:
    """What `sample_weighted` draws by."""
    first_online = experience.num_offline
    if online_share is None:
        return plan_of_windows(ONE, (0, experience.size, 1.0))._replace(table=table)
    share = jnp.where(experience.size > first_online, online_share, 0.0)
    windows = (0, first_online, 1.0 - share), (first_online, experience.size, share)
    return plan_of_windows(FLIPPED, *windows)._replace(table=table)
