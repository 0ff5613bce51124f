"""Correction by itself: worked examples, and every input that it must refuse."""

from __future__ import annotations

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from marline import correction
from marline.correction import Correction, correct
from marline.errors import ConfigError, DataError
from marline.ops.matching import best_match

V_OFFLINE, V_ONLINE = np.array([2.0, 3.0, 5.0]), np.array([1.0, 3.0, 4.0, 6.0])
VALUES: dict[str, Any] = {
    "state_action": [1.0, 2.5, 4.0],
    "next_state": V_OFFLINE / V_OFFLINE.mean(),
    "online_state_action": [0.8, 2.0, 3.1, 4.2],
    "online_next_state": V_ONLINE / V_ONLINE.mean(),
}


def random_features(num: int, size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, size)).astype(np.float32)


def random_input(num: int = 200, online: int = 50) -> tuple[np.ndarray, ...]:
    return (
        random_features(num, 3, 0),
        random_features(num, 2, 1),
        random_features(online, 3, 2),
        random_features(online, 2, 3),
    )


def assert_same(first: Correction, second: Correction) -> None:
    for name, one, other in zip(Correction._fields, first, second, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(1.0, [0.181818, 0.545455, 0.272727]), (0.7, [0.222922, 0.480992, 0.296086]), (0.0, [1 / 3, 1 / 3, 1 / 3])],
)
def test_worked_example_with_values(alpha: float, expected: list[float]) -> None:
    found = correct(**VALUES, alpha=alpha)
    np.testing.assert_array_equal(found.matches, [0, 1, 3])
    np.testing.assert_allclose(found.distances, [0.314286, 0.042857, 0.214286], atol=1e-5)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)


def test_worked_example_with_embeddings() -> None:
    offline = [(0, 0), (1, 0.5), (3, -1)]
    online = [(0.5, 0), (1, 1), (2, -2), (0, 0.4)]
    found = correct(offline, offline, online, online)
    np.testing.assert_array_equal(found.matches, [3, 1, 2])
    np.testing.assert_allclose(found.distances, [0.4, 0.5, 2.0], atol=1e-6)
    np.testing.assert_allclose(found.probabilities, [0.545455, 0.272727, 0.181818], atol=1e-5)


def test_one_feature_may_be_a_column_or_a_plain_array() -> None:
    columns: dict[str, Any] = {name: np.asarray(values)[:, None] for name, values in VALUES.items()}
    assert_same(correct(**VALUES), correct(**columns))


def test_shapes_and_types() -> None:
    found = correct(*random_input(200, 50), num=30)
    assert found.indices.shape == (30,) and found.probabilities.shape == found.distances.shape == (200,)
    assert found.matches.shape == (200,) and found.matches.max() < 50
    assert found.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert all(isinstance(array, np.ndarray) for array in found)


def test_rows_are_drawn_by_their_probabilities() -> None:
    found = correct(*random_input(20, 10), num=40_000)
    counts = np.bincount(found.indices, minlength=20)
    assert (
        scipy.stats.chisquare(
            counts, 40_000 * np.float64(found.probabilities) / np.float64(found.probabilities).sum()
        ).pvalue
        > 1e-3
    )


def test_closer_rows_are_never_less_likely() -> None:
    found = correct(*random_input())
    order = np.argsort(found.distances)
    assert np.all(np.diff(found.probabilities[order]) <= 0)


def test_rows_seen_online_are_at_no_distance() -> None:
    state_action, next_state, _, _ = random_input()
    found = correct(state_action, next_state, state_action[50:90], next_state[50:90])
    np.testing.assert_array_equal(found.matches[50:90], np.arange(40))
    np.testing.assert_array_equal(found.distances[50:90], 0.0)


def test_a_seed_fixes_everything() -> None:
    data = random_input()
    assert_same(correct(*data, seed=3), correct(*data, seed=3))
    first, second = correct(*data, seed=3), correct(*data, seed=4)
    assert np.any(first.indices != second.indices)
    np.testing.assert_array_equal(first.distances, second.distances)


