"""Terms of variational autoencoders."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from marline.ops import variational

gaussian_kl = jax.jit(variational.gaussian_kl)
active_units = jax.jit(variational.active_units, static_argnames="threshold")


def test_gaussian_kl() -> None:
    kl = gaussian_kl(jnp.array([0.5, -1.0, 0.0]), np.log(np.array([1.0, 0.5, 1.0], np.float32)))
    np.testing.assert_allclose(kl, [0.125, 0.818147, 0.0], atol=1e-6)
    np.testing.assert_allclose(0.5 * np.mean(np.asarray(kl)[:2]), 0.235787, atol=1e-6)


def test_gaussian_kl_is_that_of_a_monte_carlo_estimate() -> None:
    mean, std = 0.7, 0.4
    x = mean + std * np.random.default_rng(0).normal(size=200_000)
    log_ratio = -0.5 * ((x - mean) / std) ** 2 - np.log(std) + 0.5 * x**2
    estimate, error = log_ratio.mean(), log_ratio.std() / np.sqrt(x.size)
    assert abs(float(gaussian_kl(jnp.float32(mean), jnp.asarray(np.log(np.float32(std))))) - estimate) < 4 * error


def test_active_units_are_the_dimensions_that_vary() -> None:
    rng = np.random.default_rng(0)
    means = jnp.asarray(rng.normal(size=(1000, 4)) * [1.0, 0.2, 0.05, 0.0] + 3.0, jnp.float32)
    assert int(active_units(means)) == 2
    assert int(active_units(means, threshold=0.001)) == 3
    assert int(active_units(np.zeros((10, 3), np.float32))) == 0
