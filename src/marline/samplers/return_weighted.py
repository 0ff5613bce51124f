"""Offline rows weighted by the return of their episode (after trajectory weighting, Hong et al. 2023, 2306.13085)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.inputs.arguments import checked
from marline.ops.episodes import episode_returns, standardised_over_episodes
from marline.ops.prioritization import effective_sample_size
from marline.ops.weighted_rows import AliasTable, alias_table, row_probabilities
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.weighted_offline import require_online_share, sample_weighted, weighted_plan
from marline.types import Critic, Metrics


@dataclasses.dataclass(frozen=True)
@checked
class ReturnWeighted:
    """Rows of good episodes are drawn more often: with weight exp(clip(scale * z, -bound, bound)).

    z is the return of the row's episode in this agent's own log and own rewards, standardised over the episodes of
    B^0; the weights are fixed there. Whom one plays with is not looked at: in logs of mixed skill good episodes are
    those in which the others act as a good team does today, so that a sampler that corrects must beat this one.

    The paper gives weights exp(return / temperature) on returns scaled to [0, 1]; standardised and clipped returns
    (ours) do not hang on the best and the worst episode. An episode that the end of the log cut counts with the
    return that it had until then.

    Attributes:
        scale: how much of the logarithm of the weight a standard deviation of the return is worth; 0 is uniform.
        bound: largest and smallest logarithm of a weight.
        online_share: of the rows of a batch that are online, or None for their share in all rows, as in uniform replay.
        batch_size: rows per update.
    """

    scale: float = 1.5
    bound: float = 3.0
    online_share: float | None = None
    batch_size: int = 128
    prefers_rows: ClassVar[bool] = True
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_weights(self.scale, self.bound)
        require_online_share(self.online_share)
        require(self.batch_size > 0, f"batch_size is {self.batch_size}, but an update needs at least 1 row")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> AliasTable:
        """The weights of B^0, as a table to draw from."""
        return alias_table(jnp.exp(self.log_weights(experience.offline().reward, experience.offline_ends)))

    def log_weights(self, rewards: Float[Array, " n"], ends: Bool[Array, " n"]) -> Float[Array, " n"]:
        """Of rows in the order in which they were logged."""
        z = standardised_over_episodes(episode_returns(rewards, ends), ends)
        return jnp.clip(self.scale * z, -self.bound, self.bound)

    def begin_deployment(
        self, state: AliasTable, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[AliasTable, Metrics]:
        """Nothing changes; how many equally likely rows are as diverse is told."""
        return state, {"effective_sample_size": effective_sample_size(row_probabilities(state))}

    def sample(
        self, state: AliasTable, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], AliasTable, Metrics]:
        return sample_weighted(state, experience, self.batch_size, self.online_share, key=key), state, {}

    def plan(self, state: AliasTable, experience: Experience) -> DrawPlan:
        return weighted_plan(state, experience, self.online_share)


def require_weights(scale: float, bound: float) -> None:
    """Refuse what makes no weights by return."""
    require(math.isfinite(scale), f"scale is {scale}, but must be finite")
    require(0 <= bound <= 20, f"bound is {bound}, but must lie in [0, 20], being a logarithm")