def test_nothing_is_compiled_and_kept_for_a_shape(caplog: pytest.LogCaptureFixture) -> None:
    """Arrays of a training loop of one's own come in many shapes, and a program for each would stay in memory."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for num in range(3, 23):
            correct(*random_input(num, num + 1), num=num)
            correct(*(features[:, 0] for features in random_input(num, num + 1)), num=num)
    assert [record.getMessage() for record in caplog.records if "ompil" in record.getMessage()] == []


@pytest.mark.parametrize("size", [1, 3])
def test_matches_are_those_of_the_sampler(size: int) -> None:
    state_action, online = random_features(300, size, 0), random_features(70, size, 1)
    found = correct(state_action, random_features(300, 2, 2), online, random_features(70, 2, 3))
    expected = jax.jit(best_match)(jnp.asarray(state_action), jnp.asarray(online), key=jax.random.key(0))
    np.testing.assert_array_equal(found.matches, expected)


@pytest.mark.parametrize("size", [1, 2])
def test_ties_are_broken_at_random(size: int) -> None:
    """0 is as far from -1, which is there twice, as from 1; 5 is farther."""
    online = np.repeat([[-1.0], [1.0], [-1.0], [5.0]], size, axis=1)
    found = correct(np.zeros((3000, size)), np.zeros(3000), online, np.zeros(4), num=3000)
    assert scipy.stats.chisquare(np.bincount(found.matches, minlength=4)[:3]).pvalue > 1e-3
    assert not np.any(found.matches == 3)
    # all are at distance 0: the order of the ranks is random, too
    best = [correct(np.zeros((3, size)), np.zeros(3), online, np.zeros(4), seed=seed) for seed in range(300)]
    assert scipy.stats.chisquare(np.bincount([np.argmax(one.probabilities) for one in best])).pvalue > 1e-3


def test_probabilities_are_fit_for_a_draw_of_ones_own() -> None:
    """NumPy's `choice` wants a sum of 1 to eight digits."""
    found = correct(*random_input(5000, 50))
    assert np.random.default_rng(0).choice(5000, p=found.probabilities) < 5000


def test_a_point_between_two_runs_and_beyond_all_of_them() -> None:
    online = [3.0, 1.0, 3.0, 7.0]
    found = correct([-4.0, 1.9, 2.1, 6.0, 99.0], np.zeros(5), online, np.zeros(4))
    assert found.matches[[0, 1, 3, 4]].tolist() == [1, 1, 3, 3] and found.matches[2] in (0, 2)


def test_many_rows_are_matched_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_input(200, 50)
    whole = correct(*data)
    monkeypatch.setattr(correction, "BLOCK_ENTRIES", 70 * 50)  # 70 rows of 200
    assert_same(whole, correct(*data))


@pytest.mark.parametrize("offline", [1, 5])
def test_one_online_row_matches_all(offline: int) -> None:
    found = correct(*random_input(offline, 1))
    np.testing.assert_array_equal(found.matches, 0)
    assert np.isfinite(found.distances).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"alpha": -0.5}, "alpha is -0.5.*at least 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"num": 0}, "num is 0.*at least 1"),
        ({"num": -2}, "num is -2"),
        ({"seed": -1}, "seed is -1, but must be at least 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        correct(**VALUES, **options)


BROKEN = [
    (np.zeros((3, 2, 2)), r"has shape \[3, 2, 2\], but must be \[rows, features\]"),
    (np.float32(1.0), r"has shape \[\]"),
    ([], r"has shape \[0\].*at least one of each"),
    (np.zeros((3, 0)), r"has shape \[3, 0\]"),
    ([1.0, np.nan, 2.0], "holds NaN or infinity in 1 rows, first in row 1"),
    ([1.0, 2.0, -np.inf], "holds NaN or infinity in 1 rows, first in row 2"),
    (["one", "two", "three"], "is not an array of numbers.*pass floats"),
    ([[1.0], [1.0, 2.0]], "is not an array of numbers"),
]


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize(("value", "told"), BROKEN)
def test_broken_arrays_are_refused_by_name(name: str, value: Any, told: str) -> None:
    with pytest.raises(DataError, match=f"^{name} ({told})"):
        correct(**{**VALUES, name: value})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("next_state", [1.0, 2.0], "state_action has 3 rows but next_state has 2; they must agree"),
        ("online_next_state", [1.0], "online_state_action has 4 rows but online_next_state has 1; they must agree"),
        ("online_state_action", np.zeros((4, 2)), "state_action has 1 features but online_state_action has 2"),
        ("online_next_state", np.zeros((4, 3)), "next_state has 1 features but online_next_state has 3"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(name: str, value: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        correct(**{**VALUES, name: value})
