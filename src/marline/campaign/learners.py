"""Learners of then for the team of now: what a rollback, or a look back, puts in place."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from marline.runs.driver import Driver
from marline.runs.events import Event, RolledBack, of_kind
from marline.runs.history import History
from marline.tuning import Team
from marline.types import AgentID


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
