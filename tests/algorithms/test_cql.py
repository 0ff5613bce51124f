"""Discrete CQL: targets by hand under masks, and chains whose values are known."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.algorithms import CQL
from marline.algorithms.cql import State
from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.types import Spec, Transition

KEY = jax.random.key(0)
SPEC = Spec(3, 4, discrete=True)
TINY = CQL(hidden=(8, 8), target_period=3)
NUM_ROWS = 60


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function)


TINY_UPDATE = TINY.update


def make_batch() -> Transition:
    rng = np.random.default_rng(0)
    masks = rng.random((2, NUM_ROWS, 4)) < 0.6
    action = rng.integers(4, size=NUM_ROWS)
    masks[0, np.arange(NUM_ROWS), action] = True  # what was done was allowed
    masks[1, :, 1] |= ~masks[1].any(axis=1)
    return Transition(
        jnp.asarray(rng.normal(size=(NUM_ROWS, 3)), jnp.float32),
        jnp.asarray(action, jnp.int32),
        jnp.asarray(rng.normal(size=NUM_ROWS), jnp.float32),
        jnp.asarray(np.arange(NUM_ROWS) % 4 != 0, jnp.float32),
        jnp.asarray(rng.normal(size=(NUM_ROWS, 3)), jnp.float32),
        jnp.asarray(masks[0]),
        jnp.asarray(masks[1]),
    )


BATCH = make_batch()
STATE: State = jax.jit(TINY.init)(Experience.create(BATCH, SPEC, num_deployments=0, rows_per_deployment=0), key=KEY)


def test_the_target_takes_the_slow_value_of_the_online_choice_among_allowed_actions() -> None:
    batch, state = BATCH, STATE
    slow = jax.tree.map(lambda leaf: leaf + 0.1, state.target_network)
    target = jax.jit(TINY.target)(state._replace(target_network=slow), batch)
    online = np.asarray(jax.vmap(state.network.model)(batch.next_observation))
    for row in range(NUM_ROWS):
        allowed = np.flatnonzero(np.asarray(batch.next_action_mask)[row])
        best = allowed[np.argmax(online[row, allowed])]
        next_value = np.asarray(slow(batch.next_observation[row]))[best]
        expected = batch.reward[row] + 0.99 * batch.discount[row] * next_value
        np.testing.assert_allclose(target[row], expected, rtol=1e-5)


def test_forbidden_actions_have_no_gradient() -> None:
    """Scaling what the network says of forbidden actions changes nothing."""
    masks = jnp.ones((NUM_ROWS, 4), bool).at[:, 3].set(False)
    action = jnp.where(BATCH.action == 3, 0, BATCH.action)
    batch = BATCH._replace(action_mask=masks, next_action_mask=masks, action=action)
    gradient, _ = jax.jit(jax.grad(TINY.loss, has_aux=True))(STATE.network.model, batch, TINY.target(STATE, batch))
    last = gradient.mlp.layers[-1]
    assert not np.any(np.asarray(last.weight)[:, 3]) and np.asarray(last.bias)[3] == 0.0
    assert np.all(np.abs(np.asarray(last.bias)[:3]) > 0)


def test_without_the_conservative_term_it_is_masked_double_q_learning() -> None:
    target = TINY.target(STATE, BATCH)
    _, metrics = CQL(hidden=(8, 8), alpha_cql=0.0).loss(STATE.network.model, BATCH, target)
    q_values = jax.vmap(STATE.network.model)(BATCH.observation)
    chosen = np.take_along_axis(np.asarray(q_values), np.asarray(BATCH.action)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(metrics["critic_loss"], 0.5 * np.mean((chosen - np.asarray(target)) ** 2), rtol=1e-5)
    assert metrics["conservative_gap"] > 0


def test_the_target_network_moves_when_due() -> None:
    state, first = STATE, jax.tree.leaves(STATE.target_network)
    for number in range(1, 4):
        state, _ = compiled(TINY_UPDATE)(state, BATCH, key=KEY)
        now = jax.tree.leaves(state.target_network)
        source = jax.tree.leaves(state.network.model) if number == 3 else first
        for one, other in zip(now, source, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_policy_never_chooses_what_is_forbidden() -> None:
    policy, masks = TINY.policy(STATE), np.asarray(BATCH.action_mask)
    act = jax.jit(jax.vmap(lambda s, mask: policy(s, key=KEY, action_mask=mask)))
    chosen = np.asarray(act(BATCH.observation, BATCH.action_mask))
    assert masks[np.arange(NUM_ROWS), chosen].all()
    free = jax.vmap(lambda s: policy(s, key=KEY))(BATCH.observation)
    np.testing.assert_array_equal(free, jnp.argmax(jax.vmap(STATE.network.model)(BATCH.observation), axis=1))
    critic = TINY.critic(STATE)
    value = jax.vmap(lambda s, mask: critic.v(s, key=KEY, action_mask=mask))(BATCH.observation, BATCH.action_mask)
    np.testing.assert_allclose(value, jax.vmap(critic.q)(BATCH.observation, jnp.asarray(chosen)), rtol=1e-6)


def chain() -> tuple[Experience, np.ndarray]:
    """Two states, both actions seen in both: 0 stays and pays 0.3, 1 moves on and pays 0 from the first, 1 from the
    second, where it ends. Value iteration with gamma 0.9 gives the table of Q."""
    rng = np.random.default_rng(0)
    place, action = rng.integers(2, size=(2, 800))
    moves = action == 1
    reward = np.where(moves, np.where(place == 1, 1.0, 0.0), 0.3)
    ends = moves & (place == 1)
    masks = jnp.ones((800, 2), bool)
    rows = Transition(
        jnp.asarray(place[:, None], jnp.float32),
        jnp.asarray(action, jnp.int32),
        jnp.asarray(reward, jnp.float32),
        jnp.asarray(~ends, jnp.float32),
        jnp.asarray(np.minimum(place + moves, 1)[:, None], jnp.float32),
        masks,
        masks,
    )
    table = np.zeros((2, 2))
    for _ in range(500):
        best = table.max(axis=1)
        table = np.array([[0.3 + 0.9 * best[0], 0.9 * best[1]], [0.3 + 0.9 * best[1], 1.0]])
    return Experience.create(rows, Spec(1, 2, discrete=True), num_deployments=0, rows_per_deployment=0), table


@functools.cache
def learned(alpha_cql: float) -> np.ndarray:
    """The table of Q after 3000 updates."""
    experience, _ = chain()
    algorithm = CQL(hidden=(16,), learning_rate=3e-3, gamma=0.9, alpha_cql=alpha_cql, target_period=50)

    @jax.jit
    def loop(experience: Experience) -> State:
        def step(state: State, key: jax.Array) -> tuple[State, None]:
            rows = jax.random.randint(key, (64,), 0, experience.num_offline)
            return algorithm.update(state, experience[rows], key=key)[0], None

        start = algorithm.init(experience, key=KEY)
        return jax.lax.scan(step, start, jax.random.split(KEY, 3000))[0]

    network = loop(experience).network.model
    return np.asarray(jax.vmap(network)(jnp.array([[0.0], [1.0]])))


def test_learns_the_values_of_a_chain() -> None:
    _, table = chain()
    np.testing.assert_allclose(learned(0.0), table, atol=0.1)
    np.testing.assert_array_equal(learned(0.01).argmax(axis=1), table.argmax(axis=1))


def test_a_larger_alpha_leaves_a_smaller_gap() -> None:
    """With both actions equally frequent in the data, log sum exp Q - Q falls towards log 2."""

    def gap(alpha_cql: float) -> float:
        q_values = learned(alpha_cql)
        return float(np.mean(np.log(np.exp(q_values).sum(axis=1)) - q_values.mean(axis=1)))

    assert gap(5.0) < gap(0.0) - 0.001
    assert gap(5.0) == pytest.approx(np.log(2.0), abs=0.02)


class Reference:
    """Masked CQL in NumPy with gradients by hand: as IQL+CQL of og-marl, one agent, feed-forward, mask in the sum.

    It shares nothing with marline but the first weights. Two hidden layers, Adam, double Q-learning, a target that is
    copied every `target_period` updates.
    """

    def __init__(self, weights: list[np.ndarray], algorithm: CQL) -> None:
        self.weights = [weight.astype("f8") for weight in weights]
        self.slow = [weight.copy() for weight in self.weights]
        self.first, self.second = ([np.zeros_like(weight) for weight in self.weights] for _ in range(2))
        self.algorithm, self.num_updates = algorithm, 0

    @staticmethod
    def forward(weights: list[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
        """Input, both hidden layers, output."""
        layers = [x]
        for number in range(0, len(weights), 2):
            x = layers[-1] @ weights[number] + weights[number + 1]
            layers.append(np.maximum(x, 0.0) if number < len(weights) - 2 else x)
        return layers

    def update(self, batch: Transition) -> tuple[float, float]:
        """Bellman loss and conservative gap before the step."""
        its, rows = self.algorithm, np.arange(len(batch.reward))
        action, reward, discount = (np.asarray(one) for one in (batch.action, batch.reward, batch.discount))
        mask, next_mask = np.asarray(batch.action_mask), np.asarray(batch.next_action_mask)
        following = np.asarray(batch.next_observation)
        best = np.where(next_mask, self.forward(self.weights, following)[-1], -np.inf).argmax(axis=1)
        target = reward + its.gamma * discount * self.forward(self.slow, following)[-1][rows, best]
        layers = self.forward(self.weights, np.asarray(batch.observation))
        q = layers[-1]
        allowed = np.where(mask, np.exp(q), 0.0)
        error = q[rows, action] - target
        gap = np.log(allowed.sum(axis=1)) - q[rows, action]
        slope = its.alpha_cql * allowed / allowed.sum(axis=1, keepdims=True)
        slope[rows, action] += error - its.alpha_cql
        slope /= len(rows)
        self.num_updates += 1
        for number in range(len(self.weights) - 2, -1, -2):
            gradients = layers[number // 2].T @ slope, slope.sum(axis=0)
            slope = (slope @ self.weights[number].T) * (layers[number // 2] > 0)
            for place, gradient in zip((number, number + 1), gradients, strict=True):
                self.first[place] = 0.9 * self.first[place] + 0.1 * gradient
                self.second[place] = 0.999 * self.second[place] + 0.001 * gradient**2
                mean, square = (
                    moment / (1 - decay**self.num_updates)
                    for moment, decay in ((self.first[place], 0.9), (self.second[place], 0.999))
                )
                self.weights[place] = self.weights[place] - its.learning_rate * mean / (np.sqrt(square) + 1e-8)
        if self.num_updates % its.target_period == 0:
            self.slow = [weight.copy() for weight in self.weights]
        return float(np.mean(0.5 * error**2)), float(np.mean(gap))


def test_it_learns_as_an_independent_implementation_does() -> None:
    """From the same weights: one batch to rounding, and a curve of a hundred updates on batches of their own."""
    algorithm = CQL(hidden=(8, 8), target_period=20, learning_rate=1e-3, alpha_cql=0.5)
    state, told = STATE, []
    reference = Reference([np.asarray(leaf) for leaf in jax.tree.leaves(state.network.model)], algorithm)
    update, rng = jax.jit(algorithm.update), np.random.default_rng(1)
    for _ in range(100):
        rows = rng.integers(NUM_ROWS, size=32)
        batch = jax.tree.map(lambda column, rows=rows: column[rows], BATCH)
        state, metrics = update(state, batch, key=KEY)
        told.append([*reference.update(batch), float(metrics["bellman_loss"]), float(metrics["conservative_gap"])])
    curves = np.array(told)
    np.testing.assert_allclose(curves[0, :2], curves[0, 2:], rtol=1e-5)
    np.testing.assert_allclose(curves[:, :2], curves[:, 2:], rtol=2e-3, atol=1e-4)
    learned = [np.asarray(leaf) for leaf in jax.tree.leaves(state.network.model)]
    for leaf, weight in zip(learned, reference.weights, strict=True):
        np.testing.assert_allclose(leaf, weight, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("all terminal", BATCH._replace(discount=jnp.zeros(NUM_ROWS))),
        ("one repeated row", jax.tree.map(lambda column: jnp.repeat(column[:1], NUM_ROWS, axis=0), BATCH)),
        ("rewards of a million", BATCH._replace(reward=1e6 * jnp.sign(BATCH.reward))),
        ("constant observations", BATCH._replace(observation=jnp.full((NUM_ROWS, 3), 1e3))),
    ],
)
def test_hostile_batches_leave_everything_finite(name: str, batch: Transition) -> None:
    state, metrics = compiled(TINY_UPDATE)(STATE, batch, key=KEY)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((state, metrics)))


def test_continuous_actions_are_refused_with_advice() -> None:
    nothing = jnp.zeros((4, 3))
    logs = Transition(nothing, jnp.zeros((4, 2)), jnp.zeros(4), jnp.ones(4), nothing)
    experience = Experience.create(logs, Spec(3, 2), num_deployments=1, rows_per_deployment=1)
    with pytest.raises(ConfigError, match="discrete.*cql-continuous"):
        TINY.init(experience, key=KEY)


@pytest.mark.parametrize(
    ("option", "value"),
    [("hidden", (0,)), ("learning_rate", 0.0), ("gamma", -0.1), ("alpha_cql", -1.0), ("target_period", 0)],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {re.escape(str(value))}"):
        CQL(**{option: value})  # pyright: ignore[reportArgumentType]
