"""Targets that critics regress on."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from marline.ops.value_targets import one_step_target, smoothed_action, soft_clipped_value, twin_minimum


def test_one_step_target_drops_the_value_of_terminal_states() -> None:
    target = one_step_target(jnp.array([1.0, -1.0]), jnp.array([1.0, 0.0]), jnp.array([3.25, 4.25]), 0.99)
    np.testing.assert_allclose(target, [4.2175, -1.0], rtol=1e-6)


def test_twin_minimum() -> None:
    np.testing.assert_array_equal(twin_minimum(jnp.array([1.0, 4.0, 2.0]), jnp.array([2.0, 3.0, 2.5])), [1.0, 3.0, 2.0])


def test_smoothed_action_clips_noise_then_action() -> None:
    action, noise = jnp.array([0.9, 0.0, 0.0, -0.3, -0.9]), jnp.array([0.7, 0.7, -0.2, -0.7, -0.7])
    np.testing.assert_allclose(smoothed_action(action, noise, 0.5), [1.0, 0.5, -0.2, -0.8, -1.0], rtol=1e-6)


FIRST, SECOND = jnp.array([[1.0, 4.0, 2.0], [3.0, 0.0, 5.0]]), jnp.array([[2.0, 3.0, 2.5], [1.0, 6.0, 4.0]])


def test_soft_clipped_value_mixes_before_it_maximises() -> None:
    value = soft_clipped_value(FIRST, SECOND, 0.75)
    np.testing.assert_allclose(value, [3.25, 4.25])  # maximised before, it would be [3.25, 5.25]
    target = one_step_target(jnp.array([1.0, -1.0]), jnp.array([1.0, 0.0]), value, 0.99)
    np.testing.assert_allclose(target, [4.2175, -1.0])


def test_soft_clipped_value_between_the_smaller_and_the_larger_critic() -> None:
    np.testing.assert_array_equal(soft_clipped_value(FIRST, SECOND, 1.0), [3.0, 4.0])
    np.testing.assert_array_equal(soft_clipped_value(FIRST, SECOND, 0.0), [4.0, 6.0])
