"""Classifier-ratio replay: what it draws where the answer is known, and what must hold whatever the data."""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from readable_rows import CRITIC

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.samplers.classifier_ratio import ClassifierRatio, State
from marline.types import Spec, Transition

KEY = jax.random.key(0)
SPEC = Spec(1, 2, discrete=True)
SAMPLER = ClassifierRatio(hidden=(16,), learning_rate=1e-2, num_updates=400)
NUM_OFFLINE, NUM_ONLINE = 20_000, 1000

init = jax.jit(SAMPLER.init)
begin = jax.jit(lambda state, experience, key: SAMPLER.begin_deployment(state, experience, CRITIC, key=key))


@jax.jit
def many_samples(state: State, experience: Experience) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Rows and metrics of 200 batches."""

    def sample(key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        rows, _, metrics = SAMPLER.sample(state, experience, CRITIC, key=key)
        return rows, dict(metrics)

    return jax.lax.map(sample, jax.random.split(KEY, 200))


class Side(NamedTuple):
    """How one side acts, and what follows: P(action 1), and P(outcome A) after either action."""

    act: float
    outcome: tuple[float, float]

    def logs(self, num: int) -> Transition:
        """Rows in exactly these shares, shuffled; outcome A is a step up, B one down."""
        after_first = np.arange(num) < round(num * (1 - self.act))
        outcome = np.empty(num, bool)
        for action, rows in enumerate((np.flatnonzero(after_first), np.flatnonzero(~after_first))):
            outcome[rows] = np.arange(len(rows)) < round(len(rows) * self.outcome[action])
        order = np.random.default_rng(num).permutation(num)
        blank, masks = jnp.zeros((num, 1)), jnp.ones((num, 2), bool)
        following = jnp.asarray(np.where(outcome, 1.0, -1.0)[order][:, None], jnp.float32)
        action = jnp.asarray(~after_first[order], jnp.int32)
        return Transition(blank, action, jnp.zeros(num), jnp.ones(num), following, masks, masks)


class Drawn(NamedTuple):
    """What 25,600 drawn rows hold, and what was measured."""

    act: float
    outcome: tuple[float, float]
    metrics: dict[str, float]


@functools.cache
def replay(offline: Side, online: Side) -> Drawn:
    experience = Experience.create(
        offline.logs(NUM_OFFLINE), SPEC, num_deployments=1, rows_per_deployment=NUM_ONLINE
    ).merge(online.logs(NUM_ONLINE), 1)
    state, trained = begin(init(experience, key=KEY), experience, KEY)
    rows, sampled = many_samples(state, experience)
    batch = experience[rows.ravel()]
    action, up = np.asarray(batch.action), np.asarray(batch.next_observation)[:, 0] > 0
    shares = float(np.mean(up[action == 0])), float(np.mean(up[action == 1]))
    metrics = {**trained, **{name: jnp.mean(value) for name, value in sampled.items()}}
    return Drawn(float(action.mean()), shares, {name: float(value) for name, value in metrics.items()})


@pytest.mark.slow
def test_outcomes_are_drawn_as_likely_as_online() -> None:
    drawn = replay(Side(0.5, (0.5, 0.5)), Side(0.5, (0.9, 0.9)))
    np.testing.assert_allclose(drawn.outcome, 0.9, atol=0.03)
    # weights 1.8 and .2: 512 / mean(w^2) of the candidates
    assert drawn.metrics["effective_sample_size"] == pytest.approx(512 / 1.64, rel=0.1)
    assert drawn.metrics["mean_log_ratio"] == pytest.approx(0.5 * np.log(1.8 * 0.2), abs=0.15)
    # who says "online" on A is right about .9 of the online and .5 of the offline rows
    assert drawn.metrics["transition_accuracy"] == pytest.approx(0.7, abs=0.05)
    assert drawn.metrics["state_action_accuracy"] == pytest.approx(0.5, abs=0.05)


def test_without_mismatch_nothing_is_preferred() -> None:
    """Where correction by rank would draw .817."""
    drawn = replay(Side(0.5, (0.7, 0.7)), Side(0.5, (0.7, 0.7)))
    np.testing.assert_allclose(drawn.outcome, 0.7, atol=0.03)
    assert drawn.metrics["effective_sample_size"] > 500
    assert drawn.metrics["clipped"] == 0.0


def test_what_is_done_stays_and_what_follows_changes() -> None:
    """The agent acts otherwise online, and the outcome of one action alone has changed."""
    drawn = replay(Side(0.5, (0.5, 0.5)), Side(0.8, (0.5, 0.9)))
    np.testing.assert_allclose(drawn.outcome, [0.5, 0.9], atol=0.04)
    # as in the merged rows, 20 to 1
    assert drawn.act == pytest.approx((20 * 0.5 + 0.8) / 21, abs=0.04)
    assert drawn.metrics["state_action_accuracy"] == pytest.approx(0.65, abs=0.05)


def test_before_the_first_deployment_all_rows_are_alike() -> None:
    experience = Experience.create(
        Side(0.5, (0.5, 0.5)).logs(50), SPEC, num_deployments=1, rows_per_deployment=NUM_ONLINE
    )
    rows, metrics = many_samples(init(experience, key=KEY), experience)
    counts = np.bincount(np.asarray(rows).ravel(), minlength=50)
    assert len(counts) == 50
    # a batch is drawn from its candidates, so that rows come in clusters
    assert scipy.stats.chisquare(counts / (1 + SAMPLER.batch_size / SAMPLER.num_candidates)).pvalue > 1e-3
    np.testing.assert_allclose(metrics["effective_sample_size"], 512, rtol=1e-5)
    assert not np.asarray(metrics["mean_log_ratio"]).any()


def small_rows(num: int, seed: int, shift: float = 0.0) -> Transition:
    rng = np.random.default_rng(seed)
    seen, action = rng.normal(size=(num, 3)), rng.uniform(-1, 1, (num, 2))
    columns = seen, action, np.zeros(num), np.ones(num), seen + 0.1 * rng.normal(shift, 1, (num, 3))
    return Transition(*(jnp.asarray(column, jnp.float32) for column in columns))


SMALL = ClassifierRatio(
    hidden=(8,), learning_rate=1e-2, num_updates=50, num_candidates=64, batch_size=16, classifier_batch_size=8
)
init_small = jax.jit(SMALL.init)
begin_small = jax.jit(lambda state, experience: SMALL.begin_deployment(state, experience, CRITIC, key=KEY))
sample_small = jax.jit(lambda state, experience: SMALL.sample(state, experience, CRITIC, key=KEY))


def small_experience() -> Experience:
    return Experience.create(small_rows(100, 0), Spec(3, 2), num_deployments=2, rows_per_deployment=30)


def differs(first: object, second: object) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return any(not np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)


def all_finite(tree: object) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_classifiers_learn_at_each_deployment_and_rest_in_between() -> None:
    start = small_experience()
    states = [init_small(start, key=KEY)]
    experience = start
    for number in (1, 2):
        experience = experience.merge(small_rows(30, number), number)
        state, _ = begin_small(states[-1], experience)
        assert differs(state.classifier.model, states[-1].classifier.model)
        assert not differs((state.state_action, state.change), (states[0].state_action, states[0].change))
        assert int(state.deployment) == number
        rows, after, _ = sample_small(state, experience)
        assert not differs(after, state)
        assert rows.max() < experience.size
        states.append(state)
    # the second training goes on from the first, and the optimizer with it
    count = jax.tree.leaves(states[-1].classifier.opt_state)[0]
    assert int(count) == 2 * SMALL.num_updates


@pytest.mark.parametrize("num_online", [1, 9, 10, 30])
def test_every_tenth_row_is_kept_for_scoring(num_online: int) -> None:
    logs = small_rows(num_online, 1, shift=50.0)  # so plainly online that every row but a poisoned one is known
    poisoned = jnp.arange(num_online) % 10 == 9
    logs = logs._replace(next_observation=jnp.where(poisoned[:, None], jnp.nan, logs.next_observation))
    experience = small_experience().merge(logs, 1)
    state, metrics = begin_small(init_small(experience, key=KEY), experience)
    assert all_finite(state)
    # NaN is not "online", so that the whole class is missed
    assert metrics["transition_accuracy"] == pytest.approx(0.5 if num_online >= 10 else 1.0, abs=0.05)


def test_bounds_of_one_are_uniform_sampling() -> None:
    experience = small_experience().merge(small_rows(30, 1, shift=3.0), 1)
    flat = ClassifierRatio(**{**vars(SMALL), "weight_bounds": (1.0, 1.0)})
    state, _ = begin_small(init_small(experience, key=KEY), experience)
    _, _, metrics = jax.jit(lambda state: flat.sample(state, experience, CRITIC, key=KEY))(state)
    np.testing.assert_allclose(metrics["effective_sample_size"], 64, rtol=1e-5)
    assert metrics["clipped"] == 1.0


def hostile_rows() -> dict[str, tuple[Transition, Transition]]:
    plain, online = small_rows(100, 0), small_rows(30, 1)
    constant = jax.tree.map(jnp.ones_like, plain)
    return {
        "nothing varies offline": (constant, online),
        "next observations elsewhere": (plain, online._replace(next_observation=online.next_observation + 1e6)),
        "the same rows": (plain, jax.tree.map(lambda leaf: leaf[:30], plain)),
    }


@pytest.mark.parametrize("name", hostile_rows())
def test_hostile_rows_leave_everything_finite(name: str) -> None:
    offline, online = hostile_rows()[name]
    experience = Experience.create(offline, Spec(3, 2), num_deployments=2, rows_per_deployment=30).merge(online, 1)
    state, trained = begin_small(init_small(experience, key=KEY), experience)
    _, _, sampled = sample_small(state, experience)
    assert all_finite((state, trained, sampled))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_candidates", 0),
        ("batch_size", 0),
        ("weight_bounds", (0.0, 2.0)),
        ("weight_bounds", (2.0, 3.0)),
        ("num_updates", 0),
        ("hidden", (0,)),
        ("learning_rate", 0.0),
        ("classifier_batch_size", 0),
        ("input_noise", -0.1),
        ("input_noise", float("nan")),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{option} (is|are) {re.escape(str(value))}"):
        ClassifierRatio(**{option: value})


@pytest.mark.slow
def test_ends_of_which_nobody_knows_what_came_after_weigh_1_and_are_not_learned_from() -> None:
    sampler = ClassifierRatio(hidden=(4,), num_updates=3)
    ended = Transition(
        jnp.arange(30.0)[:, None],
        jnp.zeros(30, jnp.int32),
        jnp.zeros(30),
        jnp.zeros(30),
        jnp.arange(30.0)[:, None],
        jnp.ones((30, 2), bool),
        jnp.ones((30, 2), bool),
    )
    offline = Experience.create(ended, SPEC, num_deployments=1, rows_per_deployment=30)
    moved = ended._replace(next_observation=ended.next_observation + 1)
    fresh = jax.jit(sampler.init)(offline, key=KEY)
    begin = jax.jit(lambda state, experience: sampler.begin_deployment(state, experience, CRITIC, key=KEY))
    sample = jax.jit(lambda state, experience: sampler.sample(state, experience, CRITIC, key=KEY)[2])
    for logs, learns in ((ended, False), (moved, True)):
        experience = offline.merge(logs, 1)
        state, metrics = begin(fresh, experience)
        drawn = sample(state, experience)
        assert (float(metrics["classifier_loss"]) > 0) == learns
        assert (float(drawn["mean_log_ratio"]) != 0) == learns
