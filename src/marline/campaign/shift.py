"""How the world of each agent moved from deployment to deployment, as OTC measured it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from marline.runs.events import Tuned, of_kind
from marline.runs.ledger import Event

if TYPE_CHECKING:  # it would import JAX, for which `marline status` does not wait
    from marline.types import AgentID

LIMIT = (
    "the distance is between logged transitions and those of the deployment that match them best; it grows when "
    "partners act otherwise, and also when the agent itself comes to places that its logs do not cover, or logs fewer "
    "than half as many rows as at first"
)


class Shift(NamedTuple):
    """One agent after one deployment; None where the sampler does not measure it.

    Attributes:
        alpha: exponent of the rank.
        distance: mean distance of its rows to their matches in the deployment.
        histogram: how many of the rows that were looked at fall into each bin of `ops.distance_bins`.
        growth: of that distance since the first deployment that it was measured in; 1 is no change.
        effective_sample_size: of the ranks; how many candidates the draws are worth.
        online_share: of the drawn rows, those from any deployment; None if it was frozen.
    """

    agent: AgentID
    deployment: int
    alpha: float | None
    distance: float | None
    histogram: tuple[int, ...] | None
    growth: float | None
    effective_sample_size: float | None
    online_share: float | None


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
            earlier, current = measured.get("share_earlier"), measured.get("share_current")
            found.append(
                Shift(
                    agent,
                    number,
                    measured.get("alpha"),
                    distance,
                    tuple(measured["distance_histogram"]) if "distance_histogram" in measured else None,
                    distance / first[agent] if distance is not None and first[agent] > 0 else None,
                    measured.get("effective_sample_size"),
                    None if earlier is None or current is None else earlier + current,
                )
            )
    return found


def most_moved(found: Iterable[Shift]) -> Shift | None:
    """The agent whose distance has grown most by its last deployment, if any has since the first."""
    last = {shift.agent: shift for shift in found}
    grown = [shift for shift in last.values() if shift.growth is not None and shift.growth > 1]
    return max(grown, key=lambda shift: shift.growth or 0.0, default=None)
