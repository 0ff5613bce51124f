import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from marline.errors import ConfigError
from marline.statistics.intervals import (
    Interval,
    equality,
    equality_margin,
    improvement_percent,
    iqm,
    mean_interval,
    normalized_score,
    paired_difference,
    sign_flip_p,
    spread,
    welch_interval,
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


def test_the_interval_is_that_of_student() -> None:
    # by hand: mean 3, s^2 = (4 + 1 + 0 + 1 + 4) / 4 = 2.5, s / sqrt(5) = .70711; t of the tables, .975 and 4: 2.7764
    low, high = mean_interval([1, 2, 3, 4, 5])
    assert (low, high) == pytest.approx((3 - 2.7764 * 0.70711, 3 + 2.7764 * 0.70711), abs=1e-3)
    # two values, half as far apart as 12.706 (.975, 1) times 1 / 2 ... of s / sqrt(2) = 1
    assert mean_interval([0.0, 2.0]) == pytest.approx((1 - 12.706, 1 + 12.706), abs=1e-3)
    assert mean_interval([1, 2, 3, 4, 5], confidence=0.9).high == pytest.approx(3 + 2.1318 * 0.70711, abs=1e-3)
    for few in ([], [1.0], [1.0, math.nan, 2.0], [1.0, math.inf]):
        assert np.isnan(mean_interval(few)).all()
    assert mean_interval([2.5] * 4) == (2.5, 2.5)


def test_the_interval_of_two_samples_is_that_of_welch() -> None:
    # by hand: means 2 and 6; squared errors 1/3 and 4/3, so 5/3 in all; freedom (25/9) / (1/18 + 16/18) = 2.9412
    low, high = welch_interval([1, 2, 3], [4, 6, 8])
    assert (low + high) / 2 == pytest.approx(-4.0)
    assert (high - low) / 2 == pytest.approx(scipy.stats.t.ppf(0.975, 50 / 17) * math.sqrt(5 / 3))
    expected = scipy.stats.ttest_ind([1, 2, 3], [4, 6, 8], equal_var=False).confidence_interval()
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert welch_interval([1.0, 1.0], [3.0, 3.0, 3.0]) == (-2.0, -2.0)
    assert np.isnan(welch_interval([1.0], [1.0, 2.0])).all()
    assert np.isnan(welch_interval([1.0, math.nan], [1.0, 2.0])).all()


def test_an_interval_that_is_none_says_so() -> None:
    assert str(Interval(math.nan, math.nan)) == "(too few for an interval)"
    assert str(Interval(-1.0, 2.5)) == "[-1, +2.5]"


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_a_confidence_is_between_0_and_1(confidence: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        mean_interval([1.0, 2.0], confidence=confidence)


def test_nan_is_not_averaged_away() -> None:
    assert math.isnan(spread([1.0, math.nan]).mean)
    for lost in (math.nan, math.inf):
        difference = paired_difference([1.0, lost], [0.0, lost])
        assert np.isnan(difference[:3]).all() and difference.sign == 0
        assert math.isnan(difference.p) and math.isnan(difference.p_sign_flip)
        assert str(difference) == "not finite (2 seeds)"


def test_paired_difference_cancels_what_the_seeds_share() -> None:
    seeds = np.array([-90.0, -70.0, -50.0, -110.0])
    difference = paired_difference(seeds + [2.0, 2.5, 1.5, 2.0], seeds)
    # by hand: s^2 = (0 + .25 + .25 + 0) / 3, s / 2 = .20412; t of .975 and 3: 3.1824
    assert difference.mean == pytest.approx(2.0)
    assert (difference.low, difference.high) == pytest.approx((2 - 0.6496, 2 + 0.6496), abs=1e-3)
    assert difference.per_seed == pytest.approx((2.0, 2.5, 1.5, 2.0))
    assert difference.p == pytest.approx(2 * scipy.stats.t.sf(2 / 0.204124, 3), rel=1e-4)
    assert difference.p_sign_flip == 2 / 16
    assert paired_difference(seeds, seeds + [1.0, 1.1, 0.9, 1.0]).sign == -1
    assert str(difference) == "+2 [+1.35, +2.65] (4 seeds)"


def test_fewer_than_ten_seeds_are_no_verdict() -> None:
    values = np.tile([1.0, 1.2, 0.8], 4)
    nine, ten = (paired_difference(values[:num], np.zeros(num)) for num in (9, 10))
    assert (nine.sign, nine.verdict) == (1, 0)
    assert (ten.sign, ten.verdict) == (1, 1)


def test_one_seed_has_a_difference_but_no_interval() -> None:
    difference = paired_difference([3.0], [1.0])
    assert difference.mean == 2.0
    assert math.isnan(difference.low) and math.isnan(difference.high) and math.isnan(difference.p)
    assert difference.sign == difference.verdict == 0
    assert str(difference) == "+2 (1 seed, no interval)"
    assert str(paired_difference([], [])) == "no seeds"


def test_seeds_that_agree_to_the_last_digit_are_told_of() -> None:
    shifted = paired_difference([2.1, 3.1, 5.3], [0.1, 1.1, 3.3])  # 2, up to rounding
    assert shifted.is_constant and shifted.low == shifted.high and shifted.p_sign_flip == 2 / 8
    assert str(shifted) == "+2 (the same in all 3 seeds)"
    same = paired_difference([1.0, 2.0], [1.0, 2.0])
    assert (same.sign, same.p, same.p_sign_flip) == (0, 1.0, 1.0)
    assert str(same) == "+0 (the same in all 2 seeds)"


def test_sign_flips_are_counted() -> None:
    # of the eight sums of 1, 2 and 4 with signs, +-7 and +-5 are as far from 0 as -1 + 2 + 4
    assert sign_flip_p([-1.0, 2.0, 4.0]) == 4 / 8
    assert sign_flip_p([1.0, 2.0, 4.0]) == 2 / 8
    assert sign_flip_p([5.0]) == 1.0
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([0.1, 0.2, -0.3, 0.3]) == sign_flip_p([1.0, 2.0, -3.0, 3.0])  # no matter how sums are rounded
    assert sign_flip_p([1.0] * 20) == 2 / 2**20
    assert math.isnan(sign_flip_p([])) and math.isnan(sign_flip_p([1.0, math.nan]))


def test_many_signs_are_drawn() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 30)
    p = sign_flip_p(values)
    assert p == sign_flip_p(values) == pytest.approx(paired_difference(values, np.zeros(30)).p, abs=0.01)
    assert 0 < sign_flip_p([1.0] * 30) < 1e-4


def test_equality_is_two_one_sided_tests() -> None:
    # by hand: mean .1, s = 1, s / sqrt(16) = .25 (differences of .1 +- sqrt(15/16)); t of .95 and 15: 1.7531
    differences = 0.1 + np.array([1, -1] * 8) * math.sqrt(15 / 16)
    found = equality(differences, 0.6)
    assert (found.low, found.high) == pytest.approx((0.1 - 1.7531 * 0.25, 0.1 + 1.7531 * 0.25), abs=1e-4)
    assert found.p == pytest.approx(scipy.stats.t.sf(0.5 / 0.25, 15))  # the nearer bound is .5 away
    assert found.holds and found.p < 0.05
    assert not equality(differences, 0.5).holds and equality(differences, 0.5).p > 0.05
    assert equality([0.0, 0.0], 0.1).holds and not equality([0.0, 0.0], 0.0).holds
    assert not equality([0.0], 10.0).holds and not equality([0.0, math.nan], 10.0).holds
    with pytest.raises(ConfigError, match="margin of -1"):
        equality([1.0, 2.0], -1.0)


def test_the_margin_is_a_share_of_the_offline_return() -> None:
    assert equality_margin([-90.0, -110.0]) == pytest.approx(2.0)
    assert equality_margin([-90.0, math.nan]) == pytest.approx(1.8)
    assert equality_margin([]) == equality_margin([math.nan]) == 0.0


def test_statistics_are_not_imported_before_they_are_needed() -> None:
    code = (
        "import sys, marline.statistics.intervals as e, marline.statistics.aggregation;"
        "assert 'scipy' not in sys.modules;"
        "e.mean_interval([1, 2]); assert 'scipy.special' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pairs_must_match() -> None:
    with pytest.raises(ConfigError, match="one value per seed"):
        paired_difference([1.0, 2.0], [1.0])
