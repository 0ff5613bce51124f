"""Weights from two laws, and whether these differ: numbers by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from marline.ops import law_ratio
from marline.ops.law_ratio import ClusteredMean

clustered_mean, p_value_of_gain, agreed_prediction, effective_share, episode_numbers = (
    jax.jit(function)
    for function in (
        law_ratio.clustered_mean,
        law_ratio.p_value_of_gain,
        law_ratio.agreed_prediction,
        law_ratio.effective_share,
        law_ratio.episode_numbers,
    )
)
tempering_exponent = jax.jit(law_ratio.tempering_exponent, static_argnums=1)
agreed_log_ratio = jax.jit(jax.vmap(law_ratio.agreed_log_ratio, 1))
clusters = jax.jit(law_ratio.clusters, static_argnames=("fewest", "num_blocks"))
majority_of_logs = jax.jit(law_ratio.majority_of_logs, static_argnums=(1, 2))


def test_members_agree_on_the_ratio_nearest_to_one() -> None:
    ratios = jnp.array([[1.0, -2.0, 1.0, 0.0], [2.0, -1.0, -1.0, 3.0]])
    assert agreed_log_ratio(ratios).tolist() == [1.0, -1.0, 0.0, 0.0]


def test_members_agree_on_the_prediction_nearest_to_the_logs() -> None:
    members = jnp.array([[1.0, 0.0, 4.0], [3.0, 1.0, 7.0]])
    assert agreed_prediction(jnp.array([2.0, 2.0, 2.0]), members).tolist() == [2.0, 1.0, 4.0]


def test_effective_share() -> None:
    log_weights = np.log(np.array([1.0, 3.0], np.float32))
    np.testing.assert_allclose(effective_share(log_weights), 0.8, rtol=1e-6)  # 2^2 / 5
    np.testing.assert_allclose(effective_share(log_weights, 0.5), 0.9330127, rtol=1e-6)
    np.testing.assert_allclose(effective_share(log_weights + 500), 0.8, rtol=1e-4)
    np.testing.assert_allclose(law_ratio.effective_share(jnp.array([0.0] * 7)), 1.0)


def test_weights_are_tempered_until_they_are_worth_enough_rows() -> None:
    log_weights = np.log(np.array([1.0, 3.0], np.float32))
    np.testing.assert_allclose(tempering_exponent(log_weights, 0.9330127), 0.5, atol=1e-5)
    for share in (0.0, 0.5, 0.79):
        assert float(tempering_exponent(log_weights, share)) == 1.0
    spread = np.linspace(-3.0, 3.0, 100, dtype=np.float32)
    exponent = tempering_exponent(spread, 0.6)
    assert 0 < float(exponent) < 1
    np.testing.assert_allclose(effective_share(spread, exponent), 0.6, rtol=1e-4)


def test_where_an_episode_ends() -> None:
    """A time limit after row 1, a death in row 3 at which the next one begins by chance, and row 4 by itself."""
    seen, after = np.array([[[0], [1], [5], [6], [7]], [[1], [2], [6], [7], [8]]], np.float32)
    discount = np.array([1, 1, 1, 0, 1], np.float32)
    assert episode_numbers(seen, after, discount).tolist() == [0, 0, 1, 1, 2]
    assert episode_numbers(seen[:1], after[:1], discount[:1]).tolist() == [0]


def test_blocks_stand_in_for_too_few_episodes() -> None:
    episodes = jnp.array([0, 0, 0, 1, 1, 1, 2, 2])
    assert clusters(episodes, 6, fewest=2, num_blocks=3).tolist() == episodes.tolist()
    assert clusters(episodes, 6, fewest=3, num_blocks=3).tolist()[:6] == [0, 0, 1, 1, 2, 2]
    assert clusters(episodes, 2, fewest=3, num_blocks=16).tolist()[:2] == [0, 1]
    assert clusters(episodes, 0, fewest=3, num_blocks=16).shape == (8,)


def mean_by_hand(values: jax.Array, weights: jax.Array, cluster: jax.Array) -> tuple[float, ...]:
    return tuple(its.item() for its in clustered_mean(values, weights, cluster))


def test_a_mean_over_clusters() -> None:
    cluster = jnp.array([0, 0, 1, 1])
    alike = mean_by_hand(jnp.array([1.0, 3, 2, 6]), jnp.array([1.0, 1, 1, 1]), cluster)
    assert alike == (3.0, 1.0, 2)  # residuals sum to -2 and 2: sqrt(2 * 8) / 4
    weighted = mean_by_hand(jnp.array([1.0, 5, 1, 9]), jnp.array([1.0, 1, 2, 0]), cluster)
    assert weighted == (2.0, 1.0, 2)
    values = np.random.default_rng(0).normal(size=50).astype(np.float32)
    single = clustered_mean(values, np.ones(50, np.float32), np.arange(50))
    np.testing.assert_allclose(single.standard_error, values.std(ddof=1) / np.sqrt(50), rtol=1e-5)
    nothing = mean_by_hand(jnp.array([1.0, 1, 1, 1]), jnp.array([0.0, 0, 0, 0]), cluster)
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
    majority = majority_of_logs(np.log(np.array([2.0, 1.0, 0.5, 18.0], np.float32)), 100, 50)
    np.testing.assert_allclose(majority, [0.0, 1 / 3, 0.6, 0.0], atol=1e-6)  # odds 1, 2, 4 and 1 / 9
