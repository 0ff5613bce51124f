"""Theorem 1 and Eq. (2) on finite state spaces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.ops import transition_correction
from marline.ops.transition_correction import value_gap_bound

# compiled whole, which is several times quicker than operation by operation
corrected_transition = jax.jit(transition_correction.corrected_transition)
kl_divergence = jax.jit(transition_correction.kl_divergence)
optimal_values = jax.jit(transition_correction.optimal_values, static_argnames=("gamma", "num_sweeps"))

OFFLINE, ONLINE = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], np.float32)
STATES = np.arange(3)
NEAR = (1.0 / (1.0 + np.abs(STATES[:, None] - STATES[None, :]))).astype(np.float32)


def test_corrected_transition_is_closer_to_the_online_one() -> None:
    np.testing.assert_allclose(NEAR @ ONLINE, [0.516667, 0.65, 0.716667], atol=1e-6)
    corrected = corrected_transition(OFFLINE, ONLINE, NEAR)
    np.testing.assert_allclose(corrected, [0.432961, 0.326816, 0.240223], atol=1e-6)
    before, after = kl_divergence(ONLINE, OFFLINE), kl_divergence(ONLINE, corrected)
    np.testing.assert_allclose(before, 0.274887, atol=1e-6)
    np.testing.assert_allclose(after, 0.186369, atol=1e-6)
    np.testing.assert_allclose(np.asarray(before) - np.asarray(after), 0.088518, atol=1e-6)


def test_correction_by_equality_alone() -> None:
    corrected = corrected_transition(OFFLINE, ONLINE, np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(corrected, [0.344828, 0.310345, 0.344828], atol=1e-6)
    np.testing.assert_allclose(kl_divergence(ONLINE, corrected), 0.066666, atol=1e-6)


def test_correction_overshoots_where_nothing_needs_correcting() -> None:
    law = jnp.array([0.7, 0.3])
    corrected = corrected_transition(law, law, np.eye(2, dtype=np.float32))
    np.testing.assert_allclose(corrected, [0.844828, 0.155172], atol=1e-6)
    np.testing.assert_allclose(kl_divergence(law, corrected), 0.066137, atol=1e-6)


def test_equation_2_holds_for_random_laws() -> None:
    rng = np.random.default_rng(0)
    offline, online = rng.dirichlet(np.ones(6), size=(2, 300))
    acceptance = rng.uniform(0.05, 1.0, (300, 6, 6))

    accepted = np.einsum("nij,nj->ni", acceptance, online)
    gain = np.sum(online * np.log(accepted / np.sum(offline * accepted, axis=1, keepdims=True)), axis=1)
    before = np.sum(online * np.log(online / offline), axis=1)

    def after(offline: jax.Array, online: jax.Array, acceptance: jax.Array) -> jax.Array:
        return kl_divergence(online, corrected_transition(offline, online, acceptance))

    laws = (jnp.asarray(x, jnp.float32) for x in (offline, online, acceptance))
    np.testing.assert_allclose(jax.jit(jax.vmap(after))(*laws), before - gain, rtol=1e-4, atol=1e-5)


def test_constant_acceptance_changes_nothing() -> None:
    np.testing.assert_allclose(
        corrected_transition(OFFLINE, ONLINE, np.full((3, 3), 0.3, np.float32)), OFFLINE, rtol=1e-6
    )


def test_kl_divergence_of_laws_with_zeros() -> None:
    np.testing.assert_allclose(kl_divergence(jnp.array([0.0, 1.0]), jnp.array([0.5, 0.5])), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(kl_divergence(jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0])), 0.0)
    assert np.isposinf(kl_divergence(jnp.array([0.5, 0.5]), jnp.array([0.0, 1.0])))


REWARD = np.array([[0.0, 1.0], [0.0, 2.0]], np.float32)
FIRST = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.1, 0.9]]], np.float32)
SECOND = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.5, 0.5], [0.3, 0.7]]], np.float32)


def test_theorem_1_on_a_worked_example() -> None:
    first, second = (np.asarray(optimal_values(REWARD, transition, gamma=0.9)) for transition in (FIRST, SECOND))
    np.testing.assert_allclose(first, [17.912088, 19.010989], rtol=1e-5)
    np.testing.assert_allclose(second, [14.931507, 16.301370], rtol=1e-5)
    for value, transition in ((first, FIRST), (second, SECOND)):
        np.testing.assert_array_equal(np.argmax(REWARD + 0.9 * transition @ value, axis=1), [1, 1])
    np.testing.assert_allclose(np.max(np.abs(first - second)), 2.980581, rtol=1e-4)
    bound = jax.jit(value_gap_bound, static_argnums=(2, 3))(FIRST, SECOND, 2.0, 0.9)
    np.testing.assert_allclose(bound, 144.0, rtol=1e-5)


def random_transitions(concentration: np.ndarray, num_states: int, rng: np.random.Generator) -> np.ndarray:
    """One [s, a, s] law for each entry of `concentration`: Dirichlet, from nearly deterministic to nearly uniform."""
    shape = (len(concentration), num_states, 2, num_states)
    mass = rng.standard_gamma(np.broadcast_to(concentration[:, None, None, None], shape)) + 1e-9
    return mass / mass.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("num_states", "gamma", "lowest_reward"), [(2, 0.9, -1.0), (2, 0.9, 0.0), (3, 0.5, -1.0), (5, 0.5, 0.0)]
)
def test_theorem_1_holds_for_random_mdps(num_states: int, gamma: float, lowest_reward: float) -> None:
    rng, num = np.random.default_rng(num_states), 1000
    rewards = rng.uniform(lowest_reward, 1.0, (num, num_states, 2))
    rewards /= np.abs(rewards).max(axis=(1, 2), keepdims=True)
    concentration = 10 ** rng.uniform(-1.5, 1.0, num)
    firsts, others = (random_transitions(concentration, num_states, rng) for _ in range(2))
    mix = rng.uniform(size=(num, 1, 1, 1))
    seconds = (1 - mix) * firsts + mix * others

    def gap_and_bound(reward: jax.Array, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = [optimal_values(reward, transition, gamma, num_sweeps=300) for transition in (first, second)]
        return jnp.max(jnp.abs(values[0] - values[1])), value_gap_bound(first, second, 1.0, gamma)

    mdps = (jnp.asarray(x, jnp.float32) for x in (rewards, firsts, seconds))
    gap, bound = (np.asarray(its) for its in jax.jit(jax.vmap(gap_and_bound))(*mdps))
    # values of rewards in [0, r_max] span half of what those in [-r_max, r_max] can: the bound halves
    tightest = bound if lowest_reward < 0 else bound / 2
    assert np.all(gap <= tightest + 1e-4)
    assert np.max(gap / tightest) > 0.2, "no random MDP comes near the bound"
