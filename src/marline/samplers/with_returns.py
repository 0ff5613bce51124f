"""Good episodes first, and of their rows those that tell of today: weights by return times a ratio of laws."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.inputs.arguments import checked
from marline.ops.prioritization import effective_sample_size
from marline.ops.weighted_rows import AliasTable, alias_table, row_probabilities
from marline.samplers.best_ratio import BestRatio
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.dynamics_ratio import DynamicsRatio
from marline.samplers.powers import POWERS
from marline.samplers.return_weighted import ReturnWeighted, require_weights
from marline.samplers.two_sided import TwoSided
from marline.samplers.weighted_offline import sample_weighted, weighted_plan
from marline.types import Critic, Metrics


class State(NamedTuple):
    """Memory of both, and the table that offline rows are drawn by."""

    returns: AliasTable
    ratio: Any
    table: AliasTable


@dataclasses.dataclass(frozen=True)
@checked
class WithReturns:
    """Offline rows are drawn by the weights of `ReturnWeighted`, times those of a ratio of laws.

    The two say different things. Returns say which episodes went well, whoever they were played with; the ratio says
    what of them would follow today. Where the ratio finds no change, or finds that its weights do not help, rows are
    those of `ReturnWeighted`; so they are until a deployment begins. `ReturnTimesRatio` draws uniformly then.

    Attributes:
        ratio: a sampler by a ratio of laws, under its own gate; its `batch_size` and `online_share` are used.
        scale, bound: of the weight by return, see `ReturnWeighted`; a scale of 0 leaves the ratio alone.
    """

    ratio: TwoSided | DynamicsRatio | BestRatio = TwoSided(pooled=True, powers=POWERS)
    scale: float = 1.5
    bound: float = 3.0
    prefers_rows: ClassVar[bool] = True
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_weights(self.scale, self.bound)

    @property
    def batch_size(self) -> int:
        return self.ratio.batch_size

    @property
    def online_share(self) -> float | None:
        return self.ratio.online_share

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """What either keeps of B^0; rows are drawn by return."""
        returns = ReturnWeighted(self.scale, self.bound).init(experience, key=key)
        return State(returns, self.ratio.init(experience, key=key), returns)

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Weigh the rows by the law of today, too."""
        ratio, metrics = self.ratio.begin_deployment(state.ratio, experience, critic, key=key)
        table = product(state.returns, ratio.table)
        told = {name: value for name, value in metrics.items() if name not in WORTH}
        return State(state.returns, ratio, table), {
            **told,
            "effective_sample_size": effective_sample_size(row_probabilities(table)),
        }

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch."""
        return sample_weighted(state.table, experience, self.batch_size, self.online_share, key=key), state, {}

    def plan(self, state: State, experience: Experience) -> DrawPlan:
        return weighted_plan(state.table, experience, self.online_share)


def product(one: AliasTable, other: AliasTable) -> AliasTable:
    """The table that draws in proportion to the product of what two tables draw by; `one`, where `other` is uniform."""
    num = one.keep.shape[0]
    weights: Float[Array, " n"] = (num * row_probabilities(one)) * (num * row_probabilities(other))
    is_uniform = jnp.all(other.keep == 1.0)
    return jax.tree.map(lambda its, both: jnp.where(is_uniform, its, both), one, alias_table(weights))


WORTH = ("effective_sample_size", "effective_share")  # of the ratio's weights alone
