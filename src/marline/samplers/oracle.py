"""The reference for samplers that correct: offline rows by their true weights, where these are known."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.inputs.arguments import checked
from marline.ops.law_ratio import tempering_exponent
from marline.ops.prioritization import effective_sample_size
from marline.ops.weighted_rows import AliasTable, alias_table, row_probabilities, uniform_table
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.sampler import Sampler
from marline.samplers.shuffled import Shuffled
from marline.samplers.weighted_offline import require_online_share, sample_weighted, weighted_plan
from marline.types import Critic, Metrics


@dataclasses.dataclass(frozen=True)
@checked
class Oracle:
    """Draws offline rows by weights that it is told: how much likelier the partners' true actions are today.

    No agent can know them, for they take the logs of all agents and everybody's policies; what it gains is what there
    is to be gained by correcting. It is for studies alone, where each row of an agent's log is of the same step as that
    row of the others' logs: a study tells it the weights at every deployment, see `marline.rollouts.partners`. Until
    then all rows are alike.

    Attributes:
        online_share: of the rows of a batch that are online, or None for their share in all rows, as in uniform replay.
        least_effective_share: as what part of the offline rows, equally likely, the weighted ones must at least be as
            diverse; weights are raised to a power below 1 until they are.
        tolerance: standard deviation by which a partner's continuous action, in [-1, 1], may miss that of today.
        batch_size: rows per update.
    """

    online_share: float | None = None
    least_effective_share: float = 0.05
    tolerance: float = 0.1
    batch_size: int = 128
    prefers_rows: ClassVar[bool] = True
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_online_share(self.online_share)
        share = self.least_effective_share
        require(0 <= share < 1, f"least_effective_share is {share}, but must lie in [0, 1); 0 tempers nothing")
        tolerance = self.tolerance
        require(0 < tolerance < math.inf, f"tolerance is {tolerance}, but must be positive and finite")
        require(self.batch_size > 0, f"batch_size is {self.batch_size}, but an update needs at least 1 row")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> AliasTable:
        """All rows alike, until weights are prescribed."""
        return uniform_table(experience.num_offline)

    def prescribe(self, state: AliasTable, log_ratio: Float[Array, " offline"]) -> AliasTable:
        """What is drawn by from now on; finite logarithms of the weights of the offline rows, in their order."""
        return _table(log_ratio, self.least_effective_share)

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


def oracle_in(sampler: Sampler[Any]) -> Oracle | None:
    """The oracle that a sampler is, or is the control of."""
    if isinstance(sampler, Shuffled):
        return oracle_in(sampler.of)
    return sampler if isinstance(sampler, Oracle) else None


def informed(sampler: Sampler[Any], memory: Any, log_ratio: Float[Array, " offline"]) -> Any:
    """The memory of an oracle, or of its control, once it was told the weights of the offline rows."""
    if isinstance(sampler, Shuffled):
        return memory._replace(of=informed(sampler.of, memory.of, log_ratio))
    assert isinstance(sampler, Oracle)
    return sampler.prescribe(memory, log_ratio)


@functools.partial(jax.jit, static_argnames="least_effective_share")
def _table(log_ratio: Float[Array, " offline"], least_effective_share: float) -> AliasTable:
    exponent = tempering_exponent(log_ratio, least_effective_share)
    return alias_table(jnp.exp(exponent * (log_ratio - jnp.max(log_ratio))))
