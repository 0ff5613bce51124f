"""Logs of a deployment that come in parts: the next part of an agent goes behind those that wait."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from marline.data import dataset
from marline.data.dataset import Dataset
from marline.data.layout import logs_of
from marline.errors import DataError
from marline.types import AgentID

Entries = Mapping[AgentID, Mapping[str, Any]]  # of each agent, what `require_logs.describe` tells of its logs


def is_open(entries: Entries, agent: AgentID) -> bool:
    """Whether more logs of an agent, whose logs wait, are to come."""
    return bool(entries.get(agent, {}).get("more", False))


def is_in(entries: Entries, agent: AgentID, its: Mapping[str, Any]) -> bool:
    """Whether logs of an agent, which `describe` tells of, are there already, whole or as a part."""
    known = entries.get(agent, {})
    return its["rows_sha256"] in (known.get("rows_sha256"), *known.get("parts", ()))


def put_behind(
    there: Mapping[AgentID, Dataset],
    waiting: Entries,
    logs: Mapping[AgentID, Dataset],
    fresh: Entries,
    described: Entries,
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
