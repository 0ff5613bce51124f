"""Where a campaign stands, read off its run directory in an instant: no logs are read, no JAX is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from marline.campaign.shift import Shift, shifts
from marline.data.files import LARGEST_CONFIGURATION, read_regular
from marline.data.manifest import read_sealed, require_file_name, verify_files
from marline.data.migrations import CHECKPOINT, migrated_configuration
from marline.data.migrations import DATASET as SEALED_DATASET
from marline.data.provenance import last_writer
from marline.display.shell import command
from marline.errors import CorruptionError, require
from marline.runs.divergences import Stop, stops
from marline.runs.events import Event, Exported, Gated, of_kind
from marline.runs.layout import (
    DATASET,
    LOGS,
    WAITING,
    RunDirectory,
    checkpoint_folder,
    checkpoint_steps,
    deployment_folder,
    require_run,
)
from marline.runs.ledger import Ledger, require_same_configuration
from marline.runs.lineage import exported_policies, lineage
from marline.runs.records import Record, require_records

if TYPE_CHECKING:  # it would import JAX
    from marline.types import AgentID


class AgentStatus(NamedTuple):
    """One agent of the team.

    Attributes:
        tuned_on: the deployment that its policy was last tuned on; 0 is the offline policy.
        policies: hashes of those that went out for the next deployment.
        rows: logged in the next deployment, if its logs are in or waiting.
        online_rows: merged so far.
        returns: mean return per episode by its own rewards, by deployed team; none where all agents share a reward.
    """

    tuned_on: int
    policies: tuple[str, ...]
    rows: int | None
    online_rows: int
    returns: dict[int, float]


class Status(NamedTuple):
    """Where a campaign stands.

    Attributes:
        stage: "training", "ready" to be exported, "out" in the field, "waiting" for logs of some agents,
            "ingested" and to be tuned, or "done".
        deployment: the one that is next, or out.
        deployments: K.
        rows_per_deployment: M, per agent.
        updates_done, offline_updates: of the offline training.
        returns: mean return per episode by deployed team, as far as known; the offline team is 0.
        return_is: whose it is: "mean over agents" if each has a reward of its own, "one reward for all agents"; None
            where it is not known yet.
        agents: by name.
        waiting_for: agents whose logs, or more of whose logs, are to come while others wait.
        out_since: when the last bundles went out, if any for the next deployment.
        shifts: how the world of each agent moved, deployment by deployment.
        diverged: who left the finite numbers and keeps an earlier policy.
        gate: how the team that is being replaced did against the one before it, once its logs are in.
        notes: what was found damaged and is made again, one sentence each.
        next: the command to give now.
    """

    run: str
    algorithm: str
    sampler: str
    stage: str
    deployment: int
    deployments: int
    rows_per_deployment: int
    updates_done: int
    offline_updates: int
    returns: dict[int, float]
    return_is: str | None
    agents: dict[AgentID, AgentStatus]
    waiting_for: tuple[AgentID, ...]
    out_since: str | None
    shifts: tuple[Shift, ...]
    diverged: tuple[Stop, ...]
    gate: Gated | None
    notes: tuple[str, ...]
    next: str


def status(folder: Path) -> Status:
    """Read where a campaign stands.

    Raises:
        ConfigError: there is no campaign in the folder.
        CorruptionError: a file is damaged.
    """
    path = require_run(folder)
    events = Ledger(folder).events()
    require_same_configuration(path, events)
    try:
        document = json.loads(read_regular(path, LARGEST_CONFIGURATION).decode("utf-8"))
        settings = migrated_configuration(document, path, last_writer(folder))
        require(
            settings["task"] is None,
            f"{folder} deploys in a simulator; see how it does with: {command('report', folder)}",
        )
        (sampler,), (seed,) = settings["samplers"], settings["seeds"]
        num_deployments, offline_updates = int(settings["deployments"]), int(settings["offline_updates"])
        algorithm, rows_per_deployment = _algorithm(settings["algorithm"]), int(settings["rows_per_deployment"])
        require_file_name(sampler, "sampler", CorruptionError)
        require_file_name(str(seed), "seed", CorruptionError)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, OSError, RecursionError) as error:
        raise CorruptionError(f"{path} is not the configuration of a run: {error}") from error
    run = RunDirectory(folder)
    offline, home = run.team(seed), run.team(seed, sampler)
    tuned, damaged = _last_intact(home)
    done, updates_done, trained = tuned or 0, max(checkpoint_steps(offline), default=0), True
    if not done:  # else the offline checkpoint is no longer needed
        learned, damaged_offline = _last_intact(offline)
        updates_done, trained = learned or 0, learned == offline_updates
        damaged = damaged_offline + damaged
    rows = dict.fromkeys(_num_rows(run.data), 0) if run.data.exists() else {}
    for number in range(1, done + 1):
        for agent, num_rows in _num_rows(deployment_folder(home, number) / LOGS).items():
            rows[agent] = rows.get(agent, 0) + num_rows
    records: list[Record] = [{"deployment": 0, "agents": {}}]
    if done or trained:
        records = _records(home, done) if done else _records(offline, offline_updates)
    following = deployment_folder(home, done + 1)
    ingested = (following / LOGS).exists()
    arrived = following / (LOGS if ingested else WAITING)
    there = _num_rows(arrived) if arrived.exists() else {}
    out = exported_policies(events, done + 1)
    stage = _stage(trained, done == num_deployments, ingested, bool(there), bool(out))
    tuned_on = lineage(rows, records if trained else [], events)[-1]
    return Status(
        run=str(folder),
        algorithm=algorithm,
        sampler=sampler,
        stage=stage,
        deployment=min(done + 1, num_deployments),
        deployments=num_deployments,
        rows_per_deployment=rows_per_deployment,
        updates_done=updates_done,
        offline_updates=offline_updates,
        returns={record["deployment"]: record["return"] for record in records if "return" in record},
        return_is=_return_is(records) if len(rows) > 1 else None,
        agents={
            agent: AgentStatus(
                tuned_on[agent],
                tuple(sorted(out.get(agent, ()))),
                there.get(agent),
                rows[agent],
                {
                    record["deployment"]: its[agent]
                    for record in records
                    if agent in (its := record.get("agent_returns", {}))
                },
            )
            for agent in rows
        },
        waiting_for=(
            tuple(agent for agent in rows if agent not in there or agent in _open(arrived))
            if stage == "waiting"
            else ()
        ),
        out_since=_out_since(events, done + 1) if out else None,
        shifts=tuple(shifts(events)),
        diverged=tuple(stops(records)),
        gate=_gate(events, done + 1),
        notes=tuple(map(made_again, damaged)),
        next=_next(stage, folder),
    )


def made_again(checkpoint: Path) -> str:
    """What is said of a checkpoint that is damaged, where there is one before it."""
    return f"{checkpoint} is damaged, so what came after the one before it is done again"


def _return_is(records: list[Record]) -> str | None:
    told = [record["agent_returns"] for record in records if "agent_returns" in record]
    if not told:
        return None
    return "mean over agents" if any(told) else "one reward for all agents"


def _stage(trained: bool, done: bool, ingested: bool, some_arrived: bool, out: bool) -> str:
    if not trained:
        return "training"
    if done:
        return "done"
    if ingested:
        return "ingested"
    if some_arrived:
        return "waiting"
    return "out" if out else "ready"


def _next(stage: str, folder: Path) -> str:
    return {
        "training": command("train", "--run", folder),
        "ready": command("export", folder),
        "out": command("ingest", folder, "LOGS"),
        "waiting": command("ingest", folder, "LOGS"),
        "ingested": command("tune", folder),
        "done": command("report", folder),
    }[stage]


def _gate(events: list[Event], number: int) -> Gated | None:
    found = [gate for _, gate in of_kind(Gated, events, number)]
    return found[-1] if found else None


def _out_since(events: list[Event], number: int) -> str:
    return [event.time for event, _ in of_kind(Exported, events, number)][-1]


def _open(folder: Path) -> set[AgentID]:
    """Agents of whose logs in a folder only a part is there yet."""
    provenance = read_sealed(folder / DATASET, SEALED_DATASET).get("provenance")
    entries = provenance.get("agents") if isinstance(provenance, dict) else None
    entries = entries if isinstance(entries, dict) else {}
    return {agent for agent, its in entries.items() if isinstance(its, dict) and its.get("more") is True}


def _num_rows(folder: Path) -> dict[AgentID, int]:
    """Rows of each agent in a dataset folder."""
    path = folder / DATASET
    listed = read_sealed(path, SEALED_DATASET).get("agents")
    try:
        return {str(entry["name"]): int(entry["num_transitions"]) for entry in listed or ()}
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise CorruptionError(f"{path} does not tell how many rows each agent has; restore a copy") from error


def _last_intact(folder: Path) -> tuple[int | None, list[Path]]:
    """The last checkpoint whose files are what was written, None if there is none, and the damaged ones after it."""
    damaged: list[Path] = []
    for step in sorted(checkpoint_steps(folder), reverse=True):
        checkpoint = checkpoint_folder(folder, step)
        try:
            verify_files(checkpoint, read_sealed(checkpoint / "manifest.json", CHECKPOINT))
            return step, damaged
        except CorruptionError:
            damaged.insert(0, checkpoint)
    return None, damaged


def _records(folder: Path, step: int) -> list[Record]:
    """The measurements that a checkpoint carries."""
    path = checkpoint_folder(folder, step) / "manifest.json"
    return require_records(path, read_sealed(path, CHECKPOINT).get("records"))


def _algorithm(described: dict[str, Any]) -> str:
    return described["type"] if "type" in described else ", ".join(f"{a} {its['type']}" for a, its in described.items())
