"""Weights by return, times those of a ratio of laws where it finds a change."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from readable_rows import CRITIC

from marline.configuration.selection import select_samplers
from marline.data.experience import Experience
from marline.envs import MatrixGame
from marline.envs.scripted import Choosing
from marline.errors import ConfigError
from marline.ops.weighted_rows import alias_table, row_probabilities, uniform_table
from marline.rollouts.collection import collect
from marline.samplers import ReturnWeighted, TwoSided, WithReturns
from marline.samplers.with_returns import product
from marline.testing import check_sampler

KEY = jax.random.key(0)
KERNELS = TwoSided(num_references=200, bandwidths=(0.25, 0.5), strengths=(3.0, 30.0), batch_size=16)
WORLD = MatrixGame()


def rows_of_agent_0(partner_today: Any = None) -> Experience:
    """Logs of a past team, and rows of today, beside the same partner or another."""
    past = WORLD.conventions()["rare"]
    today = past if partner_today is None else {**past, "agent_1": partner_today}
    logs, fresh = (
        collect(WORLD, team, num, key=jax.random.key(num))["agent_0"] for team, num in ((past, 1000), (today, 200))
    )
    return Experience.create(
        logs.transition(),
        logs.spec,
        num_deployments=1,
        rows_per_deployment=len(fresh),
        ends=logs.terminals | logs.timeouts,
    ).merge(fresh.transition(), 1, ends=fresh.terminals | fresh.timeouts)


@jax.jit
def begun(experience: Any) -> Any:
    sampler = WithReturns(ratio=KERNELS)
    state = sampler.init(experience, key=KEY)
    kernels = KERNELS.init(experience, key=KEY)
    return (
        sampler.begin_deployment(state, experience, CRITIC, key=KEY),
        KERNELS.begin_deployment(kernels, experience, CRITIC, key=KEY),
        ReturnWeighted().init(experience, key=KEY),
    )


def test_tables_are_multiplied() -> None:
    table = product(alias_table(jnp.array([1.0, 2.0, 3.0, 0.0])), alias_table(jnp.array([4.0, 1.0, 1.0, 9.0])))
    np.testing.assert_allclose(row_probabilities(table), [4 / 9, 2 / 9, 3 / 9, 0], atol=1e-6)


def test_a_table_times_equal_weights_is_the_table_itself() -> None:
    table = alias_table(jnp.array([0.1, 0.7, 0.3]))
    for its, found in zip(table, product(table, uniform_table(3)), strict=True):
        np.testing.assert_array_equal(its, found)


def test_a_million_small_probabilities_do_not_vanish() -> None:
    weights = jnp.linspace(1e-3, 1.0, 1_000_000)
    found = np.asarray(row_probabilities(product(alias_table(weights), alias_table(weights))), np.float64)
    wanted = np.asarray(weights, np.float64) ** 2
    assert abs(found - wanted / wanted.sum()).sum() < 1e-3


def test_where_the_law_changed_rows_weigh_by_both() -> None:
    other = Choosing(lambda observation: jnp.array([0.1, 0.9]), 2)
    (state, metrics), (kernels, _), returns = begun(rows_of_agent_0(other))
    wanted = np.asarray(row_probabilities(returns), np.float64) * np.asarray(row_probabilities(kernels.table))
    np.testing.assert_allclose(row_probabilities(state.table), wanted / wanted.sum(), atol=1e-5)
    assert metrics["gate_open"] == 1.0
    assert metrics["effective_sample_size"] == pytest.approx(wanted.sum() ** 2 / (wanted**2).sum(), rel=1e-2)


def test_where_it_did_not_change_rows_are_those_of_return_weighted() -> None:
    experience = rows_of_agent_0()
    (state, metrics), _, returns = begun(experience)
    assert metrics["gate_open"] == 0.0
    sampler = WithReturns(ratio=KERNELS)
    rows = sampler.sample(state, experience, CRITIC, key=KEY)[0]
    wanted = ReturnWeighted(batch_size=16).sample(returns, experience, CRITIC, key=KEY)[0]
    np.testing.assert_array_equal(rows, wanted)


def test_the_share_of_online_rows_is_that_of_the_ratio() -> None:
    assert WithReturns(ratio=TwoSided(online_share=0.5)).online_share == 0.5
    (named,) = select_samplers(
        ["kernel-ratio-and-return(scale=0.5, batch_size=8, online_share=0.25)"]
    ).samplers.values()
    assert isinstance(named, WithReturns) and (named.scale, named.batch_size, named.online_share) == (0.5, 8, 0.25)
    with pytest.raises(ConfigError, match="bound is -1"):
        WithReturns(bound=-1.0)


@pytest.mark.slow
def test_it_keeps_the_rules_of_samplers() -> None:
    check_sampler(WithReturns(ratio=KERNELS))
