"""What each agent earns beside its team: whose the return of a run is, and returns of agents by their own rewards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from marline.report.appearance import Look, digits, number, shorten
from marline.report.records import Line, Run

KEY = "agent_returns"  # of a line of measurements


class AgentRow(NamedTuple):
    """An agent under a sampler: its mean return of the offline team, and of the last team that is known."""

    look: Look
    agent: str
    first: str
    last: str
    deployment: int


def whose(run: Run) -> str:
    """Whose the return is: "mean over 3 agents", or "one reward for all agents"; "" where a run does not say."""
    told = [line[KEY] for line in _lines(run) if isinstance(line.get(KEY), dict)]
    agents = {agent for values in told for agent in values}
    if agents:
        return f"mean over {len(agents)} agents"
    team = max((len(line.get("agents") or ()) for line in _lines(run)), default=0)
    return "one reward for all agents" if told and team > 1 else ""


def rows(run: Run, looks: Mapping[str, Look]) -> list[AgentRow]:
    """Returns of each agent under each sampler, over seeds; none where all agents share a reward."""
    found = []
    for name in sorted((sampler.name for sampler in run.samplers), key=lambda name: looks[name].order):
        curves = [run.diagnostic(name, seed, KEY) for seed in run.seeds]
        last = max((max(curve) for curve in curves if curve), default=0)
        agents = dict.fromkeys(agent for curve in curves for values in curve.values() for agent in values)
        sides = [{agent: _of(curves, number, agent) for agent in agents} for number in (0, last)]
        decimals = digits([value for side in sides for values in side.values() for value in values])
        for agent in agents:
            first, final = (_spread(side[agent], decimals) for side in sides)
            found.append(AgentRow(looks[name], shorten(agent, 40), first, final, last))
    return found


def _lines(run: Run) -> Iterator[Line]:
    return (line for lines in run.lines.values() for line in lines.values())


def _of(curves: Sequence[Mapping[int, Mapping[str, float]]], deployment: int, agent: str) -> list[float]:
    """An agent's return of each seed that has a finite one."""
    values = [curve.get(deployment, {}).get(agent, math.nan) for curve in curves]
    return [value for value in values if math.isfinite(value)]


def _spread(values: Sequence[float], decimals: int) -> str:
    if not values:
        return "–"
    mean = number(float(np.mean(values)), decimals)
    return f"{mean} ± {number(float(np.std(values)), decimals)}" if len(values) > 1 else mean
