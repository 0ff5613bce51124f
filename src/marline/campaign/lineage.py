"""Which deployment each agent's policy comes from, after tuning, freezing, waiving and rolling back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from marline.campaign.ledger import Event
from marline.types import AgentID

Lineage = dict[AgentID, int]


def lineage(agents: Iterable[AgentID], records: Sequence[Mapping[str, Any]], events: Iterable[Event]) -> list[Lineage]:
    """The last deployment that each agent's policy was tuned on: as it came out of every deployment, then as it is now.

    Args:
        agents: the team.
        records: of `History.records`, the first of the offline team.
        events: of the ledger; only rollbacks matter.

    Returns:
        An entry per record, and one more that takes in the rollbacks since the last of them.
    """
    back = [event for event in events if event.kind == "rolled-back"]
    now, found = dict.fromkeys(agents, 0), []
    for record in records:
        frozen = record.get("frozen", ())
        now |= {agent: record["deployment"] for agent in record["agents"] if agent not in frozen}
        found.append(dict(now))
        for event in back:
            if event.deployment == record["deployment"]:
                now |= {agent: found[event.body["to"]][agent] for agent in event.body["agents"]}
    return [*found, dict(now)]
