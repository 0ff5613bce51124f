"""Many learners at once: stacked or one after another, they get the same."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.agent import AgentState, tune
from marline.algorithms import TD3BC
from marline.data.experience import Experience
from marline.population import Stack, map_learners, stacked
from marline.samplers import Uniform
from marline.types import Spec, Transition

WAYS = [False, True]  # one after another, and stacked


@pytest.fixture(params=WAYS, ids=["in turn", "stacked"])
def way(request: pytest.FixtureRequest) -> Iterator[bool]:
    with stacked(request.param):
        yield request.param


def numbers(num: int) -> np.ndarray:
    return np.arange(num, dtype=np.float32)


def test_every_learner_gets_its_own_result_in_the_order_given(way: bool) -> None:
    def scaled(x: Array, offset: Array, key: Array, *, factor: float) -> dict[str, Array]:
        return {"scaled": factor * x + offset, "noise": jax.random.normal(key, x.shape)}

    vectors = {"b": numbers(3), "short": numbers(2), "a": -numbers(3)}
    offsets = {"a": np.float32(1.0), "b": np.float32(2.0), "short": np.float32(3.0)}
    keys = {name: jax.random.key(number) for number, name in enumerate(vectors)}
    results = map_learners(scaled, vectors, offsets, keys, static={"factor": 10.0})
    assert list(results) == ["b", "short", "a"]
    np.testing.assert_allclose(results["a"]["scaled"], [1.0, -9.0, -19.0])
    np.testing.assert_allclose(results["b"]["scaled"], [2.0, 12.0, 22.0])
    np.testing.assert_allclose(results["short"]["scaled"], [3.0, 13.0])
    for name, key in keys.items():
        np.testing.assert_array_equal(results[name]["noise"], jax.random.normal(key, vectors[name].shape))
    # options are compiled in, not remembered
    other = map_learners(scaled, vectors, offsets, keys, static={"factor": 0.0})
    np.testing.assert_allclose(other["a"]["scaled"], 1.0)


def test_a_function_is_compiled_once_per_shape(way: bool) -> None:
    traced: list[Any] = []

    def double(x: Array) -> Array:
        traced.append(x.shape)
        return 2 * x

    sizes = {"one": 3, "two": 2, "three": 3, "four": 2}
    for _ in range(2):
        results = map_learners(double, {name: numbers(size) for name, size in sizes.items()}, static={})
        assert {name: result.shape[0] for name, result in results.items()} == sizes
    assert sorted(traced) == [(2,), (3,)]


def test_one_learner_alone(way: bool) -> None:
    results = map_learners(lambda x: x + 1, {("only", 0): numbers(2)}, static={})
    np.testing.assert_array_equal(results["only", 0], [1.0, 2.0])


@pytest.mark.parametrize(
    "names",
    ["aabb", "abab", "abc", "aab", "aaaa"],
    ids=["blocks", "in turns", "nothing shared", "uneven", "one for all"],
)
def test_learners_that_share_an_array_get_their_own_results(way: bool, names: str) -> None:
    arrays = {name: numbers(3) + 10 * number for number, name in enumerate("abc")}
    shared = {number: {"table": arrays[name]} for number, name in enumerate(names)}
    own = {number: np.int32(number % 3) for number in shared}
    results = map_learners(lambda shared, row: shared["table"][row], shared, own, static={})
    assert [float(result) for result in results.values()] == [
        10 * "abc".index(name) + number % 3 for number, name in enumerate(names)
    ]


def test_learners_that_share_everything(way: bool) -> None:
    results = map_learners(lambda x: 2 * x, dict.fromkeys("abc", numbers(2)), static={})
    for name in "abc":
        np.testing.assert_array_equal(results[name], [0.0, 2.0])


def test_what_stacked_learners_share_is_passed_once() -> None:
    sizes: list[int] = []

    def total(table: Array, number: Array) -> Array:
        sizes.append(table.size)
        return table.sum() + number

    table = jnp.ones((7, 3))
    with stacked(True):
        results = map_learners(total, dict.fromkeys(range(5), table), {i: np.int32(i) for i in range(5)}, static={})
    assert sizes == [21] and [float(results[i]) for i in range(5)] == [21, 22, 23, 24, 25]
    rows = Stack.of(dict.fromkeys(range(5), table))
    assert rows.groups[0].stacked.tree is table


def make_learner(seed: int, algorithm: TD3BC) -> AgentState:
    rng = np.random.default_rng(seed)
    leaves = (
        rng.normal(size=(50, 3)),
        rng.uniform(-1, 1, (50, 2)),
        rng.normal(size=50),
        np.arange(50) % 4 != 0,
        rng.normal(size=(50, 3)),
    )
    logs = Transition(*(np.asarray(leaf, np.float32) for leaf in leaves))  # pyright: ignore[reportArgumentType]
    experience = Experience.create(logs, Spec(3, 2), num_deployments=1, rows_per_deployment=1)
    return AgentState(initial_learner(experience, jax.random.key(seed), algorithm), (), experience)


@functools.partial(jax.jit, static_argnums=2)
def initial_learner(experience: Experience, key: Array, algorithm: TD3BC) -> Any:
    return algorithm.init(experience, key=key)


def test_stacked_learners_learn_what_each_would_alone() -> None:
    algorithm = TD3BC(hidden=(4,), learning_rate=1e-3)
    team = {seed: make_learner(seed, algorithm) for seed in range(3)}
    sample_keys = {seed: jax.random.key(10 + seed) for seed in team}
    update_keys = {seed: jax.random.key(20 + seed) for seed in team}
    first = {seed: np.int32(0) for seed in team}
    static = {"algorithm": algorithm, "sampler": Uniform(batch_size=16), "num_updates": 20}
    results = []
    for way in WAYS:
        with stacked(way):
            results.append(map_learners(tune, team, sample_keys, update_keys, first, static=static))
    alone, together = results
    for seed in team:
        for one, other in zip(jax.tree.leaves(alone[seed]), jax.tree.leaves(together[seed]), strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-3, atol=1e-5)
