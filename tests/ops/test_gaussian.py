"""Densities against SciPy and the change of variables, and how far a spread may go."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from marline.ops import gaussian

clamped_log_std, log_density, log_slope_of_tanh, sigmoid_log_std, squashed_log_density = (
    jax.jit(function)
    for function in (
        gaussian.clamped_log_std,
        gaussian.log_density,
        gaussian.log_slope_of_tanh,
        gaussian.sigmoid_log_std,
        gaussian.squashed_log_density,
    )
)


squashed_log_densities = jax.jit(jax.vmap(gaussian.squashed_log_density, (0, 0, None)))


def test_log_density_by_hand() -> None:
    value = log_density(jnp.array([0.3]), jnp.array([0.1]), jnp.array([-3.0]))
    np.testing.assert_allclose(value, -5.987514, rtol=1e-6)


def test_log_density_sums_over_dimensions() -> None:
    x, mean, log_std = np.array([0.3, -2.0, 5.0]), np.array([0.1, 1.0, 5.0]), np.array([-3.0, 0.5, 2.0])
    expected = scipy.stats.norm.logpdf(x, mean, np.exp(log_std)).sum()
    np.testing.assert_allclose(log_density(jnp.array(x), jnp.array(mean), jnp.array(log_std)), expected, rtol=1e-5)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.8, -0.5), (-0.3, -2.0)])
def test_squashed_density_integrates_to_one(mean: float, log_std: float) -> None:
    edges = np.linspace(-1.0, 1.0, 20_001)
    action = (edges[1:] + edges[:-1]) / 2
    unsquashed = np.arctanh(action)
    noise = (unsquashed - mean) / np.exp(log_std)

    log_densities = squashed_log_densities(unsquashed[:, None], noise[:, None], jnp.array([log_std]))
    densities = np.exp(np.asarray(log_densities, np.float64))
    assert np.sum(densities * np.diff(edges)) == pytest.approx(1.0, abs=1e-3)


def test_squashed_log_density_is_the_change_of_variables() -> None:
    rng = np.random.default_rng(0)
    mean, log_std, noise = rng.normal(size=3), rng.normal(size=3), rng.normal(size=3)
    u = mean + np.exp(log_std) * noise
    expected = scipy.stats.norm.logpdf(u, mean, np.exp(log_std)).sum() - np.log(1 - np.tanh(u) ** 2).sum()
    value = squashed_log_density(jnp.array(u), jnp.array(noise), jnp.array(log_std))
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_slope_of_tanh_stays_exact_where_tanh_is_one() -> None:
    x = np.array([-1e6, -50.0, -12.0, -1.0, 0.0, 0.5, 12.0, 50.0, 1e6])
    # 1 - tanh^2 = 4 / (e^x + e^-x)^2
    expected = 2 * np.log(2) - 2 * np.logaddexp(x, -x)
    np.testing.assert_allclose(log_slope_of_tanh(jnp.array(x)), expected, rtol=1e-5, atol=1e-6)
    slopes = jax.jit(jax.vmap(jax.grad(gaussian.log_slope_of_tanh)))(jnp.array(x))
    np.testing.assert_allclose(slopes, -2 * np.tanh(x), atol=1e-5)


def test_a_narrow_gaussian_far_out_keeps_its_density() -> None:
    """u = 1000 + e^-20 noise rounds to 1000, which says nothing of the noise any more."""
    noise, log_std = jnp.array([1.5]), jnp.array([-20.0])
    unsquashed = np.float32(1000) + np.exp(np.asarray(log_std)) * np.asarray(noise)
    value = squashed_log_density(unsquashed, noise, log_std)
    np.testing.assert_allclose(value, scipy.stats.norm.logpdf(1.5) + 20 - 2 * np.log(2) + 2000, rtol=1e-5)


def test_spreads_are_bounded() -> None:
    free = jnp.array([-100.0, -20.0, 0.0, 1.0, 2.0, 100.0])
    np.testing.assert_allclose(
        sigmoid_log_std(free), [-6.0, -6.0, -3.0, -6 + 6 / (1 + np.exp(-1)), -6 + 6 / (1 + np.exp(-2)), 0.0], rtol=1e-5
    )
    np.testing.assert_array_equal(clamped_log_std(free), [-20.0, -20.0, 0.0, 1.0, 2.0, 2.0])
