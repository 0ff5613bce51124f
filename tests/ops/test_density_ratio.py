"""Losses of density ratios against numbers by hand, and their minimum against the ratio itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.ops import density_ratio

jensen_shannon_loss, classification_loss, dynamics_log_ratio = (
    jax.jit(function)
    for function in (
        density_ratio.jensen_shannon_loss,
        density_ratio.classification_loss,
        density_ratio.dynamics_log_ratio,
    )
)
tempered_priorities = jax.jit(density_ratio.tempered_priorities, static_argnums=(2, 3))
initial_online_priority = jax.jit(density_ratio.initial_online_priority, static_argnums=2)

OFFLINE, ONLINE = np.array([0.8, 0.2]), np.array([0.3, 0.7])  # of a table with two cells
BOUNDS = (1e-3, 1e3)


def cells(probabilities: np.ndarray) -> jax.Array:
    """Ten rows in these shares."""
    return jnp.asarray(np.repeat(np.arange(2), np.round(10 * probabilities).astype(int)))


def test_jensen_shannon_loss() -> None:
    loss = jensen_shannon_loss(jnp.array([1.0, 0.5]), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(loss, -0.287682, atol=1e-6)


def test_a_ratio_of_one_costs_nothing() -> None:
    np.testing.assert_allclose(jensen_shannon_loss(np.ones(3, np.float32), np.ones(5, np.float32)), 0.0, atol=1e-6)


def test_ratios_of_zero_and_beyond_measure_have_finite_losses_and_slopes() -> None:
    ratios = jnp.array([0.0, 1e-20, 1e20])
    loss, slopes = jax.jit(jax.value_and_grad(lambda w: jensen_shannon_loss(w, w)))(ratios)
    assert np.isfinite(loss)
    assert np.all(np.isfinite(slopes))


def test_descent_on_the_jensen_shannon_loss_finds_the_ratio() -> None:
    offline, online = cells(OFFLINE), cells(ONLINE)

    def loss(table: jax.Array) -> jax.Array:
        return jensen_shannon_loss(table[offline], table[online])

    @jax.jit
    def descend(table: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 5000, lambda _, table: table - 0.5 * jax.grad(loss)(table), table)

    table = descend(jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(table, [0.375, 3.5], rtol=1e-3)
    mixture = (OFFLINE + ONLINE) / 2
    divergence = sum(0.5 * np.sum(p * np.log(p / mixture)) for p in (OFFLINE, ONLINE))
    least = jax.jit(loss)(table)
    np.testing.assert_allclose(least, -0.265011, atol=1e-6)
    np.testing.assert_allclose(least, -2 * divergence, atol=1e-6)


def test_descent_on_the_classification_loss_finds_the_log_ratio() -> None:
    # each class counts as a whole, however many rows it has
    offline, online = jnp.asarray(np.tile(cells(OFFLINE), 3)), cells(ONLINE)

    def loss(table: jax.Array) -> jax.Array:
        return classification_loss(table[offline], table[online])

    @jax.jit
    def descend(table: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 2000, lambda _, table: table - 2.0 * jax.grad(loss)(table), table)

    table = descend(jnp.array([0.0, 0.0]))
    np.testing.assert_allclose(table, np.log([0.375, 3.5]), rtol=1e-3)
    np.testing.assert_allclose(
        classification_loss(np.zeros(3, np.float32), np.zeros(4, np.float32)), np.log(2), rtol=1e-6
    )


def test_tempered_priorities() -> None:
    offline = jnp.array([0.1, 1.0, 10.0])
    np.testing.assert_allclose(np.mean(np.asarray(offline) ** 0.2), 1.071950, atol=1e-6)
    priorities = tempered_priorities(jnp.array([0.1, 1.0, 10.0, 0.0]), offline, 5.0, BOUNDS)
    np.testing.assert_allclose(priorities, [0.588607, 0.932879, 1.478514, 0.001], atol=1e-5)


def test_offline_rows_average_one() -> None:
    ratio = np.random.default_rng(0).exponential(size=500).astype(np.float32)
    for temperature in (0.5, 1.0, 5.0):
        priorities = tempered_priorities(ratio, ratio, temperature, BOUNDS)
        np.testing.assert_allclose(np.mean(priorities), 1.0, rtol=1e-2)
    np.testing.assert_allclose(tempered_priorities(ratio, ratio, 1e6, BOUNDS), 1.0, rtol=1e-4)


def test_priorities_are_clipped_even_where_every_offline_ratio_is_zero() -> None:
    priorities = tempered_priorities(jnp.array([0.0, 1.0]), np.zeros(4, np.float32), 5.0, BOUNDS)
    np.testing.assert_allclose(priorities, [1e-3, 1e3])


@pytest.mark.parametrize(
    ("num_offline", "num_online", "fraction", "expected"),
    [(1_000_000, 10_000, 0.75, 300.0), (1_000_000, 10_000, 0.5, 100.0), (30, 10, 0.75, 9.0), (30, 0, 0.75, 90.0)],
)
def test_initial_online_priority(num_offline: int, num_online: int, fraction: float, expected: float) -> None:
    priority = initial_online_priority(num_offline, num_online, fraction)
    np.testing.assert_allclose(priority, expected, rtol=1e-6)
    if num_online > 0:
        mass = num_online * np.asarray(priority)
        np.testing.assert_allclose(mass / (mass + num_offline), fraction, rtol=1e-6)


def test_dynamics_log_ratio_takes_out_what_state_and_action_tell() -> None:
    """Two outcomes after two actions; deployment changes what is done and, for action 1, what follows."""
    action = {"offline": np.array([0.5, 0.5]), "online": np.array([0.2, 0.8])}
    outcome = {"offline": np.array([[0.5, 0.5], [0.5, 0.5]]), "online": np.array([[0.5, 0.5], [0.9, 0.1]])}
    joint = {side: action[side][:, None] * outcome[side] for side in action}
    transition_logit = np.log(joint["online"] / joint["offline"])
    state_action_logit = np.log(action["online"] / action["offline"])[:, None]
    log_ratio = dynamics_log_ratio(
        jnp.asarray(transition_logit, jnp.float32), jnp.asarray(np.tile(state_action_logit, 2), jnp.float32)
    )
    np.testing.assert_allclose(np.exp(log_ratio), outcome["online"] / outcome["offline"], rtol=1e-5)
