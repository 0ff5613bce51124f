"""Draws as data: what a sampler draws by, as arrays, so that many samplers are one program with other arrays."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.ops.row_draws import Count, rows_with_replacement
from marline.ops.weighted_rows import AliasTable, exchanged, uniform_table
from marline.samplers.rewriting import rewrites
from marline.samplers.sampler import Sampler
from marline.types import Critic, Metrics

# which window each row of a batch is of: the first; a number of them of the second; by a coin each; by a draw each
ONE, COUNTED, FLIPPED, CHOSEN = range(4)
NUM_WINDOWS = 3
EXCHANGE = zlib.crc32(b"exchange")  # sets the stream of the exchanges apart from that of the rows


class DrawPlan(NamedTuple):
    """How batches are drawn until the next deployment.

    Each row comes from one of three windows of rows, all rows of a window being alike. Offline rows are then kept or
    exchanged by their weights, and every row may have another that stands in for it.

    Attributes:
        way: how it is decided which window a row is of: `ONE`, `COUNTED`, `FLIPPED` or `CHOSEN`.
        start: first row of each window.
        stop: the row behind the last of each window.
        shares: of the windows; if counted, how many rows of a batch each has in the mean.
        table: of the offline rows, or None if all weigh the same.
        stand_in: which row is drawn in place of each, or None if that is itself.
    """

    way: Int[Array, ""]
    start: Int[Array, " 3"]
    stop: Int[Array, " 3"]
    shares: Float[Array, " 3"]
    table: AliasTable | None = None
    stand_in: Int[Array, " capacity"] | None = None


@runtime_checkable
class Planned(Sampler[Any], Protocol):
    """A sampler that says by `draws_by_plan = True` that `plan` tells all there is to know of its draws.

    Until the next deployment, whatever was drawn and learned, `sample` returns the rows that `draw_by_plan` gives for
    the same key, leaves the memory as it is, and measures nothing. Such samplers are tuned side by side by one program
    where learners are stacked.
    """

    @property
    def draws_by_plan(self) -> bool: ...

    @property
    def batch_size(self) -> int: ...

    def plan(self, state: Any, experience: Experience) -> DrawPlan:
        """What batches are drawn by, by the memory as `begin_deployment` left it."""
        ...


def draws_by_plan(sampler: object) -> TypeGuard[Planned]:
    """Whether a sampler is `Planned`, and its plan tells of its own draws: not of those that a subclass replaced.

    Of one that rewrites rows a plan does not tell all.
    """
    if not isinstance(sampler, Planned) or not sampler.draws_by_plan or rewrites(sampler):
        return False
    (drawing, *_) = (kind for kind in type(sampler).__mro__ if "sample" in vars(kind))
    return "plan" in vars(drawing)


def plan_of_windows(way: int, *windows: tuple[Count, Count, Float[Array, ""] | float]) -> DrawPlan:
    """A plan without weights; of each window, at most three, its first row, the row behind its last, and its share."""
    nothing = [(0, 0, 0.0)] * (NUM_WINDOWS - len(windows))
    start, stop, shares = zip(*windows, *nothing, strict=True)
    return DrawPlan(
        jnp.int32(way),
        jnp.stack([jnp.asarray(row, jnp.int32) for row in start]),
        jnp.stack([jnp.asarray(row, jnp.int32) for row in stop]),
        jnp.stack([jnp.asarray(share, jnp.float32) for share in shares]),
    )


def draw_by_plan(plan: DrawPlan, num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """One batch, with replacement.

    Args:
        plan: of a sampler, whose own streams are split off the key as they are here.
        num: rows to draw.
        key: consumed.
    """
    source_key, *window_keys = jax.random.split(key, 1 + NUM_WINDOWS)
    keys = jnp.where(plan.way == ONE, key, jnp.stack(window_keys))  # a single window takes the key as it is
    rows = jax.vmap(lambda start, stop, key: rows_with_replacement(start, stop, num, key=key))(
        plan.start, plan.stop, keys
    )
    count = jnp.floor(plan.shares[1] + jax.random.uniform(source_key)).astype(jnp.int32)
    place = jnp.arange(num, dtype=jnp.int32)
    ways = [
        jnp.zeros(num, jnp.int32),
        (place < count).astype(jnp.int32),
        (jax.random.uniform(source_key, (num,)) < plan.shares[1]).astype(jnp.int32),
        jax.random.categorical(source_key, jnp.log(plan.shares), shape=(num,)).astype(jnp.int32),
    ]
    drawn = rows[jnp.stack(ways)[plan.way], place]
    if plan.table is not None:
        drawn = exchanged_offline(plan.table, drawn, key=key)
    return drawn if plan.stand_in is None else plan.stand_in[drawn]


def exchanged_offline(table: AliasTable, rows: Int[Array, " num"], *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """Offline rows, drawn alike, become rows drawn by weight; online rows stay what they are.

    Args:
        table: of the offline rows, which are the first.
        rows: drawn.
        key: that they were drawn with; consumed.
    """
    first_online = table.keep.shape[0]
    offline = jnp.minimum(rows, first_online - 1)
    offline = exchanged(table, offline, key=jax.random.fold_in(key, EXCHANGE))
    return jnp.where(rows < first_online, offline, rows)


def completed(plan: DrawPlan, experience: Experience, *, table: bool, stand_in: bool) -> DrawPlan:
    """The same draws by a plan of another form: with a table of equal weights, with stand-ins that are the rows."""
    if table and plan.table is None:
        plan = plan._replace(table=uniform_table(experience.num_offline))
    if stand_in and plan.stand_in is None:
        plan = plan._replace(stand_in=jnp.arange(experience.capacity, dtype=jnp.int32))
    return plan


@dataclasses.dataclass(frozen=True)
class ByPlan:
    """Draws as its memory, a plan, says: what many samplers are while their learners are tuned.

    Attributes:
        batch_size: rows per update.
    """

    batch_size: int

    def __post_init__(self) -> None:
        require(self.batch_size > 0, f"batch_size is {self.batch_size}, but an update needs at least 1 row")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> DrawPlan:
        """All rows that are there, alike."""
        return plan_of_windows(ONE, (0, experience.size, 1.0))

    def begin_deployment(
        self, state: DrawPlan, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[DrawPlan, Metrics]:
        """The plan is that of the sampler which it came from: nothing changes here."""
        return state, {}

    def sample(
        self, state: DrawPlan, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], DrawPlan, Metrics]:
        return draw_by_plan(state, self.batch_size, key=key), state, {}
