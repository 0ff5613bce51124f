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
        jax.device_put(np.asarray(rng.normal(size=(NUM_ROWS, 3)), np.float32)),
        jax.device_put(np.asarray(action, np.int32)),
        jax.device_put(np.asarray(rng.normal(size=NUM_ROWS), np.float32)),
        jax.device_put(np.asarray(np.arange(NUM_ROWS) % 4 != 0, np.float32)),
        jax.device_put(np.asarray(rng.normal(size=(NUM_ROWS, 3)), np.float32)),
        jax.device_put(masks[0]),
        jax.device_put(masks[1]),
    )


BATCH = make_batch()
td_target = jax.jit(TINY.target)


@pytest.fixture(scope="module")
def fresh() -> State:
    experience = Experience.create(BATCH, SPEC, num_deployments=0, rows_per_deployment=0)
    return jax.jit(TINY.init)(experience, key=KEY)


@jax.jit
def of_all(network: Callable[[jax.Array], jax.Array], observation: jax.Array) -> jax.Array:
    """Q of every action in every row."""
    return jax.vmap(network)(observation)


def test_the_target_takes_the_slow_value_of_the_online_choice_among_allowed_actions(fresh: State) -> None:
    batch, state = BATCH, fresh
    slow = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf) + np.float32(0.1)), state.target_network)
    target, reward, discount = (
        np.asarray(column)
        for column in (td_target(state._replace(target_network=slow), batch), batch.reward, batch.discount)
    )
    online, later = (np.asarray(of_all(network, batch.next_observation)) for network in (state.network.model, slow))
    for row in range(NUM_ROWS):
        allowed = np.flatnonzero(np.asarray(batch.next_action_mask)[row])
        best = allowed[np.argmax(online[row, allowed])]
        expected = reward[row] + 0.99 * discount[row] * later[row, best]
        np.testing.assert_allclose(target[row], expected, rtol=1e-5)


def test_forbidden_actions_have_no_gradient(fresh: State) -> None:
    """Scaling what the network says of forbidden actions changes nothing."""
    masks = jax.device_put(np.arange(4) < np.full((NUM_ROWS, 1), 3))
    action = jax.device_put(np.where(np.asarray(BATCH.action) == 3, 0, BATCH.action))
    batch = BATCH._replace(action_mask=masks, next_action_mask=masks, action=action)
    slope = jax.jit(jax.grad(TINY.loss, has_aux=True))
    gradient, _ = slope(fresh.network.model, batch, td_target(fresh, batch))
    last = gradient.mlp.layers[-1]
    assert not np.any(np.asarray(last.weight)[:, 3]) and np.asarray(last.bias)[3] == 0.0
    assert np.all(np.abs(np.asarray(last.bias)[:3]) > 0)


def test_without_the_conservative_term_it_is_masked_double_q_learning(fresh: State) -> None:
    target = td_target(fresh, BATCH)
    _, metrics = jax.jit(CQL(hidden=(8, 8), alpha_cql=0.0).loss)(fresh.network.model, BATCH, target)
    q_values = np.asarray(of_all(fresh.network.model, BATCH.observation))
    chosen = np.take_along_axis(q_values, np.asarray(BATCH.action)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(metrics["critic_loss"], 0.5 * np.mean((chosen - np.asarray(target)) ** 2), rtol=1e-5)
    assert metrics["conservative_gap"] > 0


def test_the_target_network_moves_when_due(fresh: State) -> None:
    state, first = fresh, jax.tree.leaves(fresh.target_network)
    for number in range(1, 4):
        state, _ = compiled(TINY_UPDATE)(state, BATCH, key=KEY)
        now = jax.tree.leaves(state.target_network)
        source = jax.tree.leaves(state.network.model) if number == 3 else first
        for one, other in zip(now, source, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_policy_never_chooses_what_is_forbidden(fresh: State) -> None:
    policy, critic, masks = TINY.policy(fresh), TINY.critic(fresh), np.asarray(BATCH.action_mask)

    @jax.jit
    @jax.vmap
    def act(s: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        chosen, value = policy(s, key=KEY, action_mask=mask), critic.v(s, key=KEY, action_mask=mask)
        return chosen, policy(s, key=KEY), value, critic.q(s, chosen)

    chosen, free, value, q_value = act(BATCH.observation, BATCH.action_mask)
    assert masks[np.arange(NUM_ROWS), np.asarray(chosen)].all()
    np.testing.assert_array_equal(free, np.argmax(of_all(fresh.network.model, BATCH.observation), axis=1))
    np.testing.assert_allclose(value, q_value, rtol=1e-6)


def chain() -> tuple[Experience, np.ndarray]:
    """Two states, both actions seen in both: 0 stays and pays 0.3, 1 moves on and pays 0 from the first, 1 from the
    second, where it ends. Value iteration with gamma 0.9 gives the table of Q."""
    rng = np.random.default_rng(0)
    place, action = rng.integers(2, size=(2, 800))
    moves = action == 1
    reward = np.where(moves, np.where(place == 1, 1.0, 0.0), 0.3)
    ends = moves & (place == 1)
    masks = jax.device_put(np.ones((800, 2), bool))
    rows = Transition(
        jax.device_put(np.asarray(place[:, None], np.float32)),
        jax.device_put(np.asarray(action, np.int32)),
        jax.device_put(np.asarray(reward, np.float32)),
        jax.device_put(np.asarray(~ends, np.float32)),
        jax.device_put(np.asarray(np.minimum(place + moves, 1)[:, None], np.float32)),
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

    return np.asarray(of_all(loop(experience).network.model, jnp.array([[0.0], [1.0]])))


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


def test_it_learns_as_an_independent_implementation_does(fresh: State) -> None:
    """From the same weights: one batch to rounding, and a curve of a hundred updates on batches of their own."""
    algorithm = CQL(hidden=(8, 8), target_period=20, learning_rate=1e-3, alpha_cql=0.5)
    state, told = fresh, []
    reference = Reference([np.asarray(leaf) for leaf in jax.tree.leaves(state.network.model)], algorithm)
    update, rng = jax.jit(algorithm.update), np.random.default_rng(1)
    for _ in range(100):
        rows = rng.integers(NUM_ROWS, size=32)
        batch = jax.tree.map(lambda column, rows=rows: jax.device_put(np.asarray(column)[rows]), BATCH)
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
        ("all terminal", BATCH._replace(discount=jax.device_put(np.zeros(NUM_ROWS, np.float32)))),
        ("one repeated row", jax.tree.map(lambda column: jax.device_put(np.asarray(column)[[0] * NUM_ROWS]), BATCH)),
        (
            "rewards of a million",
            BATCH._replace(reward=jax.device_put(np.asarray(np.copysign(1e6, BATCH.reward), np.float32))),
        ),
        (
            "constant observations",
            BATCH._replace(observation=jax.device_put(np.full((NUM_ROWS, 3), 1e3, np.float32))),
        ),
    ],
)
def test_hostile_batches_leave_everything_finite(name: str, batch: Transition, fresh: State) -> None:
    state, metrics = compiled(TINY_UPDATE)(fresh, batch, key=KEY)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((state, metrics)))


def test_continuous_actions_are_refused_with_advice() -> None:
    shapes = (4, 3), (4, 2), 4, 4, (4, 3)
    logs = Transition(*(jax.device_put(np.ones(shape, np.float32)) for shape in shapes))
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
