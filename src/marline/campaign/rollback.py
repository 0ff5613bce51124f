"""Agents that go on from what they were after an earlier deployment, as the ledger says: their learners of then."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from marline.display.shell import command
from marline.errors import require
from marline.runs.driver import Driver
from marline.runs.events import RolledBack, of_kind
from marline.runs.history import History
from marline.runs.ledger import Event
from marline.tuning import Team
from marline.types import AgentID

if TYPE_CHECKING:
    from marline.campaign.state import CampaignState


def roll_back(state: CampaignState, to: int, agents: Collection[AgentID]) -> Event:
    """See `Campaign.rollback`."""
    team, number = state.trained(), state.number
    state.require_reached(to)
    waiting = state.history.load_waiting(number + 1)
    require(
        not waiting or state.history.load_logs(number + 1) is not None,
        f"logs of {', '.join(waiting)} wait for those of the others; bring these in, or go on without them "
        f"first: {command('ingest', state.folder, '--allow-missing')}",
    )
    chosen = [agent for agent in state.agents if not agents or agent in agents]
    event = state.ledger.append(number, RolledBack(to=to, agents=tuple(chosen)))
    state.team = with_learners_of(state.driver, state.sampler, team, to, chosen)
    return event


def rolled_back(driver: Driver, sampler: str, team: Team, number: int, events: Sequence[Event]) -> Team:
    """The team as it came out of deployment `number`, with the rollbacks that were decided since."""
    for _, back in of_kind(RolledBack, events, number):
        team = with_learners_of(driver, sampler, team, back.to, back.agents)
    return team


def with_learners_of(driver: Driver, sampler: str, team: Team, to: int, agents: Collection[AgentID]) -> Team:
    """The team with the learners of some agents as they were after deployment `to`; their rows and memories stay."""
    (seed,) = driver.seeds
    templates = {agent: team[seed, agent].learner for agent in agents}
    if to == 0:
        offline = History(driver.run.team(seed))
        learners = offline.checkpointed_learners(driver.config.offline_updates, templates)
    else:
        learners = History(driver.run.team(seed, sampler)).load_learners(to, templates)
    back = {(seed, agent): team[seed, agent]._replace(learner=learners[agent]) for agent in agents}
    return {**team, **back}
