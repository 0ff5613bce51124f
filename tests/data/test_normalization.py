"""Standardisation: accuracy in float32, and what must never change."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.data.normalization import EPSILON, Normalizer

fit = jax.jit(Normalizer.fit)
normalized = jax.jit(Normalizer.__call__)


def test_worked_example() -> None:
    normalizer = fit(jnp.array([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]]))
    np.testing.assert_allclose(normalizer.mean, [3.0, 7.0])
    np.testing.assert_allclose(normalizer.scale, [np.sqrt(8 / 3) + 1e-3, 1e-3], rtol=1e-6)
    np.testing.assert_allclose(
        normalized(normalizer, jnp.array([5.0, 8.0])), [2 / (np.sqrt(8 / 3) + 1e-3), 1000.0], rtol=1e-5
    )


def test_a_million_rows_far_from_zero_lose_no_digits() -> None:
    rng = np.random.default_rng(0)
    spread, offset = np.array([1.0, 0.01, 30.0]), np.array([100.0, -5.0, 1e4])
    x = rng.normal(size=(1_000_000, 3)) * spread + offset
    x = x.astype(np.float32)
    normalizer = fit(x)
    exact = x.astype(np.float64)
    mean, scale = exact.mean(axis=0), exact.std(axis=0) + EPSILON
    # half a unit in the last place of the mean is the best that float32 can store
    np.testing.assert_allclose(normalizer.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(normalizer.scale, scale, rtol=1e-5)
    np.testing.assert_allclose((np.asarray(normalizer.mean) - mean) / scale, 0.0, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e5, 1e6])
def test_a_constant_feature_becomes_zero(value: float) -> None:
    x = np.full((10_001, 1), value, np.float32)
    normalizer = fit(x)
    np.testing.assert_array_equal(normalized(normalizer, x), 0.0)
    np.testing.assert_allclose(normalizer.scale, EPSILON)


def test_one_row_is_enough() -> None:
    normalizer = fit(jnp.array([[2.0, -4.0]]))
    np.testing.assert_array_equal(normalized(normalizer, jnp.array([2.0, -4.0])), 0.0)


def test_every_batch_shape_is_mapped_alike() -> None:
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    normalizer = fit(x.reshape(20, 3))
    expected = (x - np.asarray(normalizer.mean)) / np.asarray(normalizer.scale)
    whole = np.asarray(normalized(normalizer, x))
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    np.testing.assert_allclose(normalized(normalizer, x[1, 2]), whole[1, 2], rtol=1e-6)


def test_identity_changes_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(jax.jit(lambda x: Normalizer.identity(3)(x))(x), x)


def test_rows_that_are_not_known_have_no_part() -> None:
    x = jnp.array([[1.0], [900.0], [3.0], [5.0]])
    normalizer = fit(x, jnp.array([True, False, True, True]))
    assert normalizer.mean.item() == pytest.approx(3.0)
    assert normalizer.scale.item() == pytest.approx(np.sqrt(8 / 3) + 1e-3)
    nothing = fit(x, jnp.array([False, False, False, False]))
    assert nothing.mean.item() == 0.0 and nothing.scale.item() == pytest.approx(1e-3)
