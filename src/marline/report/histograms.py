"""How far logged rows are from their matches, as one small figure per agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from marline.ops.distance_bins import EDGES, NUM_BINS
from marline.report.appearance import Look, shorten
from marline.report.chart import Axis, Chart, Mark, Role
from marline.report.figures import SHARE
from marline.report.records import Run

KEY = "distance_histogram"
MOST_AGENTS = 8
# of the bins, for the axis: the first begins at 0, and the last has no end
ENDS = np.concatenate([[EDGES[0] / np.sqrt(2)], EDGES, [EDGES[-1] * np.sqrt(2)]])


def distance_charts(run: Run, looks: Mapping[str, Look]) -> list[Chart]:
    """A figure per agent: shares of rows by distance, a line per sampler and deployment, added up over seeds."""
    counts = _counts(run, looks)
    agents = sorted({agent for agent, *_ in counts})
    several = len({number for *_, number in counts}) > 1
    note = "Dotted is the first deployment, bold the last; further right" if several else "Further right"
    note += ", fewer logged rows have a match."
    if len(agents) > MOST_AGENTS:
        note += f" {len(agents) - MOST_AGENTS} more agents are left out."
    return [
        Chart(f"Distances of {shorten(agent)}", note, marks, Axis("distance", log=True), SHARE)
        for agent in agents[:MOST_AGENTS]
        if (marks := list(_marks(agent, counts, looks)))
    ]


def _counts(run: Run, looks: Mapping[str, Look]) -> dict[tuple[str, str, int], np.ndarray]:
    """By agent, sampler and deployment."""
    found: dict[tuple[str, str, int], np.ndarray] = {}
    for name in looks:
        for seed in run.seeds:
            for deployment, line in run.lines.get((name, seed), {}).items():
                agents = line.get("agents")
                for agent, its in agents.items() if isinstance(agents, dict) else ():
                    counts = its.get(KEY) if isinstance(its, dict) else None
                    if _is_histogram(counts):
                        place = agent, name, deployment
                        found[place] = found.get(place, 0) + np.array(counts, np.float64)
    return found


def _is_histogram(counts: object) -> bool:
    return isinstance(counts, list) and len(counts) == NUM_BINS and all(type(one) is int for one in counts)


def _marks(agent: str, counts: Mapping[tuple[str, str, int], np.ndarray], looks: Mapping[str, Look]) -> Iterator[Mark]:
    mine = {place: one for place, one in counts.items() if place[0] == agent and one.sum() > 0}
    if not mine:
        return
    (used,) = np.nonzero(np.sum([*mine.values()], axis=0))
    first, last = max(0, used[0] - 1), min(used[-1] + 2, NUM_BINS)
    for name, look in looks.items():
        numbers = sorted(number for _, sampler, number in mine if sampler == name)
        for number in numbers:
            role: Role = "mean" if number == numbers[-1] else "dotted" if number == numbers[0] else "agent"
            share = 100 * mine[agent, name, number] / mine[agent, name, number].sum()
            edges, heights = ENDS[first : last + 1].tolist(), share[first:last].tolist()
            yield Mark(edges, heights, "steps", role, look, look.label, f"deployment {number}")
