"""Eq. (1): the best match, by brute force and by sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from marline.ops import matching
from marline.ops.matching import NO_SLOT

Match = Callable[..., jax.Array]

KEY = jax.random.key(0)

# compiled whole, which is several times quicker than operation by operation
l1_distances = jax.jit(matching.l1_distances)
best_match = jax.jit(matching.best_match)
by_sorting = jax.jit(matching.best_match_scalar)
nearest_distances = jax.jit(matching.nearest_distances)


@jax.jit
def brute_force(
    queries: jax.Array, references: jax.Array, *, key: jax.Array, excluded: jax.Array | None = None
) -> jax.Array:
    return matching.best_match(queries[:, None], references[:, None], key=key, excluded=excluded)


BOTH = pytest.mark.parametrize("match", [brute_force, by_sorting])


def test_l1_distances_of_embeddings() -> None:
    candidates = jnp.array([[0.0, 0.0], [1.0, 0.5], [3.0, -1.0]])
    online = jnp.array([[0.5, 0.0], [1.0, 1.0], [2.0, -2.0], [0.0, 0.4]])
    expected = [[0.5, 2.0, 4.0, 0.4], [1.0, 0.5, 3.5, 1.1], [3.5, 4.0, 2.0, 4.4]]
    np.testing.assert_allclose(l1_distances(candidates, online), expected, rtol=1e-6)
    np.testing.assert_array_equal(best_match(candidates, online, key=KEY), [3, 1, 2])


@BOTH
def test_match_on_q_values(match: Match) -> None:
    q_candidates, q_online = jnp.array([1.0, 2.5, 4.0]), jnp.array([0.8, 2.0, 3.1, 4.2])
    expected = [[0.2, 1.0, 2.1, 3.2], [1.7, 0.5, 0.6, 1.7], [3.2, 2.0, 0.9, 0.2]]
    distances = jax.jit(lambda q, r: matching.l1_distances(q[:, None], r[:, None]))(q_candidates, q_online)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)
    np.testing.assert_array_equal(match(q_candidates, q_online, key=KEY), [0, 1, 3])


def test_distances_of_random_rows_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(300, 7)).astype("f4"), rng.normal(size=(41, 7)).astype("f4")
    expected = np.abs(queries[:, None] - references[None]).sum(-1)
    np.testing.assert_allclose(l1_distances(jnp.asarray(queries), jnp.asarray(references)), expected, rtol=1e-5)
    # 300 queries are more than one block, and no whole number of blocks
    matched = best_match(jnp.asarray(queries), jnp.asarray(references), key=KEY)
    np.testing.assert_array_equal(matched, expected.argmin(axis=1))


GRID = st.integers(-3, 3).map(lambda value: value / 4)


@given(
    queries=st.lists(GRID, min_size=6, max_size=6),
    references=st.lists(GRID, min_size=9, max_size=9),
    excluded=st.none() | st.lists(st.integers(NO_SLOT, 8), min_size=6, max_size=6),
    seed=st.integers(0, 1000),
)
@BOTH
def test_match_is_nearest_among_duplicates(
    match: Match, queries: list[float], references: list[float], excluded: list[int] | None, seed: int
) -> None:
    q, r = jnp.array(queries), jnp.array(references)
    skipped = None if excluded is None else jnp.array(excluded)
    matched = np.asarray(match(q, r, key=jax.random.key(seed), excluded=skipped))
    distances = np.abs(np.asarray(q)[:, None] - np.asarray(r)[None])
    if excluded is not None:
        rows = [row for row, slot in enumerate(excluded) if slot != NO_SLOT]
        distances[rows, [excluded[row] for row in rows]] = np.inf
    assert ((matched >= 0) & (matched < 9)).all()
    np.testing.assert_array_equal(distances[np.arange(6), matched], distances.min(axis=1))


@pytest.mark.parametrize("digits", [0, 1, 6])  # from all ties to none
@pytest.mark.parametrize("exclude", [False, True])
def test_sorting_finds_the_distance_of_brute_force(digits: int, exclude: bool) -> None:
    rng = np.random.default_rng(digits)
    queries, references = (rng.normal(size=n).round(digits).astype("f4") for n in (512, 2000))
    excluded = rng.integers(NO_SLOT, 2000, size=512) if exclude else None
    chosen = [np.asarray(match(queries, references, key=KEY, excluded=excluded)) for match in (by_sorting, brute_force)]
    first, second = (np.abs(queries - references[match]) for match in chosen)
    np.testing.assert_array_equal(first, second)
    if excluded is not None:
        assert all(not np.any(match == excluded) for match in chosen)


@pytest.mark.parametrize("exclude", [False, True])
def test_nearest_distances_are_those_of_the_best_matches(exclude: bool) -> None:
    rng = np.random.default_rng(1)
    references = rng.normal(size=(41, 7)).astype("f4")
    queries = np.concatenate([references[:5], rng.normal(size=(600, 7)).astype("f4")])  # several blocks
    own_slot = np.where(np.arange(605) < 5, np.arange(605), NO_SLOT) if exclude else None
    matched = best_match(queries, references, key=KEY, excluded=own_slot)
    expected = np.abs(queries - references[matched]).sum(-1)
    distances = np.asarray(nearest_distances(queries, references, excluded=own_slot))
    np.testing.assert_allclose(distances, expected, rtol=1e-5)
    assert np.all((distances[:5] == 0.0) != exclude)
    alone = nearest_distances(queries, references[:1], excluded=np.zeros(605, np.int32))
    np.testing.assert_allclose(alone, np.asarray(l1_distances(queries, references[:1]))[:, 0], rtol=1e-6)


@BOTH
def test_order_of_rows_does_not_matter(match: Match) -> None:
    rng = np.random.default_rng(3)
    queries, references = (rng.normal(size=n).astype("f4") for n in (6, 9))
    rows, slots = rng.permutation(6), rng.permutation(9)
    matched = np.asarray(match(queries, references, key=KEY))
    np.testing.assert_array_equal(match(queries[rows], references, key=KEY), matched[rows])
    np.testing.assert_array_equal(slots[match(queries, references[slots], key=KEY)], matched)


@BOTH
def test_row_among_the_references_matches_itself_unless_excluded(match: Match) -> None:
    references = np.random.default_rng(0).normal(size=9).astype("f4")
    own = np.arange(6)
    np.testing.assert_array_equal(match(references[own], references, key=KEY), own)
    assert not np.any(np.asarray(match(references[own], references, key=KEY, excluded=own)) == own)


@BOTH
def test_single_reference_matches_all_even_if_excluded(match: Match) -> None:
    queries, reference = jnp.array([0.0, 1.0, -2.0]), jnp.array([0.5])
    np.testing.assert_array_equal(match(queries, reference, key=KEY), [0, 0, 0])
    np.testing.assert_array_equal(match(queries, reference, key=KEY, excluded=np.zeros(3, int)), [0, 0, 0])


FAR = 99.0
TIES = {
    # query, references, excluded, the tied rows
    "three at one distance, on both sides": (2.5, [2, 3, 2, FAR, FAR, FAR, FAR, FAR], NO_SLOT, [0, 1, 2]),
    "five equal to the query": (1.0, [1, 0, 1, 1, 5, 1, 0.99, 1], NO_SLOT, [0, 2, 3, 5, 7]),
    "one of five excluded": (1.0, [1, 0, 1, 1, 5, 1, 0.99, 1], 3, [0, 2, 5, 7]),
    "one excluded below": (2.5, [2, 3, 2, 2, 3, 9, FAR, FAR], 2, [0, 1, 3, 4]),
    "one excluded above": (2.5, [2, 3, 2, 2, 3, 9, FAR, FAR], 4, [0, 1, 2, 3]),
    "the only nearest excluded": (2.0, [2, 3, 1, 3, 7, FAR, FAR, FAR], 0, [1, 2, 3]),
    "two kinds of zero": (0.0, [0.0, -0.0, 1, -0.0, FAR, FAR, FAR, FAR], NO_SLOT, [0, 1, 3]),
    "all equal": (1.0, [1] * 8, NO_SLOT, list(range(8))),
}


@BOTH
@pytest.mark.parametrize("case", TIES)
def test_ties_are_broken_uniformly(match: Match, case: str) -> None:
    query, references, excluded, tied = TIES[case]
    num = 20_000
    queries = np.full(num, query, np.float32)
    matched = match(queries, jnp.asarray(references, jnp.float32), key=KEY, excluded=np.full(num, excluded))
    counts = np.bincount(np.asarray(matched), minlength=8)
    assert counts.sum() == counts[tied].sum()
    assert scipy.stats.chisquare(counts[tied]).pvalue > 1e-3


@BOTH
def test_ties_are_broken_afresh_by_every_key_and_query(match: Match) -> None:
    keys = jax.random.split(KEY, 12_000)
    references = jnp.array([2.0, 3.0, 2.0])
    queries = jnp.array([2.5, 2.5])
    pairs = np.asarray(jax.jit(jax.vmap(lambda key: match(queries, references, key=key)))(keys))
    # all nine pairs of choices equally often: uniform over keys, and independent between queries
    assert scipy.stats.chisquare(np.bincount(3 * pairs[:, 0] + pairs[:, 1], minlength=9)).pvalue > 1e-3


def test_ties_in_several_dimensions_are_broken_uniformly() -> None:
    references = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [-0.5, 0.5], [0.0, -1.0]])
    matched = best_match(np.zeros((20_000, 2), np.float32), references, key=jax.random.key(1))
    counts = np.bincount(np.asarray(matched), minlength=5)
    assert counts[2] == 0
    assert scipy.stats.chisquare(counts[[0, 1, 3, 4]]).pvalue > 1e-3


@pytest.mark.slow
def test_ties_among_many_references_favour_no_part_of_them() -> None:
    matched = best_match(jnp.zeros((4096, 1)), jnp.zeros((70_000, 1)), key=KEY)
    counts = np.histogram(np.asarray(matched), bins=10, range=(0, 70_000))[0]
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@BOTH
def test_distances_that_are_not_numbers_still_give_a_row(match: Match) -> None:
    matched = np.asarray(match(np.full(6, np.nan, np.float32), np.arange(9, dtype=np.float32), key=KEY))
    assert ((matched >= 0) & (matched < 9)).all()


@BOTH
@pytest.mark.parametrize("num", [pytest.param(50, marks=pytest.mark.slow), 500])
def test_features_scaled_in_the_same_program_find_their_equals(
    match: Match, num: int, jit_for_users: Callable[..., Any]
) -> None:
    # XLA may round a scaled feature in one place and fuse the scaling into a difference in another
    rng = np.random.default_rng(0)
    references = rng.normal(size=2000).astype("f4")
    own = rng.permutation(2000)[:num]
    scaled = jit_for_users(lambda q, r, scale: match(scale * q, scale * r, key=KEY))
    for scale in (0.37, 1.7, 2.3):
        np.testing.assert_array_equal(scaled(references[own], references, scale), own)


def test_equal_values_differ_by_exactly_zero_in_a_compiled_program(jit_for_users: Callable[..., Any]) -> None:
    x, scale = np.random.default_rng(0).normal(size=1000).astype("f4"), jnp.float32(1.7)
    difference = jit_for_users(lambda x, y, scale: matching.absolute_difference(scale * x, scale * y))
    np.testing.assert_array_equal(difference(x, x, scale), np.zeros(1000))
    np.testing.assert_allclose(difference(x, -x, scale), 3.4 * np.abs(x), rtol=1e-6)


@BOTH
def test_matches_under_vmap_are_those_of_single_calls(match: Match) -> None:
    keys = jax.random.split(KEY, 3)
    rng = np.random.default_rng(0)
    queries, references = (rng.normal(size=(3, n)).round().astype("f4") for n in (6, 9))
    together = np.asarray(jax.jit(jax.vmap(lambda q, r, key: match(q, r, key=key)))(queries, references, keys))
    for row in range(3):
        np.testing.assert_array_equal(together[row], match(queries[row], references[row], key=keys[row]))
