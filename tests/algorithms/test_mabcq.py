"""MABCQ: BCQ when its weights are off, and what its weights do when they are on."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
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
    return Transition(**{name: jnp.asarray(leaf, jnp.float32) for name, leaf in leaves.items()})


BATCH = make_batch()
STATE: State = jax.jit(WEIGHTED.init)(
    Experience.create(BATCH, Spec(3, 2), num_deployments=0, rows_per_deployment=0), key=KEY
)


def assert_same(first: object, second: object) -> None:
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_with_both_weights_off_it_is_bcq() -> None:
    ours, _ = jax.jit(OFF.update)(STATE, BATCH, key=KEY)
    base_key = jax.random.split(KEY, 3)[2]
    theirs, _ = jax.jit(BASE.update)(STATE.base, BATCH, key=base_key)
    for one, other in zip(jax.tree.leaves(ours.base), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_the_weights_reach_the_critics_alone() -> None:
    ours, metrics = jax.jit(WEIGHTED.update)(STATE, BATCH, key=KEY)
    plain, _ = jax.jit(OFF.update)(STATE, BATCH, key=KEY)
    assert_same(ours.base.vae, plain.base.vae)
    pairs = zip(jax.tree.leaves(ours.base.critic.model), jax.tree.leaves(plain.base.critic.model), strict=True)
    assert any(not np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)
    assert 0.0 < metrics["least_weight"] < 1.0 < metrics["greatest_weight"]
    assert {"critic_loss", "mean_q", "vae_loss", "inverse_loss"} <= set(metrics)


def test_weights_are_positive_with_mean_one_and_rise_with_the_next_value() -> None:
    deviation_only = MABCQ(BASE, optimism=0.5, normalize_transitions=False)
    weigh = jax.jit(
        lambda batch: (WEIGHTED.weight(STATE, batch, key=KEY), deviation_only.weight(STATE, batch, key=KEY))
    )
    for weight in weigh(BATCH):
        assert np.all(np.asarray(weight) > 0)
        np.testing.assert_allclose(np.mean(weight), 1.0, rtol=1e-5)
    # with Q = r in expectation the expected next value is 0, so the sign of V(s') decides
    q_value = jnp.minimum(*jax.vmap(STATE.base.target_critic)(BATCH.observation, BATCH.action))
    _, weight = weigh(BATCH._replace(reward=q_value))
    first, second = BASE.target_candidates(STATE.base, BATCH.next_observation, key=jax.random.split(KEY, 3)[0])
    mixed = 0.75 * np.minimum(first, second) + 0.25 * np.maximum(first, second)
    value = np.asarray(BATCH.discount) * mixed.max(axis=1)
    assert np.all(
        np.asarray(weight)[value > 0.02].min(initial=np.inf) >= np.asarray(weight)[value < -0.02].max(initial=0)
    )


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("all terminal", BATCH._replace(discount=jnp.zeros(NUM_ROWS))),
        ("one repeated row", jax.tree.map(lambda column: jnp.repeat(column[:1], NUM_ROWS, axis=0), BATCH)),
        ("rewards of a million", BATCH._replace(reward=1e6 * jnp.sign(BATCH.reward))),
    ],
)
def test_hostile_batches_leave_everything_finite(name: str, batch: Transition) -> None:
    state, metrics = jax.jit(WEIGHTED.update)(STATE, batch, key=KEY)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((state, metrics)))


@pytest.mark.parametrize(("option", "value"), [("optimism", 1.0), ("optimism", -0.1), ("decoder_std", 0.0)])
def test_impossible_options_are_refused_by_name_and_value(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {re.escape(str(value))}"):
        MABCQ(**{option: value})  # pyright: ignore[reportArgumentType]


def test_what_came_after_an_end_is_neither_learned_nor_weighed_where_it_was_not_logged() -> None:
    unknown = np.arange(NUM_ROWS) % 8 == 0  # half of the terminal rows
    observed = jnp.where(jnp.asarray(unknown)[:, None], BATCH.observation, BATCH.next_observation)
    batch = BATCH._replace(next_observation=observed)
    np.testing.assert_array_equal(batch.next_is_known, ~unknown)

    def loss(rows: Transition) -> jax.Array:
        return WEIGHTED.inverse_loss(STATE.inverse.model, rows, key=KEY)

    learned = np.abs(jax.grad(loss)(batch).action).sum(axis=1)
    assert (learned[unknown] == 0).all() and (learned[~unknown] > 0).all()
    tn_only = MABCQ(BASE, optimism=0.0)
    weight = np.asarray(jax.jit(tn_only.weight)(STATE, batch, key=KEY))
    assert len(np.unique(weight[unknown])) == 1 and len(np.unique(weight[~unknown])) > 3
