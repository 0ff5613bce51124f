"""Stochastic policy networks and the state value network, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jaxtyping import Array

from marline.nn.actors import GaussianActor, SquashedGaussianActor
from marline.nn.mlp import MLP, Linear
from marline.nn.v_network import VNetwork
from marline.ops.gaussian import sigmoid_log_std
from marline.types import Spec

KEY = jax.random.key(0)
OBSERVATION = jnp.array([1.0, 2.0])


def linear(weight: list[list[float]]) -> MLP:
    return MLP((Linear(jnp.array(np.transpose(weight), jnp.float32), jnp.array(np.zeros(len(weight)), jnp.float32)),))


def test_gaussian_actor_by_hand() -> None:
    actor = GaussianActor(linear([[0.5, 0.0], [0.0, -1.0]]), jnp.array([0.0, 100.0]), sigmoid_log_std)
    assert actor.action_size == 2
    mean, std = np.tanh([0.5, -2.0]), np.exp([-3.0, 0.0])
    noise, action = np.array([2.0, -5.0]), np.array([0.4, 1.0])  # the second of the noise leaves [-1, 1]

    @jax.jit
    def act(seen: Array, noise: Array, action: Array) -> tuple[Array, Array, Array]:
        return actor.mode(seen), actor.sample(seen, noise), actor.log_density(seen, action)

    mode, drawn, density = act(OBSERVATION, jnp.array(noise), jnp.array(action))
    np.testing.assert_allclose(mode, mean, rtol=1e-6)
    np.testing.assert_allclose(drawn, [mean[0] + 2 * std[0], -1.0], rtol=1e-6)
    np.testing.assert_allclose(density, scipy.stats.norm.logpdf(action, mean, std).sum(), rtol=1e-5)


def test_a_fresh_gaussian_actor_has_one_spread_everywhere() -> None:
    @jax.jit
    def log_std_and_mode() -> tuple[Array, Array]:
        actor = GaussianActor.create(Spec(2, 3), (4,), sigmoid_log_std, key=KEY)
        return actor.log_std, actor.mode(OBSERVATION)

    log_std, mode = log_std_and_mode()
    np.testing.assert_array_equal(log_std, [-3.0, -3.0, -3.0])
    assert mode.shape == (3,)


def test_squashed_gaussian_actor_by_hand() -> None:
    """First half of the outputs is the mean, second half the log-std, clamped at 2 here."""
    actor = SquashedGaussianActor(linear([[0.5, 0.0], [0.0, 0.1], [-1.0, 0.0], [0.0, 4.0]]))
    assert actor.action_size == 2
    noise = jnp.array([-1.5, 0.1])
    mode, (action, log_density) = jax.jit(lambda seen: (actor.mode(seen), actor.sample(seen, noise)))(OBSERVATION)
    np.testing.assert_allclose(mode, np.tanh([0.5, 0.2]), rtol=1e-6)
    unsquashed = np.array([0.5 - 1.5 * np.exp(-1), 0.2 + 0.1 * np.exp(2)])
    np.testing.assert_allclose(action, np.tanh(unsquashed), rtol=1e-6)
    expected = scipy.stats.norm.logpdf(unsquashed, [0.5, 0.2], np.exp([-1, 2])) - np.log(1 - np.tanh(unsquashed) ** 2)
    assert float(log_density) == pytest.approx(expected.sum(), rel=1e-5)


def test_v_is_one_number() -> None:
    assert float(VNetwork(linear([[1.0, 10.0]]))(OBSERVATION)) == 21.0
    value = jax.eval_shape(lambda: VNetwork.create(Spec(2, 3), (4,), key=KEY)(OBSERVATION))
    assert value.shape == ()
