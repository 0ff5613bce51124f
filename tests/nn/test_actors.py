"""Stochastic policy networks and the state value network, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from marline.nn.actors import GaussianActor, SquashedGaussianActor
from marline.nn.mlp import MLP, Linear
from marline.nn.v_network import VNetwork
from marline.ops.gaussian import sigmoid_log_std
from marline.types import Spec

KEY = jax.random.key(0)
OBSERVATION = jnp.array([1.0, 2.0])


def linear(weight: list[list[float]]) -> MLP:
    return MLP((Linear(jnp.array(weight).T, jnp.zeros(len(weight))),))


def test_gaussian_actor_by_hand() -> None:
    actor = GaussianActor(linear([[0.5, 0.0], [0.0, -1.0]]), jnp.array([0.0, 100.0]), sigmoid_log_std)
    assert actor.action_size == 2
    mean, std = np.tanh([0.5, -2.0]), np.exp([-3.0, 0.0])
    np.testing.assert_allclose(actor.mode(OBSERVATION), mean, rtol=1e-6)
    noise = np.array([2.0, -5.0])  # the second leaves [-1, 1]
    np.testing.assert_allclose(actor.sample(OBSERVATION, jnp.array(noise)), [mean[0] + 2 * std[0], -1.0], rtol=1e-6)
    action = np.array([0.4, 1.0])
    expected = scipy.stats.norm.logpdf(action, mean, std).sum()
    np.testing.assert_allclose(actor.log_density(OBSERVATION, jnp.array(action)), expected, rtol=1e-5)


def test_a_fresh_gaussian_actor_has_one_spread_everywhere() -> None:
    actor = GaussianActor.create(Spec(2, 3), (4,), sigmoid_log_std, key=KEY)
    np.testing.assert_array_equal(actor.log_std, [-3.0, -3.0, -3.0])
    assert actor.mode(OBSERVATION).shape == (3,)


def test_squashed_gaussian_actor_by_hand() -> None:
    """First half of the outputs is the mean, second half the log-std, clamped at 2 here."""
    actor = SquashedGaussianActor(linear([[0.5, 0.0], [0.0, 0.1], [-1.0, 0.0], [0.0, 4.0]]))
    assert actor.action_size == 2
    np.testing.assert_allclose(actor.mode(OBSERVATION), np.tanh([0.5, 0.2]), rtol=1e-6)
    noise = np.array([-1.5, 0.1])
    action, log_density = actor.sample(OBSERVATION, jnp.array(noise))
    unsquashed = np.array([0.5 - 1.5 * np.exp(-1), 0.2 + 0.1 * np.exp(2)])
    np.testing.assert_allclose(action, np.tanh(unsquashed), rtol=1e-6)
    expected = scipy.stats.norm.logpdf(unsquashed, [0.5, 0.2], np.exp([-1, 2])) - np.log(1 - np.tanh(unsquashed) ** 2)
    assert float(log_density) == pytest.approx(expected.sum(), rel=1e-5)


def test_v_is_one_number() -> None:
    assert VNetwork(linear([[1.0, 10.0]]))(OBSERVATION) == 21.0
    assert VNetwork.create(Spec(2, 3), (4,), key=KEY)(OBSERVATION).shape == ()
