"""AWAC's losses against NumPy, a bandit and a chain with known answers, and what it refuses."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from continuous_worlds import (
    CHAIN_GAMMA,
    KEY,
    NUM_ROWS,
    all_finite,
    by_direction,
    chain_logs,
    discrete_experience,
    forward,
    hostile_logs,
    look,
    optimal_chain_values,
    random_logs,
    start,
    train,
    twins,
    update_key,
)

from marline.algorithms.awac import AWAC, State
from marline.errors import ConfigError
from marline.types import Transition

FAST = AWAC(
    hidden=(16, 16), actor_learning_rate=3e-3, critic_learning_rate=3e-3, gamma=CHAIN_GAMMA, target_step_size=0.05
)


def mean_and_std(state: State, observation: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    actor = state.actor.model
    std = np.exp(-6 + 6 / (1 + np.exp(-np.asarray(actor.free_log_std, np.float64))))
    return np.tanh(forward(actor.mlp, np.asarray(observation))), std


def densities(state: State, logs: Transition) -> np.ndarray:
    """log pi(a|s) of every row."""
    mean, std = mean_and_std(state, logs.observation)
    return scipy.stats.norm.logpdf(np.asarray(logs.action), mean, std).sum(axis=1)


def test_losses_and_their_order_agree_with_numpy() -> None:
    logs, state = random_logs(), start(FAST)
    after, metrics = train(FAST, logs, 1)
    next_noise, baseline_noise = np.asarray(jax.random.normal(update_key(), (2, NUM_ROWS, 2)))

    next_mean, std = mean_and_std(state, logs.next_observation)
    np.testing.assert_allclose(std, np.exp(-3))
    next_action = np.clip(next_mean + std * next_noise, -1, 1)
    next_value = twins(state.target_critic, logs.next_observation, next_action).min(axis=0)
    target = np.asarray(logs.reward) + FAST.gamma * np.asarray(logs.discount) * next_value
    q_values = twins(state.critic.model, logs.observation, logs.action)
    np.testing.assert_allclose(metrics["critic_loss"], ((q_values - target) ** 2).mean(axis=1).sum(), rtol=1e-4)
    np.testing.assert_allclose(metrics["mean_q"], q_values[0].mean(), atol=1e-5)

    # the actor is judged by the critics after their step
    mean, std = mean_and_std(state, logs.observation)
    baseline = twins(after.critic.model, logs.observation, np.clip(mean + std * baseline_noise, -1, 1)).min(axis=0)
    advantage = twins(after.critic.model, logs.observation, logs.action).min(axis=0) - baseline
    weights = np.minimum(np.exp(3 * advantage), 100)
    np.testing.assert_allclose(metrics["actor_loss"], -np.mean(weights * densities(state, logs)), rtol=1e-4)
    np.testing.assert_allclose(metrics["effective_rows"], weights.sum() ** 2 / (weights**2).sum(), rtol=1e-4)

    slow = after.target_critic.first.mlp.layers[0].weight
    old, new = (s.critic.model.first.mlp.layers[0].weight for s in (state, after))
    np.testing.assert_allclose(slow, 0.95 * np.asarray(old) + 0.05 * np.asarray(new), atol=1e-6)


def test_without_advantage_it_is_behaviour_cloning() -> None:
    logs, state = random_logs(), start(FAST)
    for algorithm in (FAST, dataclasses.replace(FAST, weighting="softmax")):
        weights = jax.jit(algorithm.weights)(jax.device_put(np.zeros(NUM_ROWS, np.float32)))
        np.testing.assert_allclose(weights, np.ones(NUM_ROWS), rtol=1e-6)
    loss = jax.jit(FAST.actor_loss)(state.actor.model, logs, jax.device_put(np.ones(NUM_ROWS, np.float32)))
    np.testing.assert_allclose(loss, -densities(state, logs).mean(), rtol=1e-5)


def test_both_forms_of_the_weights_divide_by_the_temperature() -> None:
    advantage = jnp.array([0.0, 1.0, -1.0, 2.0])
    np.testing.assert_allclose(jax.jit(FAST.weights)(advantage), [1.0, 20.085537, 0.049787, 100.0], rtol=1e-5)
    softmax = jax.jit(AWAC(weighting="softmax", temperature=2.0).weights)(advantage)
    np.testing.assert_allclose(softmax, [0.669620, 1.104017, 0.406145, 1.820217], rtol=1e-5)


def test_an_action_that_pays_more_becomes_more_likely() -> None:
    """One state and the actions -0.5, 0 and 0.5; raising the reward of one raises its density."""
    constant = jax.device_put(np.ones((NUM_ROWS, 2), np.float32))
    nothing = jax.device_put(np.zeros(NUM_ROWS, np.float32))
    choice = np.arange(NUM_ROWS) % 3
    action = np.stack([choice * 0.5 - 0.5, np.arange(NUM_ROWS) % 2 - 0.5], axis=1)  # the second does nothing
    equal = Transition(constant, jax.device_put(np.asarray(action, np.float32)), nothing, nothing, constant)

    def density_of_each(logs: Transition) -> np.ndarray:
        state, _ = train(FAST, logs, 3000)
        return densities(state, logs)[:3]

    cloned = density_of_each(equal)
    for best in range(3):
        raised = density_of_each(equal._replace(reward=jax.device_put(np.asarray(choice == best, np.float32))))
        assert raised[best] > cloned[best] + 0.5


def test_the_chain_is_solved() -> None:
    logs = chain_logs()
    state, metrics = train(FAST, logs, 1500)
    chosen, q_values, values = look(FAST, state, logs)
    np.testing.assert_allclose(by_direction(q_values), optimal_chain_values(), atol=0.2)
    assert np.all(np.asarray(chosen)[:, 0] > 0.4)
    np.testing.assert_allclose(by_direction(values)[:, 0], optimal_chain_values().max(axis=1), atol=0.2)
    assert metrics["critic_loss"] < 0.02
    assert np.all(np.asarray(state.actor.model.log_std) <= 0) and np.all(np.asarray(state.actor.model.log_std) >= -6)


def test_the_mean_is_deployed_and_v_is_a_mean_over_samples() -> None:
    logs, state = random_logs(), start(FAST)
    chosen, q_values, values = look(FAST, state, logs)
    mean, std = mean_and_std(state, logs.observation)
    np.testing.assert_allclose(chosen, mean, atol=1e-5)
    np.testing.assert_allclose(
        q_values, twins(state.critic.model, logs.observation, logs.action).min(axis=0), atol=1e-5
    )

    keys = jax.random.split(KEY, NUM_ROWS)
    noise = np.asarray(jax.vmap(lambda key: jax.random.normal(key, (10, 2)))(keys))
    actions = np.clip(mean[:, None] + std * noise, -1, 1)
    expected = [
        twins(state.critic.model, np.repeat(logs.observation[row, None], 10, axis=0), actions[row]).min(axis=0).mean()
        for row in range(4)
    ]
    np.testing.assert_allclose(values[:4], expected, atol=1e-5)


@pytest.mark.parametrize("name", hostile_logs())
def test_hostile_data_leaves_everything_finite(name: str) -> None:
    logs = hostile_logs()[name]
    state, metrics = train(FAST, logs, 3)
    assert all_finite((state, metrics, look(FAST, state, logs)))
    assert np.all(np.abs(look(FAST, state, logs)[0]) <= 1)


def test_discrete_actions_are_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match='continuous.*"cql"'):
        FAST.init(discrete_experience(), key=KEY)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hidden", (4, 0)),
        ("actor_learning_rate", 0.0),
        ("critic_learning_rate", -1.0),
        ("gamma", float("nan")),
        ("temperature", 0.0),
        ("max_weight", 0.0),
        ("weight_decay", -1e-4),
        ("target_step_size", 1.5),
        ("num_value_samples", 0),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {re.escape(str(value))}"):
        AWAC(**{option: value})  # pyright: ignore[reportArgumentType]
