"""The loop of one agent: cut anywhere it is the same loop, and what it reports is right."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.agent import (
    TD_ERROR_EVERY,
    AgentState,
    Tuned,
    begin_deployment,
    compare_td_errors,
    describe_rows,
    stream,
    summarise,
    tune,
)
from marline.algorithms import TD3BC
from marline.data.experience import Experience
from marline.samplers import OTC, Uniform
from marline.types import Spec, Transition

SPEC = Spec(3, 2)
KEY = jax.random.key(0)


class Reading(NamedTuple):
    """Q(s, a) is the first number of an observation, V(s) the second."""

    gamma = 0.9

    def q(self, observation: Array, action: Array) -> Array:
        return observation[0]

    def v(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return observation[1]


def make_logs(num: int, seed: int) -> Transition:
    rng = np.random.default_rng(seed)
    leaves = (
        rng.normal(size=(num, 3)),
        rng.uniform(-1, 1, (num, 2)),
        rng.normal(size=num),
        np.arange(num) % 5 != 0,
        rng.normal(size=(num, 3)),
    )
    return Transition(*(np.asarray(leaf, np.float32) for leaf in leaves))  # pyright: ignore[reportArgumentType]


@functools.cache
def make_experience() -> Experience:
    """40 offline rows, then 10 and 8 of two deployments."""
    experience = Experience.create(make_logs(40, 0), SPEC, num_deployments=2, rows_per_deployment=10)
    return experience.merge(make_logs(10, 1), 1).merge(make_logs(8, 2), 2)


def bits(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


class Remembering(NamedTuple):
    """A sampler whose draws depend on its earlier ones, and on the critic."""

    batch_size: int = 8

    def init(self, experience: Experience, *, key: Array) -> Array:
        return jnp.zeros((), jnp.int32)

    def begin_deployment(self, state: Array, experience: Experience, critic: Any, *, key: Array) -> Any:
        return state + 1, {}

    def sample(self, state: Array, experience: Experience, critic: Any, *, key: Array) -> Any:
        row = experience[state[None] % experience.size]
        is_high = critic.q(row.observation[0], row.action[0]) > 0
        drawn = jax.random.randint(key, (self.batch_size,), 0, experience.size // 2) + is_high
        return drawn, drawn[0] + state, {"is_high": is_high.astype(jnp.float32)}


@pytest.mark.parametrize(
    "sampler",
    [
        Remembering(),
        pytest.param(
            OTC("value", num_candidates=32, num_references=8, batch_size=8, num_estimate=16), marks=pytest.mark.slow
        ),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_loop_cut_in_two_is_the_whole_loop_bit_for_bit(sampler: Any) -> None:
    algorithm = TD3BC(hidden=(4,))
    experience = make_experience()

    @jax.jit
    def begun(experience: Experience) -> AgentState:
        state = AgentState(algorithm.init(experience, key=KEY), sampler.init(experience, key=KEY), experience)
        memory, _ = begin_deployment(state, KEY, algorithm=algorithm, sampler=sampler)
        return state._replace(sampler=memory)

    state = begun(experience)

    @functools.partial(jax.jit, static_argnums=2)
    def loop(state: AgentState, first: Array, num: int) -> Tuned:
        keys = (jax.random.key(1), jax.random.key(2))
        return tune(state, *keys, first, algorithm=algorithm, sampler=sampler, num_updates=num)

    whole = loop(state, np.int32(TD_ERROR_EVERY - 4), 12)
    learner, memory, before, first_rows, _ = loop(state, np.int32(TD_ERROR_EVERY - 4), 6)
    halves = state._replace(learner=learner, sampler=memory)
    learner, memory, after, last_rows, is_finite = loop(halves, np.int32(TD_ERROR_EVERY + 2), 6)
    rows = np.concatenate([first_rows, last_rows])
    joined = {name: np.concatenate([before[name], after[name]]) for name in before}
    assert whole[2].keys() == joined.keys() and rows.shape == (12, 8)
    for one, other in zip(bits(whole), bits((learner, memory, joined, rows, is_finite)), strict=True):
        np.testing.assert_array_equal(one, other)

    # TD errors are looked at in every hundredth update only
    measured = np.isfinite(np.asarray(whole[2]["td_error_uniform"]))
    assert list(np.flatnonzero(measured)) == [4]
    # another place in the stream is another loop
    elsewhere = loop(state, np.int32(0), 6)
    assert any(np.any(one != other) for one, other in zip(bits(elsewhere[0]), bits(learner), strict=True))


def test_rows_are_described_by_their_source() -> None:
    rows = np.array([0, 39, 39, 40, 49, 50, 57, 57, 57, 57], np.int32)
    described = {name: float(value) for name, value in jax.jit(describe_rows)(rows, make_experience()).items()}
    assert described == {
        "share_offline": pytest.approx(0.3),
        "share_earlier": pytest.approx(0.2),
        "share_current": pytest.approx(0.5),
        "distinct_rows": 6.0,
    }


def test_before_the_first_deployment_all_rows_are_offline() -> None:
    experience = Experience.create(make_logs(5, 0), SPEC, num_deployments=1, rows_per_deployment=2)
    described = jax.jit(describe_rows)(np.arange(5, dtype=np.int32), experience)
    assert described["share_offline"] == 1.0
    assert described["share_earlier"] == described["share_current"] == 0.0


def test_td_errors_by_hand() -> None:
    """Q = 0.5, r = 1, V' = 2, gamma = 0.9: an error of 2.3, or of 0.5 where the episode ended."""
    ones = np.ones((6, 1), np.float32)
    columns: dict[str, Any] = {
        "observation": ones * np.array([[0.5, -7.0, 0.0]], np.float32),
        "action": np.zeros((6, 2), np.float32),
        "reward": ones[:, 0],
        "discount": ones[:, 0],
        "next_observation": ones * np.array([[-7.0, 2.0, 0.0]], np.float32),
    }
    logs = Transition(**columns)
    experience = Experience.create(logs, SPEC, num_deployments=1, rows_per_deployment=1)
    discount: Any = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0], np.float32)
    drawn = logs._replace(discount=discount)
    of_drawn, of_uniform = jax.jit(lambda *its: compare_td_errors(Reading(), *its, key=KEY))(drawn, experience)
    assert of_drawn == pytest.approx((2.3 + 0.5) / 2, rel=1e-5)
    assert of_uniform == pytest.approx(2.3, rel=1e-5)


