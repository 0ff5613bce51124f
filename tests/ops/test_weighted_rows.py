"""Draws by a table of weights: tables by hand, and the law of the draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from marline.ops import weighted_rows
from marline.ops.row_draws import rows_with_replacement
from marline.ops.weighted_rows import draw_rows, exchanged, uniform_table

KEY = jax.random.key(0)
alias_table, row_probabilities = jax.jit(weighted_rows.alias_table), jax.jit(weighted_rows.row_probabilities)


def test_a_table_by_hand() -> None:
    """Weights 1, 2, 5, 0 have mean 2: in its units .5, 1, 2.5, 0; row 2 fills rows 0 and 3."""
    table = alias_table(jnp.array([1.0, 2.0, 5.0, 0.0]))
    np.testing.assert_allclose(table.keep, [0.5, 1.0, 1.0, 0.0], atol=1e-6)
    assert np.asarray(table.alias)[[0, 3]].tolist() == [2, 2]
    np.testing.assert_allclose(row_probabilities(table), [0.125, 0.25, 0.625, 0.0], atol=1e-6)


def test_a_heavy_row_that_gave_too_much_is_filled_by_the_next() -> None:
    """In units of the mean .2, 1.5, .3, 2: row 1 fills row 0, which leaves it .7, and row 3 gives it .3."""
    table = alias_table(jnp.array([0.2, 1.5, 0.3, 2.0]))
    np.testing.assert_allclose(table.keep, [0.2, 0.7, 0.3, 1.0], atol=1e-6)
    assert np.asarray(table.alias)[:3].tolist() == [1, 3, 3]


@pytest.mark.parametrize("num", [1, 2, 7, 1000, 200_000])
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_probabilities_are_in_proportion_to_weights(num: int, spread: float) -> None:
    weights = np.exp(np.random.default_rng(num).normal(0, spread, num)).astype(np.float32)
    weights[::5] *= np.arange(len(weights[::5])) % 2  # and some are 0
    weights[0] = 1.0
    table = alias_table(jnp.asarray(weights))
    assert np.min(table.keep) >= 0 and np.max(table.keep) <= 1
    expected = weights / weights.sum(dtype=np.float64)
    found = np.asarray(row_probabilities(table))
    off = np.abs(found - expected)
    is_right = off <= 5e-8 + 2e-3 * expected
    # of many rows one gets what rounding leaves over, more or less of it with the version of JAX
    assert is_right.all() or (num > 1000 and (~is_right).sum() == 1 and off.max() < 0.1 / num)
    assert not found[weights == 0].any()


def test_no_weight_at_all_is_uniform() -> None:
    for weight in (0.0, 0.3, 1e-30):
        table = alias_table(jnp.array([weight] * 5))
        np.testing.assert_allclose(row_probabilities(table), 0.2, atol=1e-6)


def test_draws_follow_the_weights() -> None:
    weights = jnp.array([1.0, 2.0, 5.0, 0.0, 0.5])
    rows = jax.jit(draw_rows, static_argnums=1)(alias_table(weights), 100_000, key=KEY)
    counts = np.bincount(rows, minlength=5)
    assert counts[3] == 0
    expected = 1e5 * np.array([1.0, 2.0, 5.0, 0.0, 0.5]) / 8.5
    assert scipy.stats.chisquare(counts[[0, 1, 2, 4]], expected[[0, 1, 2, 4]]).pvalue > 1e-3


def test_equal_weights_exchange_nothing() -> None:
    rows = jax.jit(lambda: rows_with_replacement(0, 1000, 5000, key=KEY))()
    exchange = jax.jit(exchanged)
    for table in (jax.jit(lambda: uniform_table(1000))(), alias_table(np.full(1000, 0.37, np.float32))):
        np.testing.assert_array_equal(exchange(table, rows, key=KEY), rows)


@pytest.mark.slow
def test_stacked_tables_are_those_of_each_alone() -> None:
    weights = jnp.exp(jax.random.normal(KEY, (3, 50)))
    stacked = jax.vmap(alias_table)(weights)
    for place in range(3):
        alone = alias_table(weights[place])
        np.testing.assert_array_equal(stacked.alias[place], alone.alias)
        # sums of up to 50, in another order: 50 times half a unit in the last place
        np.testing.assert_allclose(stacked.keep[place], alone.keep, atol=50 * 6e-8)
