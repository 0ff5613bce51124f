"""Losses of policies on a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.ops.policy_losses import (
    clipped_exponential_weights,
    effective_rows,
    softmax_weights,
    td3_bc_loss,
    td3_bc_scale,
    weighted_cloning_loss,
)

Q_VALUES = jnp.array([10.0, -20.0, 30.0, 40.0])
POLICY_ACTION = jnp.array([[0.5], [0.0], [-0.5], [1.0]])
ACTION = jnp.array([[0.4], [0.2], [-0.5], [0.0]])
ADVANTAGE = jnp.array([0.0, 1.0, -1.0, 2.0])


def test_td3_bc_loss() -> None:
    np.testing.assert_allclose(td3_bc_scale(Q_VALUES, 2.5), 0.1, rtol=1e-6)
    np.testing.assert_allclose(td3_bc_loss(Q_VALUES, POLICY_ACTION, ACTION, 2.5), -1.2375, rtol=1e-5)


def test_alpha_zero_is_behaviour_cloning() -> None:
    np.testing.assert_allclose(td3_bc_loss(Q_VALUES, POLICY_ACTION, ACTION, 0.0), 0.2625, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.01, 1000.0])
def test_scale_of_q_does_not_matter(scale: float) -> None:
    np.testing.assert_allclose(td3_bc_loss(scale * Q_VALUES, POLICY_ACTION, ACTION, 2.5), -1.2375, rtol=1e-5)


def test_no_gradient_flows_through_the_scale() -> None:
    # d/dQ of -kappa mean(Q) with kappa held at 0.1
    gradient = jax.grad(td3_bc_loss)(Q_VALUES, POLICY_ACTION, ACTION, 2.5)
    np.testing.assert_allclose(gradient, np.full(4, -0.1 / 4), rtol=1e-5)


def test_zero_q_values_give_a_finite_loss() -> None:
    np.testing.assert_allclose(td3_bc_loss(jnp.zeros(4), POLICY_ACTION, ACTION, 2.5), 0.2625, rtol=1e-6)


def test_exponential_weights_by_hand() -> None:
    for temperature, expected in (
        (1.0, [1.0, 2.718282, 0.367879, 7.389056]),
        (1 / 3, [1.0, 20.085537, 0.049787, 100.0]),
    ):
        weights = clipped_exponential_weights(ADVANTAGE / temperature, 100.0)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)
    # multiplied by 3 rather than divided by 1/3
    weights = clipped_exponential_weights(3.0 * jnp.array([1.0, -2.0, 2.0]), 100.0)
    np.testing.assert_allclose(weights, [20.085537, 0.002479, 100.0], rtol=2e-4)


def test_softmax_weights_by_hand() -> None:
    for temperature, expected in (
        (1.0, [0.348577, 0.947531, 0.128234, 2.575657]),
        (2.0, [0.669620, 1.104017, 0.406145, 1.820217]),
    ):
        np.testing.assert_allclose(softmax_weights(ADVANTAGE / temperature), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_weights_of_huge_advantages_are_finite(scale: float) -> None:
    np.testing.assert_array_equal(clipped_exponential_weights(scale * ADVANTAGE, 100.0), [1.0, 100.0, 0.0, 100.0])
    np.testing.assert_array_equal(softmax_weights(scale * ADVANTAGE), [0.0, 0.0, 0.0, 4.0])


def test_weighted_cloning_by_hand() -> None:
    log_density, weights = jnp.array([-1.0, 2.0, 0.5]), jnp.array([1.0, 3.0, 0.0])
    np.testing.assert_allclose(weighted_cloning_loss(log_density, weights), -5.0 / 3, rtol=1e-6)
    np.testing.assert_allclose(weighted_cloning_loss(log_density, jnp.ones(3)), -jnp.mean(log_density), rtol=1e-6)
    to_density, to_weights = jax.grad(weighted_cloning_loss, argnums=(0, 1))(log_density, weights)
    np.testing.assert_allclose(to_density, -weights / 3, rtol=1e-6)
    np.testing.assert_array_equal(to_weights, np.zeros(3))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4.0),
        ([0.0, 7.0, 0.0, 0.0], 1.0),
        ([3.0, 1.0, 0.0, 0.0], 1.6),
        ([1e-25, 1e-25, 0.0, 0.0], 2.0),
        ([0.0, 0.0, 0.0, 0.0], 0.0),
    ],
)
def test_effective_rows(weights: list[float], expected: float) -> None:
    np.testing.assert_allclose(effective_rows(jnp.array(weights)), expected, rtol=1e-6)
