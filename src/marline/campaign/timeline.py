"""A campaign's ledger in sentences, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from marline.runs.events import (
    Change,
    Content,
    Created,
    Event,
    Exported,
    Gated,
    Ingested,
    Later,
    OffPolicyEvaluated,
    RolledBack,
    Trained,
    Tuned,
    Waiting,
)
from marline.runs.records import LogsRecord, OffPolicyRecord, ShiftRecord
from marline.statistics.intervals import Interval

if TYPE_CHECKING:
    from marline.types import AgentID

    Policies = Mapping[AgentID, str]


class Moment(NamedTuple):
    """A row of the timeline.

    Attributes:
        time: in UTC.
        deployment: the one that it belongs to; 0 is the offline team.
        kind: of the event.
        text: what happened.
        is_warning: whether somebody should look.
    """

    time: str
    deployment: int
    kind: str
    text: str
    is_warning: bool = False


def timeline(events: Iterable[Event]) -> list[Moment]:
    """A sentence for every event, in order."""
    moments = []
    out: Policies = {}
    for event in events:
        content, is_warning = event.content, False
        if isinstance(content, Trained | Tuned):
            is_warning = content.diverged is not None
        elif isinstance(content, Gated):
            is_warning = content.regression
        moments.append(Moment(event.time, event.deployment, event.kind, _sentence(content, out), is_warning))
        out = {**out, **content.policies} if isinstance(content, Exported) else out
    return moments


def _sentence(content: Content, out: Policies) -> str:
    """What an event tells, given the policies that went out before; nothing of kinds of a later marline."""
    match content:
        case Created():
            return "offline logs: " + ", ".join(f"{agent} {rows:,} rows" for agent, rows in content.rows.items())
        case Trained():
            return f"{content.updates:,} updates of every agent on its offline logs" + _diverged(content)
        case Exported():
            return _exported(content.policies, out)
        case Waiting():
            return _arrived(content.agents)
        case Ingested():
            return _arrived(content.agents) + _waived(content)
        case Gated():
            return _gated(content.change)
        case OffPolicyEvaluated():
            return "; ".join(f"{agent}: {_foreseen(its)}" for agent, its in content.agents.items())
        case Tuned():
            parts = "; ".join(_tuned(agent, its, agent in content.frozen) for agent, its in content.agents.items())
            return parts + _waived(content) + _diverged(content)
        case RolledBack():
            return f"{', '.join(content.agents)} back to what came out of deployment {content.to}"
        case Later():
            return ""


def _foreseen(its: OffPolicyRecord) -> str:
    actions = f"actions {its['deviation']:.3g} apart, {100 * its['unfamiliar']:.0f} % unfamiliar"
    if reason := its.get("no_value"):
        return f"{actions}, no estimate of the value, because {reason}"
    unchecked = "" if "no_value" in its else " (by an earlier marline, which did not ask whether it is one)"
    return f"value {its['value_difference']:+.3g} {Interval(its['low'], its['high'])}{unchecked}, {actions}"


def _exported(policies: Policies, before: Policies) -> str:
    changed = [agent for agent, policy in policies.items() if before.get(agent) != policy]
    sent = ", ".join(f"{agent} {policies[agent][:12]}" for agent in policies)
    news = "the first" if not before else f"changed: {', '.join(changed) or 'nobody'}"
    return f"policies went out: {sent} ({news})"


def _arrived(agents: Mapping[AgentID, LogsRecord]) -> str:
    return ", ".join(f"{agent} {its['rows']:,} rows" for agent, its in agents.items())


def _waived(content: Ingested | Tuned) -> str:
    return f"; waived: {', '.join(content.waived)}" if content.waived else ""


def _gated(change: Change) -> str:
    text = f"return per episode {change.now:.4g}, before {change.before:.4g}: {change.difference:+.3g}"
    text += f" {Interval(change.low, change.high)}"
    fell = ", a regression" if change.is_regression else ", a direction" if change.is_lower else ""
    return text + fell


def _tuned(agent: AgentID, its: ShiftRecord, is_frozen: bool) -> str:
    earlier, current = its.get("share_earlier"), its.get("share_current")
    numbers = [f"alpha {its['alpha']:.2f}"] if "alpha" in its else []
    numbers += [f"distance {its['estimated_distance']:.3g}"] if "estimated_distance" in its else []
    numbers += [f"change {its['change_nats']:.3g} nats a row"] if "change_nats" in its else []
    numbers += ["corrects"] if its.get("gate_open", 0) > 0 and its.get("power", 1) > 0 else []
    numbers += [f"online {100 * (earlier + current):.0f} %"] if earlier is not None and current is not None else []
    numbers += ["frozen"] if is_frozen else []
    return f"{agent}: {', '.join(numbers)}"


def _diverged(content: Trained | Tuned) -> str:
    return "".join(
        f"; {agent} DIVERGED at update {its['update']} ({its['reason']}) and stays as it was"
        for agent, its in (content.diverged or {}).items()
    )
