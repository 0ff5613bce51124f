"""Numbers, returns and standardised returns of episodes, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from marline.ops import episodes

episode_numbers, episode_returns = jax.jit(episodes.episode_numbers), jax.jit(episodes.episode_returns)
standardised_over_episodes = jax.jit(episodes.standardised_over_episodes)

ENDS = jnp.array([False, True, True, False, False, True])


def test_rows_are_counted_by_the_ends_before_them() -> None:
    np.testing.assert_array_equal(episode_numbers(ENDS), [0, 0, 1, 2, 2, 2])


def test_a_row_has_the_return_of_its_whole_episode() -> None:
    returns = episode_returns(jnp.array([1.0, 2.0, -4.0, 1.0, 1.0, 5.0]), ENDS)
    np.testing.assert_array_equal(returns, [3, 3, -4, 7, 7, 7])


def test_each_episode_counts_once_however_long_it_is() -> None:
    """Returns 1, 2 and 6: mean 3, variance (4 + 1 + 9) / 3."""
    values = jnp.array([1.0, 1.0, 2.0, 6.0, 6.0, 6.0])
    expected = (np.array([1, 1, 2, 6, 6, 6]) - 3) / np.sqrt(14 / 3)
    np.testing.assert_allclose(standardised_over_episodes(values, ENDS), expected, rtol=1e-6)


def test_equal_returns_are_nothing_to_tell_episodes_apart_by() -> None:
    equal = np.full(6, -112.3, np.float32)
    np.testing.assert_array_equal(standardised_over_episodes(equal, ENDS), np.zeros(6))
    almost = equal + np.float32(1e-5) * (np.arange(6) == 2).astype(np.float32)  # what rounding leaves
    np.testing.assert_array_equal(standardised_over_episodes(almost, ENDS), np.zeros(6))