def test_streams_are_fixed_by_seed_agent_and_purpose() -> None:
    words = list(itertools.product((0, 1), ("left", "right"), ("sample/1", "update/1", "update/2")))
    keys = {tuple(np.asarray(jax.random.key_data(stream(*word)))) for word in words}
    assert len(keys) == len(words)
    assert (
        jax.random.key_data(stream(0, "left", "init")).tolist()
        == jax.random.key_data(stream(0, "left", "init")).tolist()
    )


def test_the_sampler_alone_takes_in_a_deployment() -> None:
    experience = make_experience()
    algorithm = TD3BC(hidden=(4,))
    learner = jax.jit(lambda experience: algorithm.init(experience, key=KEY))(experience)
    state = AgentState(learner, (), experience)
    assert begin_deployment(state, KEY, algorithm=algorithm, sampler=Uniform()) == ((), {})


def test_summaries_are_means_and_td_errors_those_of_the_updates_that_measured() -> None:
    metrics = {
        "critic_loss": np.array([1.0, 2.0, 6.0], np.float32),
        "td_error_drawn": np.array([np.nan, 4.0, np.nan], np.float32),
        "td_error_uniform": np.array([np.nan, -2.0, np.nan], np.float32),
    }
    assert summarise(metrics) == {"critic_loss": 3.0, "td_error_drawn": 4.0, "td_error_uniform": -2.0}
    unmeasured = summarise({name: np.full(3, np.nan, np.float32) for name in ("td_error_drawn", "td_error_uniform")})
    assert all(np.isnan(value) for value in unmeasured.values())


def test_a_loss_that_is_not_a_number_is_not_averaged_away() -> None:
    nothing = np.full(2, np.nan, np.float32)
    summary = summarise(
        {"critic_loss": np.array([1.0, np.nan], np.float32), "td_error_drawn": nothing, "td_error_uniform": nothing}
    )
    assert np.isnan(summary["critic_loss"])
