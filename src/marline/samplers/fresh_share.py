"""A fixed share of fresh rows in every batch: a half is RLPD's (Ball et al. 2023, 2302.02948)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require, require_shares
from marline.inputs.arguments import checked
from marline.ops.row_draws import rows_with_replacement
from marline.samplers.draw_plan import COUNTED, DrawPlan, plan_of_windows
from marline.types import Critic, Metrics


@dataclasses.dataclass(frozen=True)
@checked
class FreshShare:
    """A share of each batch is of rows logged online, at any deployment so far, and the rest of offline rows.

    Within either all rows are equally likely. What replaying fresh rows does by itself, a sampler that corrects must
    beat: with the best share where it raises the share, too. Of RLPD only the batch is here; its critics are an
    algorithm's.

    A batch holds floor(share * batch_size) fresh rows or one more, so that the mean is the share. Before the first
    deployment all rows are offline.

    Attributes:
        share: of the rows of a batch that are fresh.
        batch_size: rows per update.
    """

    share: float = 0.5
    batch_size: int = 128
    prefers_rows: ClassVar[bool] = False
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_shares(self, "share")
        require(self.batch_size > 0, f"batch_size is {self.batch_size}, but an update needs at least 1 row")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def begin_deployment(
        self, state: tuple[()], experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[tuple[()], Metrics]:
        return (), {}

    def sample(
        self, state: tuple[()], experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], tuple[()], Metrics]:
        return fresh_rows(experience, self.share, self.batch_size, key=key), (), {}

    def plan(self, state: tuple[()], experience: Experience) -> DrawPlan:
        return fresh_plan(experience, self.share, self.batch_size)


def fresh_rows(
    experience: Experience, share: Float[Array, ""] | float, num: int, *, key: PRNGKeyArray
) -> Int[Array, " num"]:
    """One batch of which a share was logged online; before the first deployment all rows are offline."""
    count_key, offline_key, online_key = jax.random.split(key, 3)
    first_online = experience.num_offline
    num_fresh = jnp.floor(share * num + jax.random.uniform(count_key)).astype(jnp.int32)
    is_fresh = (jnp.arange(num) < num_fresh) & (experience.size > first_online)
    offline = rows_with_replacement(0, first_online, num, key=offline_key)
    online = rows_with_replacement(first_online, experience.size, num, key=online_key)
    return jnp.where(is_fresh, online, offline)


def fresh_plan(experience: Experience, share: Float[Array, ""] | float, num: int) -> DrawPlan:
    """What `fresh_rows` draws by."""
    first_online = experience.num_offline
    num_fresh = jnp.where(experience.size > first_online, share * num, 0.0)
    offline = (0, first_online, num - num_fresh)
    return plan_of_windows(COUNTED, offline, (first_online, experience.size, num_fresh))
