"""True weights of logged rows, from what partners did and what they would do today."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Float

from marline.algorithms import CQL
from marline.data.dataset import Dataset
from marline.envs import ContinuousSwap, MatrixGame, Pass, Swap, Task
from marline.envs.scripted import Choosing, Moving
from marline.errors import ConfigError
from marline.policy import one_of_teams
from marline.rollouts.collection import collect, collect_random
from marline.rollouts.partners import (
    law_in,
    log_density_among,
    require_joint_logs,
    require_partners,
    true_log_ratios,
)
from marline.tuning import to_device
from marline.types import Policy, Spec, Transition

KEY = jax.random.key(0)


def log_ratios(
    task: Task, logs: Mapping[str, Dataset], policies: Mapping[str, Policy]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Of each row of each agent's log."""
    experiences = to_device(logs, CQL(forced_tails="keep"), num_deployments=1, rows_per_deployment=1)
    return true_log_ratios(task, experiences, policies, tolerance=0.1, key=KEY)


def always(choice: int, num: int) -> Choosing:
    return Choosing(lambda observation: jnp.int32(choice), num)


def test_a_matrix_game_by_hand() -> None:
    """The partner chose 1 in a tenth of the steps and always does today: rows in which it did count ten times."""
    world = MatrixGame()
    logs = collect(world, world.conventions()["rare"], 2000, key=KEY)
    own, others = logs["agent_0"].actions, logs["agent_1"].actions
    weights = np.exp(log_ratios(world, logs, {"agent_0": always(0, 2), "agent_1": always(1, 2)})["agent_0"])
    for choice in range(2):
        often = others[own == choice].mean()
        np.testing.assert_allclose(weights[(own == choice) & (others == 1)], 1 / often, rtol=1e-4)
    np.testing.assert_allclose(weights[others == 0], 1e-6, rtol=1e-3)


def test_only_what_the_partner_does_is_changed() -> None:
    """Of each state and own choice as many rows count as before, in logs of teams whose members agree, too."""
    world = Pass(num_places=3)
    logs = collect(world, one_of_teams(world.conventions()), 5000, key=KEY)
    today = world.conventions()["on"]
    weights = np.exp(log_ratios(world, logs, today)["agent_0"])
    cells = world.states_of(logs["agent_0"].observations, 0) * 3 + logs["agent_0"].actions
    np.testing.assert_allclose(np.bincount(cells, weights), np.bincount(cells), rtol=0.02)
    # and the partner acts as it does today
    states = world.states_of(logs["agent_1"].observations, 1)
    law = np.array([np.bincount(logs["agent_1"].actions[states == s], weights[states == s], 3) for s in range(9)])
    seen, partner = jnp.asarray(world.observations_of(1)), today["agent_1"]
    assert isinstance(partner, Choosing)
    np.testing.assert_allclose(
        law / law.sum(axis=1, keepdims=True), jax.jit(jax.vmap(partner.probabilities))(seen), atol=0.05
    )


def test_laws_are_counted() -> None:
    law = law_in(np.array([0, 0, 0, 0, 2]), np.array([1, 1, 1, 0, 0]), (3, 2))
    np.testing.assert_array_equal(law, [[0.25, 0.75], [0, 0], [1, 0]])


def test_densities_by_hand() -> None:
    seen, zero = jnp.array([0.0]), jnp.float32(0)
    row = Transition(seen, jnp.array([0.1, 0.0]), zero, zero, seen)
    drawn = jnp.array([[0.1, 0.1], [0.1, 0.0]])
    densities = jax.jit(log_density_among, static_argnums=(2, 3))
    density = densities(row, drawn, Spec(1, 2), 0.1)
    assert float(density) == pytest.approx(np.log((np.exp(-0.5) + 1) / 2), rel=1e-4)
    row = Transition(seen, jnp.int32(2), zero, zero, seen, jnp.array([True, False, True]))
    assert float(densities(row, jnp.array([2, 2, 0]), Spec(1, 3, discrete=True), 0.1)) == pytest.approx(
        np.log(2 * (2 + 0.5) / 4), rel=1e-5
    )
    assert float(densities(row, jnp.array([0, 0, 0]), Spec(1, 3, discrete=True), 0.1)) == pytest.approx(
        np.log(1 / 4), rel=1e-5
    )


def test_continuous_partners_are_told_by_their_actions() -> None:
    world = ContinuousSwap()
    logs = collect_random(world, 300, seed=0)
    agent_0, agent_1 = world.agents
    sizes = {agent: spec.action_size for agent, spec in world.specs.items()}
    policies = {agent: Moving(lambda observation, n=n: jnp.full(n, 0.5), n) for agent, n in sizes.items()}
    found = log_ratios(world, logs, policies)[agent_0]
    missed = np.square(np.asarray(logs[agent_1].actions, np.float64) - 0.5).sum(axis=1)
    np.testing.assert_allclose(found, -missed / 0.02, rtol=1e-3, atol=1e-3)


def test_logs_of_different_steps_are_refused() -> None:
    logs = collect_random(Swap(horizon=4), 8, seed=0)
    require_joint_logs(logs, "oracle")
    other = dataclasses.replace(logs["agent_1"], timeouts=np.isin(np.arange(8), [4, 7]))  # as of a horizon of 5
    with pytest.raises(ConfigError, match="the logs of 'agent_0' and 'agent_1' do not end the same episodes at row 3"):
        require_joint_logs({"agent_0": logs["agent_0"], "agent_1": other}, "oracle")
    short = collect_random(Swap(horizon=4), 6, seed=0)["agent_1"]
    with pytest.raises(ConfigError, match="have 8 and 6 rows; leave oracle out"):
        require_joint_logs({"agent_0": logs["agent_0"], "agent_1": short}, "oracle")
    with pytest.raises(ConfigError, match="and agent_0 has none"):
        require_partners({"agent_0": None}, "oracle")
