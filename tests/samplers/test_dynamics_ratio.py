"""The dynamics ratio: what it finds where both laws are known, when it corrects, and what must hold for any data."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from known_laws import NUM_OFFLINE, World, case, experience_of
from readable_rows import CRITIC

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.ops.weighted_rows import row_probabilities
from marline.samplers import Shuffled, Uniform
from marline.samplers.dynamics_ratio import DynamicsRatio, State
from marline.testing import check_sampler
from marline.types import Spec, Transition

KEY = jax.random.key(0)
SAMPLER = DynamicsRatio(
    hidden=(32,), learning_rate=5e-3, law_batch_size=128, offline_updates=800, num_updates=200, check_every=20
)
SMALL = DynamicsRatio(
    batch_size=16, hidden=(4,), law_batch_size=8, offline_updates=20, num_updates=10, check_every=5, confidence=0.0
)


@jax.jit
def correct(experience: Experience, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
    init_key, begin_key = jax.random.split(key)
    state = SAMPLER.init(experience, key=init_key)
    state, metrics = SAMPLER.begin_deployment(state, experience, CRITIC, key=begin_key)
    return state, dict(metrics)


def gates(logs: World, today: World, num: int) -> list[dict[str, float]]:
    found = []
    for seed in range(num):
        _, metrics = correct(case(logs, today, seed), jax.random.key(1000 + seed))
        found.append({name: float(value) for name, value in metrics.items()})
    return found


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(scipy.stats.rankdata(first), scipy.stats.rankdata(second))[0, 1])


# ------------------------------------------------------------------------ where the laws are known


def test_the_log_ratio_is_found() -> None:
    """Logs push by .5, today by -.5: the exact log ratio is -4 a (s' - s - sin 2s)."""
    experience = case(World(0.5), World(-0.5), 0)
    state, metrics = correct(experience, KEY)
    rows = experience.offline()
    noise = np.asarray(rows.next_observation - rows.observation - jnp.sin(2 * rows.observation))[:, 0]
    exact = np.clip(-4 * np.asarray(rows.action)[:, 0] * noise, -3, 3)
    drawn = np.asarray(row_probabilities(state.table), np.float64)
    found = np.log(drawn * NUM_OFFLINE)
    assert rank_correlation(found, exact) > 0.95
    assert np.sqrt(np.mean((found - found.mean() - exact + exact.mean()) ** 2)) < 0.4
    weights = np.exp(exact)
    # what is drawn moves today's way: E[a y] under the exact weights, and under those found
    moments = [np.average(np.asarray(rows.action)[:, 0] * noise, weights=w) for w in (np.ones_like(weights), weights)]
    assert np.average(np.asarray(rows.action)[:, 0] * noise, weights=drawn) == pytest.approx(moments[1], abs=0.04)
    assert moments[0] > 0.15 and moments[1] < -0.1
    assert metrics["gate_open"] == 1.0
    assert metrics["gain_nats"] > 3 * metrics["gain_se"] > 0
    exact_share = weights.mean() ** 2 / (weights**2).mean()
    assert metrics["effective_share"] == pytest.approx(exact_share, rel=0.25)


def test_a_stationary_world_is_left_alone() -> None:
    found = gates(World(0.5), World(0.5), 10)
    assert not any(each["gate_open"] for each in found)
    for each in found:
        weights = each["effective_share"], each["temper"], each["clipped"]
        assert weights == pytest.approx((1.0, 1.0, 0.0))


def test_a_changed_partner_is_noticed() -> None:
    assert all(each["gate_open"] for each in gates(World(0.5), World(0.0), 4))


@pytest.mark.slow
def test_going_elsewhere_is_no_change() -> None:
    """P_logs fails where the logs have not been: the gain over all rows is large, that where they have been is not."""
    found = gates(World(0.5), World(0.5, place=2.0), 6)
    assert sum(each["gate_open"] for each in found) <= 1
    assert all(each["gain_nats"] > 5 * each["gain_se"] for each in found)
    assert all(each["overlap"] < 0.5 for each in found)


def test_a_shut_gate_draws_what_uniform_replay_draws() -> None:
    experience = case(World(0.5), World(0.5), 0)
    state, metrics = correct(experience, KEY)
    assert metrics["gate_open"] == 0.0
    for number in range(3):
        key = jax.random.key(number)
        rows = SAMPLER.sample(state, experience, CRITIC, key=key)[0]
        np.testing.assert_array_equal(rows, Uniform().sample((), experience, CRITIC, key=key)[0])


# ------------------------------------------------------------------------ what must hold whatever the data


def small_rows(num: int, seed: int, spec: Spec) -> Transition:
    """Episodes of five; each fifth ends for good, and of every other such end nobody knows what came after."""
    random = np.random.default_rng(seed)
    seen, after = random.normal(size=(2, num, spec.observation_size)).astype(np.float32)
    place = np.arange(num)
    goes_on = place % 5 != 4
    after[:-1][goes_on[:-1]] = seen[1:][goes_on[:-1]]
    is_unknown = place % 10 == 9
    after[is_unknown] = seen[is_unknown]
    action = (
        random.integers(0, spec.action_size, num)
        if spec.discrete
        else random.uniform(-1, 1, (num, spec.action_size)).astype(np.float32)
    )
    masks = jnp.asarray(random.random((num, spec.action_size)) < 0.7) if spec.discrete else None
    reward = random.normal(size=num).astype(np.float32)
    discount = goes_on.astype(np.float32)
    return Transition(
        jnp.asarray(seen),
        jnp.asarray(action, jnp.int32 if spec.discrete else jnp.float32),
        jnp.asarray(reward),
        jnp.asarray(discount),
        jnp.asarray(after),
        masks,
        masks,
    )


def small_run(sampler: DynamicsRatio, offline: Transition, online: Transition, spec: Spec) -> tuple[State, Any]:
    experience = experience_of(offline, online, spec)
    state = jax.jit(sampler.init)(experience, key=KEY)
    state, metrics = jax.jit(lambda state, rows: sampler.begin_deployment(state, rows, CRITIC, key=KEY))(
        state, experience
    )
    return state, {name: float(value) for name, value in metrics.items()}


def all_finite(tree: object) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("sampler", [SMALL, Shuffled(SMALL)])
@pytest.mark.slow
def test_the_rules_for_samplers_are_kept(sampler: Any) -> None:
    check_sampler(sampler)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [Spec(3, 2), Spec(3, 4, discrete=True)])
