"""Balanced Replay against a second implementation in plain NumPy, and what must hold whatever the data."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from readable_rows import CRITIC

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.nn.mlp import MLP
from marline.ops.row_draws import rows_with_replacement
from marline.samplers.balanced import BalancedReplay, State
from marline.types import Spec, Transition

KEY = jax.random.key(0)
SPEC = Spec(3, 2)
NUM_OFFLINE, NUM_ONLINE = 100, 20
BLOCK = 20  # samples that one program draws
SMALL = BalancedReplay(hidden=(8,), ratio_batch_size=16, batch_size=12)

Layers = list[tuple[np.ndarray, np.ndarray]]


# -------------------------------------------------------------------- the second implementation


class Reference:
    """Balanced Replay as its paper has it, in float64: a plain list of priorities, gradients by hand."""

    def __init__(self, state: State, options: BalancedReplay) -> None:
        self.options = options
        mlp = state.network.model.mlp
        self.layers = [np.asarray(x, np.float64) for layer in mlp.layers for x in (layer.weight.T, layer.bias)]
        self.moments = [[np.zeros_like(x) for x in self.layers] for _ in range(2)]
        self.time = 0
        self.priorities = np.asarray(state.tree.priorities, np.float64)
        self.largest = float(state.largest_priority)

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """The row at which the running sum of priorities passes a place in each slice."""
        cumulative = np.cumsum(self.priorities)
        target = (np.arange(len(uniform)) + uniform) / len(uniform) * cumulative[-1]
        return np.searchsorted(cumulative, target, side="right")

    def ratio(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """w of rows [n, in], and the hidden units."""
        first, first_bias, second, second_bias = self.layers
        hidden = np.maximum(x @ first.T + first_bias, 0.0)
        return np.maximum(hidden @ second.T + second_bias, 0.0)[:, 0], hidden

    def renew(self, rows: np.ndarray, drawn: np.ndarray, offline: np.ndarray, online: np.ndarray) -> float:
        """New priorities of the drawn rows, then a step of the network; the loss before it."""
        off, off_hidden = self.ratio(offline)
        on, on_hidden = self.ratio(online)
        root = 1.0 / self.options.temperature
        priorities = self.ratio(drawn)[0] ** root / (off**root).mean()
        self.priorities[rows] = np.clip(priorities, *self.options.priority_bounds)
        self.largest = max(self.largest, self.priorities[rows].max())

        loss = np.mean(-np.log(2 / (off + 1))) - np.mean(np.log(2 * on / (on + 1)))
        slope_off = (off > 0) / (off + 1) / len(off)
        slope_on = np.where(on > 0, -1 / (on * (on + 1)), 0.0) / len(on)
        slope = np.concatenate([slope_off, slope_on])[:, None]
        x, hidden = np.vstack([offline, online]), np.vstack([off_hidden, on_hidden])
        to_hidden = slope @ self.layers[2] * (hidden > 0)
        self._adam([to_hidden.T @ x, to_hidden.sum(axis=0), slope.T @ hidden, slope.sum(axis=0)])
        return float(loss)

    def _adam(self, gradients: list[np.ndarray]) -> None:
        self.time += 1
        for i, gradient in enumerate(gradients):
            first, second = self.moments
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            mean, square = first[i] / (1 - 0.9**self.time), second[i] / (1 - 0.999**self.time)
            self.layers[i] = self.layers[i] - self.options.learning_rate * mean / (np.sqrt(square) + 1e-8)


def assert_layers(actual: MLP, expected: list[np.ndarray]) -> None:
    leaves = [leaf for layer in actual.layers for leaf in (layer.weight.T, layer.bias)]
    for leaf, other in zip(leaves, expected, strict=True):
        np.testing.assert_allclose(leaf, other, atol=1e-5)


# ------------------------------------------------------------------------------------ fixtures


def random_rows(num: int, seed: int, shift: float = 0.0) -> Transition:
    rng = np.random.default_rng(seed)
    seen, after = rng.normal(shift, 1, (2, num, 3))
    columns = seen, rng.uniform(-1, 1, (num, 2)), np.zeros(num), np.ones(num), after
    return Transition(*(jnp.asarray(column, jnp.float32) for column in columns))


def make_experience(*deployments: Transition) -> Experience:
    experience = Experience.create(random_rows(NUM_OFFLINE, 0), SPEC, num_deployments=2, rows_per_deployment=NUM_ONLINE)
    for number, logs in enumerate(deployments, start=1):
        experience = experience.merge(logs, number)
    return experience


init = jax.jit(SMALL.init)
begin = jax.jit(lambda state, experience: SMALL.begin_deployment(state, experience, CRITIC, key=KEY))


@jax.jit
def run(state: State, experience: Experience, keys: jax.Array) -> tuple[State, dict[str, Any]]:
    """One sample after another; rows, priorities and metrics after each."""

    def step(state: State, key: jax.Array) -> tuple[State, dict[str, Any]]:
        rows, state, metrics = SMALL.sample(state, experience, CRITIC, key=key)
        seen = {"rows": rows, "priorities": state.tree.priorities, "largest": state.largest_priority}
        return state, {**metrics, **seen}

    return jax.lax.scan(step, state, keys)


def samples(state: State, experience: Experience, num: int) -> tuple[State, dict[str, np.ndarray]]:
    """The same of `num` blocks of samples."""
    seen = []
    for block in range(num):
        state, its = run(state, experience, jax.random.split(jax.random.key(block), BLOCK))
        seen.append(its)
    return state, {name: np.concatenate([its[name] for its in seen]) for name in seen[0]}


@functools.partial(jax.jit, static_argnums=1)
@functools.partial(jax.vmap, in_axes=(0, None))
def draws_of(key: jax.Array, num_levels: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The rows that the ratio is learned from at one sample, and where its slices are cut."""
    offline_key, online_key, row_key = jax.random.split(key, 3)
    offline = rows_with_replacement(0, NUM_OFFLINE, 16, key=offline_key)
    online = rows_with_replacement(NUM_OFFLINE, NUM_OFFLINE + NUM_ONLINE, 16, key=online_key)
    return offline, online, jax.random.uniform(row_key, (1 + num_levels, SMALL.batch_size))[0]


