"""MABCQ: BCQ when its weights are off, and what its weights do when they are on."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest

from marline.algorithms import BCQ, MABCQ
from marline.algorithms.mabcq import State
from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.types import Spec, Transition

KEY = jax.random.key(0)
BASE = BCQ(hidden=(8, 8))
WEIGHTED, OFF = MABCQ(BASE), MABCQ(BASE, optimism=0.0, normalize_transitions=False)
NUM_ROWS = 40


def make_batch() -> Transition:
    rng = np.random.default_rng(0)
    leaves = {
        "observation": rng.normal(size=(NUM_ROWS, 3)),
        "action": rng.uniform(-1, 1, (NUM_ROWS, 2)),
        "reward": rng.normal(size=NUM_ROWS),
        "discount": np.arange(NUM_ROWS) % 4 != 0,
        "next_observation": rng.normal(size=(NUM_ROWS, 3)),
    }
    return Transition(**{name: jax.device_put(np.asarray(leaf, np.float32)) for name, leaf in leaves.items()})


BATCH = make_batch()
update = jax.jit(WEIGHTED.update)


@pytest.fixture(scope="module")
def fresh() -> State:
    experience = Experience.create(BATCH, Spec(3, 2), num_deployments=0, rows_per_deployment=0)
    return jax.jit(WEIGHTED.init)(experience, key=KEY)


def assert_same(first: object, second: object) -> None:
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_with_both_weights_off_it_is_bcq(fresh: State) -> None:
    ours, _ = jax.jit(OFF.update)(fresh, BATCH, key=KEY)
    base_key = jax.random.split(KEY, 3)[2]
    theirs, _ = jax.jit(BASE.update)(fresh.base, BATCH, key=base_key)
    for one, other in zip(jax.tree.leaves(ours.base), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_the_weights_reach_the_critics_alone(fresh: State) -> None:
    ours, metrics = update(fresh, BATCH, key=KEY)
    plain, _ = jax.jit(OFF.update)(fresh, BATCH, key=KEY)
    assert_same(ours.base.vae, plain.base.vae)
    pairs = zip(jax.tree.leaves(ours.base.critic.model), jax.tree.leaves(plain.base.critic.model), strict=True)
    assert any(not np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)
    assert 0.0 < metrics["least_weight"] < 1.0 < metrics["greatest_weight"]
    assert {"critic_loss", "mean_q", "vae_loss", "inverse_loss"} <= set(metrics)


def test_weights_are_positive_with_mean_one_and_rise_with_the_next_value(fresh: State) -> None:
    deviation_only = MABCQ(BASE, optimism=0.5, normalize_transitions=False)

    @jax.jit
    def weigh(batch: Transition) -> tuple[jax.Array, jax.Array]:
        return WEIGHTED.weight(fresh, batch, key=KEY), deviation_only.weight(fresh, batch, key=KEY)

    @jax.jit
    def judge() -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        key = jax.random.split(KEY, 3)[0]
        candidates = BASE.target_candidates(fresh.base, BATCH.next_observation, key=key)
        return jax.vmap(fresh.base.target_critic)(BATCH.observation, BATCH.action), candidates

    for weight in weigh(BATCH):
        assert np.all(np.asarray(weight) > 0)
        np.testing.assert_allclose(np.mean(weight), 1.0, rtol=1e-5)
    # with Q = r in expectation the expected next value is 0, so the sign of V(s') decides
    (one, other), (first, second) = jax.tree.map(np.asarray, judge())
    _, weight = weigh(BATCH._replace(reward=jax.device_put(np.minimum(one, other))))
    mixed = 0.75 * np.minimum(first, second) + 0.25 * np.maximum(first, second)
    value = np.asarray(BATCH.discount) * mixed.max(axis=1)
    assert np.all(
        np.asarray(weight)[value > 0.02].min(initial=np.inf) >= np.asarray(weight)[value < -0.02].max(initial=0)
    )


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("all terminal", BATCH._replace(discount=jax.device_put(np.zeros(NUM_ROWS, np.float32)))),
        ("one repeated row", jax.tree.map(lambda column: jax.device_put(np.asarray(column)[[0] * NUM_ROWS]), BATCH)),
        (
            "rewards of a million",
            BATCH._replace(reward=jax.device_put(np.asarray(np.copysign(1e6, BATCH.reward), np.float32))),
        ),
    ],
)
def test_hostile_batches_leave_everything_finite(name: str, batch: Transition, fresh: State) -> None:
    state, metrics = update(fresh, batch, key=KEY)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((state, metrics)))


@pytest.mark.parametrize(("option", "value"), [("optimism", 1.0), ("optimism", -0.1), ("decoder_std", 0.0)])
def test_impossible_options_are_refused_by_name_and_value(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {re.escape(str(value))}"):
        MABCQ(**{option: value})  # pyright: ignore[reportArgumentType]


def test_what_came_after_an_end_is_neither_learned_nor_weighed_where_it_was_not_logged(fresh: State) -> None:
    unknown = np.arange(NUM_ROWS) % 8 == 0  # half of the terminal rows
    observed = np.where(unknown[:, None], BATCH.observation, BATCH.next_observation)
    batch = BATCH._replace(next_observation=jax.device_put(observed))
    tn_only = MABCQ(BASE, optimism=0.0)

    def loss(rows: Transition) -> jax.Array:
        return WEIGHTED.inverse_loss(fresh.inverse.model, rows, key=KEY)

    @jax.jit
    def learn_and_weigh(rows: Transition) -> tuple[jax.Array, jax.Array, jax.Array]:
        return rows.next_is_known, jax.grad(loss)(rows).action, tn_only.weight(fresh, rows, key=KEY)

    known, slope, weight = (np.asarray(part) for part in learn_and_weigh(batch))
    np.testing.assert_array_equal(known, ~unknown)
    learned = np.abs(slope).sum(axis=1)
    assert (learned[unknown] == 0).all() and (learned[~unknown] > 0).all()
    assert len(np.unique(weight[unknown])) == 1 and len(np.unique(weight[~unknown])) > 3
