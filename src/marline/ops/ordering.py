"""Sorting and searching, in the forms that are quick on the machine at hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

# XLA sorts lone integers ten times faster on a CPU than floats or pairs, so rows up to this
# number travel in the low half of the word that is sorted.
_MAX_PACKED = 1 << 16


def stable_order(values: Float[Array, " n"]) -> Int[Array, " n"]:
    """`jnp.argsort(values)`, stable, but three times faster on a CPU for up to 65,536 values."""
    if values.shape[0] > _MAX_PACKED or values.dtype != jnp.float32:
        return jnp.argsort(values, stable=True)
    words = _ordered_words(values)
    rank = search_sorted(jnp.sort(words), words, side="left")
    return _rows_in_order(rank.astype(jnp.uint32))


def random_order(num: int, *, key: PRNGKeyArray) -> Int[Array, " num"]:
    """A random permutation of 0..num-1, as `jax.random.permutation` but four times faster on a CPU."""
    if num > _MAX_PACKED:
        return jax.random.permutation(key, num)
    return _rows_in_order(jax.random.bits(key, (num,), jnp.uint32))


def search_sorted(ascending: Array, values: Array, *, side: str) -> Int[Array, " n"]:
    """`jnp.searchsorted`: by bisection on a CPU, by one flat comparison on a wide accelerator."""
    method = "scan" if jax.default_backend() == "cpu" else "compare_all"
    return jnp.searchsorted(ascending, values, side=side, method=method)


def _rows_in_order(ranks: UInt32[Array, " n"]) -> Int[Array, " n"]:
    """Row numbers by rank, then by row; what a shift by the bits of a row number pushes out is ignored."""
    num_rows = ranks.shape[0]
    row_bits = (num_rows - 1).bit_length()
    packed = jnp.sort((ranks << row_bits) | jnp.arange(num_rows, dtype=jnp.uint32))
    return (packed & jnp.uint32((1 << row_bits) - 1)).astype(jnp.int32)


def _ordered_words(values: Float[Array, " n"]) -> UInt32[Array, " n"]:
    """Integers in the order of the floats: both zeros are one value, and NaN comes last."""
    sign = jnp.uint32(1 << 31)
    canonical = jnp.where(values == 0.0, 0.0, jnp.where(jnp.isnan(values), jnp.nan, values))
    words = jax.lax.bitcast_convert_type(canonical, jnp.uint32)
    return jnp.where(words < sign, words | sign, ~words)
