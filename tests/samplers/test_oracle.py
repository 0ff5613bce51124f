"""Offline rows by weights that are given."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from readable_rows import CRITIC, joined, many, random_rows

from marline.errors import ConfigError
from marline.samplers import Oracle, Shuffled
from marline.testing import check_sampler

KEY = jax.random.key(0)
SAMPLER = Oracle(batch_size=8)


def test_prescribed_weights_are_drawn_by_and_online_rows_keep_their_share() -> None:
    experience = joined(random_rows(6, 0), random_rows(2, 1))
    weights = np.array([0.0, 1.0, 2.0, 3.0, 0.0, 6.0])
    state = SAMPLER.prescribe(SAMPLER.init(experience, key=KEY), jnp.asarray(weights, jnp.float32))
    state, metrics = SAMPLER.begin_deployment(state, experience, CRITIC, key=KEY)
    assert float(metrics["effective_sample_size"]) == pytest.approx(12**2 / 50, rel=1e-3)
    drawn = many(lambda key: SAMPLER.sample(state, experience, CRITIC, key=key)[0], 4000)
    counts = np.bincount(drawn.ravel(), minlength=8)
    assert counts[6:].sum() / counts.sum() == pytest.approx(0.25, abs=0.01)
    assert not counts[[0, 4]].any()
    expected = weights[weights > 0] / 12 * counts[:6].sum()
    assert scipy.stats.chisquare(counts[:6][weights > 0], expected).pvalue > 1e-3


def test_it_keeps_the_rules_of_samplers() -> None:
    check_sampler(SAMPLER)
    check_sampler(Shuffled(SAMPLER))


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        Oracle(batch_size=0)
