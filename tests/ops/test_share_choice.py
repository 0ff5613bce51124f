"""Which share will do, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.ops.law_ratio import ClusteredMean, clustered_mean
from marline.ops.share_choice import smallest_share_that_does


@jax.jit
def choice_of(means: Array, table: Array) -> Array:
    def excess(number: Array, best: Array) -> ClusteredMean:
        return clustered_mean(table[number] - table[best], jnp.ones(4), jnp.arange(4))

    return smallest_share_that_does(means, excess)


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ([[2, 2, 2, 2], [1, 1, 1, 1], [1, 1, 1, 1]], 1),  # surely better than the first, and no worse than the last
        ([[0, 4, 0, 4], [1, 1, 1, 1], [2, 2, 2, 2]], 0),  # differs by 1, with a standard error of 2 / sqrt(3)
        ([[3, 5, 3, 5], [1, 1, 1, 1], [0, 1, 0, 0]], 2),  # the second is 0.75 above, with a standard error of 0.25
    ],
)
def test_the_smallest_within_one_standard_error_of_the_best(errors: list[list[float]], chosen: int) -> None:
    table = np.array(errors, np.float32)
    means = table.mean(axis=1)
    above = [table[i] - table[np.argmin(means)] for i in range(3)]
    by_hand = [its.mean() <= its.std(ddof=1) / 2 + 1e-9 for its in above]
    assert by_hand.index(True) == int(choice_of(means, table)) == chosen
