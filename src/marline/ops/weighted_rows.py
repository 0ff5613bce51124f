"""Draws in proportion to weights that are fixed for long: one look into a table per draw, however many rows."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from marline.ops.row_draws import rows_with_replacement


class AliasTable(NamedTuple):
    """A row is drawn uniformly, and kept or exchanged for its alias (Walker 1977; Vose 1991).

    Attributes:
        keep: probability with which a row that was drawn is kept.
        alias: the row that it is exchanged for otherwise.
    """

    keep: Float[Array, " n"]
    alias: Int[Array, " n"]


def uniform_table(num_rows: int) -> AliasTable:
    """All rows alike: each that is drawn is kept."""
    return AliasTable(jnp.ones(num_rows), jnp.arange(num_rows, dtype=jnp.int32))


def alias_table(weights: Float[Array, " n"]) -> AliasTable:
    """The table by which `draw_rows` draws in proportion to weights.

    In units of their mean, light rows (at most 1) lack something and heavy ones have too much. Going through both in
    order, each heavy row fills light ones until it has at most 1 itself, and is then filled by the next heavy one. Who
    fills whom follows from running sums of what is lacking and of what is too much, so that nothing need be done in
    turn (Huebschle-Schneider & Sanders 2019, 1903.00227, section 4.2): O(n log n), and quick where a loop would not be.

    Running sums are whole numbers, for those of a million floats would be rounded by as much as a weight: in units
    of n / 2^31 of the mean. Light rows get their weight up to float32's rounding, heavy ones up to a few such units,
    and the last of these gets what rounding leaves over: less than the mean for a million rows.

    Args:
        weights: finite and not negative; a row of weight 0 is never drawn, unless all are 0: then all are alike.
    """
    num = weights.shape[0]
    mean = jnp.mean(weights)
    share = jnp.where(mean > 0, weights / mean, 1.0)
    share = share / jnp.mean(share)  # a second pass takes out the rounding of the first
    is_heavy = share > 1.0
    row = jnp.arange(num, dtype=jnp.int32)
    # light rows first, then heavy ones, each in order: a partition, not a sort
    num_light = num - jnp.sum(is_heavy, dtype=jnp.int32)
    light_before = jnp.cumsum(~is_heavy, dtype=jnp.int32) - ~is_heavy
    place = jnp.where(is_heavy, num_light + row - light_before, light_before)
    unit = float(2**31 // num)
    part = jnp.abs(share - 1.0) * unit
    lacking = _running_sum(jnp.where(is_heavy, 0.0, part))  # up to and including each row
    too_much = _running_sum(jnp.where(is_heavy, part, 0.0))
    order = jnp.zeros(num, jnp.int32).at[place].set(row)

    # the first heavy row that has not given all away to the light rows before this one
    lacking_before = jnp.concatenate([jnp.zeros(1, jnp.uint32), lacking[:-1]])
    filled_by = jnp.searchsorted(too_much, lacking_before, side="right", method="scan")
    # the next heavy row fills a heavy one as soon as the light rows before it lack as much as it had
    num_heavy_before = row - light_before
    next_heavy = order[jnp.minimum(num_light + num_heavy_before + 1, num - 1)]
    enough = jnp.searchsorted(lacking, too_much, side="left", method="scan")
    is_last = num_heavy_before + 1 >= num - num_light
    given = lacking[jnp.minimum(enough, num - 1)]
    left = 1.0 - (given - too_much).astype(jnp.float32) / unit

    keep = jnp.where(is_heavy, jnp.where((enough >= num) | is_last, 1.0, left), share)
    alias = jnp.where(is_heavy, next_heavy, filled_by)
    # what rounding leaves over: a light row that nothing fills is filled by the last heavy one, if there is any
    last_heavy = jnp.where(num_light < num, order[-1], row)
    alias = jnp.where(alias >= num, last_heavy, alias).astype(jnp.int32)
    alone = num_light == num
    return AliasTable(jnp.where(alone, 1.0, keep), jnp.where(alone, row, alias))


def draw_rows(table: AliasTable, num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """`num` independent rows, in proportion to the weights that the table was made of."""
    row_key, exchange_key = jax.random.split(key)
    rows = rows_with_replacement(0, table.keep.shape[0], num, key=row_key)
    return exchanged(table, rows, key=exchange_key)


def exchanged(table: AliasTable, rows: Int[Array, " num"], *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """Rows drawn uniformly become rows drawn by weight; of a table of equal weights they stay what they are."""
    is_kept = jax.random.uniform(key, rows.shape) < table.keep[rows]
    return jnp.where(is_kept, rows, table.alias[rows])


def row_probabilities(table: AliasTable) -> Float[Array, " n"]:
    """With what probability each row is drawn."""
    num = table.keep.shape[0]
    return table.keep.at[table.alias].add(1.0 - table.keep) / num


def _running_sum(parts: Float[Array, " n"]) -> UInt32[Array, " n"]:
    """Running sums to whole numbers: of whole parts exactly, so that only what is behind the point is rounded."""
    whole = jnp.floor(parts)
    behind = jnp.round(jnp.cumsum(parts - whole)).astype(jnp.uint32)
    return jax.lax.cummax(jnp.cumsum(whole.astype(jnp.uint32)) + behind)
