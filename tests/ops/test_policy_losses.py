"""Losses of policies on a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.ops import policy_losses

effective_rows, softmax_weights, weighted_cloning_loss = (
    jax.jit(function)
    for function in (
        policy_losses.effective_rows,
        policy_losses.softmax_weights,
        policy_losses.weighted_cloning_loss,
    )
)
clipped_exponential_weights = jax.jit(policy_losses.clipped_exponential_weights, static_argnums=1)
td3_bc_scale = jax.jit(policy_losses.td3_bc_scale, static_argnums=1)
td3_bc_loss = jax.jit(policy_losses.td3_bc_loss, static_argnums=3)

Q_VALUES = np.array([10.0, -20.0, 30.0, 40.0], np.float32)
POLICY_ACTION = jnp.array([[0.5], [0.0], [-0.5], [1.0]])
ACTION = jnp.array([[0.4], [0.2], [-0.5], [0.0]])
ADVANTAGE = np.array([0.0, 1.0, -1.0, 2.0], np.float32)


def test_td3_bc_loss() -> None:
    np.testing.assert_allclose(td3_bc_scale(Q_VALUES, 2.5), 0.1, rtol=1e-6)
    np.testing.assert_allclose(td3_bc_loss(Q_VALUES, POLICY_ACTION, ACTION, 2.5), -1.2375, rtol=1e-5)


def test_alpha_zero_is_behaviour_cloning() -> None:
    np.testing.assert_allclose(td3_bc_loss(Q_VALUES, POLICY_ACTION, ACTION, 0.0), 0.2625, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.01, 1000.0])
def test_scale_of_q_does_not_matter(scale: float) -> None:
    np.testing.assert_allclose(
        td3_bc_loss(np.float32(scale) * Q_VALUES, POLICY_ACTION, ACTION, 2.5), -1.2375, rtol=1e-5
    )


def test_no_gradient_flows_through_the_scale() -> None:
    # d/dQ of -kappa mean(Q) with kappa held at 0.1
    gradient = jax.jit(jax.grad(lambda q: td3_bc_loss(q, POLICY_ACTION, ACTION, 2.5)))(Q_VALUES)
    np.testing.assert_allclose(gradient, np.full(4, -0.1 / 4), rtol=1e-5)


def test_zero_q_values_give_a_finite_loss() -> None:
    np.testing.assert_allclose(td3_bc_loss(np.zeros(4, np.float32), POLICY_ACTION, ACTION, 2.5), 0.2625, rtol=1e-6)


def test_exponential_weights_by_hand() -> None:
    for temperature, expected in (
        (1.0, [1.0, 2.718282, 0.367879, 7.389056]),
        (1 / 3, [1.0, 20.085537, 0.049787, 100.0]),
    ):
        weights = clipped_exponential_weights(ADVANTAGE / np.float32(temperature), 100.0)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)
    # multiplied by 3 rather than divided by 1/3
    weights = clipped_exponential_weights(3 * np.array([1.0, -2.0, 2.0], np.float32), 100.0)
    np.testing.assert_allclose(weights, [20.085537, 0.002479, 100.0], rtol=2e-4)


def test_softmax_weights_by_hand() -> None:
    for temperature, expected in (
        (1.0, [0.348577, 0.947531, 0.128234, 2.575657]),
        (2.0, [0.669620, 1.104017, 0.406145, 1.820217]),
    ):
        np.testing.assert_allclose(softmax_weights(ADVANTAGE / np.float32(temperature)), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_weights_of_huge_advantages_are_finite(scale: float) -> None:
    np.testing.assert_array_equal(
        clipped_exponential_weights(np.float32(scale) * ADVANTAGE, 100.0), [1.0, 100.0, 0.0, 100.0]
    )
    np.testing.assert_array_equal(softmax_weights(np.float32(scale) * ADVANTAGE), [0.0, 0.0, 0.0, 4.0])


def test_weighted_cloning_by_hand() -> None:
    log_density, weights = np.array([[-1.0, 2.0, 0.5], [1.0, 3.0, 0.0]], np.float32)
    np.testing.assert_allclose(weighted_cloning_loss(log_density, weights), -5.0 / 3, rtol=1e-6)
    equal = weighted_cloning_loss(log_density, np.ones(3, np.float32))
    np.testing.assert_allclose(equal, -np.mean(log_density), rtol=1e-6)
    to_density, to_weights = jax.jit(jax.grad(weighted_cloning_loss, argnums=(0, 1)))(log_density, weights)
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
