"""An encoder that is trained once for all tests of the embedding distance."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from readable_rows import SPEC, Embedded, taken_in

from marline.data.experience import Experience
from marline.samplers import EmbeddingDistance
from marline.types import Transition


def random_rows(num: int, seed: int) -> Transition:
    """Rows in which everything varies: a constant feature would be divided by almost nothing."""
    rng = np.random.default_rng(seed)
    seen, after = rng.normal(3, 1, (2, num, 2))
    columns = seen, rng.uniform(-1, 1, (num, 1)), np.zeros(num), np.ones(num), after
    return Transition(*(jnp.asarray(column, jnp.float32) for column in columns))


@pytest.fixture(scope="session")
def embedded() -> Embedded:
    """Actions are independent of both observations, so the latent must carry them."""
    distance = EmbeddingDistance(size=2, hidden=(16,), num_updates=1500, learning_rate=5e-3, batch_size=32)
    start = Experience.create(random_rows(300, 0), SPEC, num_deployments=2, rows_per_deployment=40)
    first = start.merge(random_rows(40, 1), 1)
    second = first.merge(random_rows(30, 2), 2)
    trained = jax.jit(lambda experience: distance.init(experience, key=jax.random.key(0)))(start)
    once, _ = taken_in(distance, trained, first)
    twice, _ = taken_in(distance, once, second)
    return Embedded(distance, trained, (first, second), (once, twice))
