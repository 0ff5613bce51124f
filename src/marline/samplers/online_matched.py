"""The control beside OTC: the same share of fresh rows, distances ignored."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.inputs.arguments import checked
from marline.ops.row_draws import rows_with_replacement
from marline.samplers.draw_plan import CHOSEN, DrawPlan, plan_of_windows
from marline.types import Critic, Metrics


class State(NamedTuple):
    """Shares to draw at each deployment, and how many deployments have begun."""

    shares: Float[Array, "deployments 3"]
    deployment: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
@checked
class OnlineMatched:
    """Draws from offline rows, earlier deployments and the current one in prescribed shares.

    The shares are those that an OTC sampler drew for the same agent at the same deployment, so
    the difference between the two is what correction adds to merely replaying fresh rows.
    Within a source all rows are equally likely.
    """

    batch_size: int = 128
    prefers_rows: ClassVar[bool] = False
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.batch_size > 0, f"batch_size is {self.batch_size}, but an update needs at least 1 row")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """A state that draws offline rows only, until `prescribe` gives it shares."""
        num_deployments = max(1, (experience.capacity - experience.num_offline) // max(1, experience.max_online))
        shares = jnp.tile(jnp.array([[1.0, 0.0, 0.0]]), (num_deployments, 1))
        return State(shares, jnp.int32(0))

    def prescribe(self, state: State, number: int, shares: Float[Array, " 3"]) -> State:
        """Set the shares (offline, earlier, current) of deployment `number`, counted from 1."""
        return state._replace(shares=state.shares.at[number - 1].set(shares))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        return state._replace(deployment=state.deployment + 1), {}

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        source_key, offline_key, earlier_key, current_key = jax.random.split(key, 4)
        num, first_online = self.batch_size, experience.num_offline
        rows = jnp.stack(
            [
                rows_with_replacement(0, first_online, num, key=offline_key),
                rows_with_replacement(first_online, experience.online_start, num, key=earlier_key),
                rows_with_replacement(experience.online_start, experience.size, num, key=current_key),
            ]
        )
        shares = state.shares[state.deployment - 1]
        source = jax.random.categorical(source_key, jnp.log(shares), shape=(num,))
        return rows[source, jnp.arange(num)], state, {}

    def plan(self, state: State, experience: Experience) -> DrawPlan:
        bounds = 0, experience.num_offline, experience.online_start, experience.size
        shares = state.shares[state.deployment - 1]
        windows = [(bounds[source], bounds[source + 1], shares[source]) for source in range(3)]
        return plan_of_windows(CHOSEN, *windows)
