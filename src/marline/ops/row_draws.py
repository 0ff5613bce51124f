"""Uniform draws of row numbers from a window of a buffer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, UInt32

Count = Int[Array, ""] | int


def rows_with_replacement(start: Count, stop: Count, num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """`num` independent rows of [start, stop), each equally likely; an empty window gives `start`."""
    size = jnp.maximum(jnp.asarray(stop - start), 1)
    return start + _below(size, jax.random.bits(key, (num,), jnp.uint32))


def rows_without_replacement(
    start: Count, stop: Count, num: int, *, key: PRNGKeyArray, distinct: Count | None = None
) -> Int[Array, " num"]:
    """`num` distinct rows of [start, stop), each equally likely to be among them.

    The window, turned by a random offset, is cut into `num` slices that differ by one row at
    most, and each gives one row: O(num), where a random permutation would sort the window. With
    `num` rows in the window all are returned; with fewer, all are, in turn.

    Args:
        start: first row of the window.
        stop: the row behind the last.
        num: rows to return.
        key: consumed.
        distinct: how many of them may differ, where that is known at run time alone; the others repeat these.
    """
    bits = jax.random.bits(key, (num + 1,), jnp.uint32)
    size = jnp.maximum(jnp.asarray(stop - start), 1)
    slice_number, words = jnp.arange(num), bits[1:]
    num_slices = num
    if distinct is not None:
        num_slices = jnp.clip(distinct, 1, num)
        slice_number %= num_slices
        words = words[slice_number]
    width, longer = size // num_slices, size % num_slices  # the first slices are one row longer
    first = slice_number * width + jnp.minimum(slice_number, longer)
    place = first + _below(width + (slice_number < longer), words)
    place = jnp.where(width == 0, slice_number, place)
    offset = _below(size, bits[0])
    return start + (place + offset) % size


def count_distinct(rows: Int[Array, " num"]) -> Int[Array, ""]:
    """How many different values there are."""
    ascending = jnp.sort(rows)
    return 1 + jnp.sum(ascending[1:] != ascending[:-1])


def _below(bound: Int[Array, "*#shape"], bits: UInt32[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Random words to whole numbers of [0, bound), as floor(bound * bits / 2^32).

    No number is likelier than another by more than bound / 2^32: one in 4000 for a million rows.
    `jax.random.randint` takes three times the random words for less than that.
    """
    bound = bound.astype(jnp.uint32)
    low, high = bits & 0xFFFF, bits >> 16
    bound_low, bound_high = bound & 0xFFFF, bound >> 16
    # the product's upper word, by halves, for there are no 64-bit integers here
    middle = high * bound_low + (low * bound_low >> 16)
    carried = (middle & 0xFFFF) + low * bound_high
    return (high * bound_high + (middle >> 16) + (carried >> 16)).astype(jnp.int32)
