"""The control beside OTC: prescribed shares of each source, and no preference within one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from readable_rows import CRITIC, joined, many, random_rows

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.samplers import OnlineMatched

KEY = jax.random.key(0)
SAMPLER = OnlineMatched(batch_size=8)
NUM_BATCHES = 4000


def counts_by_row(experience: Experience, shares: list[list[float]], number: int) -> np.ndarray:
    """How often each row was drawn at deployment `number`, when these shares were prescribed."""
    state = SAMPLER.init(experience, key=KEY)
    for deployment, prescribed in enumerate(shares, start=1):
        state = SAMPLER.prescribe(state, deployment, jnp.array(prescribed))
    for _ in range(number):
        state, _ = SAMPLER.begin_deployment(state, experience, CRITIC, key=KEY)
    drawn = many(lambda key: SAMPLER.sample(state, experience, CRITIC, key=key)[0], NUM_BATCHES)
    return np.bincount(drawn.ravel(), minlength=int(experience.size))


@pytest.mark.parametrize(
    ("number", "windows"),
    # rows of each source: offline, earlier deployments, the current one
    [(1, [(0, 6), (6, 6), (6, 10)]), (2, [(0, 6), (6, 10), (10, 13)])],
)
def test_shares_are_those_prescribed_and_rows_of_a_source_are_alike(
    number: int, windows: list[tuple[int, int]]
) -> None:
    deployments = [random_rows(4, 1), random_rows(3, 2)][:number]
    experience = joined(random_rows(6, 0), *deployments, spare=2)
    shares = [[0.6, 0.0, 0.4], [0.2, 0.3, 0.5]][:number]
    counts = counts_by_row(experience, shares, number)
    assert counts.sum() == NUM_BATCHES * 8
    assert len(counts) == int(experience.size)
    for (start, stop), share in zip(windows, shares[-1], strict=True):
        assert counts[start:stop].sum() / counts.sum() == pytest.approx(share, abs=0.01)
        if stop > start:
            assert scipy.stats.chisquare(counts[start:stop]).pvalue > 1e-3


def test_without_a_prescription_only_offline_rows_are_drawn() -> None:
    experience = joined(random_rows(6, 0), random_rows(4, 1))
    assert counts_by_row(experience, [], 1)[6:].sum() == 0


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is -3"):
        OnlineMatched(batch_size=-3)