def begun(experience: Experience) -> State:
    return begin(init(experience, key=KEY), experience)[0]


# --------------------------------------------------------------------------------------- tests


def test_samples_equal_those_of_the_second_implementation() -> None:
    experience = make_experience(random_rows(NUM_ONLINE, 1, shift=1.0))
    state = begun(experience)
    reference = Reference(state, SMALL)
    logs = random_rows(NUM_OFFLINE, 0), random_rows(NUM_ONLINE, 1, shift=1.0)
    inputs = np.vstack([np.hstack([rows.observation, rows.action]) for rows in logs]).astype(np.float64)
    keys = jax.random.split(KEY, BLOCK)
    after, seen = jax.device_get(run(state, experience, keys))
    for number, (offline, online, uniform) in enumerate(zip(*draws_of(keys, len(state.tree.levels)), strict=True)):
        rows = reference.draw(np.asarray(uniform, np.float64))
        np.testing.assert_array_equal(seen["rows"][number], rows)
        ratio, _ = reference.ratio(inputs[rows])
        loss = reference.renew(rows, inputs[rows], inputs[np.asarray(offline)], inputs[np.asarray(online)])
        np.testing.assert_allclose(seen["ratio_loss"][number], loss, atol=1e-5)
        np.testing.assert_allclose(seen["mean_ratio"][number], ratio.mean(), rtol=1e-4)
        np.testing.assert_allclose(seen["priorities"][number], reference.priorities, rtol=1e-4)
        share = reference.priorities[NUM_OFFLINE:].sum() / reference.priorities.sum()
        np.testing.assert_allclose(seen["online_mass"][number], share, rtol=1e-4)
        np.testing.assert_allclose(seen["largest"][number], reference.largest, rtol=1e-5)
    assert_layers(after.network.model.mlp, reference.layers)


def test_new_rows_get_the_online_fraction_and_later_ones_the_largest_priority() -> None:
    once = make_experience(random_rows(NUM_ONLINE, 1))
    state, metrics = begin(init(once, key=KEY), once)
    priorities = np.asarray(state.tree.priorities)
    np.testing.assert_array_equal(priorities[:NUM_OFFLINE], 1.0)
    np.testing.assert_allclose(priorities[NUM_OFFLINE : once.size], 15.0)  # 100 x 3 / 20
    assert not priorities[int(once.size) :].any()
    np.testing.assert_allclose(metrics["online_mass"], 0.75, rtol=1e-6)
    np.testing.assert_allclose(metrics["effective_sample_size"], 400**2 / (100 + 20 * 15**2), rtol=1e-5)

    # until every row had its turn: the largest is remembered even where no row has it any more
    state, _ = samples(state, once, 3)
    tuned = np.asarray(state.tree.priorities)
    assert tuned.max() < 15.0
    fewer = once.merge(random_rows(7, 2), 2)
    later = np.asarray(begin(state, fewer)[0].tree.priorities)
    np.testing.assert_array_equal(later[: int(once.size)], tuned[: int(once.size)])
    np.testing.assert_allclose(later[int(once.size) : int(fewer.size)], 15.0)
    assert not later[int(fewer.size) :].any()


