"""Best match of offline rows among online rows, Eq. (1) of the OTC paper."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

NO_SLOT = -1


def l1_distances(queries: Float[Array, "n e"], references: Float[Array, "m e"]) -> Float[Array, "n m"]:
    """All pairwise L1 distances, summed one feature at a time so that no [n, m, e] array exists."""
    total = jnp.zeros((queries.shape[0], references.shape[0]), queries.dtype)
    for feature in range(queries.shape[1]):
        total += jnp.abs(queries[:, feature, None] - references[None, :, feature])
    return total


def best_match(
    queries: Float[Array, "n e"],
    references: Float[Array, "m e"],
    *,
    key: PRNGKeyArray,
    excluded: Int[Array, " n"] | None = None,
) -> Int[Array, " n"]:
    """Row of `references` closest to each query in L1 distance; uniform among exact ties.

    Eq. (1) of the OTC paper, on features rather than raw states.

    Args:
        queries: features of the state-action pairs to be matched.
        references: features of online state-action pairs; at least one row.
        key: consumed by the choice among ties.
        excluded: for each query one reference that it must not match, or -1; ignored where it
            is the only reference.

    Returns:
        For each query, a row index into `references`.
    """
    num_references = references.shape[0]
    distances = l1_distances(queries, references)
    if excluded is not None and num_references > 1:
        forbidden = jnp.arange(num_references)[None, :] == excluded[:, None]
        distances = jnp.where(forbidden, jnp.inf, distances)
    tied = distances == jnp.min(distances, axis=1, keepdims=True)
    # A minimum is vectorised where an argmin is not: random bits over the row number, in one word.
    index_bits = max(1, (num_references - 1).bit_length())
    row = jnp.arange(num_references, dtype=jnp.uint32)
    seed = jax.random.bits(key, (queries.shape[0], 1), jnp.uint32)
    ticket = (_scramble(row[None, :] ^ seed) << index_bits) | row[None, :]
    winner = jnp.min(jnp.where(tied, ticket, jnp.uint32(0xFFFFFFFF)), axis=1)
    return (winner & jnp.uint32((1 << index_bits) - 1)).astype(jnp.int32)


def best_match_scalar(
    queries: Float[Array, " n"],
    references: Float[Array, " m"],
    *,
    key: PRNGKeyArray,
    excluded: Int[Array, " n"] | None = None,
) -> Int[Array, " n"]:
    """`best_match` for scalar features, in O((n + m) log m): one sort and a few binary searches.

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
    order = jnp.argsort(references)
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
    split = _search(ascending, queries, "left")
    below, above = split - 1, split
    below = jnp.where(below == place, below - 1, below)
    above = jnp.where(above == place, above + 1, above)
    gap_below, gap_above = jnp.abs(queries - value_at(below)), jnp.abs(value_at(above) - queries)
    use_below, use_above = gap_below <= gap_above, gap_above <= gap_below

    # the run of equal values that each of them starts
    start_below = _search(ascending, value_at(below), "left")
    stop_above = _search(ascending, value_at(above), "right")
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


def _search(ascending: Float[Array, " m"], values: Float[Array, " n"], side: str) -> Int[Array, " n"]:
    # binary search wins on a CPU, one flat comparison on a wide accelerator
    method = "scan" if jax.default_backend() == "cpu" else "compare_all"
    return jnp.searchsorted(ascending, values, side=side, method=method)


def _scramble(x: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """An avalanche mix of 32-bit words (the finalizer of MurmurHash3)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
