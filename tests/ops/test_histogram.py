"""Distances counted in half octaves."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from marline.ops.distance_bins import EDGES, NUM_BINS
from marline.ops.histogram import histogram


def test_counts_by_hand() -> None:
    one = int(np.flatnonzero(EDGES == 1.0)[0]) + 1  # the bin from 1 to the root of 2
    counts = np.asarray(histogram(jnp.array([0.0, 1e-9, 1.0, 1.4, 1.42, 0.99, 1024.0, 1e30, jnp.inf, jnp.nan])))
    assert counts.shape == (NUM_BINS,) and counts.sum() == 10
    assert {int(place): int(counts[place]) for place in np.flatnonzero(counts)} == {
        0: 2,
        one - 1: 1,
        one: 2,
        one + 1: 1,
        NUM_BINS - 1: 4,
    }
