"""The sum tree: its sums are those of its leaves, and its draws are in proportion to them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from marline.ops.sum_tree import FAN_OUT, SumTree

KEY = jax.random.key(0)
# one row, one node exactly full, two levels, three levels with padding in all of them
CAPACITIES = [1, FAN_OUT, FAN_OUT + 1, FAN_OUT**2 + 3]

create = jax.jit(SumTree.create, static_argnums=0)
set_priorities = jax.jit(SumTree.set)
fill = jax.jit(SumTree.fill)
total, rows_of = jax.jit(lambda tree: tree.total), jax.jit(SumTree.__getitem__)
sum_before = jax.jit(lambda tree, rows: jax.vmap(tree.sum_before)(rows))
draw_stratified = jax.jit(SumTree.draw_stratified, static_argnums=1)


def tree_of(priorities: np.ndarray) -> SumTree:
    """A tree with these priorities."""
    rows = np.arange(len(priorities))
    return set_priorities(create(len(priorities)), rows, jnp.asarray(priorities, jnp.float32))


def assert_sums(tree: SumTree) -> None:
    """Every node holds the sum of its children, to the last bit but one, and padding holds nothing."""
    for below, level in zip(tree.levels[:-1], tree.levels[1:], strict=True):
        sums = np.asarray(below, np.float64).sum(axis=1)
        flat = np.asarray(level).ravel()
        np.testing.assert_allclose(flat[: len(sums)], sums, rtol=1e-6)
        assert not flat[len(sums) :].any()
    np.testing.assert_allclose(total(tree), np.asarray(tree.levels[0], np.float64).sum(), rtol=1e-6)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_sums_after_fills_and_updates(capacity: int) -> None:
    rng = np.random.default_rng(0)
    tree, expected = create(capacity), np.zeros(capacity, np.float32)
    start, stop = capacity // 3, capacity - capacity // 4
    tree = fill(tree, start, stop, 2.5)
    expected[start:stop] = 2.5
    for _ in range(3):
        rows = rng.integers(capacity, size=7)
        by_row = rng.uniform(0.001, 10, capacity).astype(np.float32)  # the same for a row drawn twice
        tree = set_priorities(tree, jnp.asarray(rows), jnp.asarray(by_row[rows]))
        expected[rows] = by_row[rows]
        priorities = np.asarray(tree.levels[0]).ravel()
        np.testing.assert_array_equal(priorities[:capacity], expected)
        assert not priorities[capacity:].any()
        np.testing.assert_array_equal(rows_of(tree, jnp.asarray(rows)), expected[rows])
        assert_sums(tree)
        places = np.array([0, start, capacity // 2, capacity - 1])
        before = [expected[:row].astype(np.float64).sum() for row in places]
        np.testing.assert_allclose(sum_before(tree, places), before, rtol=1e-5, atol=1e-6)
    assert np.max(jax.jit(lambda tree: tree.priorities)(tree)) == expected.max()


def test_hundreds_of_updates_leave_no_rounding_behind() -> None:
    """From 1e6 down to 1e-3 and back many times; sums that were adjusted by differences would keep the rest."""
    capacity = 300

    @jax.jit
    def updated(tree: SumTree) -> SumTree:
        def step(tree: SumTree, key: jax.Array) -> tuple[SumTree, None]:
            row_key, value_key = jax.random.split(key)
            rows = jax.random.randint(row_key, (64,), 0, capacity)
            by_row = 10.0 ** jax.random.uniform(value_key, (capacity,), minval=-3.0, maxval=6.0)
            return tree.set(rows, by_row[rows]), None

        return jax.lax.scan(step, tree, jax.random.split(KEY, 500))[0]

    tree = updated(create(capacity))
    assert_sums(tree)
    small = set_priorities(tree, np.arange(capacity), np.full(capacity, 1e-3, np.float32))
    np.testing.assert_allclose(total(small), 0.3, rtol=1e-6)


def spread_priorities(capacity: int) -> np.ndarray:
    """Every fourth row has none, and the last one has a fiftieth of all."""
    priorities = np.random.default_rng(1).uniform(0.2, 2.0, capacity)
    priorities[::4] = 0.0
    priorities[-1] = 0.02 * capacity
    return priorities


def test_draws_are_in_proportion_to_priorities() -> None:
    priorities = spread_priorities(300)
    tree = tree_of(priorities)

    @jax.jit
    def draw(keys: jax.Array) -> jax.Array:
        return jax.lax.map(lambda key: tree.draw_stratified(8, key=key), keys)

    # few draws at a time, so that the slices tell little about a row
    drawn = np.asarray(draw(jax.random.split(KEY, 12_500))).ravel()
    counts = np.bincount(drawn, minlength=len(priorities))
    assert len(counts) == len(priorities)
    positive = priorities > 0.0
    assert not counts[~positive].any()
    expected = priorities[positive] / priorities.sum() * drawn.size
    assert scipy.stats.chisquare(counts[positive], expected).pvalue > 1e-3


def test_with_many_slices_every_row_gets_its_number_of_draws() -> None:
    """What a row's mass covers whole is drawn for certain; only the slices at its two ends are left to chance."""
    priorities, num = spread_priorities(5000), 100_000
    counts = np.bincount(draw_stratified(tree_of(priorities), num, key=KEY), minlength=5000)
    expected = priorities / priorities.sum() * num
    assert len(counts) == 5000
    assert np.all(counts[priorities == 0.0] == 0)
    assert np.max(np.abs(counts - expected)) < 2.1


