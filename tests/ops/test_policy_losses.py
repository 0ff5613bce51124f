"""Losses of policies on a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.ops.policy_losses import td3_bc_loss, td3_bc_scale

Q_VALUES = jnp.array([10.0, -20.0, 30.0, 40.0])
POLICY_ACTION = jnp.array([[0.5], [0.0], [-0.5], [1.0]])
ACTION = jnp.array([[0.4], [0.2], [-0.5], [0.0]])


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
