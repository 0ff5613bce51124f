"""The conservative term for discrete and for continuous actions, and what masks keep out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.ops import conservative
from marline.ops.conservative import uniform_log_density

conservative_gap, sampled_conservative_gap, masked_q, masked_max, masked_argmax = (
    jax.jit(function)
    for function in (
        conservative.conservative_gap,
        conservative.sampled_conservative_gap,
        conservative.masked_q,
        conservative.masked_max,
        conservative.masked_argmax,
    )
)

Q_VALUES = jnp.array([1.0, 2.0, 3.0, 50.0])
ALLOWED = jnp.array([True, True, True, False])

# two uniform actions, two of the policy at s', two of the policy at s
SAMPLED_Q = jnp.array([0.0, 1.0, 2.0, 1.0, 1.5, 2.5])
LOG_DENSITY = jnp.array([uniform_log_density(1), uniform_log_density(1), -0.5, 0.2, 0.0, -1.0])


def test_discrete_gap_by_hand() -> None:
    np.testing.assert_allclose(conservative_gap(Q_VALUES, jnp.int32(0), ALLOWED), 2.407606, rtol=1e-6)
    np.testing.assert_allclose(conservative_gap(Q_VALUES, jnp.int32(0)), 50.0 - 1.0, rtol=1e-6)


def test_masked_maxima_by_hand() -> None:
    q_values = jnp.array([[1.0, 5.0, 3.0], [2.0, -1.0, 0.0]])
    masks = jnp.array([[True, False, True], [False, True, True]])

    @jax.jit
    def maxima() -> tuple[jax.Array, jax.Array, jax.Array]:
        best = jax.vmap(conservative.masked_max)(q_values, masks)
        return best, jax.vmap(conservative.masked_argmax)(q_values, masks), conservative.masked_q(q_values[0], masks[0])

    best, number, masked = maxima()
    np.testing.assert_array_equal(best, [3.0, 0.0])
    np.testing.assert_array_equal(number, [2, 2])
    np.testing.assert_array_equal(masked, [1.0, -1e9, 3.0])


def test_without_a_mask_everything_is_allowed() -> None:
    np.testing.assert_array_equal(masked_q(Q_VALUES, None), Q_VALUES)
    assert float(masked_max(Q_VALUES)) == 50.0 and int(masked_argmax(Q_VALUES)) == 3


def test_ties_go_to_the_lowest_number() -> None:
    assert int(masked_argmax(jnp.array([7.0, 1.0, 1.0, 0.0]), jnp.array([False, True, True, True]))) == 1


def test_the_best_action_is_always_allowed() -> None:
    rng = np.random.default_rng(0)
    q_values = rng.normal(0, 1e5, (500, 6)).astype(np.float32)
    masks = rng.random((500, 6)) < 0.3
    masks[np.arange(500), rng.integers(6, size=500)] = True

    @jax.jit
    @jax.vmap
    def best_and_gap(q_values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        best = conservative.masked_argmax(q_values, mask)
        return best, conservative.conservative_gap(q_values, best, mask)

    best, gaps = (np.asarray(its) for its in best_and_gap(q_values, masks))
    assert masks[np.arange(500), best].all()
    assert np.all(gaps >= 0)


def test_no_gradient_reaches_a_forbidden_action() -> None:
    gradient = np.asarray(jax.jit(jax.grad(conservative.conservative_gap))(Q_VALUES, jnp.int32(0), ALLOWED))
    shares = np.exp([1.0, 2.0, 3.0]) / np.exp([1.0, 2.0, 3.0]).sum()
    np.testing.assert_allclose(gradient, [shares[0] - 1, shares[1], shares[2], 0.0], atol=1e-6)
    assert gradient[3] == 0.0


def test_sampled_gap_by_hand() -> None:
    np.testing.assert_allclose(
        np.asarray(SAMPLED_Q) - np.asarray(LOG_DENSITY), [0.693147, 1.693147, 2.5, 0.8, 1.5, 3.5], rtol=1e-6
    )
    gap = sampled_conservative_gap(SAMPLED_Q, LOG_DENSITY, jnp.float32(2.0))
    np.testing.assert_allclose(gap, 2.084997, rtol=1e-6)


@pytest.mark.parametrize("constant", [-30.0, 5.0])
def test_a_constant_added_to_q_leaves_the_gap(constant: float) -> None:
    gap = sampled_conservative_gap(
        np.asarray(SAMPLED_Q) + np.float32(constant), LOG_DENSITY, jnp.float32(2.0 + constant)
    )
    np.testing.assert_allclose(gap, 2.084997, rtol=1e-5)


def test_many_samples_give_the_integral_of_exp_q() -> None:
    """Q = 2 a_1 - a_2 on [-1, 1]^2, sampled uniformly and from a triangular density in a_1."""
    rng = np.random.default_rng(0)
    num = 100_000
    action = rng.uniform(-1, 1, (2 * num, 2))
    action[num:, 0] = 2 * np.sqrt(rng.random(num)) - 1  # density (1 + a_1) / 2
    log_density = np.full(2 * num, uniform_log_density(2))
    log_density[num:] = np.log((1 + action[num:, 0]) / 2) - np.log(2)
    q_values = 2 * action[:, 0] - action[:, 1]
    gap = sampled_conservative_gap(
        jnp.asarray(q_values, jnp.float32), jnp.asarray(log_density, jnp.float32), jnp.float32(0.0)
    )
    integral = np.sinh(2.0) * 2 * np.sinh(1.0)  # of exp(2 a_1) times of exp(-a_2)
    assert float(gap) - np.log(2 * num) == pytest.approx(np.log(integral), abs=0.02)


def test_no_gradient_reaches_the_log_densities() -> None:
    slope = jax.jit(jax.grad(conservative.sampled_conservative_gap, argnums=1))
    gradient = slope(SAMPLED_Q, LOG_DENSITY, jnp.float32(2.0))
    np.testing.assert_array_equal(gradient, np.zeros(6))
