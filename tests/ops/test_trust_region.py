"""The parts of trust region policy optimisation, first by hand, then against second ways of computing them."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from marline.ops import trust_region
from marline.ops.trust_region import (
    baseline_features,
    conjugate_gradient,
    gaussian_fisher_product,
    inner,
    line_search,
    mean_gaussian_kl,
    natural_step,
)

generalized_advantages = jax.jit(trust_region.generalized_advantages, static_argnums=(3, 4))
ridge_fit = jax.jit(trust_region.ridge_fit, static_argnums=2)
gaussian_kl, surrogate_loss = jax.jit(trust_region.gaussian_kl), jax.jit(trust_region.surrogate_loss)

REWARDS, VALUES, LAST = jnp.array([1.0, 0.0, 2.0]), jnp.array([0.5, 1.0, 0.2]), jnp.float32(0.0)
FISHER = jnp.array([[2.0, 0.0], [0.0, 0.5]])
GRADIENT = jnp.array([-1.0, 1.0])


def fisher(vector: Array) -> Array:
    return FISHER @ vector


# ---------------------------------------------------------------------------------- advantages


def test_advantages_by_hand() -> None:
    residuals, _ = generalized_advantages(REWARDS, VALUES, LAST, 0.99, 0.0)
    np.testing.assert_allclose(residuals, [1.49, -0.802, 1.8], atol=1e-5)
    advantages, targets = generalized_advantages(REWARDS, VALUES, LAST, 0.99, 0.95)
    np.testing.assert_allclose(advantages, [2.327891, 0.890900, 1.8], atol=1e-5)
    np.testing.assert_allclose(targets, [2.827891, 1.890900, 2.0], atol=1e-5)


def test_a_whole_trace_gives_the_discounted_return_and_the_value_behind_it() -> None:
    _, targets = generalized_advantages(REWARDS, VALUES, jnp.float32(5.0), 0.9, 1.0)
    np.testing.assert_allclose(targets, [1 + 0.81 * 2 + 0.729 * 5, 0.9 * 2 + 0.81 * 5, 2 + 0.9 * 5], rtol=1e-6)


def test_true_values_leave_no_advantage() -> None:
    rewards, values = jnp.array([1.0] * 4), jnp.array([10.0] * 4)
    advantages, targets = generalized_advantages(rewards, values, jnp.float32(10.0), 0.9, 0.95)
    np.testing.assert_allclose(advantages, np.zeros(4), atol=1e-5)
    np.testing.assert_allclose(targets, np.full(4, 10.0), rtol=1e-6)


# ------------------------------------------------------------------------------------ baseline


def test_baseline_features_by_hand() -> None:
    features = jax.jit(baseline_features)(jnp.array([3.0, -40.0]), 20)
    np.testing.assert_allclose(features, [3, -10, 9, 100, 0.2, 0.04, 0.008, 1], rtol=1e-6)


def test_ridge_by_hand() -> None:
    # mean of (w - y)^2 + ridge w^2, y = 1, 3: (1 + ridge) w = 2
    weights = ridge_fit(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 3.0]), 0.25)
    np.testing.assert_allclose(weights, [1.6], rtol=1e-6)


def test_the_baseline_fits_what_it_can_say_and_survives_columns_that_are_the_same() -> None:
    rng = np.random.default_rng(0)
    observation = np.repeat(rng.normal(size=(300, 1)), 2, axis=1).astype(np.float32)
    time = rng.integers(25, size=300)
    targets = 1e3 * (3.0 + observation[:, 0] - 2.0 * observation[:, 0] ** 2 + 4.0 * time / 100)

    @jax.jit
    def fit(observation: Array, time: Array, targets: Array) -> Array:
        features = jax.vmap(baseline_features)(observation, time)
        return features @ trust_region.ridge_fit(features, targets, 1e-5)

    fitted = fit(observation, time, targets.astype("f4"))
    assert np.sqrt(np.mean(np.square(fitted - targets))) < 0.01 * np.std(targets)
    assert np.isfinite(ridge_fit(np.zeros((3, 4), "f4"), np.ones(3, "f4"), 1e-5)).all()


# ------------------------------------------------------------------------------ KL and its curve


def test_kl_by_hand() -> None:
    zero, one = np.zeros(1, "f4"), np.ones(1, "f4")
    np.testing.assert_allclose(gaussian_kl(zero, zero, one, zero), 0.5, atol=1e-6)
    np.testing.assert_allclose(gaussian_kl(zero, np.log(0.5 * one), 0.2 * one, zero), 0.338147, atol=1e-5)
    two = np.zeros(2, "f4")
    both = gaussian_kl(two, np.log(np.array([1.0, 0.5], "f4")), jnp.array([1.0, 0.2]), two)
    np.testing.assert_allclose(both, 0.838147, atol=1e-5)


def test_surrogate_by_hand() -> None:
    # at the old policy it is minus the mean advantage; N(1; 1, 1) / N(1; 0, 1) = e^0.5
    old = jnp.array([-0.5 * math.log(2 * math.pi) - 0.5] * 2)
    advantages = jnp.array([1.0, 3.0])
    action, zero = jnp.array([[1.0], [1.0]]), jnp.array([0.0])
    assert float(surrogate_loss(jnp.array([[0.0], [0.0]]), zero, action, old, advantages)) == pytest.approx(-2.0)
    mean = jnp.array([[1.0], [0.0]])
    loss = surrogate_loss(mean, zero, action, old, advantages)
    assert float(loss) == pytest.approx(-0.5 * (math.exp(0.5) + 3.0), rel=1e-5)


RNG = np.random.default_rng(0)
INPUTS = jnp.asarray(RNG.normal(size=(7, 3)), jnp.float32)
POLICY = {"weight": jnp.asarray(RNG.normal(size=(2, 3)), jnp.float32), "log_std": jnp.array([-1.0, 0.3])}


def distribution(policy: dict[str, Array]) -> tuple[Array, Array]:
    return jnp.tanh(INPUTS @ policy["weight"].T), policy["log_std"]


@jax.jit
def fisher_of_policy() -> Array:
    """The Hessian of the mean KL at `POLICY`, by differentiating twice."""
    flat, unravel = ravel_pytree(POLICY)
    return jax.hessian(lambda new: mean_gaussian_kl(*distribution(POLICY), *distribution(unravel(new))))(flat)


def test_fisher_product_is_that_with_the_hessian_of_the_kl() -> None:
    @jax.jit
    @jax.vmap
    def columns(vector: Array) -> Array:
        unravel = ravel_pytree(POLICY)[1]
        product = gaussian_fisher_product(distribution, POLICY)
        return ravel_pytree(product(unravel(vector)))[0]

    np.testing.assert_allclose(columns(np.eye(8, dtype="f4")), fisher_of_policy(), atol=1e-4)


# ---------------------------------------------------------------------------------------- step


def test_conjugate_gradient_solves() -> None:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    matrix, target = root @ root.T + 0.5 * np.eye(6), rng.normal(size=6)
    solve = jax.jit(lambda m, b: conjugate_gradient(lambda v: m @ v, b, 30))
    solution = solve(jnp.asarray(matrix, jnp.float32), jnp.asarray(target, jnp.float32))
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, target), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(solve(np.eye(6, dtype="f4"), np.zeros(6, "f4")), np.zeros(6))


def test_one_iteration_is_the_best_step_along_the_gradient() -> None:
    direction = jax.jit(lambda gradient: conjugate_gradient(fisher, -gradient, 1))(GRADIENT)
    np.testing.assert_allclose(direction, -np.asarray(GRADIENT) * 2.0 / 2.5, rtol=1e-6)


@functools.partial(jax.jit, static_argnums=1)
def step_by_hand(gradient: Array, max_kl: float) -> Array:
    return natural_step(fisher, gradient, damping=0.1, max_kl=max_kl, num_iterations=10)


def test_natural_step_by_hand() -> None:
    direction = jax.jit(lambda gradient: conjugate_gradient(lambda v: fisher(v) + 0.1 * v, gradient, 10))(GRADIENT)
    np.testing.assert_allclose(-np.asarray(direction), [0.476190, -1.666667], atol=1e-5)
    step = np.asarray(step_by_hand(GRADIENT, 0.05))
    np.testing.assert_allclose(step, [0.102869, -0.360041], atol=1e-5)
    np.testing.assert_allclose(0.5 * step @ np.asarray(FISHER) @ step, 0.042989, atol=1e-5)


@pytest.mark.parametrize("num_iterations", [1, 3, 10])
def test_the_step_of_a_policy_lies_on_the_trust_region(num_iterations: int) -> None:
    """However well the system is solved: what scales the step is its own length."""

    @jax.jit
    def take_step() -> tuple[Array, Array]:
        product = gaussian_fisher_product(distribution, POLICY)
        gradient = jax.tree.map(jnp.cos, POLICY)
        step = natural_step(product, gradient, damping=0.1, max_kl=0.02, num_iterations=num_iterations)
        return ravel_pytree(step)[0], inner(gradient, step)

    step, slope = take_step()
    flat = np.asarray(step, np.float64)
    damped = np.asarray(fisher_of_policy(), np.float64) + 0.1 * np.eye(8)
    assert 0.5 * flat @ damped @ flat == pytest.approx(0.02, rel=1e-4)
    assert float(slope) < 0.0


def test_no_gradient_or_no_trust_region_is_no_step() -> None:
    for gradient, max_kl in ((jnp.array([0.0, 0.0]), 0.05), (GRADIENT, 0.0)):
        assert not np.any(np.asarray(step_by_hand(gradient, max_kl)))


# --------------------------------------------------------------------------------- line search


@jax.jit
def search(improvements: Array, kls: Array) -> tuple[Array, Array, Array]:
    """Where the step that promises 1, with max_kl 0.1, is cut in half up to three times."""

    def evaluate(fraction: Array) -> tuple[Array, Array]:
        halvings = jnp.round(-jnp.log2(fraction)).astype(int)
        return improvements[halvings], kls[halvings]

    return line_search(evaluate, jnp.float32(1.0), max_kl=0.1, num_halvings=3)


@pytest.mark.parametrize(
    ("improvements", "kls", "fraction"),
    [
        ([0.5, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1], 1.0),  # the first that may be taken, not the best
        ([-0.1, 0.0, 0.3, 0.3], [0.1, 0.1, 0.1, 0.1], 0.25),  # the loss must fall
        ([0.09, 0.04, 0.03, 0.03], [0.1, 0.1, 0.1, 0.1], 0.25),  # by a tenth of what the slope promises
        ([1.0, 1.0, 1.0, 1.0], [0.2, 0.16, 0.14, 0.1], 0.25),  # within 1.5 max_kl
        ([math.nan, math.inf, 1.0, 0.0], [0.0, 0.0, math.nan, 0.0], 0.0),
        ([-1.0, -1.0, -1.0, 1.0], [0.0, 0.0, 0.0, 0.05], 0.125),  # the last
    ],
)
def test_line_search_by_hand(improvements: list[float], kls: list[float], fraction: float) -> None:
    found, kl, accepted = search(jnp.array(improvements), jnp.array(kls))
    assert float(found) == fraction
    assert bool(accepted) == (fraction > 0.0)
    assert float(kl) == pytest.approx(kls[round(-math.log2(fraction))] if fraction else 0.0)