def test_rows_that_a_float_cannot_tell_apart_are_drawn_alike() -> None:
    """Behind a mass of 2^25, floats are 4 apart, and rows of priority 1 would be reached by every fourth only."""
    num_light = 8192
    tree = fill(create(1 + num_light), 1, 1 + num_light, 1.0)
    tree = set_priorities(tree, jnp.array([0]), jnp.array([2.0**25]))
    rows = np.asarray(draw_stratified(tree, 2**17, key=KEY))
    light = rows[rows > 0]
    assert len(light) == pytest.approx(2**17 * num_light / 2**25, abs=2)
    assert scipy.stats.chisquare(np.bincount(light % 4, minlength=4)).pvalue > 1e-3


@pytest.mark.parametrize("priorities", [np.ones(7), np.arange(1.0, 200.0)])
def test_each_slice_of_the_mass_gives_one_draw(priorities: np.ndarray) -> None:
    tree, num = tree_of(priorities), 50
    stops = np.cumsum(priorities)
    starts = stops - priorities
    slices = np.arange(num + 1) / num * stops[-1]
    tolerance = 1e-5 * stops[-1]
    for seed in range(5):
        rows = np.asarray(draw_stratified(tree, num, key=jax.random.key(seed)))
        assert np.all(stops[rows] >= slices[:-1] - tolerance)
        assert np.all(starts[rows] <= slices[1:] + tolerance)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda capacity: 0, id="first"),
        pytest.param(lambda capacity: capacity // 2, id="middle"),
        pytest.param(lambda capacity: capacity - 1, id="last"),
    ],
)
@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("priority", [1e-3, 1.0, 1e6])
def test_the_only_row_with_mass_is_always_drawn(capacity: int, place: Callable[[int], int], priority: float) -> None:
    row = place(capacity)
    tree = set_priorities(create(capacity), jnp.array([row]), jnp.array([priority]))
    np.testing.assert_array_equal(draw_stratified(tree, 256, key=KEY), np.full(256, row))


def test_empty_rows_around_and_between_are_never_drawn() -> None:
    rng, capacity = np.random.default_rng(2), FAN_OUT**2 + 3
    for seed in range(5):
        priorities = np.where(rng.random(capacity) < 0.01, 10.0 ** rng.uniform(-3, 6, capacity), 0.0)
        rows = np.asarray(draw_stratified(tree_of(priorities), 256, key=jax.random.key(seed)))
        assert np.all(priorities[rows] > 0.0)


def test_an_empty_tree_gives_its_first_row() -> None:
    np.testing.assert_array_equal(draw_stratified(create(FAN_OUT), 256, key=KEY), np.zeros(256))


def test_padding_is_smaller_than_a_node() -> None:
    for capacity in CAPACITIES:
        assert capacity <= create(capacity).levels[0].size < capacity + FAN_OUT
