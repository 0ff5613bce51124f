"""The two steps of a campaign in which something is learned, and the check that they give what is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import cast

import numpy as np

from marline import tuning
from marline.campaign import reconcile
from marline.campaign.shift import describe_changes, shift_of
from marline.campaign.state import CampaignState
from marline.data.dataset import Dataset
from marline.data.summary import returns_by_agent
from marline.runs.driver import of_seed
from marline.runs.events import Tuned
from marline.runs.history import Record
from marline.runs.records import ShiftRecord
from marline.runs.replay import is_same, train_again, tune_again
from marline.types import AgentID


def train(state: CampaignState, progress: Callable[[int], None] | None) -> None:
    """Train on the offline logs, from the last checkpoint; `progress` is told the number of updates done."""
    with state.driver.offline(ledger=state.builds_on(0)) as training:
        for updates in training:
            if progress is not None:
                progress(updates)
    stopped = training.stopped[state.seed]
    record: Record = {"deployment": 0, "agents": {}}
    if stopped:
        record["diverged"] = stopped
    training.finish({state.seed: [record]})
    state.team = state.driver.begin(state.sampler, training.team)


def tune(
    state: CampaignState,
    logs: Mapping[AgentID, Dataset],
    frozen: Collection[AgentID],
    changes: Callable[[list[str]], None] | None = None,
) -> Record:
    """Tune on the next deployment, whose logs these are; returns what was measured.

    Agents without logs are waived. Frozen ones learn nothing from theirs, which are merged all the same. `changes` is
    told whose partners or world changed, in sentences, before anybody is tuned.
    """
    number, team, seed = state.number + 1, state.trained(), state.seed
    before = state.told(Tuned, number)
    if before:  # its checkpoint was lost, and is made again
        frozen = before[-1].frozen
    deployed = {(seed, agent): log for agent, log in logs.items()}

    def adapted(number: int, measured: tuning.Summary) -> None:
        if changes is not None:
            moved = [shift_of(agent, number, cast(ShiftRecord, its)) for agent, its in of_seed(measured, seed).items()]
            changes(describe_changes(moved))

    (tuned,) = state.driver.tune(
        state.sampler, team, lambda *_: deployed, [number], frozen=state.learners(frozen), adapted=adapted
    )
    returns, records = reconcile.team_returns(logs), state.records
    # these logs show how the team before this tuning did
    own = returns_by_agent(logs)  # whose mean is that of episodes, where all agents were logged in the same ones
    records[-1]["return"] = float(np.mean(list(own.values()) or returns))
    records[-1]["returns"], records[-1]["agent_returns"] = returns.tolist(), own
    waived, stopped = [agent for agent in state.agents if agent not in logs], tuned.stopped[seed]
    record: Record = {"deployment": number, "agents": of_seed(tuned.metrics, seed)}
    if frozen:
        record["frozen"] = sorted(frozen)
    if waived:
        record["waived"] = waived
    if stopped:
        record["diverged"] = stopped
    measured = {seed: [*records, record]}
    state.driver.publish(state.sampler, number, tuned.team, measured, learners=True, ledger=state.builds_on(number))
    if before:
        again = reconcile.tuned_again(state.history, state.offline, number, before[-1])
        if again is not None:
            state.ledger.append(number, again)
    # with what was decided before its checkpoint was lost
    state.team, state.number = state.rolled_back(tuned.team, number), number
    return record


def replay(state: CampaignState) -> dict[AgentID, bool]:
    """Train again what was trained last: whether each agent comes out with the bytes that are there."""
    state.trained()
    driver, number, updates = state.driver, state.number, state.config.offline_updates
    if number == 0:
        return is_same(driver, state.seed, None, updates, train_again(driver, updates))
    frozen = state.learners(state.records[-1].get("frozen", ()))
    again = tune_again(driver, state.sampler, number, state.team_after(number - 1), frozen=frozen)
    return is_same(driver, state.seed, state.sampler, number, again)
