"""OTC as a sampler: self-matches, exponents, what it draws, and the options it refuses."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.ops.variational import active_units
from marline.samplers import OTC, EmbeddingDistance, TwoStageDistance, ValueDistance
from marline.samplers.distances import Distance, Features
from marline.types import Spec, Transition

KEY = jax.random.key(0)
NUM_OFFLINE, NUM_ONLINE = 20, 60  # most candidates are online rows, all of which are references
SMALL: dict[str, Any] = {"num_candidates": 64, "num_references": 60, "batch_size": 16, "num_estimate": 100}
EMBEDDING = EmbeddingDistance(size=3, hidden=(16,), num_updates=50)
DISTANCES = [
    "value",
    pytest.param(EMBEDDING, marks=pytest.mark.slow),
    pytest.param("two-stage", marks=pytest.mark.slow),
    pytest.param(TwoStageDistance(compare="next"), marks=pytest.mark.slow),
]


class LinearCritic(eqx.Module):
    weight: Array
    gamma: float = eqx.field(static=True, default=0.99)

    def q(self, observation: Array, action: Array) -> Array:
        return self.weight @ jnp.concatenate([observation, action])

    def v(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return 3.0 + self.weight[:3] @ observation


WEIGHT = np.array([0.5, -1.0, 0.3, 0.8, -0.2], np.float32)
CRITIC = LinearCritic(jnp.asarray(WEIGHT))


def transition(seed: int, num_rows: int, shift: float = 0.0) -> Transition:
    random = np.random.default_rng(seed)
    seen = random.normal(size=(num_rows, 3)).astype(np.float32)
    done = random.uniform(-1, 1, (num_rows, 2)).astype(np.float32)
    after = seen + 0.1 * np.float32(random.normal(size=(num_rows, 3)) + shift)
    ones = np.ones(num_rows)
    leaves = (seen, done, random.normal(size=num_rows), ones, after)
    return Transition(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves))


def experience(*, num_offline: int = NUM_OFFLINE, deployments: int = 1) -> Experience:
    made = Experience.create(transition(0, num_offline), Spec(3, 2), num_deployments=3, rows_per_deployment=NUM_ONLINE)
    for number in range(1, deployments + 1):
        made = made.merge(transition(number, NUM_ONLINE, shift=number), number)
    return made


@functools.partial(jax.jit, static_argnums=0)
def begin(sampler: OTC, state: Any, data: Experience, critic: LinearCritic) -> tuple[Any, dict[str, Array]]:
    state, metrics = sampler.begin_deployment(state, data, critic, key=KEY)
    return state, dict(metrics)


@functools.partial(jax.jit, static_argnums=0)
def init(sampler: OTC | Distance[Any], data: Experience) -> Any:
    return sampler.init(data, key=KEY)


def prepared(sampler: OTC, data: Experience, critic: LinearCritic) -> tuple[Any, dict[str, Array]]:
    return begin(sampler, init(sampler, data), data, critic)


@functools.partial(jax.jit, static_argnums=0)
def features(
    distance: Distance[Any], state: Any, data: Experience, candidates: np.ndarray, references: np.ndarray
) -> tuple[Features, Features]:
    first, second, _ = distance.features(state, data, CRITIC, jnp.asarray(candidates), jnp.asarray(references), key=KEY)
    return first, second


@functools.partial(jax.jit, static_argnums=0)
def samples(sampler: OTC, state: Any, data: Experience, critic: LinearCritic) -> tuple[Array, dict[str, Array]]:
    """Rows and metrics of many batches."""
    rows, _, metrics = jax.vmap(lambda key: sampler.sample(state, data, critic, key=key))(jax.random.split(KEY, 500))
    return rows, dict(metrics)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_row_matched_with_itself_is_at_distance_0_and_drawn_first(distance: Any) -> None:
    data, sampler = experience(), OTC(distance, **SMALL)
    state, _ = prepared(sampler, data, CRITIC)
    rows, metrics = samples(sampler, state._replace(alpha=jnp.float32(4.0)), data, CRITIC)
    assert not np.any(metrics["median_distance"])
    assert float(np.mean(metrics["self_matches"])) > 0.95
    # and so they are preferred to rows that nothing online is like
    assert float(np.mean(rows < NUM_OFFLINE)) < 0.01
    gently, _ = samples(sampler, state._replace(alpha=jnp.float32(0.5)), data, CRITIC)
    assert 0.01 < float(np.mean(gently < NUM_OFFLINE)) < 0.8 * NUM_OFFLINE / (NUM_OFFLINE + NUM_ONLINE)


@pytest.mark.parametrize("distance", DISTANCES)
def test_exclude_self_leaves_no_match_with_itself(distance: Any) -> None:
    data = experience()
    state, _ = prepared(OTC(distance, **SMALL), data, CRITIC)
    _, metrics = samples(OTC(distance, **SMALL, exclude_self=True), state, data, CRITIC)
    assert not np.any(metrics["self_matches"])
    assert np.all(metrics["median_distance"] > 0.0)


@pytest.mark.parametrize("distance", ["value", pytest.param("two-stage", marks=pytest.mark.slow)])
def test_a_row_matched_with_itself_is_at_distance_0_as_users_compile_it(
    distance: str, jit_for_users: Callable[..., Any]
) -> None:
    """Where multiplications and additions are fused, and rounded once instead of twice."""
    data, sampler = experience(), OTC(distance, **SMALL)
    state, _ = prepared(sampler, data, CRITIC)

    def medians(state: Any, data: Experience, critic: LinearCritic, keys: Array) -> Array:
        return jax.lax.map(lambda key: sampler.sample(state, data, critic, key=key)[2]["median_distance"], keys)

    assert not np.any(jit_for_users(medians)(state, data, CRITIC, jax.random.split(KEY, 20)))


def test_separate_means_do_not_match_a_row_with_itself_at_0() -> None:
    data = experience()
    rows = np.arange(NUM_OFFLINE, NUM_OFFLINE + 20)
    candidates = np.concatenate([rows, np.arange(20)])
    for distance, is_zero in ((ValueDistance("common"), True), (ValueDistance("separate"), False)):
        first, second = features(distance, (), data, candidates, rows)
        assert np.array_equal(np.asarray(first.compared)[:20], second.compared) == is_zero
        assert np.array_equal(np.asarray(first.state_action)[:20], second.state_action)


def test_deviations_by_hand() -> None:
    data = experience()
    candidates, references = np.arange(8), np.arange(NUM_OFFLINE, NUM_OFFLINE + 5)
    first, second = features(ValueDistance(), (), data, candidates, references)
    offline, online = transition(0, NUM_OFFLINE), transition(1, NUM_ONLINE, shift=1.0)
    both = np.concatenate([np.asarray(offline.next_observation)[:8], np.asarray(online.next_observation)[:5]])
    values = 3.0 + both @ WEIGHT[:3]
    mean = (values[:8].mean() + values[8:].mean()) / 2
    assert abs(mean) > values.std()  # no floor
    expected = (values - mean) / abs(mean)
    assert np.allclose(np.concatenate([first.compared, second.compared])[:, 0], expected, atol=1e-5)


def test_terminal_rows_have_no_value() -> None:
    offline = transition(0, 50)._replace(discount=np.zeros(50, np.float32))
    data = Experience.create(offline, Spec(3, 2), num_deployments=1, rows_per_deployment=10)
    data = data.merge(transition(1, 10)._replace(discount=np.zeros(10, np.float32)), 1)
    first, second = features(ValueDistance(), (), data, np.arange(50), np.arange(50, 60))
    assert not np.any(first.compared) and not np.any(second.compared)


@pytest.mark.parametrize("distance", ["value", pytest.param("two-stage", marks=pytest.mark.slow)])
def test_alpha_0_draws_uniformly(distance: str) -> None:
    data = experience()
    sampler = OTC(distance, **SMALL, alpha=0.0)
    state, metrics = prepared(sampler, data, CRITIC)
    assert float(metrics["effective_sample_size"]) == pytest.approx(SMALL["num_candidates"])
    drawn, _ = samples(sampler, state, data, CRITIC)
    share = float(np.mean(drawn >= NUM_OFFLINE))
    assert share == pytest.approx(NUM_ONLINE / (NUM_OFFLINE + NUM_ONLINE), abs=0.01)


def test_the_exponent_adapts_from_the_second_deployment_on() -> None:
    data = experience()
    sampler = OTC("value", **SMALL, alpha=0.7)
    state, first = prepared(sampler, data, CRITIC)
    assert float(first["alpha"]) == float(first["alpha_raw"]) == pytest.approx(0.7)
    # values spread around their mean three times as far: so do the distances
    spread = LinearCritic(jnp.asarray(WEIGHT * 3))
    data = data.merge(transition(2, NUM_ONLINE), 2)
    _, second = begin(sampler, state, data, spread)
    ratio = float(second["estimated_distance"]) / float(first["estimated_distance"])
    assert ratio > 1.5
    assert float(second["alpha_raw"]) == pytest.approx(0.7 * ratio, rel=1e-5)
    assert float(second["alpha"]) == pytest.approx(min(0.7 * ratio, 4.0), rel=1e-5)


def test_the_adapted_exponent_is_clipped_and_says_so() -> None:
    data = experience()
    sampler = OTC("value", **SMALL, alpha_bounds=(0.9, 1.1))
    state, _ = prepared(sampler, data, CRITIC)
    flat = LinearCritic(jnp.asarray(np.zeros(5, np.float32)))
    state, metrics = begin(sampler, state, data, flat)
    assert float(metrics["alpha_raw"]) < 1e-6
    assert float(metrics["alpha"]) == pytest.approx(0.9)
    state, metrics = begin(sampler, state, data, CRITIC)
    assert float(metrics["alpha"]) == pytest.approx(1.0)  # it recovers


def test_a_fixed_exponent_stays() -> None:
    data = experience()
    sampler = OTC("value", **SMALL, alpha=6.0, adaptive=False)
    state, _ = prepared(sampler, data, CRITIC)
    _, metrics = begin(sampler, state, data, LinearCritic(jnp.asarray(WEIGHT * 5)))
    assert float(metrics["alpha"]) == 6.0


@pytest.mark.parametrize("distance", DISTANCES)
def test_degenerate_data_stay_finite(distance: Any) -> None:
    """All rows the same, one of them online, and values of 0."""
    same = jax.tree.map(np.zeros_like, transition(0, NUM_OFFLINE))
    data = Experience.create(same, Spec(3, 2), num_deployments=3, rows_per_deployment=NUM_ONLINE)
    data = data.merge(jax.tree.map(lambda leaf: leaf[:1], same), 1)
    sampler, critic = OTC(distance, **SMALL), LinearCritic(jnp.asarray(np.zeros(5, np.float32)))
    state, begun = prepared(sampler, data, critic)
    rows, drawn = samples(sampler, state, data, critic)
    assert all(np.all(np.isfinite(value)) for value in (begun | drawn).values())
    assert bool(np.all((rows >= 0) & (rows <= NUM_OFFLINE)))


@pytest.mark.parametrize("draw", ["iid", "stratified", "without-replacement"])
def test_every_way_to_draw_gives_rows_that_exist(draw: Any) -> None:
    data = experience()
    state, _ = prepared(OTC("value", **SMALL), data, CRITIC)
    rows, _ = samples(OTC("value", **SMALL, draw=draw), state, data, CRITIC)
    assert rows.shape == (500, 16)
    assert bool(np.all((rows >= 0) & (rows < NUM_OFFLINE + NUM_ONLINE)))


@pytest.mark.slow
def test_the_encoder_learns_is_frozen_and_embeds_new_rows() -> None:
    distance = EmbeddingDistance(size=4, hidden=(32,), num_updates=1500)
    num_offline = 400
    data = experience(num_offline=num_offline, deployments=0)
    untrained = dataclasses.replace(distance, num_updates=1).init(data, key=KEY)
    state = distance.init(data, key=KEY)
    assert float(state.loss) < 0.7 * float(untrained.loss)
    assert not jnp.any(state.embeddings[num_offline:])

    merged = data.merge(transition(1, NUM_ONLINE), 1)
    later, metrics = distance.begin_deployment(state, merged)
    same = jax.tree.map(lambda a, b: bool(np.all(a == b)), state.encoder, later.encoder)
    assert all(jax.tree.leaves(same))
    assert bool(np.all(later.embeddings[:num_offline] == state.embeddings[:num_offline]))
    assert jnp.all(jnp.any(later.embeddings[num_offline : num_offline + NUM_ONLINE] != 0, axis=1))
    assert float(metrics["active_units"]) == int(active_units(later.embeddings[:num_offline]))


def test_two_stage_compares_the_change_or_the_next_observation() -> None:
    data = experience()
    rows, online = np.arange(10), np.arange(NUM_OFFLINE, NUM_OFFLINE + 5)
    offline = jax.tree.map(np.asarray, transition(0, NUM_OFFLINE))
    for distance in (TwoStageDistance("next"), TwoStageDistance("delta")):
        first, _ = features(distance, init(distance, data), data, rows, online)
        raw = offline.next_observation - (offline.observation if distance.compare == "delta" else 0.0)
        expected = (raw[:10] - raw.mean(axis=0)) / (raw.std(axis=0) + 1e-3)
        assert np.allclose(first.compared, expected, atol=1e-4)
        assert first.state_action.shape == (10, 5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"alpha_bounds": (2.0, 1.0)}, "0 <= low <= high"),
        ({"distance": "valu"}, "did you mean 'value'"),
        ({"num_candidates": 0}, "num_candidates is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"draw": "without-replacement", "num_candidates": 8}, "without replacement"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        OTC(**options)
