"""What two policies of an agent would do at its logged steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from marline.campaign.off_policy_evaluation import Seen, Steps
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.policy import NumpyPolicy
from marline.types import Policy

MOST_STEPS = 10_000
MOST_SEEN = 1000


def look(policies: tuple[Policy, Policy], experience: Experience, log: Dataset, *, seed: int) -> tuple[Steps, Seen]:
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
