"""Sorting and searching against numpy's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from marline.ops import ordering

random_order = jax.jit(ordering.random_order, static_argnums=0)
search_sorted = jax.jit(ordering.search_sorted, static_argnames="side")
stable_order = jax.jit(ordering.stable_order)

SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 3e38, -3e38, float("inf"), float("-inf"), float("nan")]


@given(values=st.lists(st.sampled_from(SPECIAL), min_size=12, max_size=12))
def test_stable_order_of_special_values(values: list[float]) -> None:
    array = np.array(values, np.float32)
    np.testing.assert_array_equal(stable_order(jnp.asarray(array)), np.argsort(array, kind="stable"))


@pytest.mark.parametrize("num", [1, 2, 2000, 65_536, 70_000])
@pytest.mark.parametrize("digits", [1, 6])
def test_stable_order_of_random_values(num: int, digits: int) -> None:
    values = np.random.default_rng(num).normal(size=num).round(digits).astype(np.float32)
    np.testing.assert_array_equal(stable_order(jnp.asarray(values)), np.argsort(values, kind="stable"))


@pytest.mark.parametrize("num", [1, 2, 65_536, 70_000])
def test_random_order_holds_every_row_once(num: int) -> None:
    order = np.asarray(random_order(num, key=jax.random.key(num)))
    np.testing.assert_array_equal(np.sort(order), np.arange(num))


def test_random_order_is_uniform() -> None:
    keys = jax.random.split(jax.random.key(0), 24_000)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: random_order(4, key=key)))(keys))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
def test_search_sorted(side: str) -> None:
    ascending, values = np.array([1.0, 1.0, 2.0, 4.0, 4.0], "f4"), np.array([0.0, 1.0, 1.5, 2.0, 4.0, np.inf], "f4")
    expected = np.searchsorted(ascending, values, side=side)  # pyright: ignore[reportCallIssue, reportArgumentType]
    np.testing.assert_array_equal(search_sorted(jnp.asarray(ascending), jnp.asarray(values), side=side), expected)
