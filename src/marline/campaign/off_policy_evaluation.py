"""What the logs of the last deployment tell of the policies that are to be deployed next."""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from marline.campaign.learners import with_learners_of
from marline.campaign.state import CampaignState
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.policy import NumpyPolicy
from marline.runs.events import OffPolicyEvaluated
from marline.runs.records import OffPolicyRecord
from marline.statistics.fitted_q_evaluation import OffPolicyEstimate, Seen, Steps, compare_policies
from marline.tuning import algorithm_of
from marline.types import AgentID, Policy

MOST_STEPS = 10_000
MOST_SEEN = 1000


def off_policy_evaluation(state: CampaignState) -> dict[AgentID, OffPolicyEstimate]:
    """See `Campaign.off_policy_evaluation`."""
    team, number, seed = state.trained(), state.number, state.seed
    logs = state.history.load_logs(number) if number else None
    if logs is None:
        return {}
    # the learners that went into the last deployment
    deployed = with_learners_of(state.driver, state.sampler, team, number - 1, state.agents)
    deployed = state.rolled_back(deployed, number - 1)
    found = {}
    for agent, log in logs.items():
        algorithm, its = algorithm_of(state.config.algorithm, agent), team[seed, agent]
        policies = algorithm.policy(deployed[seed, agent].learner), algorithm.policy(its.learner)
        steps, seen = at_logged_rows(policies, its.experience, log, seed=seed)
        found[agent] = compare_policies(steps, seen, log.spec, gamma=algorithm.gamma, seed=seed)
    evaluated = OffPolicyEvaluated(agents={agent: cast(OffPolicyRecord, its._asdict()) for agent, its in found.items()})
    with state.writing():
        told = [repr(earlier) for earlier in state.told(OffPolicyEvaluated, number + 1)]  # NaN equals no NaN
        if repr(evaluated) not in told:
            state.ledger.append(number + 1, evaluated)
    return found


def at_logged_rows(
    policies: tuple[Policy, Policy], experience: Experience, log: Dataset, *, seed: int
) -> tuple[Steps, Seen]:
    """Let the deployed and the new policy act at logged observations.

    Args:
        policies: the deployed one, and the new one; those that draw noise draw the same.
        experience: all rows of the agent, of which a sample is taken.
        log: of the last deployment; its first rows are taken.
        seed: of the sample and of the noise.
    """
    size = int(experience.size)
    rows = np.arange(size)
    if size > MOST_STEPS:
        rows = np.sort(np.random.default_rng(seed).choice(size, MOST_STEPS, replace=False))
    sample = jax.tree.map(np.asarray, experience[jnp.asarray(rows)])
    there = log.transition()
    ends = (log.terminals | log.timeouts)[:MOST_SEEN]
    observation = there.observation[:MOST_SEEN]
    everywhere = np.concatenate([sample.next_observation, observation])
    masks = None
    if log.spec.discrete:
        assert there.action_mask is not None
        masks = np.concatenate([sample.next_action_mask, there.action_mask[:MOST_SEEN]])
    deployed, new = (NumpyPolicy(policy, seed=seed)(everywhere, masks) for policy in policies)
    num = len(rows)
    steps = Steps(
        sample.observation,
        sample.action,
        sample.reward,
        sample.discount,
        sample.next_observation,
        deployed[:num],
        new[:num],
    )
    is_first = np.concatenate([[True], ends[:-1]])
    return steps, Seen(np.asarray(observation), is_first, deployed[num:], new[num:])
