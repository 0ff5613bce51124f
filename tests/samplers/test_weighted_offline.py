"""Offline rows by weight, online rows at a share of their own: which rows are drawn, and how often."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from readable_rows import CRITIC, joined, many, random_rows

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.ops.weighted_rows import AliasTable, alias_table, uniform_table
from marline.samplers import Uniform
from marline.samplers.weighted_offline import require_online_share, sample_weighted

WEIGHTS = np.array([1.0, 0.0, 3.0, 0.5] * 5, np.float32)
uniform_rows = jax.jit(uniform_table, static_argnums=0)


@pytest.fixture(scope="module")
def experience() -> Experience:
    return joined(random_rows(20, 0), random_rows(3, 1), random_rows(2, 2), spare=2)


@functools.partial(jax.jit, static_argnums=2)
def sampled(table: AliasTable, experience: Experience, share: float | None, key: jax.Array) -> jax.Array:
    return sample_weighted(table, experience, 128, share, key=key)


def test_equal_weights_draw_what_uniform_replay_draws(experience: Experience) -> None:
    key = jax.random.key(3)
    rows = sampled(uniform_rows(20), experience, None, key)
    uniform = jax.jit(lambda experience, key: Uniform().sample((), experience, CRITIC, key=key)[0])
    np.testing.assert_array_equal(rows, uniform(experience, key))


@pytest.mark.parametrize(("share", "expected"), [(None, 0.2), (0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_shares_and_weights_of_what_is_drawn(share: float | None, expected: float, experience: Experience) -> None:
    table = jax.jit(alias_table)(WEIGHTS)
    rows = many(lambda key: sample_weighted(table, experience, 128, share, key=key), 500)
    counts = np.bincount(rows.ravel(), minlength=25)
    assert len(counts) == 25  # none that is not logged yet
    drawn = counts / counts.sum()
    np.testing.assert_allclose(drawn[:20], (1 - expected) * WEIGHTS / WEIGHTS.sum(), atol=0.006)
    np.testing.assert_allclose(drawn[20:], expected / 5, atol=0.006)


def test_before_the_first_deployment_all_rows_are_offline() -> None:
    start = joined(random_rows(20, 0))
    assert np.asarray(sampled(uniform_rows(20), start, 1.0, jax.random.key(0))).max() < 20


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="online_share is"):
        require_online_share(share)
