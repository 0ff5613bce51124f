"""Navigation in a drifting world: how far actions carry, where episodes end, and what known agents earn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.data.check import lint
from marline.data.dataset import Dataset
from marline.envs import CooperativeNavigation, Drifting, DriftingNavigation
from marline.policy import RandomPolicy
from marline.rollouts.collection import collect, collect_random, evaluate, trace

TASK = DriftingNavigation()
SPEC = TASK.specs["agent_0"]
KEY = jax.random.key(0)


class Direct(RandomPolicy):
    """Straight to the landmark, as if actions carried 0.2."""

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return jnp.clip(observation[2:4] / 0.2, -1.0, 1.0)


RANDOM, DIRECT = {"agent_0": RandomPolicy(SPEC)}, {"agent_0": Direct(SPEC)}


def betas(logs: Dataset) -> np.ndarray:
    """How far each logged action carried, of the steps that ended away from the walls."""
    inside = np.abs(logs.next_observations[:, :2]).max(axis=1) < 1.0
    moved = (logs.next_observations - logs.observations)[inside, :2]
    return (moved / logs.actions[inside])[np.abs(logs.actions[inside]) > 0.3]


@pytest.mark.parametrize(("deployment", "expected"), [(1, 0.1), (4, 0.1 + 0.1 / 3), (10, 0.2), (11, 0.2)])
def test_how_far_actions_carry_online(deployment: int, expected: float) -> None:
    logs = collect(TASK, RANDOM, 300, key=KEY, deployment=deployment)["agent_0"]
    np.testing.assert_allclose(betas(logs), expected, atol=1e-5)


def test_how_far_actions_carry_offline() -> None:
    found = betas(collect_random(TASK, 3000, seed=0)["agent_0"])
    assert found.min() < -0.19 and found.max() > 0.19 and np.abs(found).max() < 0.2 + 1e-4
    assert abs(found.mean()) < 0.01


def test_beta_of_an_episode() -> None:
    """All steps of an episode carry as far; over episodes beta is as it is over steps."""
    logs = collect_random(DriftingNavigation(offline_beta_per="episode"), 2000, seed=0)["agent_0"]
    ends = logs.terminals | logs.timeouts
    episode = np.concatenate([[0], np.cumsum(ends)[:-1]])
    moved = (logs.next_observations - logs.observations)[:, :2]
    clear = (np.abs(logs.next_observations[:, :2]).max(axis=1) < 1.0) & (np.abs(logs.actions).min(axis=1) > 0.3)
    beta = (moved / np.where(clear[:, None], logs.actions, 1.0))[:, 0]
    found = [beta[clear & (episode == number)] for number in range(episode[-1])]
    assert max(np.ptp(its) for its in found if len(its)) < 1e-5
    means = np.array([its[0] for its in found if len(its)])
    assert means.min() < -0.15 and means.max() > 0.15 and abs(means.mean()) < 0.05


def test_only_tasks_that_drift_know_of_deployments() -> None:
    assert isinstance(TASK, Drifting) and not isinstance(CooperativeNavigation(2), Drifting)


def test_reaching_the_landmark_is_an_end_and_pays() -> None:
    logs = collect(TASK, DIRECT, 300, key=KEY, deployment=1)
    assert [finding.rule for finding in lint(logs)] in ([], ["saturated"])  # it goes there at full speed
    log = logs["agent_0"]
    assert len(log) == 300 and log.terminals.sum() > 15 and not log.timeouts[:-1].any()
    np.testing.assert_array_equal(log.rewards, np.where(log.terminals, 10.0, 0.0))
    np.testing.assert_array_equal(np.linalg.norm(log.next_observations[:, 2:], axis=1) < 0.1, log.terminals)
    goes_on = ~(log.terminals | log.timeouts)[:-1]
    np.testing.assert_array_equal(log.next_observations[:-1][goes_on], log.observations[1:][goes_on])
    columns = log.observations, log.actions, log.next_observations
    told = jax.jit(jax.vmap(TASK.reward_of))(*map(jnp.asarray, columns))
    np.testing.assert_array_equal(told, log.rewards)
    drawn = trace(TASK, DIRECT, key=KEY, deployment=1)
    assert len(drawn["agents"]) == np.flatnonzero(log.terminals)[0] + 1 and drawn["return"] == 10.0


def test_nobody_starts_within_reach() -> None:
    starts = jax.jit(jax.vmap(lambda key: TASK.reset(key=key)))(jax.random.split(KEY, 5000))
    position, landmark = np.asarray(starts.position), np.asarray(starts.landmark)
    distances = np.linalg.norm(position - landmark, axis=1)
    assert 0.1 <= distances.min() < 0.12
    assert np.abs(landmark).max() > 0.99


@pytest.mark.parametrize(
    ("team", "deployment", "expected", "tolerance"),
    [(RANDOM, 0, 0.44, 0.15), (DIRECT, 1, 10.0, 1e-9), (DIRECT, 10, 10.0, 1e-9)],
)
def test_known_agents_earn_what_they_must(team, deployment: int, expected: float, tolerance: float) -> None:
    returns = evaluate(TASK, team, 2000, key=KEY, deployment=deployment).returns
    assert abs(returns.mean() - expected) <= tolerance
