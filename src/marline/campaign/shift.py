"""How the world of each agent moved from deployment to deployment, as its sampler measured it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from marline.runs.events import Event, Tuned, of_kind

if TYPE_CHECKING:  # it would import JAX, for which `marline status` does not wait
    from marline.runs.records import ShiftRecord
    from marline.types import AgentID

LIMIT = (
    "the distance is between logged transitions and those of the deployment that match them best; it grows when "
    "partners act otherwise, and also when the agent itself comes to places that its logs do not cover, or logs fewer "
    "than half as many rows as at first"
)


LEAST_NATS = 0.01  # per row: below, a change hardly matters whatever its p-value


class Shift(NamedTuple):
    """One agent after one deployment; None where the sampler does not measure it.

    Attributes:
        alpha: exponent of the rank.
        distance: mean distance of its rows to their matches in the deployment.
        histogram: how many of the rows that were looked at fall into each bin of `ops.distance_bins`.
        growth: of that distance since the first deployment that it was measured in; 1 is no change.
        effective_sample_size: of the ranks; how many candidates the draws are worth.
        online_share: of the drawn rows, those from any deployment; None if it was frozen.
        change_nats: by how much today's law of what follows its actions foretells a held-out row of the deployment
            better than the law of its logs, where the logs have been.
        change_se: standard error of that, over episodes.
        change_p_value: one-sided, of nothing having changed.
        changed: whether it was shown that something had.
        power: that the weights of its logged rows are raised to, 0 where they are of no use; see `samplers.powers`.
        target_shift: by how much those that are told anew differ from what the law of the logs foretells.
    """

    agent: AgentID
    deployment: int
    alpha: float | None
    distance: float | None
    histogram: tuple[int, ...] | None
    growth: float | None
    effective_sample_size: float | None
    online_share: float | None
    change_nats: float | None = None
    change_se: float | None = None
    change_p_value: float | None = None
    changed: bool | None = None
    power: float | None = None
    target_shift: float | None = None

    @property
    def corrects(self) -> bool:
        """Whether logged rows are preferred for it, or told anew."""
        return bool(self.changed) and self.power != 0.0

    @property
    def matters(self) -> bool:
        """Whether a change was shown that is large enough to be worth correcting."""
        return bool(self.changed) and (self.change_nats or 0.0) >= LEAST_NATS


def shifts(events: Iterable[Event]) -> list[Shift]:
    """One per agent and deployment, in order, from the ledger."""
    found: list[Shift] = []
    first: dict[AgentID, float] = {}
    # of what was tuned again, after its checkpoint was lost, the later counts
    for number, tuned in {event.deployment: tuned for event, tuned in of_kind(Tuned, events)}.items():
        for agent, measured in tuned.agents.items():
            distance = measured.get("estimated_distance")
            if distance is not None:
                first.setdefault(agent, distance)
            found.append(shift_of(agent, number, measured, first.get(agent)))
    return found


def shift_of(agent: AgentID, number: int, measured: ShiftRecord, first_distance: float | None = None) -> Shift:
    """What was measured of an agent at a deployment; `first_distance` is that of the first one that measured it."""
    distance = measured.get("estimated_distance")
    earlier, current = measured.get("share_earlier"), measured.get("share_current")
    return Shift(
        agent,
        number,
        measured.get("alpha"),
        distance,
        tuple(measured["distance_histogram"]) if "distance_histogram" in measured else None,
        distance / first_distance if distance is not None and first_distance else None,
        measured.get("effective_sample_size"),
        None if earlier is None or current is None else earlier + current,
        measured.get("change_nats"),
        measured.get("change_se"),
        measured.get("change_p_value"),
        None if "gate_open" not in measured else measured["gate_open"] > 0,
        measured.get("power"),
        measured.get("target_shift"),
    )


def describe_changes(found: Iterable[Shift]) -> list[str]:
    """Whose partners, or world, changed by its last deployment, and whether it matters, most changed first."""
    last = {shift.agent: shift for shift in found if shift.change_nats is not None}
    shown = sorted(last.values(), key=lambda shift: (not shift.matters, -(shift.change_nats or 0.0)))
    return [_change(shift) for shift in shown]


def _change(shift: Shift) -> str:
    nats = f"{shift.change_nats:.3f} +- {shift.change_se or 0.0:.3f} nats a row"
    if shift.change_p_value is not None:
        nats += f", p {shift.change_p_value:.2g}" if shift.change_p_value >= 0.001 else ", p below 0.001"
    if shift.matters:
        told = f"changed: partners or the world no longer answer {shift.agent} as in its logs"
    elif shift.changed:
        told = f"changed, but hardly (below {LEAST_NATS} nats)"
    else:
        told = "no change shown"
    if shift.corrects:
        done = "rows that fit today are preferred" if shift.target_shift is None else "its logged rows are told anew"
    else:
        done = "no row is preferred for fitting today"
        if shift.changed:
            done = f"weights would not help to foretell its TD errors: {done}"
    return f"{shift.agent}, deployment {shift.deployment}: {told} ({nats}); {done}"


def most_moved(found: Iterable[Shift]) -> Shift | None:
    """The agent whose distance has grown most by its last deployment, if any has since the first."""
    last = {shift.agent: shift for shift in found}
    grown = [shift for shift in last.values() if shift.growth is not None and shift.growth > 1]
    return max(grown, key=lambda shift: shift.growth or 0.0, default=None)