def test_before_the_first_deployment_offline_rows_are_alike_and_nothing_changes() -> None:
    experience = make_experience()
    state = init(experience, key=KEY)
    after, seen = samples(state, experience, 25)
    counts = np.bincount(seen["rows"].ravel(), minlength=NUM_OFFLINE)
    assert len(counts) == NUM_OFFLINE
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_rows_that_exist_are_drawn() -> None:
    experience = make_experience(random_rows(3, 1))
    rows = samples(begun(experience), experience, 10)[1]["rows"]
    assert rows.min() >= 0
    assert rows.max() == NUM_OFFLINE + 2
    np.testing.assert_allclose(np.mean(rows[0] >= NUM_OFFLINE), 0.75)


@pytest.mark.parametrize("scale", [0.0, 1e6])
def test_hostile_rows_leave_everything_finite(scale: float) -> None:
    def scaled(num: int, seed: int) -> Transition:
        logs = random_rows(num, seed)
        return logs._replace(observation=scale * logs.observation)

    experience = Experience.create(
        scaled(NUM_OFFLINE, 0), SPEC, num_deployments=2, rows_per_deployment=NUM_ONLINE
    ).merge(scaled(NUM_ONLINE, 1), 1)
    state, seen = samples(begun(experience), experience, 1)
    for leaf in jax.tree.leaves((state, seen)):
        assert np.isfinite(np.asarray(leaf)).all()
    assert np.asarray(state.tree.priorities)[: int(experience.size)].min() >= 1e-3


@pytest.mark.parametrize(("temperature", "expected"), [pytest.param(1.0, 0.9, marks=pytest.mark.slow), (5.0, 0.608109)])
def test_logged_rows_are_drawn_as_the_agent_acts_now(temperature: float, expected: float) -> None:
    """Half of the logs, nine tenths of the deployment is action 1: w = (.2, 1.8), drawn in proportion to w^(1/T)."""
    num_offline, num_online, spec = 200, 50, Spec(1, 2, discrete=True)

    def logs(actions: np.ndarray) -> Transition:
        num = len(actions)
        blank, masks = jnp.asarray(np.zeros((num, 1), np.float32)), jnp.asarray(np.ones((num, 2), bool))
        zeros, ones = (jnp.asarray(column, jnp.float32) for column in (np.zeros(num), np.ones(num)))
        return Transition(blank, jnp.asarray(actions, jnp.int32), zeros, ones, blank, masks, masks)

    offline, online = np.arange(num_offline) % 2, np.arange(num_online) % 10 > 0
    experience = Experience.create(logs(offline), spec, num_deployments=1, rows_per_deployment=num_online)
    experience = experience.merge(logs(online), 1)
    sampler = BalancedReplay(
        temperature=temperature, hidden=(16,), learning_rate=1e-2, ratio_batch_size=64, batch_size=64
    )

    @jax.jit
    def tune() -> tuple[State, tuple[jax.Array, jax.Array]]:
        state = sampler.init(experience, key=KEY)
        state, _ = sampler.begin_deployment(state, experience, CRITIC, key=KEY)

        def step(state: State, key: jax.Array) -> tuple[State, tuple[jax.Array, jax.Array]]:
            rows, state, metrics = sampler.sample(state, experience, CRITIC, key=key)
            return state, (rows, metrics["ratio_loss"])

        return jax.lax.scan(step, state, jax.random.split(KEY, 1000))

    _, (rows, losses) = tune()
    drawn = np.asarray(rows)[500:].ravel()
    drawn = drawn[drawn < num_offline]
    assert np.mean(drawn % 2) == pytest.approx(expected, abs=0.03)
    # the loss went from 0 to -2 JS
    p, q = np.array([0.5, 0.5]), np.array([0.1, 0.9])
    divergence = sum(0.5 * np.sum(x * np.log(2 * x / (p + q))) for x in (p, q))
    assert losses[0] == pytest.approx(0.0, abs=0.1)
    assert np.mean(losses[500:]) == pytest.approx(-2 * divergence, abs=0.02)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("online_fraction", 0.0),
        ("online_fraction", 1.0),
        ("temperature", 0.0),
        ("temperature", float("inf")),
        ("hidden", (4, 0)),
        ("learning_rate", float("nan")),
        ("ratio_batch_size", 0),
        ("batch_size", 0),
        ("priority_bounds", (0.0, 1.0)),
        ("priority_bounds", (2.0, 1.0)),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option} (is|are) {re.escape(str(value))}"):
        BalancedReplay(**{option: value})  # pyright: ignore[reportArgumentType]
