"""No agent learns from another: not by its logs, not by their number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
import pytest
from field import ROWS, SETTINGS

from marline import tuning
from marline.data.dataset import Dataset
from marline.policy import NumpyPolicy
from marline.samplers import OTC
from marline.tuning import LearnerID, Team
from marline.types import Policy, Spec

SPECS = dict.fromkeys(["first", "second"], Spec(3, 2))  # alike, for such learners share one program
ALGORITHM = SETTINGS["algorithm"]
SEED = 0
NUM_OFFLINE, NUM_ONLINE = 60, ROWS
NUM_UPDATES = SETTINGS["updates"]


def make_logs(spec: Spec, num_rows: int, random: np.random.Generator, policy: Policy | None = None) -> Dataset:
    """Random observations and rewards; actions of the policy, if there is one."""
    observations, next_observations = random.normal(size=(2, num_rows, spec.observation_size)).astype(np.float32)
    actions = random.uniform(-1, 1, (num_rows, spec.action_size)).astype(np.float32)
    if policy is not None:
        actions = NumpyPolicy(policy)(observations)
    return Dataset(
        spec=spec,
        observations=observations,
        actions=actions,
        rewards=random.normal(size=num_rows).astype(np.float32),
        terminals=random.random(num_rows) < 0.1,
        timeouts=np.zeros(num_rows, bool),
        next_observations=next_observations,
    )


def campaign(sampler: OTC, seeds_of_logs: Mapping[str, int]) -> Team:
    """Two deployments; every agent's logs are made from its own entry alone."""
    offline = {
        agent: make_logs(SPECS[agent], NUM_OFFLINE, np.random.default_rng([seeds_of_logs[agent], 0])) for agent in SPECS
    }

    def deploy(number: int, policies: Mapping[LearnerID, Policy]) -> dict[LearnerID, Dataset]:
        return {
            (seed, agent): make_logs(
                SPECS[agent], NUM_ONLINE, np.random.default_rng([seeds_of_logs[agent], number]), policy
            )
            for (seed, agent), policy in policies.items()
        }

    team = tuning.init_team(offline, ALGORITHM, seeds=[SEED], num_deployments=2, rows_per_deployment=NUM_ONLINE)
    *_, (_, team, *_) = tuning.pretrain(team, ALGORITHM, num_updates=NUM_UPDATES)
    team = tuning.init_samplers(team, sampler)
    *_, last = tuning.run(team, deploy, ALGORITHM, sampler, num_updates=NUM_UPDATES, deployments=[1, 2])
    return last.team


def same(first: object, second: object) -> bool:
    """Whether two pytrees of arrays agree in every bit."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.asarray(one).tobytes() == np.asarray(other).tobytes() for one, other in pairs)


@pytest.mark.parametrize("distance", ["value", pytest.param("two-stage", marks=pytest.mark.slow)])
def test_an_agent_learns_the_same_whatever_the_other_saw(distance: str) -> None:
    sampler = dataclasses.replace(SETTINGS["sampler"], distance=distance)
    team = campaign(sampler, {"first": 1, "second": 2})
    other = campaign(sampler, {"first": 1, "second": 3})
    assert same(team[SEED, "first"], other[SEED, "first"])
    assert not same(team[SEED, "second"].learner, other[SEED, "second"].learner)
