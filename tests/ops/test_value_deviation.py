"""The value distance d_q of section 3.3, from Q values to the difference of deviations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import ArrayLike

from marline.ops import value_deviation as ops
from marline.ops.matching import best_match_scalar

# compiled whole, which is several times quicker than operation by operation
common_mean_and_std, value_ratio = jax.jit(ops.common_mean_and_std), jax.jit(ops.value_ratio)


@jax.jit
def floor_binds(values: jax.Array, mean: jax.Array) -> jax.Array:
    return ops.floor_binds(mean, jnp.std(values))


@jax.jit
def value_deviation(values: jax.Array, mean: jax.Array) -> jax.Array:
    """With the spread of the values themselves."""
    return ops.value_deviation(values, mean, jnp.std(values))


MATCHES = np.array([0, 1, 3])
V_CANDIDATES = np.array([2.0, 3.0, 5.0], np.float32)
V_ONLINE = np.array([1.0, 3.0, 4.0, 6.0], np.float32)


@jax.jit
def distances(candidates: ArrayLike, online: ArrayLike, matches: ArrayLike = MATCHES) -> jax.Array:
    """|deviation of V(s') - deviation of V(s'*)|, each side measured from its own mean."""
    first, second = (value_deviation(jnp.asarray(its), jnp.mean(its)) for its in (candidates, online))
    return jnp.abs(first - second[jnp.asarray(matches)])


def literal(candidates: ArrayLike, online: ArrayLike, matches: ArrayLike = MATCHES) -> np.ndarray:
    """|V / E V - V* / E V*|, word by word."""
    first, second = np.asarray(candidates, "f8"), np.asarray(online, "f8")
    return np.abs(first / first.mean() - (second / second.mean())[np.asarray(matches)])


def test_the_formula_as_it_stands() -> None:
    """V / E V of either side; means of different signs turn the order of states around, which nothing mends."""
    first, second = (np.asarray(value_ratio(values)) for values in (V_CANDIDATES, V_ONLINE))
    np.testing.assert_allclose(np.abs(first - second[MATCHES]), [0.314286, 0.042857, 0.214286], atol=1e-5)
    mixed = jnp.array([-1.0, 0.5, 2.0]), jnp.array([-2.0, -1.0, 1.0, -2.0])
    first, second = (np.asarray(value_ratio(values)) for values in mixed)
    np.testing.assert_allclose(np.abs(first - second[MATCHES]), [4, 0, 2])


def test_matches_of_the_worked_example() -> None:
    q_candidates, q_online = jnp.array([1.0, 2.5, 4.0]), jnp.array([0.8, 2.0, 3.1, 4.2])
    matched = jax.jit(best_match_scalar)(q_candidates, q_online, key=jax.random.key(0))
    np.testing.assert_array_equal(matched, MATCHES)


@pytest.mark.parametrize(
    ("candidates", "online", "expected"),
    [
        (V_CANDIDATES, V_ONLINE, [0.314286, 0.042857, 0.214286]),
        (-V_CANDIDATES, -V_ONLINE, [0.314286, 0.042857, 0.214286]),
        (
            np.array([2.0, 0.0, 5.0], np.float32),
            V_ONLINE,
            [0.571429, 0.857143, 0.428571],
        ),  # the second row ended the episode
    ],
    ids=["positive", "negative", "terminal"],
)
def test_distances_equal_the_ratio_of_values_to_their_means(
    candidates: np.ndarray, online: np.ndarray, expected: list[float]
) -> None:
    np.testing.assert_allclose(distances(candidates, online), expected, atol=1e-6)
    np.testing.assert_allclose(literal(candidates, online), expected, atol=1e-6)


def test_order_of_distances_survives_means_of_opposite_sign() -> None:
    candidates, online = jnp.array([-1.0, 0.5, 2.0]), jnp.array([-2.0, -1.0, 1.0, -2.0])
    np.testing.assert_allclose(literal(candidates, online), [4.0, 0.0, 2.0], atol=1e-6)
    np.testing.assert_allclose(distances(candidates, online), [2.0, 0.0, 4.0], atol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_deviation_is_the_ratio_less_one_wherever_the_mean_scales_it(sign: float) -> None:
    rng = np.random.default_rng(0)
    candidates = (sign * rng.uniform(0.5, 4.0, 100)).astype(np.float32)
    online = (sign * rng.uniform(1.0, 9.0, 100)).astype(np.float32)
    assert not floor_binds(candidates, np.mean(candidates))
    assert not floor_binds(online, np.mean(online))
    matches = rng.integers(0, 100, 100)
    expected = literal(candidates, online, matches)
    np.testing.assert_allclose(distances(candidates, online, matches), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.01, 3.0, 1000.0])
def test_scale_of_values_does_not_matter(scale: float) -> None:
    expected = distances(V_CANDIDATES, V_ONLINE)
    np.testing.assert_allclose(
        distances(np.float32(scale) * V_CANDIDATES, np.float32(scale) * V_ONLINE), expected, rtol=1e-4
    )


@pytest.mark.parametrize("value", [0.0, 1e-9, -3.0])
def test_constant_values_are_at_distance_zero(value: float) -> None:
    np.testing.assert_array_equal(
        distances(np.full(3, value, np.float32), np.full(4, value, np.float32)), [0.0, 0.0, 0.0]
    )


def test_floor_scales_values_whose_mean_is_near_zero() -> None:
    values = np.array([-2.0, 2.0], np.float32)
    assert floor_binds(values, np.mean(values))
    np.testing.assert_allclose(value_deviation(values, np.mean(values)), [-10.0, 10.0], rtol=1e-6)
    assert floor_binds(np.zeros(2, np.float32), np.float32(0.0))
    assert not floor_binds(V_CANDIDATES, np.mean(V_CANDIDATES))


def test_common_scale_keeps_a_row_at_distance_zero_from_itself() -> None:
    first, second = jnp.array([-2.0, 2.0]), jnp.array([2.0, -1.0, -1.0])

    @jax.jit
    def compare() -> tuple[jax.Array, list[jax.Array], list[jax.Array]]:
        scale = ops.common_mean_and_std(first, second)
        common = [ops.value_deviation(its, *scale) for its in (first, second)]
        return ops.floor_binds(*scale), common, [value_deviation(its, scale[0]) for its in (first, second)]

    binds, common, own = jax.tree.map(np.asarray, compare())
    assert binds
    assert common[0][1] == common[1][0]
    # each side's own spread would tell the row from itself
    assert own[0][1] != own[1][0]


def test_either_side_counts_for_half_of_the_common_mean() -> None:
    first, second = np.array([0.0, 2.0], np.float32), np.array([4.0], np.float32)
    for left, right in ((first, second), (np.tile(first, 5), second), (first, np.tile(second, 9))):
        mean, std = common_mean_and_std(left, right)
        assert float(mean) == 2.5
        # (2.5^2 + 0.5^2) / 2 = 3.25 and 1.5^2 = 2.25, half of each
        np.testing.assert_allclose(std, np.sqrt((3.25 + 2.25) / 2), rtol=1e-6)
