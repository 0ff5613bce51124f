"""Eqs. (3) and (4): ranks, acceptance probabilities, draws, and the adapted exponent."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from marline.ops import prioritization

# compiled whole, which is several times quicker than operation by operation
acceptance_probabilities = jax.jit(prioritization.acceptance_probabilities)
adapted_alpha = jax.jit(prioritization.adapted_alpha)
effective_sample_size = jax.jit(prioritization.effective_sample_size)
rank_order = jax.jit(prioritization.rank_order)
rank_probabilities = jax.jit(prioritization.rank_probabilities, static_argnums=0)
draw, draw_stratified, draw_without_replacement = (
    jax.jit(function, static_argnums=1)
    for function in (prioritization.draw, prioritization.draw_stratified, prioritization.draw_without_replacement)
)

KEY = jax.random.key(0)
DISTANCES = jnp.array([0.30, 0.05, 0.90, 0.12, 0.47])


def for_many_keys(function: Callable[[jax.Array], jax.Array], num: int) -> np.ndarray:
    """What `function` gives for each of `num` keys."""
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(KEY, num)))


def ranks(distances: jax.Array, key: jax.Array | None = None) -> np.ndarray:
    return np.argsort(np.asarray(rank_order(distances, key=key))) + 1


def test_ranks() -> None:
    np.testing.assert_array_equal(ranks(DISTANCES), [3, 1, 5, 2, 4])
    np.testing.assert_array_equal(ranks(DISTANCES, KEY), [3, 1, 5, 2, 4])


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.7, [0.166588, 0.359441, 0.116506, 0.221262, 0.136203]),
        (1.0, [0.145985, 0.437956, 0.087591, 0.218978, 0.109489]),
        (2.0, [0.075916, 0.683242, 0.027330, 0.170810, 0.042703]),
        (0.0, [0.2, 0.2, 0.2, 0.2, 0.2]),
    ],
)
def test_acceptance_probabilities(alpha: float, expected: list[float]) -> None:
    np.testing.assert_allclose(acceptance_probabilities(DISTANCES, alpha), expected, atol=1e-6)


def test_acceptance_probabilities_with_a_tie() -> None:
    distances = jnp.array([0.2, 0.1, 0.2, 0.5])
    np.testing.assert_array_equal(ranks(distances), [2, 1, 3, 4])
    expected = [0.250440, 0.406841, 0.188556, 0.154164]
    np.testing.assert_allclose(acceptance_probabilities(distances, 0.7), expected, atol=1e-6)


def test_acceptance_probabilities_of_value_and_embedding_distances() -> None:
    value = jnp.array([0.314286, 0.042857, 0.214286])
    np.testing.assert_allclose(acceptance_probabilities(value, 1.0), [0.181818, 0.545455, 0.272727], atol=1e-6)
    np.testing.assert_allclose(acceptance_probabilities(value, 0.7), [0.222922, 0.480992, 0.296086], atol=1e-6)
    embedding = jnp.array([0.4, 0.5, 2.0])
    np.testing.assert_allclose(acceptance_probabilities(embedding, 1.0), [0.545455, 0.272727, 0.181818], atol=1e-6)


@pytest.mark.parametrize(("alpha", "normalizer"), [(0.7, 18.888020), (1.0, 6.816517), (2.0, 1.642983)])
def test_probability_of_the_first_rank_is_one_over_the_normalizer(alpha: float, normalizer: float) -> None:
    np.testing.assert_allclose(np.asarray(rank_probabilities(512, alpha))[0], 1 / normalizer, rtol=1e-5)


@jax.jit
def batches_of_128(alpha: float) -> jax.Array:
    """400 batches of draws from 512 ranks."""
    return jax.vmap(lambda key: draw(rank_probabilities(512, alpha), 128, key=key))(jax.random.split(KEY, 400))


@pytest.mark.parametrize(
    ("alpha", "first", "effective", "distinct"),
    [
        (0.0, 0.00195, 512, 113.4),
        (0.5, 0.0228, 281.7, 106.2),
        (0.7, 0.0529, 123.0, 95.2),
        (1.0, 0.1467, 28.3, 69.9),
        (1.5, 0.3962, 5.30, 31.8),
        (2.0, 0.6086, 2.49, 15.0),
        (3.0, 0.8319, 1.42, 5.9),
        (4.0, 0.9239, 1.17, 3.5),
    ],
)
def test_sharpness_of_512_ranks(alpha: float, first: float, effective: float, distinct: float) -> None:
    probabilities = rank_probabilities(512, alpha)
    np.testing.assert_allclose(np.asarray(probabilities)[0], first, atol=5e-6 if alpha == 0 else 5e-5)
    np.testing.assert_allclose(effective_sample_size(probabilities), effective, atol=0.05 if effective > 6 else 0.005)
    expected_distinct = np.sum(1 - (1 - np.asarray(probabilities, np.float64)) ** 128)
    np.testing.assert_allclose(expected_distinct, distinct, atol=0.051)
    # and 128 draws do hold that many different rows
    counts = [len(np.unique(batch)) for batch in np.asarray(batches_of_128(alpha))]
    np.testing.assert_allclose(np.mean(counts), distinct, atol=0.06 + 4 * np.std(counts) / np.sqrt(len(counts)))


@pytest.mark.parametrize(
    ("quantile", "density"),
    [
        (0.0, 75.1117),
        (0.001, 58.8068),
        (0.01, 14.58481),
        (0.1, 1.46702),
        (0.25, 0.58681),
        (0.5, 0.29340),
        (1.0, 0.14670),
    ],
)
def test_marginal_density_of_acceptance(quantile: float, density: float) -> None:
    # Of 511 other rows, a binomial number is nearer than a row at this quantile of the distance.
    nearer = scipy.stats.binom.pmf(np.arange(512), 511, quantile)
    marginal = 512 * np.sum(np.asarray(rank_probabilities(512, 1.0)) * nearer)
    np.testing.assert_allclose(marginal, density, rtol=2e-5)
    if quantile > 0:
        harmonic = np.sum(1 / np.arange(1, 513))
        np.testing.assert_allclose(marginal, (1 - (1 - quantile) ** 512) / (harmonic * quantile), rtol=1e-5)


@pytest.mark.parametrize("num_rows", [1, 5, 512])
def test_alpha_zero_is_exactly_uniform(num_rows: int) -> None:
    probabilities = acceptance_probabilities(np.linspace(3.0, 0.0, num_rows, dtype=np.float32), 0.0)
    np.testing.assert_array_equal(probabilities, np.full(num_rows, np.float32(1) / np.float32(num_rows)))


@pytest.mark.parametrize("alpha", [0.1, 0.7, 1.0, 4.0])
def test_closer_is_likelier(alpha: float) -> None:
    distances = np.random.default_rng(0).exponential(size=512).astype(np.float32)
    probabilities = np.asarray(acceptance_probabilities(distances, alpha))
    assert np.all(np.diff(probabilities[np.argsort(distances)]) < 0)
    np.testing.assert_allclose(np.sum(probabilities, dtype=np.float64), 1.0, rtol=1e-5)


@pytest.mark.parametrize("increasing", [np.sqrt, np.exp, lambda d: d**3 + d, lambda d: np.float32(1e-6) * d])
def test_only_the_order_of_distances_matters(increasing: Callable[[np.ndarray], np.ndarray]) -> None:
    # multiples of 1/50, many of them equal
    distances = np.random.default_rng(0).integers(100, size=512).astype(np.float32) / np.float32(50)
    expected = acceptance_probabilities(distances, 0.7, key=jax.random.key(1))
    np.testing.assert_array_equal(acceptance_probabilities(increasing(distances), 0.7, key=jax.random.key(1)), expected)


def test_permuted_rows_have_permuted_probabilities() -> None:
    rng = np.random.default_rng(0)
    distances, rows = rng.random(512, np.float32), rng.permutation(512)
    probabilities = np.asarray(acceptance_probabilities(distances, 1.0))
    np.testing.assert_array_equal(acceptance_probabilities(distances[rows], 1.0), probabilities[rows])


def test_tied_distances_are_ordered_uniformly() -> None:
    distances = jnp.array([0.2, 0.0, 0.2, 0.5, 0.2])
    orders = for_many_keys(lambda key: rank_order(distances, key=key), 24_000)
    np.testing.assert_array_equal(orders[:, 0], 1)
    np.testing.assert_array_equal(orders[:, 4], 3)
    _, counts = np.unique(orders[:, 1:4], axis=0, return_counts=True)
    assert len(counts) == 6
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_equal_distances_give_every_row_every_rank_equally_often() -> None:
    orders = for_many_keys(lambda key: rank_order(jnp.zeros(8), key=key), 20_000)
    for rank in range(8):
        assert scipy.stats.chisquare(np.bincount(orders[:, rank], minlength=8)).pvalue > 1e-3
    # with none nearer than another, sampling is uniform whatever the exponent
    probabilities = rank_probabilities(8, 2.0)
    mean = np.mean(np.asarray(probabilities)[np.argsort(orders, axis=1)], axis=0)
    np.testing.assert_allclose(mean, 1 / 8, atol=4 * float(np.std(probabilities)) / np.sqrt(20_000))


def used(mean_distances: list[float]) -> list[np.ndarray]:
    """The exponents of successive deployments as a sampler uses them, from alpha^1 = 1."""
    return [np.clip(adapted_alpha(1.0, mean, mean_distances[0]), 0.1, 4.0) for mean in mean_distances]


def test_adapted_alpha() -> None:
    np.testing.assert_allclose(used([0.80, 1.00, 0.90, 0.45, 0.45]), [1, 1.25, 1.125, 0.5625, 0.5625], rtol=1e-6)


def test_adapted_alpha_recovers_from_a_zero_distance() -> None:
    np.testing.assert_allclose(used([0.8, 2.4, 0.0, 0.8]), [1.0, 3.0, 0.1, 1.0], rtol=1e-6)
    np.testing.assert_allclose(used([0.0, 0.0, 1.0]), [1.0, 1.0, 4.0], rtol=1e-6)


def test_adapted_alpha_is_the_product_of_ratios() -> None:
    means = [0.3, 0.5, 0.2, 0.8]
    product = 1.7 * (0.5 / 0.3) * (0.2 / 0.5) * (0.8 / 0.2)
    np.testing.assert_allclose(adapted_alpha(1.7, means[-1], means[0]), product, rtol=1e-5)


LAW = np.array([0.5, 0.05, 0.2, 0.01, 0.24])


def test_draws_are_independent_and_follow_the_probabilities() -> None:
    rows = for_many_keys(lambda key: draw(jnp.asarray(LAW), 2, key=key), 20_000)
    counts = np.bincount(5 * rows[:, 0] + rows[:, 1], minlength=25)
    assert scipy.stats.chisquare(counts, 20_000 * np.outer(LAW, LAW).ravel()).pvalue > 1e-3


def test_stratified_draws_follow_the_probabilities_within_their_slice() -> None:
    rows = for_many_keys(lambda key: draw_stratified(jnp.asarray(LAW), 10, key=key), 20_000)
    np.testing.assert_array_equal(rows[:, :5], 0)  # the first five slices are the half of row 0
    counts = np.bincount(rows[:, 7], minlength=5)  # mass .7 to .8: row 2 ends at .75, row 3 at .76
    assert scipy.stats.chisquare(counts[2:], [10_000, 2_000, 8_000]).pvalue > 1e-3


def test_stratified_draws_take_one_row_from_each_slice() -> None:
    probabilities = rank_probabilities(512, 0.5)
    rows = np.asarray(draw_stratified(probabilities, 128, key=KEY))
    assert (np.diff(rows) >= 0).all()
    drawn_up_to = np.cumsum(np.bincount(rows, minlength=512))
    assert np.abs(drawn_up_to - 128 * np.cumsum(np.asarray(probabilities))).max() <= 1 + 1e-3


def test_draws_without_replacement_follow_the_probabilities_of_what_is_left() -> None:
    rows = for_many_keys(lambda key: draw_without_replacement(jnp.asarray(LAW), 2, key=key), 20_000)
    expected = np.outer(LAW / (1 - LAW), LAW)
    different = ~np.eye(5, dtype=bool)
    counts = np.bincount(5 * rows[:, 0] + rows[:, 1], minlength=25).reshape(5, 5)
    assert (counts.diagonal() == 0).all()
    assert scipy.stats.chisquare(counts[different], 20_000 * expected[different]).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.0, 1.0, 4.0])
def test_draws_without_replacement_have_no_repeats(alpha: float) -> None:
    rows = draw_without_replacement(rank_probabilities(512, alpha), 128, key=KEY)
    assert len(np.unique(np.asarray(rows))) == 128
    all_rows = draw_without_replacement(rank_probabilities(512, alpha), 512, key=KEY)
    np.testing.assert_array_equal(np.sort(np.asarray(all_rows)), np.arange(512))


@pytest.mark.parametrize(("sample", "num"), [(draw, 10_000), (draw_stratified, 10_000), (draw_without_replacement, 3)])
def test_impossible_rows_are_not_drawn(sample: Callable[..., jax.Array], num: int) -> None:
    rows = sample(jnp.array([0.0, 0.3, 0.0, 0.3, 0.4, 0.0]), num, key=KEY)
    np.testing.assert_array_equal(np.unique(np.asarray(rows)), [1, 3, 4])


@pytest.mark.parametrize("sample", [draw, draw_stratified, draw_without_replacement])
def test_single_row_is_always_drawn(sample: Callable[..., jax.Array]) -> None:
    np.testing.assert_array_equal(sample(rank_probabilities(1, 1.0), 1, key=KEY), [0])


def test_effective_sample_size_of_equal_and_of_certain_rows() -> None:
    np.testing.assert_allclose(effective_sample_size(jnp.array([0.125] * 8)), 8.0)
    np.testing.assert_allclose(effective_sample_size(jnp.array([0.0, 1.0, 0.0])), 1.0)
