"""IQL's losses against NumPy, a chain whose expectile values are known, and what it refuses."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from continuous_worlds import (
    CHAIN_ACTIONS,
    CHAIN_GAMMA,
    KEY,
    all_finite,
    by_direction,
    chain_logs,
    chain_values,
    discrete_experience,
    forward,
    hostile_logs,
    look,
    random_logs,
    start,
    train,
    twins,
)

from marline.algorithms.iql import IQL
from marline.errors import ConfigError

FAST = IQL(hidden=(16, 16), learning_rate=3e-3, gamma=CHAIN_GAMMA, target_step_size=0.05)
SARSA = dataclasses.replace(FAST, expectile=0.5)


def expectile_values(q_values: np.ndarray, expectile: float) -> np.ndarray:
    """The expectile of two equally frequent values: (1 - tau) (v - low) = tau (high - v)."""
    return (1 - expectile) * q_values.min(axis=1) + expectile * q_values.max(axis=1)


def test_losses_and_their_order_agree_with_numpy() -> None:
    logs, state = random_logs(), start(FAST)
    # the targets apart from the critics, so that a mix-up shows
    apart = jax.tree.map(lambda leaf: jnp.asarray(3 * np.asarray(leaf)), state.target_critic)
    state = state._replace(target_critic=apart)
    after, metrics = train(FAST, logs, 1, state)

    value = forward(state.value.model.mlp, np.asarray(logs.observation))[:, 0]
    advantage = twins(state.target_critic, logs.observation, logs.action).min(axis=0) - value
    squares = np.where(advantage > 0, 0.7, 0.3) * advantage**2
    np.testing.assert_allclose(metrics["value_loss"], squares.mean(), rtol=1e-4)

    next_value = forward(state.value.model.mlp, np.asarray(logs.next_observation))[:, 0]
    target = np.asarray(logs.reward) + FAST.gamma * np.asarray(logs.discount) * next_value
    q_values = twins(state.critic.model, logs.observation, logs.action)
    np.testing.assert_allclose(metrics["critic_loss"], 0.5 * ((q_values - target) ** 2).mean(axis=1).sum(), rtol=1e-4)
    np.testing.assert_allclose(metrics["mean_q"], q_values[0].mean(), atol=1e-5)

    mean = np.tanh(forward(state.actor.model.mlp, np.asarray(logs.observation)))
    log_density = scipy.stats.norm.logpdf(np.asarray(logs.action), mean, 1.0).sum(axis=1)
    weights = np.minimum(np.exp(3 * advantage), 100)
    np.testing.assert_allclose(metrics["actor_loss"], -np.mean(weights * log_density), rtol=1e-4)

    slow = after.target_critic.second.mlp.layers[0].weight
    old, new = state.target_critic.second.mlp.layers[0].weight, after.critic.model.second.mlp.layers[0].weight
    np.testing.assert_allclose(slow, 0.95 * np.asarray(old) + 0.05 * np.asarray(new), atol=1e-6)


@pytest.mark.parametrize(
    "algorithm", [pytest.param(SARSA, marks=pytest.mark.slow, id="sarsa"), pytest.param(FAST, id="expectile")]
)
def test_the_values_of_the_chain_are_its_expectiles(algorithm: IQL) -> None:
    """At 0.5 the mean over logged actions, so that Q is the SARSA fixed point; at 0.7 above it."""
    logs = chain_logs()
    state, metrics = train(algorithm, logs, 1500, start(FAST))
    chosen, q_values, values = look(FAST, state, logs)
    expected = chain_values(lambda q_values: expectile_values(q_values, algorithm.expectile))
    np.testing.assert_allclose(by_direction(q_values), expected, atol=0.1)
    np.testing.assert_allclose(by_direction(values)[:, 0], expectile_values(expected, algorithm.expectile), atol=0.1)
    assert metrics["critic_loss"] < 0.01

    # the mean action is the mean of logged actions, weighted by exp(3 A)
    advantage = expected - expectile_values(expected, algorithm.expectile)[:, None]
    weights = np.minimum(np.exp(3 * advantage), 100)
    mean_size = np.abs(CHAIN_ACTIONS).mean()
    best = mean_size * (weights[:, 1] - weights[:, 0]) / weights.sum(axis=1)
    np.testing.assert_allclose(by_direction(np.asarray(chosen)[:, 0])[:, 0], best, atol=0.1)
    assert best.min() > 0.2  # to the right in both states, even where that costs


def test_the_mean_is_deployed_and_v_is_the_network() -> None:
    logs, state = random_logs(), start(FAST)
    chosen, q_values, values = look(FAST, state, logs)
    observation = np.asarray(logs.observation)
    np.testing.assert_allclose(chosen, np.tanh(forward(state.actor.model.mlp, observation)), atol=1e-5)
    np.testing.assert_allclose(q_values, twins(state.critic.model, observation, logs.action).min(axis=0), atol=1e-5)
    np.testing.assert_allclose(values, forward(state.value.model.mlp, observation)[:, 0], atol=1e-5)


@pytest.mark.parametrize("name", hostile_logs())
def test_hostile_data_leaves_everything_finite(name: str) -> None:
    logs = hostile_logs()[name]
    state, metrics = train(FAST, logs, 3)
    assert all_finite((state, metrics, look(FAST, state, logs)))


@pytest.mark.parametrize("free", [-30.0, 30.0])
def test_a_spread_beyond_its_bounds_is_harmless(free: float) -> None:
    state = start(FAST)
    model = dataclasses.replace(state.actor.model, free_log_std=jnp.asarray(np.full(2, free), jnp.float32))
    state = state._replace(actor=dataclasses.replace(state.actor, model=model))
    state, metrics = train(FAST, random_logs(), 1, state)
    assert all_finite((state, metrics))
    np.testing.assert_array_equal(state.actor.model.log_std, np.full(2, np.clip(free, -20, 2)))


def test_discrete_actions_are_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match='continuous.*"cql"'):
        FAST.init(discrete_experience(), key=KEY)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hidden", (0,)),
        ("learning_rate", 0.0),
        ("gamma", -0.1),
        ("expectile", 1.0),
        ("expectile", float("nan")),
        ("inverse_temperature", -3.0),
        ("max_weight", 0.0),
        ("target_step_size", 0.0),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {re.escape(str(value))}"):
        IQL(**{option: value})  # pyright: ignore[reportArgumentType]
