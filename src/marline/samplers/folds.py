"""The episodes of a deployment dealt out to folds: whoever learns from the one is judged on the other."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from marline.data.experience import Experience
from marline.ops.law_ratio import clusters, episode_numbers

NUM_FOLDS = 2
FEWEST_EPISODES, NUM_BLOCKS = 8, 16  # with fewer episodes, blocks of consecutive rows are what is independent


class Folds(NamedTuple):
    """The rows of the current deployment, as many as there is room for, and which of them who may learn from.

    Attributes:
        is_logged: whether there is such a row.
        cluster: the episode, or block, that a row is of.
        fold: of the row: who is judged on it, and does not learn from it.
        learned: places of the rows that each may learn from, first; behind them the others.
        num_learned: how many these are.
    """

    is_logged: Bool[Array, " n"]
    cluster: Int[Array, " n"]
    fold: Int[Array, " n"]
    learned: Int[Array, "folds n"]
    num_learned: Int[Array, " folds"]


def deal_out(experience: Experience) -> Folds:
    """The current deployment, its episodes dealt out in turn."""
    place = jnp.arange(experience.max_online)
    rows = experience[experience.online_start + place]
    is_logged = place < experience.num_online
    episodes = episode_numbers(rows.observation, rows.next_observation, rows.discount)
    cluster = clusters(episodes, experience.num_online, fewest=FEWEST_EPISODES, num_blocks=NUM_BLOCKS)
    cluster = jnp.where(is_logged, cluster, 0)
    fold = cluster % NUM_FOLDS
    is_learned = is_logged[None, :] & ~is_of_fold(fold)
    return Folds(
        is_logged,
        cluster,
        fold,
        jnp.argsort(~is_learned, axis=1, stable=True).astype(jnp.int32),
        jnp.sum(is_learned, axis=1, dtype=jnp.int32),
    )


def is_of_fold(fold: Int[Array, " n"]) -> Bool[Array, "folds n"]:
    return fold[None, :] == jnp.arange(NUM_FOLDS)[:, None]
