"""Offline rows by weights that are told."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from readable_rows import CRITIC, joined, many, random_rows

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.ops.weighted_rows import row_probabilities
from marline.samplers import Oracle, Shuffled, Uniform
from marline.samplers.oracle import informed, oracle_in
from marline.testing import check_sampler

KEY = jax.random.key(0)
SAMPLER = Oracle(batch_size=8)


def test_prescribed_weights_are_drawn_by_and_online_rows_keep_their_share() -> None:
    experience = joined(random_rows(6, 0), random_rows(2, 1))
    weights = np.array([1e-6, 1.0, 2.0, 3.0, 1e-6, 6.0])

    @jax.jit
    def begun(experience: Experience) -> Any:
        state = SAMPLER.prescribe(SAMPLER.init(experience, key=KEY), jnp.log(jnp.asarray(weights, jnp.float32)))
        state, metrics = SAMPLER.begin_deployment(state, experience, CRITIC, key=KEY)
        return state, dict(metrics)

    state, metrics = begun(experience)
    assert float(metrics["effective_sample_size"]) == pytest.approx(12**2 / 50, rel=1e-3)
    drawn = many(lambda key: SAMPLER.sample(state, experience, CRITIC, key=key)[0], 4000)
    counts = np.bincount(drawn.ravel(), minlength=8)
    assert counts[6:].sum() / counts.sum() == pytest.approx(0.25, abs=0.01)
    assert not counts[[0, 4]].any()
    expected = weights[weights > 0.5] / 12 * counts[:6].sum()
    assert scipy.stats.chisquare(counts[:6][weights > 0.5], expected).pvalue > 1e-3


def test_weights_keep_a_share_of_the_rows() -> None:
    """One row of a hundred fits today's partners, and is worth one row; tempered, it is worth twenty."""
    log_ratio = np.log(np.where(np.arange(100) == 7, 100.0, 1e-6)).astype(np.float32)

    @jax.jit
    def probabilities(experience: Experience, log_ratio: jax.Array) -> list[jax.Array]:
        whole = Oracle(least_effective_share=0.0).prescribe(SAMPLER.init(experience, key=KEY), log_ratio)
        tempered = Oracle(least_effective_share=0.2).prescribe(whole, log_ratio)
        return [row_probabilities(state) for state in (whole, tempered)]

    whole, tempered = (np.asarray(each) for each in probabilities(joined(random_rows(100, 0)), log_ratio))
    assert whole[7] == pytest.approx(1.0, abs=1e-3)
    assert 1 / np.sum(np.square(tempered)) == pytest.approx(20, rel=1e-2)


def test_its_control_is_told_too() -> None:
    experience, control = joined(random_rows(6, 0)), Shuffled(SAMPLER)
    assert oracle_in(control) == SAMPLER and oracle_in(Uniform()) is None
    log_ratio = np.array([-14.0, 0.0, -14.0, -14.0, -14.0, -14.0], np.float32)
    told = jax.jit(lambda experience: informed(control, control.init(experience, key=KEY), jnp.asarray(log_ratio)))
    memory = told(experience)
    rows = many(lambda key: control.sample(memory, experience, CRITIC, key=key)[0], 20)
    assert (rows == np.asarray(memory.stand_in)[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [SAMPLER, Shuffled(SAMPLER)])
def test_it_keeps_the_rules_of_samplers(sampler: Any) -> None:
    check_sampler(sampler)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"tolerance": 0.0}, "tolerance is 0.0, but must be positive"),
        ({"least_effective_share": 1.0}, r"must lie in \[0, 1\)"),
    ],
)
def test_impossible_options_are_refused(option: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Oracle(**option)  # pyright: ignore[reportArgumentType]
