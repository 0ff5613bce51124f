"""The events that files tell: what training, ingesting and tuning enter into the ledger is read off what they wrote.

So whatever a crash kept from the ledger is entered by the next command.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from marline.campaign.regression import compare_returns
from marline.data import dataset
from marline.data.dataset import Dataset
from marline.data.summary import episodes
from marline.runs.events import Created, Event, Gated, Ingested, Known, Trained, Tuned, Waiting, of_kind
from marline.runs.history import History, identity, list_sha256
from marline.runs.layout import LEARNERS, LOGS, POLICIES, RunDirectory, configuration_sha256
from marline.runs.ledger import told
from marline.runs.lineage import lineage
from marline.runs.records import Record, ShiftRecord
from marline.types import AgentID

MEASURED = tuple(ShiftRecord.__annotations__)
Due = tuple[int, Known]


def due_events(
    folder: Path,
    events: Sequence[Event],
    records: Sequence[Record],
    offline_updates: int,
    offline: History,
    history: History,
    tuned: int,
) -> Iterator[Due]:
    """Deployment and content of every event that the files of a campaign tell and its ledger lacks.

    Args:
        folder: the run directory.
        events: of the ledger.
        records: what was measured up to the last deployment that the team was tuned on.
        offline_updates: after which the offline team is trained.
        offline: of the offline team.
        history: of the deployments.
        tuned: deployments that the team was tuned on.
    """
    known = {(event.kind, event.deployment) for event in events}
    waited = {(event.deployment, waiting.waiting) for event, waiting in of_kind(Waiting, events)}
    run = RunDirectory(folder)
    if (Created.kind, 0) not in known:
        yield (
            0,
            Created(
                configuration=configuration_sha256(run.configuration),
                data=list_sha256(run.data),
                rows={agent: num_rows for agent, (_, num_rows) in dataset.outline(run.data).items()},
                anchored=True,
                rebuilt=bool(tuned or offline.steps()),
            ),
        )
    trained = offline.checkpoint(offline_updates)
    if (Trained.kind, 0) not in known and trained.exists():
        yield (
            0,
            Trained(
                updates=offline_updates,
                checkpoint=list_sha256(trained),
                identity=identity(trained),
                diverged=offline.records_at(offline_updates)[0].get("diverged"),
            ),
        )
    for number in range(1, tuned + 2):
        if all((kind.kind, number) in known for kind in (Ingested, Gated, Tuned)):
            continue  # without a look at files of which there is nothing left to tell
        logs, waiting = history.deployment(number) / LOGS, history.waiting(number)
        if waiting.exists() and (number, list_sha256(waiting)) not in waited:
            yield number, Waiting(waiting=list_sha256(waiting), agents=_provenance(waiting).get("agents", {}))
        if logs.exists() and (Ingested.kind, number) not in known:
            there = _provenance(logs)
            waived = tuple(there.get("waived", ()))
            yield number, Ingested(logs=list_sha256(logs), agents=there.get("agents", {}), waived=waived)
        if logs.exists() and (Gated.kind, number) not in known and number >= 2:
            gate = _gate(history, records, number, events)
            if gate is not None:
                yield number, gate
        if number <= tuned and (Tuned.kind, number) not in known:
            yield number, tuned_event(history, offline, records, number)


def _gate(history: History, records: Sequence[Record], number: int, events: Sequence[Event]) -> Gated | None:
    """How the deployment went, against the one before it; None where that is not known."""
    before = records[number - 2].get("returns") if len(records) > number - 2 else None
    if before is None:
        return None
    change = compare_returns(team_returns(dataset.load(history.deployment(number) / LOGS)).tolist(), before)
    # the team that was deployed before: as it came out of the deployment before that, or was rolled back then
    agents = dataset.outline(history.deployment(number - 1) / LOGS)
    came_from = lineage(agents, records[: number - 1], events)[-1]
    return Gated(**change._asdict(), regression=change.is_regression, came_from=came_from)


def team_returns(logs: Mapping[AgentID, Dataset]) -> np.ndarray:
    """Return of each episode; the mean over agents where their rewards differ.

    Where agents were not logged in the same episodes, there is no episode of the team: those of one agent after the
    other then.
    """
    returns = [episodes(log).returns for log in logs.values()]
    same = len({len(its) for its in returns}) == 1
    return np.mean(returns, axis=0) if same else np.concatenate(returns)


def tuned_event(history: History, offline: History, records: Sequence[Record], number: int) -> Tuned:
    """What tuning on a deployment enters, read off what it wrote."""
    home, checkpoint = history.deployment(number), history.checkpoint(number)
    by_number = {record["deployment"]: record for record in records}
    record, deployed = by_number[number], by_number[number - 1]
    return Tuned(
        policies=list_sha256(home / POLICIES) if (home / POLICIES).exists() else None,
        learners=list_sha256(home / LEARNERS) if (home / LEARNERS).exists() else None,
        identity=identity(checkpoint) if checkpoint.exists() else None,
        frozen=tuple(record.get("frozen", ())),
        waived=tuple(record.get("waived", ())),
        diverged=record.get("diverged"),
        return_of_deployed=deployed.get("return"),
        agents={
            agent: cast(ShiftRecord, {name: measured[name] for name in MEASURED if name in measured})
            for agent, measured in record["agents"].items()
        },
    )


def tuned_again(history: History, offline: History, number: int, before: Tuned) -> Tuned | None:
    """What to enter where a checkpoint that was lost and made again came out otherwise, as on another machine."""
    now = tuned_event(history, offline, history.records_at(number), number)
    is_same = (now.policies, now.learners, now.identity) == (before.policies, before.learners, before.identity)
    return None if is_same else now


def builds_on(events: Sequence[Event], number: int) -> dict[str, Any] | None:
    """The newest event that the checkpoint of a deployment builds on: the same where it is made a second time."""
    kind = Tuned.kind if number else Trained.kind
    before = list(itertools.takewhile(lambda event: (event.kind, event.deployment) != (kind, number), events))
    return {"number": len(before), "told": told(before)} if before else None


def _provenance(folder: Path) -> dict[str, Any]:
    return dataset.describe(folder)["provenance"]
