"""A sum tree: draws in proportion to millions of priorities, of which a few change after every draw."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

FAN_OUT = 64  # children per node; wide and shallow, so that one gather replaces six levels of a binary tree


class SumTree(eqx.Module):
    """Priorities of rows 0..capacity-1, and above them the sums of every 64, up to a single node.

    A sum is only ever computed anew from its 64 children and never adjusted by a difference, so
    rounding does not accumulate over updates. That is why float32 is enough.

    Attributes:
        levels: priorities first, then sums; row i of a level holds the children of node i of the
            next, and what is there for padding stays 0.
    """

    levels: tuple[Float[Array, "_ 64"], ...]

    @staticmethod
    def create(capacity: int) -> SumTree:
        """A tree in which every priority is 0; at least one row."""
        levels, num_nodes = [], capacity
        while num_nodes > 1 or not levels:
            num_nodes = -(-num_nodes // FAN_OUT)
            levels.append(jnp.zeros((num_nodes, FAN_OUT)))
        return SumTree(tuple(levels))

    @property
    def priorities(self) -> Float[Array, " rows"]:
        """Priority of every row, with the zeros that pad the last node."""
        return self.levels[0].reshape(-1)

    @property
    def total(self) -> Float[Array, ""]:
        """Sum of all priorities."""
        return jnp.sum(self.levels[-1])

    def __getitem__(self, rows: Int[Array, " n"]) -> Float[Array, " n"]:
        return self.levels[0][rows // FAN_OUT, rows % FAN_OUT]

    def set(self, rows: Int[Array, " n"], priorities: Float[Array, " n"]) -> SumTree:
        """The tree after some rows got new priorities: O(n log capacity).

        Args:
            rows: rows below the capacity; one that occurs twice comes with the same priority twice.
            priorities: finite and not negative.
        """
        levels, nodes, values = [], rows, priorities
        for level in self.levels:
            level = level.at[nodes // FAN_OUT, nodes % FAN_OUT].set(values)
            levels.append(level)
            nodes = nodes // FAN_OUT
            values = jnp.sum(level[nodes], axis=1)
        return SumTree(tuple(levels))

    def fill(
        self, start: Int[Array, ""] | int, stop: Int[Array, ""] | int, priority: Float[Array, ""] | float
    ) -> SumTree:
        """The tree after rows [start, stop) got one priority: every sum anew, O(capacity)."""
        row = jnp.arange(self.levels[0].size).reshape(self.levels[0].shape)
        levels = [jnp.where((start <= row) & (row < stop), priority, self.levels[0])]
        for level in self.levels[1:]:
            sums = jnp.sum(levels[-1], axis=1)
            levels.append(jnp.pad(sums, (0, level.size - sums.size)).reshape(level.shape))
        return SumTree(tuple(levels))

    def sum_before(self, row: Int[Array, ""] | int) -> Float[Array, ""]:
        """Sum of the priorities of rows 0..row-1: O(log capacity)."""
        total, node = jnp.float32(0.0), jnp.asarray(row)
        for level in self.levels:
            parent, place = node // FAN_OUT, node % FAN_OUT
            total += jnp.sum(jnp.where(jnp.arange(FAN_OUT) < place, level[parent], 0.0))
            node = parent
        return total

    def draw_stratified(self, num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
        """`num` rows in proportion to their priorities, one from each slice of 1/num of the total.

        Schaul et al. 2016 (1511.05952), appendix B.2.1. A row of priority 0 is never drawn, unless
        all are 0: then row 0 is.

        Args:
            num: draws, with replacement.
            key: consumed by the place within each slice.
        """
        slices, *finer = jax.random.uniform(key, (1 + len(self.levels), num))
        target = (jnp.arange(num) + slices) / num * self.total
        node = jnp.zeros(num, jnp.int32)
        triangle = jnp.triu(jnp.ones((FAN_OUT, FAN_OUT)))
        for level, digits in zip(reversed(self.levels), finer, strict=True):
            children = level[node]
            # a product with a triangle of ones: several times faster than cumsum for rows this short
            cumulative = jnp.matmul(children, triangle, precision="highest")
            place = _first_above(cumulative, children, target)
            before = jnp.take_along_axis(cumulative - children, place[:, None], axis=1)[:, 0]
            # A float has too few digits for a million rows. Those it lacks are drawn here; otherwise rows of
            # small priority would be hit too often or not at all.
            target = jnp.maximum(target - before, 0.0) + digits * jnp.spacing(target)
            node = node * FAN_OUT + place
        return node


def _first_above(
    cumulative: Float[Array, "n 64"], children: Float[Array, "n 64"], target: Float[Array, " n"]
) -> Int[Array, " n"]:
    """The first child with mass at which the cumulative sum exceeds the target, else the last one with mass.

    Looking for mass, too, and not only at sums: rounding may put a target beyond the last sum, and
    sums before and after an empty child need not be equal when they were added up in parallel.
    """
    place = jnp.arange(FAN_OUT, dtype=jnp.int32)[None, :]
    has_mass = children > 0.0
    last = jnp.max(jnp.where(has_mass, place, 0), axis=1)
    first = jnp.min(jnp.where(has_mass & (cumulative > target[:, None]), place, FAN_OUT), axis=1)
    return jnp.minimum(first, last)
