"""Weights of MABCQ in our reading, on a table by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from marline.ops import transition_normalization as ops

optimistic_deviation = jax.jit(ops.optimistic_deviation, static_argnums=2, static_argnames="floor")
normalizing_weight = jax.jit(ops.normalizing_weight, static_argnums=2)
transition_weights = jax.jit(ops.transition_weights)

PROBABILITIES, VALUES = np.array([0.6, 0.3, 0.1]), jnp.array([1.0, 2.0, 6.0])
EXPECTED = jnp.array([1.8] * 3)


def test_deviation_by_hand() -> None:
    free = optimistic_deviation(VALUES, EXPECTED, 10.0, floor=1e-6)
    np.testing.assert_allclose(free, [0.555556, 1.111111, 3.333333], rtol=1e-5)
    np.testing.assert_allclose(PROBABILITIES @ np.asarray(free), 1.0, rtol=1e-6)  # unclipped, it is a density
    clipped = np.asarray(optimistic_deviation(VALUES, EXPECTED, 0.5, floor=1e-6))
    np.testing.assert_allclose(clipped, [0.555556, 1.111111, 1.5], rtol=1e-5)

    def shifted(weights: np.ndarray) -> np.ndarray:
        return PROBABILITIES * weights / np.sum(PROBABILITIES * weights)

    both = shifted(clipped / PROBABILITIES)
    np.testing.assert_allclose(both, [0.175439, 0.350877, 0.473684], atol=1e-6)
    np.testing.assert_allclose(both @ np.asarray(VALUES), 3.719298, rtol=1e-6)
    np.testing.assert_allclose(shifted(clipped), [0.408163, 0.408163, 0.183673], atol=1e-6)
    np.testing.assert_allclose(shifted(1.0 / PROBABILITIES), [1 / 3] * 3, rtol=1e-6)


def test_bad_news_weigh_less_where_values_are_negative_too() -> None:
    weights = optimistic_deviation(jnp.array([-3.0, -1.0]), jnp.array([-2.0, -2.0]), 0.9, floor=1e-6)
    np.testing.assert_allclose(weights, [0.5, 1.5])


def test_an_expectation_of_zero_is_floored() -> None:
    weights = optimistic_deviation(jnp.array([0.0, 1e-3]), jnp.array([0.0, 0.0]), 0.5, floor=0.01)
    np.testing.assert_allclose(weights, [1.0, 1.1], rtol=1e-6)


def test_an_action_that_its_next_state_explains_weighs_less_and_within_bounds() -> None:
    weight = normalizing_weight(jnp.array([-2.0, -2.0, -90.0]), jnp.array([-2.0, 0.0, 0.0]), 2)
    np.testing.assert_allclose(weight, [1.0, np.exp(-1.0), 0.2], rtol=1e-6)
    assert float(normalizing_weight(jnp.float32(90.0), jnp.float32(0.0), 1)) == 5.0


def test_weights_have_mean_one_and_no_gradient() -> None:
    deviation, normalization = jnp.array([0.5, 1.0, 1.5]), jnp.array([1.0, 2.0, 4.0])
    weights = transition_weights(deviation, normalization)
    np.testing.assert_allclose(weights, np.array([0.5, 2.0, 6.0]) * 3 / 8.5, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(transition_weights(x, normalization) ** 2)))(deviation)
    np.testing.assert_array_equal(gradient, 0.0)
