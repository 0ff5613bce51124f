"""A campaign's ledger in sentences, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from marline.campaign.regression import read_change
from marline.runs.ledger import Event
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
        body = event.body
        is_warning = "diverged" in body or (event.kind == "gated" and bool(body["regression"]))
        if event.kind == "exported":
            text, out = _exported(body, out), {**out, **body["policies"]}
        else:
            text = _SENTENCES[event.kind](body) if event.kind in _SENTENCES else ""
        moments.append(Moment(event.time, event.deployment, event.kind, text, is_warning))
    return moments


def _exported(body: Mapping[str, Any], before: Policies) -> str:
    policies = body["policies"]
    changed = [agent for agent, policy in policies.items() if before.get(agent) != policy]
    sent = ", ".join(f"{agent} {policies[agent][:12]}" for agent in policies)
    news = "the first" if not before else f"changed: {', '.join(changed) or 'nobody'}"
    return f"policies went out: {sent} ({news})"


def _created(body: Mapping[str, Any]) -> str:
    return "offline logs: " + ", ".join(f"{agent} {rows:,} rows" for agent, rows in body["rows"].items())


def _arrived(body: Mapping[str, Any]) -> str:
    text = ", ".join(f"{agent} {its['rows']:,} rows" for agent, its in body["agents"].items())
    return text + (f"; waived: {', '.join(body['waived'])}" if body.get("waived") else "")


def _gated(body: Mapping[str, Any]) -> str:
    change = read_change(body)
    text = f"return per episode {change.now:.4g}, before {change.before:.4g}: {change.difference:+.3g}"
    text += f" {Interval(change.low, change.high)}"
    fell = ", a regression" if change.is_regression else ", a direction" if change.is_lower else ""
    return text + fell


def _foreseen(body: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{agent}: value {its['value_difference']:+.3g} {Interval(its['low'], its['high'])}, "
        f"actions {its['deviation']:.3g} apart, {100 * its['unfamiliar']:.0f} % unfamiliar"
        for agent, its in body["agents"].items()
    )


def _tuned(body: Mapping[str, Any]) -> str:
    parts = []
    for agent, its in body["agents"].items():
        shares = [its.get(name) for name in ("share_earlier", "share_current")]
        numbers = [f"alpha {its['alpha']:.2f}"] if "alpha" in its else []
        numbers += [f"distance {its['estimated_distance']:.3g}"] if "estimated_distance" in its else []
        numbers += [f"online {100 * sum(shares):.0f} %"] if None not in shares else []
        numbers += ["frozen"] if agent in body["frozen"] else []
        parts.append(f"{agent}: {', '.join(numbers)}")
    return "; ".join(parts) + (f"; waived: {', '.join(body['waived'])}" if body["waived"] else "") + _diverged(body)


def _trained(body: Mapping[str, Any]) -> str:
    return f"{body['updates']:,} updates of every agent on its offline logs" + _diverged(body)


def _diverged(body: Mapping[str, Any]) -> str:
    return "".join(
        f"; {agent} DIVERGED at update {its['update']} ({its['reason']}) and stays as it was"
        for agent, its in body.get("diverged", {}).items()
    )


def _rolled_back(body: Mapping[str, Any]) -> str:
    return f"{', '.join(body['agents'])} back to what came out of deployment {body['to']}"


_SENTENCES = {
    "created": _created,
    "trained": _trained,
    "waiting": _arrived,
    "ingested": _arrived,
    "gated": _gated,
    "foreseen": _foreseen,
    "tuned": _tuned,
    "rolled-back": _rolled_back,
}
