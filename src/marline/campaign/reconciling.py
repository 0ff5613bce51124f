"""The events that files tell: what training, ingesting and tuning enter into the ledger is read off what they wrote.

So whatever a crash kept from the ledger is entered by the next command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marline.campaign.gates import compare_returns
from marline.campaign.history import History, Record, identity, list_sha256
from marline.campaign.ledger import ANCHORED, REBUILT, Event, Ledger
from marline.campaign.lineage import lineage
from marline.campaign.run_directory import configuration_sha256
from marline.data import dataset
from marline.data.dataset import Dataset
from marline.data.summary import episodes
from marline.types import AgentID

MEASURED = (
    "alpha",
    "estimated_distance",
    "distance_histogram",
    "effective_sample_size",
    "share_offline",
    "share_earlier",
    "share_current",
)
Due = tuple[str, int, dict[str, Any]]


def due_events(folder: Path, offline_updates: int, offline: History, history: History, tuned: int) -> Iterator[Due]:
    """Kind, deployment and body of every event that the files of a campaign tell and its ledger lacks.

    Args:
        folder: the run directory.
        offline_updates: after which the offline team is trained.
        offline: of the offline team.
        history: of the deployments.
        tuned: deployments that the team was tuned on.
    """
    events = Ledger(folder).events()
    records = history.records_at(tuned) if tuned else []
    known = {(event.kind, event.deployment, event.body.get("waiting")) for event in events}
    if ("created", 0, None) not in known:
        agents = {agent: num_rows for agent, (_, num_rows) in dataset.outline(folder / "data").items()}
        body = {"run.json": configuration_sha256(folder / "run.json"), "data": list_sha256(folder / "data")}
        rebuilt = {REBUILT: True} if tuned or offline.steps() else {}
        yield "created", 0, {**body, "rows": agents, ANCHORED: True, **rebuilt}
    trained = offline.checkpoint(offline_updates)
    if ("trained", 0, None) not in known and trained.exists():
        body = {"updates": offline_updates, "checkpoint": list_sha256(trained), "identity": identity(trained)}
        yield "trained", 0, body | _diverged(offline.records_at(offline_updates)[0])
    for number in range(1, tuned + 2):
        home, waiting = history.deployment(number), history.waiting(number)
        if waiting.exists() and ("waiting", number, list_sha256(waiting)) not in known:
            yield "waiting", number, {"waiting": list_sha256(waiting), "agents": _provenance(waiting).get("agents", {})}
        if (home / "logs").exists() and ("ingested", number, None) not in known:
            there = _provenance(home / "logs")
            body = {"agents": there.get("agents", {}), "waived": there.get("waived", [])}
            yield "ingested", number, {"logs": list_sha256(home / "logs"), **body}
        if (home / "logs").exists() and ("gated", number, None) not in known and number >= 2:
            gate = _gate(home, records, number, events)
            if gate is not None:
                yield "gated", number, gate
        if number <= tuned and ("tuned", number, None) not in known:
            yield "tuned", number, tuned_body(history, offline, records, number)


def _gate(home: Path, records: Sequence[Record], number: int, events: Sequence[Event]) -> dict[str, Any] | None:
    """How the deployment went, against the one before it; None where that is not known."""
    before = records[number - 2].get("returns") if len(records) > number - 2 else None
    if before is None:
        return None
    change = compare_returns(team_returns(dataset.load(home / "logs")).tolist(), before)
    # the team that was deployed before: as it came out of the deployment before that, or was rolled back then
    agents = dataset.outline(home.parent / f"deployment-{number - 1:02d}" / "logs")
    came_from = lineage(agents, records[: number - 1], events)[-1]
    return {**change._asdict(), "regression": change.is_regression, "came_from": came_from}


def team_returns(logs: Mapping[AgentID, Dataset]) -> np.ndarray:
    """Return of each episode; the mean over agents where their rewards differ.

    Where agents were not logged in the same episodes, there is no episode of the team: those of one agent after the
    other then.
    """
    returns = [episodes(log).returns for log in logs.values()]
    same = len({len(its) for its in returns}) == 1
    return np.mean(returns, axis=0) if same else np.concatenate(returns)


def tuned_body(history: History, offline: History, records: Sequence[Record], number: int) -> dict[str, Any]:
    """What tuning on a deployment enters, read off what it wrote."""
    home, checkpoint = history.deployment(number), history.checkpoint(number)
    by_number = {record["deployment"]: record for record in records}
    record, deployed = by_number[number], by_number[number - 1]
    return {
        **{kind: list_sha256(home / kind) for kind in ("policies", "learners") if (home / kind).exists()},
        **({"identity": identity(checkpoint)} if checkpoint.exists() else {}),
        "frozen": record.get("frozen", []),
        "waived": record.get("waived", []),
        **_diverged(record),
        "return_of_deployed": deployed.get("return"),
        "agents": {
            agent: {name: measured[name] for name in MEASURED if name in measured}
            for agent, measured in record["agents"].items()
        },
    }


def _diverged(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"diverged": record["diverged"]} if "diverged" in record else {}


def _provenance(folder: Path) -> dict[str, Any]:
    return dataset.describe(folder)["provenance"]
