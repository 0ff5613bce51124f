"""The control for every sampler that prefers rows: as much of each source, as often repeated, but of random rows."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.ops.ordering import random_order
from marline.samplers.draw_plan import DrawPlan, draws_by_plan
from marline.samplers.rewriting import rewrites
from marline.samplers.sampler import Sampler
from marline.types import Critic, Metrics

PURPOSE = zlib.crc32(b"shuffled")  # sets the stream of the exchange apart from those the inner sampler splits off


class State(NamedTuple):
    """The inner sampler's memory, and which row is drawn in place of each."""

    of: Any
    stand_in: Int[Array, " capacity"]


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """Draws as another sampler does, and gives a random row of the same source in place of each row.

    Offline rows exchange places among themselves once, when the memory is made, and the rows of a
    deployment among themselves when it begins: with equal keys and critics, the shares of all
    sources and how often rows repeat, within a batch and from one to the next, are exactly those of
    the inner sampler. What it knows about rows is lost and nothing else is, so the difference
    between the two is what choosing *these* rows does.

    The inner sampler learns from the rows that it chose, as it does alone, and its metrics are of
    these; what `agent.tune` measures is of the rows that were drawn in their place.

    Attributes:
        of: the sampler whose preferences are given to random rows.
    """

    of: Any
    prefers_rows: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(
            isinstance(self.of, Sampler) and not isinstance(self.of, type),
            f"of is {self.of!r}, but must be a sampler, such as OTC()",
        )
        require(
            not rewrites(self.of),
            f"of is {self.of!r}, which rewrites rows, and a shuffled control learns from rows as they were logged; "
            "compare it with a control of its own, and let it say prefers_rows = False",
        )

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """The inner sampler's memory, and offline rows in random order."""
        stand_in = jnp.arange(experience.capacity, dtype=jnp.int32)
        offline = random_order(experience.num_offline, key=jax.random.fold_in(key, PURPOSE))
        return State(self.of.init(experience, key=key), stand_in.at[: experience.num_offline].set(offline))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Let the sampler inside begin, and the rows just merged exchange places, too."""
        of, metrics = self.of.begin_deployment(state.of, experience, critic, key=key)
        return self.exchanged(state, of, experience, key=key), metrics

    def exchanged(self, state: State, of: Any, experience: Experience, *, key: PRNGKeyArray) -> State:
        """The memory once the sampler inside has begun a deployment, whose rows exchange places.

        Args:
            state: from before.
            of: the memory of the sampler inside, as it is now.
            experience: with the rows just merged.
            key: that of the deployment, of which this takes a stream of its own.
        """
        num, start = experience.max_online, experience.online_start
        order = _order_of_first(experience.num_online, num, key=jax.random.fold_in(key, PURPOSE))
        return State(of, state.stand_in.at[start + jnp.arange(num)].set(start + order, mode="drop"))

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """The stand-ins of one batch of the inner sampler."""
        rows, of, metrics = self.of.sample(state.of, experience, critic, key=key)
        return state.stand_in[rows], State(of, state.stand_in), metrics

    @property
    def draws_by_plan(self) -> bool:
        return draws_by_plan(self.of)

    @property
    def batch_size(self) -> int:
        return self.of.batch_size

    def plan(self, state: State, experience: Experience) -> DrawPlan:
        """Stand-ins of the rows that the inner sampler draws; of a shuffled sampler that is shuffled, theirs."""
        plan = self.of.plan(state.of, experience)
        return plan._replace(stand_in=state.stand_in if plan.stand_in is None else state.stand_in[plan.stand_in])


def _order_of_first(count: Int[Array, ""], num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """0..num-1, the first `count` of them in random order."""
    order = random_order(num, key=key)
    is_among = order < count
    place = jnp.where(is_among, jnp.cumsum(is_among) - 1, num)
    return jnp.arange(num, dtype=jnp.int32).at[place].set(order.astype(jnp.int32), mode="drop")
