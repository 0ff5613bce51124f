"""Agents that go on from what they were after an earlier deployment, as the ledger says: their learners of then."""

from __future__ import annotations

from collections.abc import Collection

from marline.campaign.learners import with_learners_of
from marline.campaign.state import CampaignState
from marline.display.shell import command
from marline.errors import require
from marline.runs.events import Event, RolledBack
from marline.types import AgentID


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
