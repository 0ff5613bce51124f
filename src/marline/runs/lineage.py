"""Which deployment each agent's policy comes from after tuning, freezing and rolling back, and which went out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from marline.errors import CorruptionError
from marline.runs.events import Exported, RolledBack, of_kind
from marline.runs.ledger import Event
from marline.runs.records import Record

if TYPE_CHECKING:  # it would import JAX, for which `marline status` does not wait
    from marline.types import AgentID

    Lineage = dict[AgentID, int]


def lineage(agents: Iterable[AgentID], records: Sequence[Record], events: Iterable[Event]) -> list[Lineage]:
    """The last deployment that each agent's policy was tuned on: as it came out of every deployment, then as it is now.

    Args:
        agents: the team.
        records: of `History.records`, the first of the offline team.
        events: of the ledger; only rollbacks matter.

    Returns:
        An entry per record, and one more that takes in the rollbacks since the last of them.

    Raises:
        CorruptionError: a rollback to a deployment or of an agent that there never was.
    """
    back = list(of_kind(RolledBack, events))
    now, found = dict.fromkeys(agents, 0), []
    for record in records:
        still = {*record.get("frozen", ()), *record.get("diverged", ())}
        now |= {agent: record["deployment"] for agent in record["agents"] if agent not in still}
        found.append(dict(now))
        for event, decided in back:
            if event.deployment == record["deployment"]:
                if not (0 <= decided.to < len(found) and now.keys() >= set(decided.agents)):
                    raise CorruptionError(
                        f"event {event.number} of the ledger goes back to what there never was; restore a copy"
                    )
                now |= {agent: found[decided.to][agent] for agent in decided.agents}
    return [*found, dict(now)]


def exported_policies(events: Iterable[Event], deployment: int) -> dict[AgentID, set[str]]:
    """The policies that went out for a deployment and were not withdrawn by a rollback since, by agent."""
    out: dict[AgentID, set[str]] = {}
    for event in events:
        content = event.content
        if isinstance(content, Exported) and event.deployment == deployment:
            for agent, policy in content.policies.items():
                out.setdefault(agent, set()).add(policy)
        elif isinstance(content, RolledBack) and event.deployment == deployment - 1:
            for agent in content.agents:
                out.pop(agent, None)
    return out
