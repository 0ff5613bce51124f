"""Expectiles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.ops import value_losses

expectile_loss = jax.jit(value_losses.expectile_loss, static_argnums=1)


def test_expectile_loss_by_hand() -> None:
    np.testing.assert_allclose(expectile_loss(jnp.array([1.0, -2.0]), 0.7), [0.7, 1.2], rtol=1e-6)
    np.testing.assert_allclose(np.mean(expectile_loss(jnp.array([1.0, -2.0]), 0.7)), 0.95, rtol=1e-6)


def test_half_is_half_the_squared_error() -> None:
    error = np.linspace(-3.0, 3.0, 13, dtype=np.float32)
    np.testing.assert_allclose(expectile_loss(error, 0.5), 0.5 * np.square(error), rtol=1e-6)


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.7, 0.95])
def test_the_expectile_of_zero_and_one_is_itself(expectile: float) -> None:
    """And there alone the loss is level."""

    slopes = jax.jit(jax.grad(lambda v: jnp.mean(expectile_loss(jnp.array([0.0, 1.0]) - v, expectile))))

    def slope(value: float) -> float:
        return float(np.sum(slopes(jnp.array([value, value]))))

    assert slope(expectile) == pytest.approx(0.0, abs=1e-6)
    assert slope(expectile - 0.05) < 0 < slope(expectile + 0.04)
