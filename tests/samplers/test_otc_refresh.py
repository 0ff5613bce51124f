"""OTC that matches now and then: what a refresh keeps, and what updates draw until the next."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from readable_rows import CRITIC, joined, random_rows

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.samplers import OTC, EmbeddingDistance, ValueDistance, distances
from marline.samplers.distances import Distance, Features
from marline.samplers.otc import Plan, State
from marline.types import Critic

KEY = jax.random.key(0)
SMALL: dict[str, Any] = {"num_candidates": 64, "num_references": 12, "batch_size": 16, "num_estimate": 64}


@dataclasses.dataclass(frozen=True)
class ByRow:
    """Row j lies at distance j from everything online."""

    def init(self, experience: Experience, *, key: Array) -> tuple[()]:
        return ()

    def begin_deployment(self, state: tuple[()], experience: Experience) -> tuple[tuple[()], Mapping[str, Array]]:
        return (), {}

    def features(
        self, state: tuple[()], experience: Experience, critic: Any, candidates: Array, references: Array, *, key: Array
    ) -> tuple[Features, Features, Array]:
        nothing = jnp.zeros((references.shape[0], 1))
        first = Features(jnp.zeros((candidates.shape[0], 1)), candidates[:, None].astype(jnp.float32))
        return first, Features(nothing, nothing), jnp.float32(0.0)


class Scaled(NamedTuple):
    """Values that deviate more from their mean the greater the factor."""

    factor: Array
    gamma = 0.99

    def q(self, observation: Array, action: Array) -> Array:
        return observation[0]

    def v(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return 1.0 + self.factor * observation[1]


def fast(distance: Distance[Any] | str = "value", **options: Any) -> OTC:
    return OTC(distance, match="refresh", **{**SMALL, "num_groups": 4, "refresh_every": 3, **options})


@functools.partial(jax.jit, static_argnums=0)
def begun(sampler: OTC, experience: Experience, critic: Critic) -> State:
    state = sampler.init(experience, key=KEY)
    return sampler.begin_deployment(state, experience, critic, key=KEY)[0]


@functools.partial(jax.jit, static_argnums=0)
def sample(sampler: OTC, state: State, experience: Experience, critic: Critic, key: Array) -> tuple[Array, State, Any]:
    rows, state, metrics = sampler.sample(state, experience, critic, key=key)
    return rows, state, dict(metrics)


def plan(state: State) -> Plan:
    assert state.plan is not None
    return state.plan


@pytest.mark.slow
def test_updates_draw_from_what_the_last_refresh_kept_and_a_deployment_refreshes_at_once() -> None:
    experience = joined(random_rows(300, 0), random_rows(12, 1))
    sampler = fast()
    state = begun(sampler, experience, CRITIC)
    kept = []
    for key in jax.random.split(KEY, 7):
        rows, state, metrics = sample(sampler, state, experience, CRITIC, key)
        kept.append(np.asarray(plan(state).accepted.rows))
        assert kept[-1].shape == (4 * 64,)
        assert np.isin(rows, kept[-1]).all()
        assert metrics["mean_distance"] == plan(state).accepted.mean_distance
    same = [bool(np.array_equal(before, after)) for before, after in zip(kept[:-1], kept[1:], strict=True)]
    assert same == [True, True, False, True, True, False]  # updates 3 and 6 refresh
    assert plan(state).num_updates == 7
    again, _ = sampler.begin_deployment(state, experience, CRITIC, key=KEY)
    _, after, _ = sample(sampler, again, experience, CRITIC, jax.random.key(9))
    assert plan(after).num_updates == 1 and not np.array_equal(plan(after).accepted.rows, kept[-1])


@pytest.mark.slow
def test_a_refresh_keeps_rows_by_the_same_law_as_an_update_that_matches() -> None:
    experience = joined(random_rows(1960, 0), random_rows(40, 1))
    options = {**SMALL, "num_candidates": 512, "num_estimate": 8}
    every_time = OTC(ByRow(), **{**options, "batch_size": 512})
    now_and_then = fast(ByRow(), **{**options, "num_groups": 5})
    keys = jax.random.split(KEY, 40)

    def rows_of(sampler: OTC, key: Array) -> Array:
        rows, state, _ = sampler.sample(begun(sampler, experience, CRITIC), experience, CRITIC, key=key)
        return rows if state.plan is None else state.plan.accepted.rows

    edges = [0, 4, 20, 100, 500, 2000]
    shares = []
    for sampler in (every_time, now_and_then):
        drawn = np.asarray(jax.lax.map(functools.partial(rows_of, sampler), keys))
        shares.append(np.histogram(drawn, edges)[0] / drawn.size)
    np.testing.assert_allclose(*shares, atol=0.03)
    assert shares[0][0] > 30 * 4 / 2000


def test_a_refresh_values_rows_with_the_critic_of_that_update() -> None:
    experience = joined(random_rows(300, 0), random_rows(12, 1))
    sampler = fast()
    first, other = Scaled(jnp.float32(1.0)), Scaled(jnp.float32(5.0))
    state = begun(sampler, experience, first)
    _, state, told = sample(sampler, state, experience, first, KEY)
    distances = [told["mean_distance"]]
    for _ in range(3):
        _, state, told = sample(sampler, state, experience, other, KEY)
        distances.append(told["mean_distance"])
    assert distances[0] == distances[1] == distances[2]  # not due: nothing is valued
    assert distances[3] > 1.2 * distances[0]


def test_at_alpha_0_every_candidate_is_kept_as_often() -> None:
    experience = joined(random_rows(30, 0), random_rows(6, 1))
    sampler = fast(ByRow(), alpha=0.0)
    _, state, _ = sample(sampler, begun(sampler, experience, CRITIC), experience, CRITIC, KEY)
    accepted = np.asarray(plan(state).accepted.rows).reshape(4, 64)
    # each group keeps as many rows as it has, one from each slice of the mass: here every row once
    assert [len(set(np.bincount(group, minlength=36))) > 1 for group in accepted] == [True] * 4
    assert np.abs(np.bincount(accepted.ravel(), minlength=36) / 256 - 1 / 36).max() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["value", "two-stage", EmbeddingDistance(size=3, hidden=(8,), num_updates=20)])
def test_stacked_agents_draw_what_each_draws_alone(distance: Any) -> None:
    experience = joined(random_rows(300, 0), random_rows(12, 1))
    sampler = fast(distance)
    state = begun(sampler, experience, CRITIC)
    _, state, _ = sample(sampler, state, experience, CRITIC, KEY)
    due = state._replace(plan=plan(state)._replace(num_updates=jnp.int32(3)))
    keys = jax.random.split(jax.random.key(5), 2)
    alone = [sample(sampler, one, experience, CRITIC, key) for one, key in zip((state, due), keys, strict=True)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), state, due)
    together = jax.jit(
        jax.vmap(lambda state, key: sampler.sample(state, experience, CRITIC, key=key)[:2], in_axes=(0, 0))
    )(stacked, keys)
    for number, (rows, after, _) in enumerate(alone):
        assert np.array_equal(together[0][number], rows)
        assert np.array_equal(plan(together[1]).accepted.rows[number], plan(after).accepted.rows)
    assert np.array_equal(plan(together[1]).accepted.rows[0], plan(state).accepted.rows)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="refresh_every is 0"):
        fast(refresh_every=0)
    with pytest.raises(ConfigError, match="draw is 'stratified'"):
        fast(draw="stratified")


def test_many_rows_are_valued_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    experience = joined(random_rows(300, 0), random_rows(12, 1))
    rows, online = np.concatenate([np.arange(30), np.arange(300, 305)]), np.arange(300, 312)

    def features() -> tuple[Features, Features, Array]:
        distance = functools.partial(ValueDistance().features, (), experience, CRITIC, key=KEY)
        return jax.jit(lambda rows, online: distance(rows, online))(rows, online)

    at_once = features()
    monkeypatch.setattr(distances, "VALUED_AT_ONCE", 10)
    in_blocks = features()
    for few, many in zip(jax.tree.leaves(at_once), jax.tree.leaves(in_blocks), strict=True):
        np.testing.assert_allclose(few, many, rtol=1e-5, atol=1e-6)
    first, second, _ = in_blocks
    online_values = np.asarray(second.compared)[:5]
    assert np.array_equal(np.asarray(first.compared)[30:35], online_values)  # a row is at distance 0 from itself