def test_rows_of_which_nobody_knows_what_came_after_weigh_1(spec: Spec) -> None:
    offline, online = small_rows(100, 0, spec), small_rows(30, 1, spec)
    state, metrics = small_run(SMALL, offline, online, spec)
    assert all_finite((state, metrics))
    members = jax.tree.map(lambda leaf: jnp.stack([leaf + 0.1, leaf + 0.1]), state.logs_law)
    weights = SMALL.log_ratios(jnp.zeros(100), state, members, experience_of(offline, online, spec))
    np.testing.assert_array_equal(np.asarray(weights) == 0, np.arange(100) % 10 == 9)


@pytest.mark.slow
def test_rows_of_which_nobody_knows_what_came_after_are_not_learned_from() -> None:
    spec = Spec(3, 2)
    offline, online = small_rows(100, 0, spec), small_rows(30, 1, spec)
    moved = online._replace(reward=jnp.where(jnp.arange(30) % 10 == 9, 50.0, online.reward))
    first, metrics = small_run(SMALL, offline, online, spec)
    second, same = small_run(SMALL, offline, moved, spec)
    assert metrics == same
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


@pytest.mark.slow
def test_the_law_of_the_logs_is_fitted_once() -> None:
    spec = Spec(3, 2)
    experience = experience_of(small_rows(100, 0, spec), small_rows(30, 1, spec), spec)
    state = SMALL.init(experience, key=KEY)
    after, _ = SMALL.begin_deployment(state, experience, CRITIC, key=KEY)
    again, _ = SMALL.begin_deployment(after, experience.merge(small_rows(20, 2, spec), 2), CRITIC, key=KEY)
    for now in (after, again):
        pairs = zip(jax.tree.leaves(state[:2]), jax.tree.leaves(now[:2]), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_weights_are_worth_as_many_rows_as_asked_for() -> None:
    spec = Spec(3, 2)
    offline, online = small_rows(100, 0, spec), small_rows(30, 1, spec)
    far = online._replace(reward=online.reward + 5.0)
    longer = DynamicsRatio(**{**vars(SMALL), "num_updates": 60, "learning_rate": 1e-2})
    _, free = small_run(longer, offline, far, spec)
    _, held = small_run(DynamicsRatio(**{**vars(longer), "least_effective_share": 0.95}), offline, far, spec)
    assert free["temper"] == 1.0 and 0.05 < free["effective_share"] < 0.95
    assert 0 < held["temper"] < 1 and held["effective_share"] == pytest.approx(0.95, abs=1e-3)


def hostile_rows() -> dict[str, tuple[Transition, Transition]]:
    spec = Spec(3, 2)
    plain, online = small_rows(100, 0, spec), small_rows(30, 1, spec)
    ended = online._replace(discount=jnp.zeros(30), next_observation=online.observation)
    return {
        "nothing varies offline": (jax.tree.map(jnp.ones_like, plain), online),
        "next observations elsewhere": (plain, online._replace(next_observation=online.next_observation + 1e6)),
        "the same rows": (plain, jax.tree.map(lambda leaf: leaf[:30], plain)),
        "no next observation is known": (plain, ended),
        "one row": (plain, jax.tree.map(lambda leaf: leaf[:1], online)),
        "few offline rows": (jax.tree.map(lambda leaf: leaf[:3], plain), online),
    }


@pytest.mark.parametrize("name", hostile_rows())
@pytest.mark.slow
def test_hostile_rows_leave_everything_finite(name: str) -> None:
    state, metrics = small_run(SMALL, *hostile_rows()[name], Spec(3, 2))
    assert all_finite((state, metrics))
    careful = DynamicsRatio(**{**vars(SMALL), "confidence": 0.99})
    if name in ("no next observation is known", "one row"):
        assert small_run(careful, *hostile_rows()[name], Spec(3, 2))[1]["gate_open"] == 0.0


@pytest.mark.parametrize("spec", [Spec(3, 2), Spec(3, 4, discrete=True)])
@pytest.mark.slow
def test_stacked_learners_correct_as_each_does_alone(spec: Spec) -> None:
    experience = experience_of(small_rows(100, 0, spec), small_rows(30, 1, spec), spec)

    def run(key: jax.Array) -> Any:
        state = SMALL.init(experience, key=key)
        state, metrics = SMALL.begin_deployment(state, experience, CRITIC, key=key)
        return row_probabilities(state.table), dict(metrics)

    keys = jax.random.split(KEY, 2)
    stacked = jax.jit(jax.vmap(run))(keys)
    for place in range(2):
        alone = jax.jit(run)(keys[place])
        for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(stacked), strict=True):
            np.testing.assert_allclose(many[place], one, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch_size", 0),
        ("online_share", 1.5),
        ("clip", -1.0),
        ("clip", float("inf")),
        ("least_effective_share", 1.0),
        ("confidence", 1.0),
        ("confidence", -0.1),
        ("hidden", (0,)),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("law_batch_size", 1),
        ("offline_updates", 0),
        ("num_updates", 0),
        ("check_every", 0),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{option} (is|are) {re.escape(str(value))}"):
        DynamicsRatio(**{option: value})
