"""The reference for samplers that correct: offline rows by their true weights, where these are known."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.inputs.arguments import checked
from marline.ops.prioritization import effective_sample_size
from marline.ops.weighted_rows import AliasTable, alias_table, row_probabilities, uniform_table
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.weighted_offline import require_online_share, sample_weighted, weighted_plan
from marline.types import Critic, Metrics


@dataclasses.dataclass(frozen=True)
@checked
class Oracle:
    """Draws offline rows by weights that it is given: how much likelier the others' true actions are today.

    No agent can know them, for they take the joint log and everybody's policies; what it gains is what there is to be
    gained by correcting. Rows of all agents' logs of a World are of the same steps, in the same order: the actions of
    the others are in the same rows of their logs (`marline.envs.finite.true_ratio`).

    It is not among the samplers that have a name: whoever holds the joint log makes one, and says at every deployment
    what the weights are. Until then all rows are alike.

    Attributes:
        online_share: of the rows of a batch that are online, or None for their share in all rows, as in uniform replay.
        batch_size: rows per update.
    """

    online_share: float | None = None
    batch_size: int = 128
    prefers_rows: ClassVar[bool] = True
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_online_share(self.online_share)
        require(self.batch_size > 0, f"batch_size is {self.batch_size}, but an update needs at least 1 row")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> AliasTable:
        """All rows alike, until weights are prescribed."""
        return uniform_table(experience.num_offline)

    def prescribe(self, state: AliasTable, weights: Float[Array, " offline"]) -> AliasTable:
        """What is drawn by from now on; finite weights of the offline rows in their order, not negative."""
        return alias_table(weights)

    def begin_deployment(
        self, state: AliasTable, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[AliasTable, Metrics]:
        return state, {"effective_sample_size": effective_sample_size(row_probabilities(state))}

    def sample(
        self, state: AliasTable, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], AliasTable, Metrics]:
        return sample_weighted(state, experience, self.batch_size, self.online_share, key=key), state, {}

    def plan(self, state: AliasTable, experience: Experience) -> DrawPlan:
        return weighted_plan(state, experience, self.online_share)
