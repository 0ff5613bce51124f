"""Continuous CQL's losses against NumPy, a chain with a known answer, and what it refuses."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
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

from marline.algorithms.cql_continuous import ContinuousCQL, State
from marline.errors import ConfigError

NUM_SAMPLES = 4
FAST = ContinuousCQL(
    hidden=(16, 16),
    actor_learning_rate=3e-3,
    critic_learning_rate=3e-3,
    gamma=CHAIN_GAMMA,
    alpha_cql=0.01,
    num_action_samples=NUM_SAMPLES,
    target_step_size=0.05,
)
CONSERVATIVE = dataclasses.replace(FAST, alpha_cql=2.0)


def sample(state: State, observation: jax.Array, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Actions and log densities in float64, the density by the change of variables."""
    mean, log_std = np.split(forward(state.actor.model.mlp, np.asarray(observation)), 2, axis=1)
    std = np.exp(np.clip(log_std, -20, 2))
    unsquashed = mean + std * noise
    density = scipy.stats.norm.logpdf(unsquashed, mean, std) - np.log(1 - np.tanh(unsquashed) ** 2)
    return np.tanh(unsquashed), density.sum(axis=1)


def normal(key: jax.Array, *shape: int) -> np.ndarray:
    return np.asarray(jax.random.normal(key, shape), np.float64)


def test_losses_and_their_order_agree_with_numpy() -> None:
    logs, state = random_logs(), start(FAST)
    after, metrics = train(CONSERVATIVE, logs, 1, state)
    normal_key, uniform_key = jax.random.split(update_key())
    noise = normal(normal_key, NUM_ROWS, 2 + 2 * NUM_SAMPLES, 2)

    action, log_density = sample(state, logs.observation, noise[:, 0])
    assert metrics["temperature_loss"] == 0.0  # at log 1
    # the policy starts with more entropy than -2, so the temperature falls, by one step of Adam
    assert log_density.mean() < 2
    np.testing.assert_allclose(metrics["temperature"], np.exp(-3e-3), rtol=1e-5)
    q_values = twins(state.critic.model, logs.observation, action).min(axis=0)
    np.testing.assert_allclose(
        metrics["actor_loss"], np.mean(np.exp(-3e-3) * log_density - q_values), rtol=1e-4, atol=1e-5
    )

    # the critics see the actor after its step
    stepped = state._replace(actor=after.actor)
    next_action, _ = sample(stepped, logs.next_observation, noise[:, 1])
    next_value = twins(state.target_critic, logs.next_observation, next_action).min(axis=0)
    target = np.asarray(logs.reward) + CHAIN_GAMMA * np.asarray(logs.discount) * next_value
    logged = twins(state.critic.model, logs.observation, logs.action)

    uniform = np.asarray(jax.random.uniform(uniform_key, (NUM_ROWS, NUM_SAMPLES, 2), minval=-1, maxval=1))
    terms = []
    for i in range(NUM_SAMPLES):
        terms.append(twins(state.critic.model, logs.observation, uniform[:, i]) + 2 * np.log(2))
        for side, observation in enumerate((logs.observation, logs.next_observation)):
            action, log_density = sample(stepped, observation, noise[:, 2 + side * NUM_SAMPLES + i])
            terms.append(twins(state.critic.model, logs.observation, action) - log_density)
    gaps = scipy.special.logsumexp(terms, axis=0) - logged
    loss = ((logged - target) ** 2).mean(axis=1).sum() + 2.0 * gaps.mean(axis=1).sum()
    np.testing.assert_allclose(metrics["critic_loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["conservative_gap"], gaps[0].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["mean_q"], logged[0].mean(), atol=1e-5)

    slow = after.target_critic.first.mlp.layers[0].weight
    old, new = (s.critic.model.first.mlp.layers[0].weight for s in (state, after))
    np.testing.assert_allclose(slow, 0.95 * np.asarray(old) + 0.05 * np.asarray(new), atol=1e-6)


def test_max_backup_takes_the_best_of_several_actions() -> None:
    algorithm, logs, state = dataclasses.replace(FAST, max_backup=True), random_logs(), start(FAST)
    noise = normal(KEY, NUM_ROWS, NUM_SAMPLES, 2)
    target = jax.jit(algorithm.target)(state, logs, jnp.asarray(noise, jnp.float32))
    next_values = []
    for i in range(NUM_SAMPLES):
        action, _ = sample(state, logs.next_observation, noise[:, i])
        next_values.append(twins(state.target_critic, logs.next_observation, action).min(axis=0))
    best = np.max(next_values, axis=0)
    expected = np.asarray(logs.reward) + CHAIN_GAMMA * np.asarray(logs.discount) * best
    np.testing.assert_allclose(target, expected, atol=1e-5)


@pytest.mark.slow
def test_the_chain_is_solved_and_the_gap_shrinks_as_alpha_grows() -> None:
    logs = chain_logs()
    gaps = []
    for algorithm in (FAST, CONSERVATIVE):
        state, metrics = train(algorithm, logs, 1500, start(FAST))
        chosen, q_values, _ = look(FAST, state, logs)
        gaps.append(float(metrics["conservative_gap"]))
        if algorithm is FAST:
            np.testing.assert_allclose(by_direction(q_values), optimal_chain_values(), atol=0.3)
            assert np.all(np.asarray(chosen)[:, 0] > 0.4)
        else:
            assert np.all(by_direction(q_values) < optimal_chain_values())  # pessimism, here in every state
    assert gaps[1] < gaps[0] - 0.3


def test_the_mode_is_deployed_and_v_is_a_mean_over_samples() -> None:
    logs, state = random_logs(), start(FAST)
    chosen, q_values, values = look(FAST, state, logs)
    mean, _ = np.split(forward(state.actor.model.mlp, np.asarray(logs.observation)), 2, axis=1)
    np.testing.assert_allclose(chosen, np.tanh(mean), atol=1e-5)
    np.testing.assert_allclose(
        q_values, twins(state.critic.model, logs.observation, logs.action).min(axis=0), atol=1e-5
    )
    for row, key in enumerate(jax.random.split(KEY, NUM_ROWS)[:3]):
        observation = jnp.repeat(logs.observation[row, None], 10, axis=0)
        actions, _ = sample(state, observation, normal(key, 10, 2))
        expected = twins(state.critic.model, observation, actions).min(axis=0).mean()
        np.testing.assert_allclose(values[row], expected, atol=1e-5)


@pytest.mark.parametrize("name", hostile_logs())
def test_hostile_data_leaves_everything_finite(name: str) -> None:
    logs = hostile_logs()[name]
    state, metrics = train(CONSERVATIVE, logs, 3, start(FAST))
    assert all_finite((state, metrics, look(FAST, state, logs)))


def test_discrete_actions_are_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match='continuous.*"cql"'):
        FAST.init(discrete_experience(), key=KEY)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hidden", (4, 0)),
        ("actor_learning_rate", 0.0),
        ("critic_learning_rate", float("nan")),
        ("gamma", 1.01),
        ("alpha_cql", -1.0),
        ("num_action_samples", 0),
        ("target_step_size", 0.0),
        ("num_value_samples", 0),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {re.escape(str(value))}"):
        ContinuousCQL(**{option: value})  # pyright: ignore[reportArgumentType]
