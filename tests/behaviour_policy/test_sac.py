"""SAC's losses against NumPy, a chain whose best way is known, and what it refuses."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from continuous_worlds import (
    CHAIN_GAMMA,
    KEY,
    SPEC,
    all_finite,
    by_direction,
    chain_logs,
    forward,
    hostile_logs,
    optimal_chain_values,
    random_logs,
    train,
    twins,
    update_key,
)

from marline.behaviour_policy.sac import SAC, State
from marline.errors import ConfigError
from marline.types import Spec

FAST = SAC(hidden=(16, 16), learning_rate=3e-3, gamma=CHAIN_GAMMA, target_step_size=0.05)


@functools.cache
def start() -> State:
    return jax.jit(FAST.init, static_argnums=0)(SPEC, key=KEY)


def draw(state: State, observation: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Actions and their log densities in float64: log N(u) - sum log(1 - tanh(u)^2)."""
    mean, log_std = np.split(forward(state.actor.model.mlp, observation), 2, axis=1)
    unsquashed = mean + np.exp(log_std) * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    return np.tanh(unsquashed), (log_normal - np.log(1 - np.tanh(unsquashed) ** 2)).sum(axis=1)


def test_losses_agree_with_numpy() -> None:
    logs, state = random_logs(), start()
    # the targets apart from the critics, and the temperature from 1, so that a mix-up shows
    apart = jax.tree.map(lambda leaf: jnp.asarray(3 * np.asarray(leaf)), state.target_critic)
    state = state._replace(target_critic=apart)
    log_temperature = state.log_temperature
    state = state._replace(log_temperature=type(log_temperature)(jnp.float32(-0.5), log_temperature.opt_state))
    after, metrics = train(FAST, logs, 1, state)

    @jax.jit
    @jax.vmap
    def normal(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (24, 2))

    target_noise, actor_noise = np.asarray(normal(jax.random.split(update_key())), float)

    action, log_density = draw(state, np.asarray(logs.next_observation), target_noise)
    soft_value = twins(state.target_critic, logs.next_observation, action).min(axis=0) - np.exp(-0.5) * log_density
    target = np.asarray(logs.reward) + FAST.gamma * np.asarray(logs.discount) * soft_value
    q_values = twins(state.critic.model, logs.observation, logs.action)
    np.testing.assert_allclose(metrics["critic_loss"], 0.5 * ((q_values - target) ** 2).mean(axis=1).sum(), rtol=1e-4)
    np.testing.assert_allclose(metrics["mean_q"], q_values[0].mean(), atol=1e-5)

    action, log_density = draw(state, np.asarray(logs.observation), actor_noise)
    best = twins(after.critic.model, logs.observation, action).min(axis=0)
    np.testing.assert_allclose(metrics["actor_loss"], (np.exp(-0.5) * log_density - best).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy"], -log_density.mean(), rtol=1e-4)
    # Adam's first step is as long as its rate: down, for a fresh policy has more entropy than minus two
    np.testing.assert_allclose(after.log_temperature.model, -0.503, atol=1e-5)

    slow = after.target_critic.second.mlp.layers[0].weight
    old, new = state.target_critic.second.mlp.layers[0].weight, after.critic.model.second.mlp.layers[0].weight
    np.testing.assert_allclose(slow, 0.95 * np.asarray(old) + 0.05 * np.asarray(new), atol=1e-6)


def test_the_chain_is_walked_the_best_way() -> None:
    logs = chain_logs()
    state, metrics = train(FAST, logs, 2000, start())
    action = jax.jit(jax.vmap(state.actor.model.mode))(logs.observation)
    assert by_direction(np.asarray(action)[:, 0]).min() > 0.4  # to the right in both states
    q_values = by_direction(twins(state.critic.model, logs.observation, logs.action)[0])
    np.testing.assert_allclose(q_values, optimal_chain_values(), atol=0.3)
    assert -2.5 < metrics["entropy"] < -0.5  # on its way from 1.2 to minus the two dimensions


def test_it_explores_by_its_entropy() -> None:
    policy = FAST.policy(start())
    act = jax.jit(lambda keys: jax.vmap(lambda key: policy(jnp.ones(2), key=key))(keys))
    actions = act(jax.random.split(KEY, 500))
    assert np.abs(actions).max() < 1.0 and np.std(actions, axis=0).min() > 0.3


@pytest.mark.parametrize("name", hostile_logs())
def test_hostile_data_leaves_everything_finite(name: str) -> None:
    assert all_finite(train(FAST, hostile_logs()[name], 3, start()))


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs continuous actions"):
        FAST.init(Spec(2, 3, discrete=True), key=KEY)
    with pytest.raises(ConfigError, match="learning_rate is 0.0"):
        SAC(learning_rate=0.0)
    with pytest.raises(ConfigError, match="must lie in"):
        SAC(target_step_size=1.5)
