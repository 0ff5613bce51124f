"""Uniform draws of rows from a window."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from marline.ops import row_draws

KEY = jax.random.key(0)

# compiled whole, which is several times quicker than operation by operation
count_distinct, below = jax.jit(row_draws.count_distinct), jax.jit(row_draws._below)
rows_with_replacement = jax.jit(row_draws.rows_with_replacement, static_argnums=2)
rows_without_replacement = jax.jit(row_draws.rows_without_replacement, static_argnums=2)


@pytest.mark.parametrize("rows", [rows_with_replacement, rows_without_replacement])
def test_each_row_of_the_window_is_drawn_equally_often(rows: Callable[..., jax.Array]) -> None:
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: rows(3, 16, 5, key=key)))(jax.random.split(KEY, 13_000)))
    for column in drawn.T:
        counts = np.bincount(column, minlength=16)
        assert counts[:3].sum() == 0
        assert len(counts) == 16
        assert scipy.stats.chisquare(counts[3:]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("num", "size"),
    [(1, 1), (5, 5), (5, 6), (2000, 2020), (2000, 10_000), (50_000, 99_999), (100_000, 150_001)],
)
def test_rows_without_replacement_are_distinct(num: int, size: int) -> None:
    rows = np.asarray(rows_without_replacement(7, 7 + size, num, key=KEY))
    assert len(np.unique(rows)) == num
    assert rows.min() >= 7
    assert rows.max() < 7 + size


@pytest.mark.parametrize(("num", "size"), [(5, 3), (2000, 1010), (100_000, 60_000)])
def test_window_smaller_than_the_draw_gives_all_its_rows(num: int, size: int) -> None:
    counts = np.bincount(np.asarray(rows_without_replacement(0, size, num, key=KEY)), minlength=size)
    assert len(counts) == size
    assert set(counts) == {num // size, num // size + 1}


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None, None))
def seven_rows(key: jax.Array, distinct: jax.Array, stop: jax.Array) -> jax.Array:
    return row_draws.rows_without_replacement(2, stop, 7, key=key, distinct=distinct)


@pytest.mark.parametrize(("distinct", "size"), [(1, 5), (3, 5), (4, 100), (7, 3), (9, 30), (0, 4)])
def test_how_many_rows_may_differ_is_known_at_run_time(distinct: int, size: int) -> None:
    drawn = np.asarray(seven_rows(jax.random.split(KEY, 2000), jnp.int32(distinct), jnp.int32(2 + size)))
    expected = min(max(distinct, 1), 7, size)
    assert all(len(set(rows.tolist())) == expected for rows in drawn)
    for column in drawn.T:  # and each row of the window is as likely anywhere
        counts = np.bincount(column, minlength=2 + size)
        assert counts[:2].sum() == 0
        assert scipy.stats.chisquare(counts[2:]).pvalue > 1e-4


@pytest.mark.parametrize("rows", [rows_with_replacement, rows_without_replacement])
def test_empty_window_gives_its_start(rows: Callable[..., jax.Array]) -> None:
    np.testing.assert_array_equal(rows(9, 9, 4, key=KEY), [9, 9, 9, 9])


@pytest.mark.parametrize(("rows", "distinct"), [([3], 1), ([2, 2, 2], 1), ([5, 1, 5, 2, 1], 3), ([0, 1, 2], 3)])
def test_count_distinct(rows: list[int], distinct: int) -> None:
    assert int(count_distinct(jnp.array(rows))) == distinct


def test_random_words_become_whole_numbers_as_by_exact_arithmetic() -> None:
    random = np.random.default_rng(0)
    bits = np.concatenate([random.integers(0, 2**32, 1000), [0, 1, 2**16 - 1, 2**16, 2**32 - 1] * 3]).astype(np.uint32)
    for bound in (1, 2, 3, 65_535, 65_536, 65_537, 1_000_003, 2**31 - 1):
        expected = [bound * int(word) >> 32 for word in bits]
        np.testing.assert_array_equal(below(jnp.int32(bound), jnp.asarray(bits)), expected)
