"""Targets that critics regress on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from marline.ops import value_targets
from marline.types import Transition

twin_minimum = jax.jit(value_targets.twin_minimum)
smoothed_action = jax.jit(value_targets.smoothed_action, static_argnums=2)
soft_clipped_value = jax.jit(value_targets.soft_clipped_value, static_argnums=2)
one_step_target = jax.jit(value_targets.one_step_target, static_argnums=3)


class NoisyCritic:
    """V(s) is the first number of an observation and noise, which only the key decides."""

    gamma = 0.99

    def q(self, observation: Array, action: Array) -> Array:
        return observation[0]

    def v(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return observation[0] + jax.random.normal(key)


def test_rows_share_one_draw_of_noise_or_have_their_own() -> None:
    after = jnp.array([[1.0], [1.0], [3.0], [5.0]])
    batch = Transition(after, after, jnp.array([0.0] * 4), jnp.array([1.0, 1.0, 1.0, 0.0]), after)
    key = jax.random.key(3)

    @jax.jit
    def draw(batch: Transition, key: Array) -> tuple[Array, Array, Array]:
        shared = value_targets.next_values(NoisyCritic(), batch, key=key, one_draw=True)
        return jax.random.normal(key), shared, value_targets.next_values(NoisyCritic(), batch, key=key)

    noise, shared, own = (np.asarray(its) for its in draw(batch, key))
    np.testing.assert_allclose(shared, [1.0, 1.0, 3.0, 0.0] + noise * np.asarray(batch.discount), rtol=1e-6)
    assert len({*(own - np.asarray(after)[:, 0])[:3].tolist()}) == 3 and own[3] == 0.0


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
