"""Statistics over tasks, against what can be counted by hand."""

import math

import numpy as np
import pytest

from marline.errors import ConfigError
from marline.statistics.aggregation import (
    aggregate,
    aggregate_difference,
    holm,
    paired_probability_of_improvement,
    performance_profile,
)


def test_the_value_is_that_of_all_tasks_and_seeds_at_once() -> None:
    found = aggregate({"a": [[1, 2, 3, 4], [5, 6, 7, 100]], "b": [[0] * 4, [8] * 4]})
    assert found["a"].value == 4.5  # without 1, 2 and 7, 100
    assert found["b"] == (4.0, 4.0, 4.0)  # of 0, 0, 8, 8; seeds of a task are alike, and tasks are not drawn
    assert found["a"].low < 4.5 < found["a"].high
    assert found == aggregate({"a": [[1, 2, 3, 4], [5, 6, 7, 100]], "b": [[0] * 4, [8] * 4]})


def test_the_interval_is_as_wide_as_the_standard_error_asks() -> None:
    # a bootstrap of n values has a variance (n - 1) / n times that of their mean, which matters for five
    values = np.random.default_rng(0).normal(size=5)
    _, low, high = aggregate({"a": [values]}, np.mean, num_replicates=40_000, confidence=0.6827)["a"]
    assert (high - low) / 2 == pytest.approx(values.std(ddof=1) / math.sqrt(5), rel=0.05)


def test_seeds_are_drawn_for_all_samplers_together() -> None:
    seeds = np.random.default_rng(0).normal(0, 50, 6)
    scores = {"a": [seeds + 3, seeds], "b": [seeds, seeds - 3]}
    # whatever seeds are drawn, a is 3 above b
    assert aggregate_difference(scores, "a", "b", np.mean) == pytest.approx((3.0, 3.0, 3.0))
    apart = aggregate(scores, np.mean)
    assert apart["a"].high - apart["a"].low > 10


def test_tasks_with_one_seed_have_no_interval() -> None:
    value, low, high = aggregate({"a": [[1.0, 2.0], [3.0]]}, np.mean)["a"]
    assert value == 2.0 and math.isnan(low) and math.isnan(high)
    assert np.isnan(aggregate({"a": [[1.0, math.nan]]})["a"]).all()


@pytest.mark.parametrize("scores", [{}, {"a": []}, {"a": [[]]}, {"a": [[1.0, 2.0]], "b": [[1.0]]}])
def test_scores_must_belong_to_the_same_seeds(scores: dict) -> None:
    with pytest.raises(ConfigError):
        aggregate(scores)


@pytest.mark.parametrize("options", [{"num_replicates": 0}, {"confidence": 1.0}, {"confidence": math.nan}])
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        aggregate({"a": [[1.0, 2.0]]}, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="unknown"):
        aggregate_difference({"a": [[1.0, 2.0]]}, "a", "b")


def test_improvement_is_over_the_same_seed() -> None:
    # unpaired, (3, 1) beats (2, 0) in 3 of 4 pairs; of the same seed it always does
    assert paired_probability_of_improvement([[3.0, 1.0]], [[2.0, 0.0]]).value == 1.0
    # one of two and a tie, and one of four: each task alike
    found = paired_probability_of_improvement([[1.0, 0.0, 5.0], [1.0, 0, 0, 0]], [[0.0, 1.0, 5.0], [0, 1.0, 1.0, 1.0]])
    assert found.value == pytest.approx((0.5 + 0.25) / 2)
    assert 0 <= found.low < found.value < found.high <= 1
    assert math.isnan(paired_probability_of_improvement([[1.0, math.nan]], [[0.0, 0.0]]).value)
    with pytest.raises(ConfigError, match="same seeds"):
        paired_probability_of_improvement([[1.0, 2.0]], [[1.0]])


def test_a_profile_is_the_share_of_scores_above_each_threshold() -> None:
    profile = performance_profile([[1, 2, 3, 4], [10.0, math.nan]], [0, 2, 4, 10])
    np.testing.assert_allclose(profile, [(1 + 0.5) / 2, (0.5 + 0.5) / 2, 0.25, 0.0])
    with pytest.raises(ConfigError, match="every task"):
        performance_profile([[1.0], []], [0.0])


def test_holm_by_hand() -> None:
    # ordered .01, .02, .03, .04: times 4, 3, 2, 1, and never falling
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.01, math.nan, 0.03])[::2] == pytest.approx([0.02, 0.03])
    assert holm([]) == []
