"""Ratios of two laws by kernels, on numbers that are known by hand."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.ops import kernel_ratio
from marline.ops.kernel_ratio import LEAST_GAIN, Choice, Distances

GRID = {"bandwidths": (0.25, 0.5, 1.0), "strengths": (1.0, 3.0, 10.0, 100.0)}
squared_distances = jax.jit(kernel_ratio.squared_distances)
two_sided_weights = jax.jit(kernel_ratio.two_sided_weights)
kernel, law_of_logs, shrunk_law, error_of_mean = (
    jax.jit(function)
    for function in (
        kernel_ratio.kernel,
        kernel_ratio.law_of_logs,
        kernel_ratio.shrunk_law,
        kernel_ratio._error_of_mean,
    )
)
is_believed = jax.jit(lambda choice: choice.is_believed)
choose = functools.partial(jax.jit(kernel_ratio.choose, static_argnums=6, static_argnames=tuple(GRID)), **GRID)


def by(kappa: float, gain: float = 1.0, error: float = 0.1, outcome: float = 0.1) -> Choice:
    return Choice(*(jnp.asarray(np.float32(x)) for x in (1.0, outcome, kappa, gain, error)))


def column(values: np.ndarray | list[float]) -> Array:
    return jnp.asarray(np.asarray(values, np.float32)[:, None])


def between(first: np.ndarray | list[float], second: np.ndarray | list[float]) -> Distances:
    """Nothing tells apart what was done."""
    outcome = squared_distances(column(first), column(second))
    return Distances(jnp.asarray(np.zeros(outcome.shape, np.float32)), outcome)


def all_of(values: np.ndarray | list[float]) -> Array:
    return jnp.asarray(np.ones(len(values), bool))


def test_squared_distances() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    expected = ((first[:, None] - second[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(squared_distances(jnp.asarray(first), jnp.asarray(second)), expected, atol=1e-5)
    np.testing.assert_allclose(kernel(jnp.array([[0.0, 8.0]]), 2.0), [[1.0, np.exp(-1)]], rtol=1e-6)


def test_a_law_is_drawn_towards_its_prior_where_little_is_alike() -> None:
    """(0.5 * 1 + 0.25 * 0 + 3 * 0.2) / (0.5 + 0.25 + 3)."""
    law = shrunk_law(jnp.array([[0.5, 0.25]]), jnp.array([[1.0, 0.0]]), jnp.array([0.2]), 3.0)
    np.testing.assert_allclose(law, [1.1 / 3.75], rtol=1e-6)


def test_the_ratio_by_hand() -> None:
    """Of two outcomes the logs hold nine and one, today two and eight; kernels between them are 0, kappa is 5."""
    logs, today = [0.0] * 9 + [9.0], [0.0] * 2 + [9.0] * 8
    rows = [0.0, 9.0]
    distances = between(rows, logs), between(rows, today)
    weights = np.asarray(two_sided_weights(*distances, all_of(logs), all_of(today), by(5.0)))
    common, rare = 0.9, 0.1  # p_i, which the marginal leaves as they are
    np.testing.assert_allclose(weights, [(2 + 5 * common) / (15 * common), (8 + 5 * rare) / (15 * rare)], rtol=1e-5)
    # what is expected of a row drawn from the logs is today's law drawn towards theirs: it sums to 1
    np.testing.assert_allclose(0.9 * weights[0] + 0.1 * weights[1], 1.0, rtol=1e-5)


def test_without_a_gain_all_rows_weigh_the_same() -> None:
    logs, today = [0.0] * 9 + [9.0], [9.0] * 10
    for gain, error in ((0.0, 0.0), (LEAST_GAIN, 0.0), (-1.0, 0.1), (1.0, 0.6)):
        distances = between(logs, logs), between(logs, today)
        weights = two_sided_weights(*distances, all_of(logs), all_of(today), by(5, gain, error))
        np.testing.assert_array_equal(weights, np.ones(10))


def test_references_that_do_not_count_change_nothing() -> None:
    logs, today = [0.0] * 9 + [9.0], [0.0] * 2 + [9.0] * 8
    weights = two_sided_weights(between(logs, logs), between(logs, today), all_of(logs), all_of(today), by(5.0))
    more, spoilt = logs + [9.0, 4.0], [9.0] * 6 + today
    counts = jnp.asarray(np.arange(12) < 10), jnp.asarray(np.arange(16) >= 6)
    same = two_sided_weights(between(logs, more), between(logs, spoilt), *counts, by(5.0))
    np.testing.assert_allclose(weights, same, rtol=1e-6)


def test_what_was_done_decides_which_rows_are_alike() -> None:
    """Done far away, the outcome has the density that it has whatever was done; done here, that of here."""
    logs = Distances(jnp.array([[0.0, 100.0]]), jnp.array([[100.0, 0.0]]))
    # here the other outcome came, by one row, and the prior of a half counts for one, too
    np.testing.assert_allclose(law_of_logs(logs, jnp.array([True, True]), 1.0, 1.0), [0.25], rtol=1e-6)


@pytest.mark.parametrize(("today_share", "changed"), [(0.9, True), (0.1, False)])
def test_held_out_episodes_tell_whether_anything_changed(today_share: float, changed: bool) -> None:
    random = np.random.default_rng(0)
    logs = (random.random(1500) < 0.1).astype(float)
    today = (random.random(200) < today_share).astype(float)
    episodes = np.arange(200) // 10
    choice = choose(
        between(today, logs),
        between(today, logs[:200]),
        between(today, today),
        all_of(logs),
        all_of(today),
        jnp.asarray(episodes),
        1,
    )
    if changed:
        assert is_believed(choice) and float(choice.gain) > 1  # .9 log .9/.1 + .1 log .1/.9 = 1.76
        weights = two_sided_weights(between([0, 1], logs), between([0, 1], today), all_of(logs), all_of(today), choice)
        np.testing.assert_allclose(weights, [0.1 / 0.9, 0.9 / 0.1], rtol=0.25)
    else:
        assert abs(float(choice.gain)) < 0.03 and not is_believed(choice)


def test_of_a_single_episode_nothing_is_foretold() -> None:
    logs, today = [0.0, 1.0] * 20, [1.0] * 20
    distances = between(today, logs), between(today, logs[:20]), between(today, today)
    choice = choose(*distances, all_of(logs), all_of(today), jnp.asarray(np.zeros(20, int)), 1)
    assert abs(float(choice.gain)) < LEAST_GAIN and not is_believed(choice)


def test_episodes_that_repeat_themselves_are_not_believed() -> None:
    """Each episode of today holds one outcome ten times; within an episode they foretell each other, across not."""
    random = np.random.default_rng(1)
    logs = random.normal(size=500)
    today = np.repeat(random.normal(size=20), 10)

    def made(episodes: np.ndarray) -> Choice:
        distances = between(today, logs), between(today, logs[:200]), between(today, today)
        return choose(*distances, all_of(logs), all_of(today), jnp.asarray(episodes), 1)

    assert not is_believed(made(np.arange(200) // 10))
    assert is_believed(made(np.arange(200)))  # as if all rows were of episodes of their own


def test_the_error_is_that_of_means_of_episodes() -> None:
    """Of three equal episodes: the standard error of their three means."""
    residuals = np.array([1.0, 2.0, -3.0, -1.0, 0.5, 0.5])
    episodes = np.array([4, 4, 7, 7, 9, 9])
    same = jnp.asarray(episodes[:, None] == episodes[None])
    expected = residuals.reshape(3, 2).mean(axis=1).std(ddof=1) / np.sqrt(3)
    found = error_of_mean(jnp.asarray(residuals, jnp.float32), same, jnp.int32(6))
    assert float(found) == pytest.approx(expected, rel=1e-5)
