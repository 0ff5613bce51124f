"""Uniform draws of row numbers from a window of a buffer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

Count = Int[Array, ""] | int


def rows_with_replacement(start: Count, stop: Count, num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """`num` independent rows of [start, stop), each equally likely; an empty window gives `start`."""
    return jax.random.randint(key, (num,), start, jnp.maximum(stop, start + 1))


def rows_without_replacement(start: Count, stop: Count, num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """`num` distinct rows of [start, stop), each equally likely to be among them.

    The window, turned by a random offset, is cut into `num` slices that differ by one row at
    most, and each gives one row: O(num), where a random permutation would sort the window. With
    `num` rows in the window all are returned; with fewer, all are, in turn.
    """
    offset_key, place_key = jax.random.split(key)
    size = jnp.maximum(jnp.asarray(stop - start), 1)
    slice_number = jnp.arange(num)
    width, longer = size // num, size % num  # the first slices are one row longer
    first = slice_number * width + jnp.minimum(slice_number, longer)
    place = first + jax.random.randint(place_key, (num,), 0, width + (slice_number < longer))
    place = jnp.where(width == 0, slice_number, place)
    offset = jax.random.randint(offset_key, (), 0, size)
    return start + (place + offset) % size


def count_distinct(rows: Int[Array, " num"]) -> Int[Array, ""]:
    """How many different values there are."""
    ascending = jnp.sort(rows)
    return 1 + jnp.sum(ascending[1:] != ascending[:-1])
