"""Networks or kernels: the one that gains more on today's held-out episodes weighs the rows."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from known_laws import World, case
from readable_rows import CRITIC

from marline.ops.weighted_rows import row_probabilities
from marline.samplers import BestRatio, DynamicsRatio, TwoSided, Uniform
from marline.samplers.best_ratio import PURPOSE
from marline.testing import check_sampler

KEY = jax.random.key(0)
SMALL = DynamicsRatio(
    batch_size=16, hidden=(8,), law_batch_size=32, offline_updates=200, num_updates=60, check_every=20
)
KERNELS = TwoSided(num_references=200, bandwidths=(0.25, 0.5), strengths=(3.0, 30.0), batch_size=16)


def begin(sampler: Any, experience: Any, key: Any = KEY) -> tuple[Any, dict[str, float]]:
    @jax.jit
    def both(experience: Any) -> Any:
        state = sampler.init(experience, key=key)
        state, metrics = sampler.begin_deployment(state, experience, CRITIC, key=key)
        return state, dict(metrics)

    state, metrics = both(experience)
    return state, {name: float(value) for name, value in metrics.items()}


@pytest.mark.slow
def test_the_one_that_gains_more_weighs_the_rows() -> None:
    state, metrics = begin(BestRatio(SMALL, KERNELS), case(World(0.5), World(-0.5), 0))
    picked = metrics["kernel_gain_nats"] > metrics["gain_nats"]
    assert metrics["picked_kernels"] == picked and metrics["gate_open"] == 1.0
    alone = KERNELS if picked else SMALL
    key = jax.random.fold_in(KEY, PURPOSE) if picked else KEY
    by, _ = begin(alone, case(World(0.5), World(-0.5), 0), key)
    np.testing.assert_array_equal(row_probabilities(state.table), row_probabilities(by.table))
    weights = np.asarray(row_probabilities(state.table), np.float64)
    assert metrics["effective_share"] == pytest.approx(1 / (weights**2).sum() / len(weights), rel=1e-3)
    assert metrics["effective_share"] < 0.9


@pytest.mark.slow
def test_where_neither_finds_a_change_it_is_uniform_replay() -> None:
    experience = case(World(0.5), World(0.5), 0)
    sampler = BestRatio(DynamicsRatio(**{**vars(SMALL), "offline_updates": 2000, "hidden": (32,)}), KERNELS)
    state, metrics = begin(sampler, experience)
    assert metrics["gate_open"] == metrics["picked_kernels"] == 0.0
    rows = sampler.sample(state, experience, CRITIC, key=KEY)[0]
    np.testing.assert_array_equal(rows, Uniform(batch_size=16).sample((), experience, CRITIC, key=KEY)[0])


@pytest.mark.slow
def test_it_keeps_the_rules_of_samplers() -> None:
    check_sampler(BestRatio(SMALL, KERNELS))
