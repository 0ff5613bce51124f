"""What the logs of the last deployment tell of the policies that are to be deployed next."""

from __future__ import annotations

from collections.abc import Mapping

from marline.campaign.off_policy_evaluation import Foresight, foresee
from marline.campaign.policies_at_rows import look
from marline.data.dataset import Dataset
from marline.tuning import Algorithms, Team, algorithm_of
from marline.types import AgentID


def foresights(
    team: Team, deployed: Team, logs: Mapping[AgentID, Dataset], algorithm: Algorithms, *, seed: int
) -> dict[AgentID, Foresight]:
    """Compare two teams of a seed, agent by agent.

    Args:
        team: to be deployed next.
        deployed: the learners that went into the last deployment.
        logs: of the last deployment.
        algorithm: what learns; for all agents, or by agent.
        seed: of the team, and of what is drawn at random.
    """
    found = {}
    for agent, log in logs.items():
        its, state = algorithm_of(algorithm, agent), team[seed, agent]
        policies = its.policy(deployed[seed, agent].learner), its.policy(state.learner)
        steps, seen = look(policies, state.experience, log, seed=seed)
        found[agent] = foresee(steps, seen, log.spec, gamma=its.gamma, seed=seed)
    return found
