"""Best match of offline rows among online rows, Eq. (1) of the OTC paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from marline.ops.ordering import search_sorted, stable_order

NO_SLOT = -1
_BLOCK = 128  # queries matched at a time: their distances stay in cache


def absolute_difference(x: Float[Array, "*#shape"], y: Float[Array, "*#shape"]) -> Float[Array, "*#shape"]:
    """|x - y|, and exactly 0 between equals, wherever it is computed.

    A plain difference of products, such as scaled features, becomes a fused multiply-add in some
    compiled loops, and equal values then differ by its rounding.
    """
    return jnp.maximum(x, y) - jnp.minimum(x, y)


def l1_distances(queries: Float[Array, "n e"], references: Float[Array, "m e"]) -> Float[Array, "n m"]:
    """All pairwise L1 distances, summed one feature at a time so that no [n, m, e] array exists."""
    return jax.vmap(_l1_distances, in_axes=(0, None))(queries, references.T)


def best_match(
    queries: Float[Array, "n e"],
    references: Float[Array, "m e"],
    *,
    key: PRNGKeyArray,
    excluded: Int[Array, " n"] | None = None,
) -> Int[Array, " n"]:
    """Row of `references` closest to each query in L1 distance; uniform among exact ties.

    Eq. (1) of the OTC paper, on features rather than raw states. Memory is bounded: queries are
    taken a block at a time.

    Args:
        queries: features of the state-action pairs to be matched.
        references: features of online state-action pairs; at least one row.
        key: consumed by the choice among ties.
        excluded: for each query one reference that it must not match, or -1; ignored where it
            is the only reference.

    Returns:
        For each query, a row index into `references`.
    """
    num_queries, num_references = queries.shape[0], references.shape[0]
    if excluded is None or num_references == 1:
        excluded = jnp.full(num_queries, NO_SLOT)
    by_feature = references.T
    row = jnp.arange(num_references, dtype=jnp.uint32)

    def match(query: Float[Array, " e"], forbidden: Int[Array, ""], seed: UInt32[Array, ""]) -> UInt32[Array, ""]:
        distances = jnp.where(row == forbidden.astype(jnp.uint32), jnp.inf, _l1_distances(query, by_feature))
        # every row a random ticket of its own: a minimum is vectorised where an argmin is not
        farther = distances > jnp.min(distances)
        ticket = jnp.min(jnp.where(farther, jnp.uint32(0xFFFFFFFF), _scramble(row ^ seed)))
        return _unscramble(ticket) ^ seed

    # A loop even for few queries: what computed the features cannot be fused into it and be rounded
    # otherwise in the comparison than in the minimum, which would then not be found.
    seeds = jax.random.bits(key, (num_queries,), jnp.uint32)
    blocks, undo = _in_blocks((queries, excluded, seeds), _BLOCK)
    return undo(jax.lax.map(lambda block: jax.vmap(match)(*block), blocks)).astype(jnp.int32)


def nearest_distances(
    queries: Float[Array, "n e"], references: Float[Array, "m e"], *, excluded: Int[Array, " n"] | None = None
) -> Float[Array, " n"]:
    """L1 distance of each query to the reference closest to it: all there is to know where what is matched is compared.

    Args:
        queries: features of the rows to be matched.
        references: features of online rows; at least one row.
        excluded: for each query one reference that it must not match, or -1; ignored where it
            is the only reference.
    """
    num_queries, num_references = queries.shape[0], references.shape[0]
    if excluded is None or num_references == 1:
        excluded = jnp.full(num_queries, NO_SLOT)

    def match(queries: Float[Array, "e n"], excluded: Int[Array, " n"]) -> Float[Array, " n"]:
        def closer(nearest: Float[Array, " n"], now: tuple[Array, Array]) -> tuple[Float[Array, " n"], None]:
            reference, slot = now
            distances = jnp.where(excluded == slot, jnp.inf, _l1_distances(reference, queries))
            return jnp.minimum(nearest, distances), None

        slots = jnp.arange(num_references)
        return jax.lax.scan(closer, jnp.full(queries.shape[1], jnp.inf), (references, slots), unroll=8)[0]

    def match_at_once(queries: Float[Array, "e n"], excluded: Int[Array, " n"]) -> Float[Array, " n"]:
        distances = l1_distances(queries.T, references)
        return jnp.min(jnp.where(excluded[:, None] == jnp.arange(num_references), jnp.inf, distances), axis=1)

    # One reference after another keeps the minima of a block in a CPU's cache, but leaves an accelerator idle.
    one_by_one = jax.default_backend() == "cpu"
    blocks, undo = _in_blocks((queries, excluded), 4 * _BLOCK if one_by_one else _BLOCK)
    nearest = jax.lax.map(lambda block: (match if one_by_one else match_at_once)(block[0].T, block[1]), blocks)
    return undo(nearest)


def best_match_scalar(
    queries: Float[Array, " n"],
    references: Float[Array, " m"],
    *,
    key: PRNGKeyArray,
    excluded: Int[Array, " n"] | None = None,
) -> Int[Array, " n"]:
    """`best_match` for scalar features, in O((n + m) log m): by sorting and a few binary searches.

    The nearest references lie in at most two runs of equal values: those equal to the query, or
    else the nearest value below and the nearest value above it. One member of the nearest run (of
    both, at equal distance) is chosen uniformly.

    Args:
        queries: feature of each state-action pair to be matched.
        references: feature of each online state-action pair; at least one.
        key: consumed by the choice among ties.
        excluded: for each query one reference that it must not match, or -1; ignored where it
            is the only reference.

    Returns:
        For each query, an index into `references`.
    """
    num_references = references.shape[0]
    order = stable_order(references)
    ascending = references[order]
    if excluded is None or num_references == 1:
        place = jnp.full(queries.shape, NO_SLOT)
    else:
        places = jnp.zeros(num_references, order.dtype).at[order].set(jnp.arange(num_references, dtype=order.dtype))
        place = jnp.where(excluded == NO_SLOT, NO_SLOT, places[excluded])

    def value_at(index: Array) -> Array:
        inside = (index >= 0) & (index < num_references)
        return jnp.where(inside, ascending[jnp.clip(index, 0, num_references - 1)], jnp.inf)

    # the first candidates on either side, stepping over the excluded place
    split = search_sorted(ascending, queries, side="left")
    below, above = split - 1, split
    below = jnp.where(below == place, below - 1, below)
    above = jnp.where(above == place, above + 1, above)
    gap_below, gap_above = (absolute_difference(queries, value_at(index)) for index in (below, above))
    use_below, use_above = gap_below <= gap_above, gap_above <= gap_below

    # the run of equal values that each of them starts
    start_below = search_sorted(ascending, value_at(below), side="left")
    stop_above = search_sorted(ascending, value_at(above), side="right")
    count_below = jnp.where(use_below, below + 1 - start_below, 0)
    count_above = jnp.where(use_above, stop_above - above, 0)
    hole_below = (start_below <= place) & (place <= below)
    hole_above = (above <= place) & (place < stop_above)
    count_below -= jnp.where(use_below & hole_below, 1, 0)
    count_above -= jnp.where(use_above & hole_above, 1, 0)

    total = count_below + count_above
    ticket = jnp.floor(jax.random.uniform(key, queries.shape) * total).astype(split.dtype)
    ticket = jnp.minimum(ticket, total - 1)
    in_below = ticket < count_below
    chosen = jnp.where(in_below, start_below + ticket, above + ticket - count_below)
    hole = jnp.where(in_below, use_below & hole_below, use_above & hole_above)
    chosen += jnp.where(hole & (chosen >= place), 1, 0)
    return order[jnp.clip(chosen, 0, num_references - 1)].astype(jnp.int32)


def _in_blocks(arrays: Any, size: int) -> tuple[Any, Callable[[Array], Array]]:
    """Arrays cut into at least two blocks of `size` rows at most, all equally long, and what joins the results."""
    num_rows = jax.tree.leaves(arrays)[0].shape[0]
    num_blocks = max(2, -(-num_rows // size))
    block = -(-num_rows // num_blocks)

    def cut(x: Array) -> Array:
        padding = [(0, num_blocks * block - num_rows)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(num_blocks, block, *x.shape[1:])

    return jax.tree.map(cut, arrays), lambda result: result.reshape(-1)[:num_rows]


def _l1_distances(query: Float[Array, " e"], by_feature: Float[Array, "e m"]) -> Float[Array, " m"]:
    total = jnp.zeros(by_feature.shape[1], query.dtype)
    for feature in range(query.shape[0]):
        total += jnp.abs(query[feature] - by_feature[feature])
    return total


def _scramble(x: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """An avalanche mix of 32-bit words, and a bijection (the finalizer of MurmurHash3)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _unscramble(x: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """The inverse of `_scramble`."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7ED1B41D)
    x = (x ^ (x >> 13) ^ (x >> 26)) * jnp.uint32(0xA5CB9243)
    return x ^ (x >> 16)
