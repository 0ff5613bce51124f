"""Whether logs are those that a campaign waits for: of its agents, this deployment, and the policies that were sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from marline.campaign.ledger import Event
from marline.campaign.lineage import exported_policies
from marline.campaign.receiving import Stamp
from marline.data import dataset
from marline.data.channels import Channels
from marline.data.dataset import Dataset
from marline.data.layout import logs_of
from marline.errors import DataError
from marline.types import AgentID, Spec


class Ingested(NamedTuple):
    """What became of logs that were brought in.

    Attributes:
        deployment: the one that they are of.
        outcome: "ingested" if the deployment is complete; "waiting" if logs of others, or more, are to come;
            "repeated" if they were all in before, so that nothing was done.
        rows: of each agent that is in.
        waiting_for: agents whose logs, or more of whose logs, are to come.
        waived: agents that the deployment does without: they keep policy and data.
        notes: what is odd or was changed, one sentence each.
    """

    deployment: int
    outcome: str
    rows: Mapping[AgentID, int]
    waiting_for: tuple[AgentID, ...]
    waived: tuple[AgentID, ...]
    notes: tuple[str, ...] = ()


def is_open(entries: Mapping[AgentID, Mapping[str, Any]], agent: AgentID) -> bool:
    """Whether more logs of an agent, whose logs wait, are to come."""
    return bool(entries.get(agent, {}).get("more", False))


def put_behind(
    there: Mapping[AgentID, Dataset],
    waiting: Mapping[AgentID, Mapping[str, Any]],
    logs: Mapping[AgentID, Dataset],
    fresh: Mapping[AgentID, Mapping[str, Any]],
    described: Mapping[AgentID, Mapping[str, Any]],
    *,
    more: bool,
) -> tuple[dict[AgentID, Dataset], dict[AgentID, dict[str, Any]]]:
    """Logs that came in parts, one behind the other, and what is to be kept of each agent.

    Args:
        there, waiting: the parts that wait, and what was kept of them.
        logs: what came now.
        fresh: `describe` of those that are not in yet.
        described: that of all of them.
        more: whether more is to come of the agents that logged them.

    Raises:
        DataError: two parts tell of other policies, or have other columns.
    """
    whole: dict[AgentID, Dataset] = {}
    entries: dict[AgentID, dict[str, Any]] = {}
    for agent in described:
        before = waiting.get(agent, {})
        if agent not in fresh:  # it is in, and may be the last
            entries[agent] = {key: value for key, value in before.items() if key != "more"}
        elif agent in there and is_open(waiting, agent):
            policies = before["policy_sha256"], fresh[agent]["policy_sha256"]
            if policies[0] != policies[1]:
                shown = " and ".join(str(policy)[:12] for policy in policies)
                raise DataError(
                    f"{logs_of(agent, logs[agent].source)} are of another policy than the part before ({shown}); log "
                    "all of a deployment with one"
                )
            whole[agent] = _behind(agent, there[agent], logs[agent])
            parts = [*before.get("parts", [before["rows_sha256"]]), fresh[agent]["rows_sha256"]]
            entries[agent] = {**fresh[agent], **_size(agent, whole[agent]), "parts": parts}
        else:
            whole[agent], entries[agent] = logs[agent], dict(fresh[agent])
        if more:
            entries[agent]["more"] = True
    return whole, entries


def _behind(agent: AgentID, before: Dataset, after: Dataset) -> Dataset:
    """Two parts of an agent's logs as one: the first ends, for what came between them is not known."""
    columns, others = before.columns(), after.columns()
    if columns.keys() != others.keys():
        raise DataError(
            f"{logs_of(agent, after.source)} have the columns {', '.join(others)}, but the part before has "
            f"{', '.join(columns)}; log all of a deployment alike"
        )
    timeouts = columns["timeouts"].copy()
    timeouts[-1] |= not columns["terminals"][-1]
    columns["timeouts"] = timeouts
    whole: dict[str, Any] = {key: np.concatenate([column, others[key]]) for key, column in columns.items()}
    return dataclasses.replace(after, **whole)


def _size(agent: AgentID, log: Dataset) -> dict[str, Any]:
    return {"rows": len(log), "rows_sha256": dataset.digest({agent: log})}


def require_stamps(stamps: Mapping[AgentID, Stamp], events: Iterable[Event], deployment: int, source: str) -> None:
    """Raise `DataError` unless stamped logs are of the deployment, and of policies that went out for it."""
    events = list(events)
    out = exported_policies(events, deployment)
    for agent, stamp in stamps.items():
        where = logs_of(agent, source)
        if stamp.deployment != deployment:
            raise DataError(
                f"{where} are stamped with deployment {stamp.deployment}, but those of {deployment} are awaited; "
                "bring the logs of the bundles that were exported last"
            )
        if stamp.policy_sha256 not in out.get(agent, ()):
            raise DataError(
                f"{where} are stamped with policy {stamp.policy_sha256[:12]}, which {_history(stamp, agent, events)}; "
                + _expected(agent, out, deployment)
            )


def _history(stamp: Stamp, agent: AgentID, events: Iterable[Event]) -> str:
    """What the ledger knows of a policy that was not awaited."""
    for event in events:
        if event.kind != "exported":
            continue
        for other, policy in event.body["policies"].items():
            if policy == stamp.policy_sha256 and other != agent:
                return f"is that of agent {other!r}"
            if policy == stamp.policy_sha256 and event.deployment == stamp.deployment:
                return "was rolled back since"
            if policy == stamp.policy_sha256:
                return f"went out for deployment {event.deployment}"
    return "never left this run directory"


def _expected(agent: AgentID, out: Mapping[AgentID, set[str]], deployment: int) -> str:
    if agent not in out:
        return f"no bundle of it for deployment {deployment} went out: run marline export first, and deploy that"
    return f"deployment {deployment} runs policy {' or '.join(sorted(name[:12] for name in out[agent]))}"


def require_fitting(
    logs: Mapping[AgentID, Dataset],
    specs: Mapping[AgentID, Spec],
    channels: Mapping[AgentID, Channels],
    rows_per_deployment: int,
) -> None:
    """Raise `DataError` unless logs are of agents of the team, of their sizes and scale, and within the budget of rows.

    Args:
        logs: by agent.
        specs, channels: of the offline logs of the whole team.
        rows_per_deployment: the most rows of an agent.
    """
    strange = [agent for agent in logs if agent not in specs]
    if strange:
        raise DataError(
            f"logs of the wrong agents: {', '.join(f'{agent[:40]!r} is not of this team' for agent in strange)}; "
            f"the team is {', '.join(specs)}"
        )
    for agent, log in logs.items():
        where = logs_of(agent, log.source)
        if log.spec != specs[agent]:
            raise DataError(f"{where} have {log.spec}, but its offline logs have {specs[agent]}; log the same columns")
        channels[agent].require_agreement(where, log.channels)
        if len(log) > rows_per_deployment:
            raise DataError(
                f"{where} hold {len(log)} rows, but the campaign planned at most {rows_per_deployment} per deployment; "
                "cut them, for every agent at the same episode"
            )


def describe(logs: Mapping[AgentID, Dataset], stamps: Mapping[AgentID, Stamp]) -> dict[AgentID, dict[str, Any]]:
    """What is kept of each agent's logs: rows, a hash of them, and the policy that acted, if they tell."""
    return {
        agent: {
            **_size(agent, log),
            "policy_sha256": stamps[agent].policy_sha256 if agent in stamps else None,
        }
        for agent, log in logs.items()
    }
