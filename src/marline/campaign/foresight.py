"""What the logs of the last deployment tell of the policies that are to be deployed next."""

from __future__ import annotations

from typing import cast

from marline.campaign.off_policy_evaluation import Foresight, foresee
from marline.campaign.policies_at_rows import look
from marline.campaign.rollback import with_learners_of
from marline.campaign.state import CampaignState
from marline.runs.events import Foreseen
from marline.runs.records import ForesightRecord
from marline.tuning import algorithm_of
from marline.types import AgentID


def foresights(state: CampaignState) -> dict[AgentID, Foresight]:
    """See `Campaign.foresee`."""
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
        steps, seen = look(policies, its.experience, log, seed=seed)
        found[agent] = foresee(steps, seen, log.spec, gamma=algorithm.gamma, seed=seed)
    foreseen = Foreseen(agents={agent: cast(ForesightRecord, its._asdict()) for agent, its in found.items()})
    with state.writing():
        if foreseen not in state.told(Foreseen, number + 1):
            state.ledger.append(number + 1, foreseen)
    return found
