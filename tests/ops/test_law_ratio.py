"""Weights from two laws, and whether these differ: numbers by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from marline.ops import law_ratio
from marline.ops.law_ratio import (
    ClusteredMean,
    agreed_log_ratio,
    agreed_prediction,
    clusters,
    effective_share,
    episode_numbers,
    majority_of_logs,
    tempering_exponent,
)

clustered_mean, p_value_of_gain = jax.jit(law_ratio.clustered_mean), jax.jit(law_ratio.p_value_of_gain)


def test_members_agree_on_the_ratio_nearest_to_one() -> None:
    ratios = jnp.array([[1.0, -2.0, 1.0, 0.0], [2.0, -1.0, -1.0, 3.0]])
    assert jax.vmap(agreed_log_ratio, 1)(ratios).tolist() == [1.0, -1.0, 0.0, 0.0]


def test_members_agree_on_the_prediction_nearest_to_the_logs() -> None:
    members = jnp.array([[1.0, 0.0, 4.0], [3.0, 1.0, 7.0]])
    assert agreed_prediction(jnp.array([2.0, 2.0, 2.0]), members).tolist() == [2.0, 1.0, 4.0]


def test_effective_share() -> None:
    log_weights = jnp.log(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(effective_share(log_weights), 0.8, rtol=1e-6)  # 2^2 / 5
    np.testing.assert_allclose(effective_share(log_weights, 0.5), 0.9330127, rtol=1e-6)
    np.testing.assert_allclose(effective_share(log_weights + 500), 0.8, rtol=1e-4)
    np.testing.assert_allclose(effective_share(jnp.zeros(7)), 1.0)


def test_weights_are_tempered_until_they_are_worth_enough_rows() -> None:
    log_weights = jnp.log(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(tempering_exponent(log_weights, 0.9330127), 0.5, atol=1e-5)
    for share in (0.0, 0.5, 0.79):
        assert tempering_exponent(log_weights, share) == 1.0
    spread = jnp.linspace(-3.0, 3.0, 100)
    exponent = tempering_exponent(spread, 0.6)
    assert 0 < exponent < 1
    np.testing.assert_allclose(effective_share(spread, exponent), 0.6, rtol=1e-4)


def test_where_an_episode_ends() -> None:
    """A time limit after row 1, a death in row 3 at which the next one begins by chance, and row 4 by itself."""
    seen, after = jnp.array([[0.0], [1], [5], [6], [7]]), jnp.array([[1.0], [2], [6], [7], [8]])
    discount = jnp.array([1.0, 1, 1, 0, 1])
    assert episode_numbers(seen, after, discount).tolist() == [0, 0, 1, 1, 2]
    assert episode_numbers(seen[:1], after[:1], discount[:1]).tolist() == [0]


def test_blocks_stand_in_for_too_few_episodes() -> None:
    episodes = jnp.array([0, 0, 0, 1, 1, 1, 2, 2])
    assert clusters(episodes, 6, fewest=2, num_blocks=3).tolist() == episodes.tolist()
    assert clusters(episodes, 6, fewest=3, num_blocks=3)[:6].tolist() == [0, 0, 1, 1, 2, 2]
    assert clusters(episodes, 2, fewest=3, num_blocks=16)[:2].tolist() == [0, 1]
    assert clusters(episodes, 0, fewest=3, num_blocks=16).shape == (8,)


def test_a_mean_over_clusters() -> None:
    cluster = jnp.array([0, 0, 1, 1])
    alike = clustered_mean(jnp.array([1.0, 3, 2, 6]), jnp.ones(4), cluster)
    assert alike == (3.0, 1.0, 2)  # residuals sum to -2 and 2: sqrt(2 * 8) / 4
    weighted = clustered_mean(jnp.array([1.0, 5, 1, 9]), jnp.array([1.0, 1, 2, 0]), cluster)
    assert weighted == (2.0, 1.0, 2)
    values = np.random.default_rng(0).normal(size=50).astype(np.float32)
    single = clustered_mean(jnp.asarray(values), jnp.ones(50), jnp.arange(50))
    np.testing.assert_allclose(single.standard_error, values.std(ddof=1) / np.sqrt(50), rtol=1e-5)
    nothing = clustered_mean(jnp.ones(4), jnp.zeros(4), cluster)
    assert nothing == (0.0, 0.0, 0)


@pytest.mark.parametrize("num_clusters", [2, 11, 400])
@pytest.mark.parametrize("mean", [-1.0, 0.1, 2.763769])
def test_p_values_are_those_of_students_t(num_clusters: int, mean: float) -> None:
    found = p_value_of_gain(ClusteredMean(jnp.float32(mean), jnp.float32(1.0), jnp.int32(num_clusters)))
    np.testing.assert_allclose(found, scipy.stats.t.sf(mean, num_clusters - 1), rtol=1e-3)


def test_p_values_where_nothing_varies() -> None:
    def p_value(mean: float, error: float, num: int) -> float:
        return float(p_value_of_gain(ClusteredMean(jnp.float32(mean), jnp.float32(error), jnp.int32(num))))

    assert p_value(2.763769, 1.0, 11) == pytest.approx(0.01, rel=1e-3)
    assert p_value(0.0, 0.0, 5) == 1.0
    assert p_value(3.0, 0.0, 1) == 1.0
    assert p_value(3.0, 0.0, 0) == 1.0
    assert p_value(3.0, 0.0, 5) < 1e-6


def test_by_how_much_logged_rows_are_the_most() -> None:
    majority = majority_of_logs(jnp.log(jnp.array([2.0, 1.0, 0.5, 18.0])), 100, 50)
    np.testing.assert_allclose(majority, [0.0, 1 / 3, 0.6, 0.0], atol=1e-6)  # odds 1, 2, 4 and 1 / 9
