"""Other preferences under the gate of the dynamics ratio: which rows they take, and when they keep out."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_laws import NUM_OFFLINE, World, case, experience_of
from readable_rows import CRITIC

from marline.errors import ConfigError
from marline.samplers import Contrastive, DynamicsRatio, Gated, Residual, ReturnTimesRatio, ReturnWeighted, Uniform
from marline.samplers.contrastive import LEFT_OUT
from marline.samplers.dynamics_ratio import Judged
from marline.testing import check_sampler

KEY = jax.random.key(0)
GATE = DynamicsRatio(
    hidden=(32,), learning_rate=5e-3, law_batch_size=128, offline_updates=800, num_updates=200, check_every=20
)
CONTRASTIVE = Contrastive(keep=0.25, encoder_updates=300, encoder_hidden=(32,), size=8, encoder_rate=3e-3)
CHANGED = case(World(0.5), World(-0.5), 0)
SMALL = DynamicsRatio(
    batch_size=16, hidden=(4,), law_batch_size=8, offline_updates=20, num_updates=10, check_every=5, confidence=0.0
)


@pytest.fixture(scope="module")
def judged() -> tuple[Any, Judged]:
    """The law of the logs, and what a deployment says of it."""
    init_key, begin_key = jax.random.split(KEY)
    state = jax.jit(GATE.init)(CHANGED, key=init_key)
    return state, Judged(*jax.jit(GATE.judge)(state, CHANGED, key=begin_key))


def log_weights(prefer: Any, judged: tuple[Any, Judged]) -> np.ndarray:
    state, (members, _, is_open, _) = judged
    assert is_open
    return np.asarray(jax.jit(functools.partial(prefer.log_weights, GATE))(state, members, CHANGED, key=KEY))


def fit_of_today() -> np.ndarray:
    """-a (s' - s - sin 2s), which is high in rows that tell of today."""
    rows = CHANGED.offline()
    noise = np.asarray(rows.next_observation - rows.observation - jnp.sin(2 * rows.observation))[:, 0]
    return -np.asarray(rows.action)[:, 0] * noise


@pytest.mark.slow
def test_the_product_is_the_product(judged: tuple[Any, Judged]) -> None:
    rows = CHANGED.offline()
    by_return = ReturnWeighted().log_weights(rows.reward, CHANGED.offline_ends)
    by_ratio = log_weights(ReturnTimesRatio(scale=0.0), judged)
    assert np.corrcoef(by_ratio, fit_of_today())[0, 1] > 0.9
    np.testing.assert_allclose(log_weights(ReturnTimesRatio(), judged), by_return + by_ratio, atol=1e-4)


@pytest.mark.slow
def test_residuals_prefer_what_is_near_the_mean_of_today(judged: tuple[Any, Judged]) -> None:
    found = log_weights(Residual(), judged)
    np.testing.assert_allclose(np.sort(found)[::-1], -np.log(np.arange(1, NUM_OFFLINE + 1)), rtol=1e-4)
    np.testing.assert_allclose(log_weights(Residual(alpha=0.5), judged), 0.5 * found, rtol=1e-4)
    rows, best = CHANGED.offline(), found > -np.log(150)
    exact = rows.observation + jnp.sin(2 * rows.observation) - 0.5 * rows.action
    missed = np.abs(np.asarray(rows.next_observation - exact))[:, 0]
    assert missed[best].mean() < 0.6 * missed.mean()
    assert fit_of_today()[best].mean() > fit_of_today().mean() + 0.1


@pytest.mark.slow
def test_the_contrastive_score_keeps_a_share_of_the_rows(judged: tuple[Any, Judged]) -> None:
    found = log_weights(CONTRASTIVE, judged)
    is_kept = found > LEFT_OUT
    assert is_kept.mean() == pytest.approx(0.25, abs=0.01) and (np.abs(found[is_kept]) <= 1).all()
    assert fit_of_today()[is_kept].mean() > fit_of_today().mean() + 0.02


@pytest.mark.slow
def test_a_shut_gate_draws_what_uniform_replay_draws() -> None:
    """Of rows of which nobody knows what came after, nothing can be shown."""
    sampler = Gated(ReturnTimesRatio(), dataclasses.replace(SMALL, confidence=0.99))
    rows = World(0.5).rows(60, KEY)
    unknown = experience_of(rows, rows._replace(discount=jnp.zeros(60), next_observation=rows.observation))

    @jax.jit
    def began(experience: Any) -> Any:
        state = sampler.init(experience, key=KEY)
        state, metrics = sampler.begin_deployment(state, experience, CRITIC, key=KEY)
        return state, dict(metrics)

    state, metrics = began(unknown)
    assert metrics["gate_open"] == 0.0 and float(metrics["effective_share"]) == pytest.approx(1.0)
    for number in range(3):
        key = jax.random.key(number)
        rows = sampler.sample(state, unknown, CRITIC, key=key)[0]
        np.testing.assert_array_equal(rows, Uniform(batch_size=16).sample((), unknown, CRITIC, key=key)[0])


@pytest.mark.parametrize(
    "prefer",
    [
        ReturnTimesRatio(),
        Residual(),
        dataclasses.replace(CONTRASTIVE, encoder_updates=2, encoder_hidden=(4,), encoder_batch_size=4),
    ],
    ids=lambda it: type(it).__name__,
)
@pytest.mark.slow
def test_the_rules_for_samplers_are_kept(prefer: Any) -> None:
    check_sampler(Gated(prefer, SMALL))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Residual(alpha=-1.0), "alpha is -1.0"),
        (lambda: ReturnTimesRatio(bound=30.0), "bound is 30.0"),
        (lambda: Contrastive(keep=0.0), r"keep is 0.0, but must lie in \(0, 1\]"),
        (lambda: Contrastive(encoder_batch_size=1), "encoder_batch_size is 1"),
        (lambda: Contrastive(encoder_updates=0), "encoder_updates is 0"),
        (lambda: Contrastive(encoder_hidden=(0,)), r"encoder_hidden is \(0,\)"),
        (lambda: Contrastive(encoder_rate=0.0), "encoder_rate is 0.0"),
        (lambda: Contrastive(strength=float("nan")), "strength is nan"),
    ],
)
def test_impossible_options_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make()
