import math

import numpy as np
import pytest

from marline.errors import ConfigError
from marline.evaluation import (
    bootstrap_interval,
    improvement_percent,
    iqm,
    normalized_score,
    paired_difference,
    probability_of_improvement,
    spread,
    stratified_interval,
)


@pytest.mark.parametrize(
    ("first", "last", "expected"), [(100, 125, 25), (-100, -75, 25), (-50, 25, 150), (2000, 1800, -10)]
)
def test_improvement_keeps_the_sign_of_what_happened(first: int, last: int, expected: float) -> None:
    np.testing.assert_allclose(improvement_percent([first], [last]), [expected])


def test_improvement_is_a_mean_of_ratios() -> None:
    improvement = improvement_percent([2000, 2100, 1900], [2500, 2400, 2100])
    np.testing.assert_allclose(improvement, [25, 14.285714, 10.526316], atol=1e-5)
    np.testing.assert_allclose(spread(improvement), (16.604010, 6.132034), atol=1e-5)


def test_improvement_of_nothing_is_undefined() -> None:
    np.testing.assert_equal(improvement_percent([0.0, 2.0], [5.0, 3.0]), [np.nan, 50.0])


def test_std_is_that_of_the_population() -> None:
    assert spread([25, 27, 24, 26, 26.5]).std == pytest.approx(1.077033, abs=1e-5)
    assert math.isnan(spread([]).mean)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 2, 3, 4, 100], 3), (list(range(1, 9)), 4.5), ([*range(10, 91, 10), 1000], 55), ([7], 7)],
)
def test_iqm(values: list[int], expected: float) -> None:
    assert iqm(values) == pytest.approx(expected)


def test_iqm_works_along_any_axis() -> None:
    rows = np.array([[1, 2, 3, 4, 100], [100, 5, 3, 4, 2]], float)
    np.testing.assert_allclose(iqm(rows, axis=-1), [3, 4])
    np.testing.assert_allclose(iqm(rows.T, axis=0), [3, 4])
    with pytest.raises(ConfigError, match="no values"):
        iqm([])


@pytest.mark.parametrize(
    ("score", "random", "expert", "expected"),
    [
        (4770.33, -280.179, 12135.0, 40.680114),
        (1422.06, -20.272, 3234.3, 44.317107),
        (2852.09, 1.629, 4592.3, 62.092470),
    ],
)
def test_normalized_score(score: float, random: float, expert: float, expected: float) -> None:
    assert normalized_score([score], random=random, expert=expert)[0] == pytest.approx(expected, abs=1e-5)


def test_a_scale_without_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="no scale"):
        normalized_score([1.0], random=3.0, expert=3.0)


def test_bootstrap_interval_is_repeatable_and_holds_the_mean() -> None:
    values = np.random.default_rng(0).normal(3, 1, 40)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert low < values.mean() < high
    # the standard error of the mean, to the accuracy of 2000 replicates
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(40), rel=0.1)
    assert bootstrap_interval(values, confidence=0.5).high < high


def test_bootstrap_of_two_seeds_spans_both_and_of_one_is_nan() -> None:
    assert bootstrap_interval([1.0, 4.0]) == (1.0, 4.0)
    assert all(math.isnan(end) for end in bootstrap_interval([1.0]))
    assert all(math.isnan(end) for end in bootstrap_interval([]))


def test_stratified_interval_draws_within_tasks() -> None:
    # every replicate holds both tasks in full, so only the spread within tasks remains
    assert stratified_interval([[1, 1, 1], [100, 100]], np.mean) == (40.6, 40.6)
    assert bootstrap_interval([1, 1, 1, 100, 100]).high > 60
    assert all(math.isnan(end) for end in stratified_interval([[1.0, 2.0], [3.0]]))
    assert all(math.isnan(end) for end in stratified_interval([]))


def test_nan_is_not_averaged_away() -> None:
    assert math.isnan(spread([1.0, math.nan]).mean)
    assert math.isnan(bootstrap_interval([1.0, math.nan, 2.0]).low)
    assert math.isnan(probability_of_improvement([1.0], [math.nan]))
    assert paired_difference([1.0, math.nan], [0.0, 0.0]).verdict == 0


@pytest.mark.parametrize("options", [{"num_replicates": 0}, {"confidence": 1.0}, {"confidence": math.nan}])
def test_bootstrap_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        bootstrap_interval([1.0, 2.0], **options)  # pyright: ignore[reportArgumentType]


def test_paired_difference_cancels_what_the_seeds_share() -> None:
    seeds = np.array([-90.0, -70.0, -50.0, -110.0])
    difference = paired_difference(seeds + [2.0, 2.5, 1.5, 2.0], seeds)
    assert difference.mean == pytest.approx(2.0)
    assert 1.5 <= difference.low < 2.0 < difference.high <= 2.5
    assert difference.per_seed == pytest.approx((2.0, 2.5, 1.5, 2.0))
    assert difference.verdict == 1
    assert paired_difference(seeds, seeds + 1.0).verdict == -1
    assert str(difference).startswith("+2 [+1.") and str(difference).endswith("(4 seeds)")


def test_one_seed_has_a_difference_but_no_interval() -> None:
    difference = paired_difference([3.0], [1.0])
    assert difference.mean == 2.0
    assert math.isnan(difference.low) and math.isnan(difference.high)
    assert difference.verdict == 0
    assert str(difference) == "+2 (1 seed, no interval)"


def test_pairs_must_match() -> None:
    with pytest.raises(ConfigError, match="one value per seed"):
        paired_difference([1.0, 2.0], [1.0])


def test_probability_of_improvement() -> None:
    assert probability_of_improvement([3.0, 4.0], [1.0, 2.0]) == 1.0
    assert probability_of_improvement([1.0, 3.0], [2.0]) == 0.5
    assert probability_of_improvement([1.0, 1.0], [1.0]) == 0.5
    assert probability_of_improvement([1, 5], [2, 5, 0]) == pytest.approx((1 + 2.5) / 6)
