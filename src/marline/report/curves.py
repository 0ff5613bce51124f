"""Measured quantities as curves over deployments, averaged in steps: over agents, then over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from marline.report.records import Run

Curve = dict[int, float]  # a value by deployment
Measured = Mapping[int, Mapping[str, float]]  # a value by deployment and agent


def measured(run: Run, sampler: str, seed: int, key: str, minus: str | None = None) -> Measured:
    """A quantity by deployment and agent, or what it exceeds another by."""
    values = run.diagnostic(sampler, seed, key)
    if minus is None:
        return values
    other = run.diagnostic(sampler, seed, minus)
    return {
        deployment: {agent: value - other.get(deployment, {}).get(agent, math.nan) for agent, value in agents.items()}
        for deployment, agents in values.items()
    }


def over_agents(values: Measured) -> Curve:
    """The mean over the agents that have a finite value."""
    finite = {k: [value for value in agents.values() if math.isfinite(value)] for k, agents in values.items()}
    return {deployment: float(np.mean(found)) for deployment, found in finite.items() if found}


def by_agent(seeds: Iterable[Measured]) -> dict[str, Curve]:
    """Of each agent, the mean over seeds."""
    seeds = list(seeds)
    agents = sorted({agent for one in seeds for values in one.values() for agent in values})
    return {
        agent: over([{k: values[agent] for k, values in one.items() if agent in values} for one in seeds], np.mean)
        for agent in agents
    }


def over(curves: Iterable[Mapping[int, float]], statistic: Callable[[list[float]], Any]) -> dict[int, Any]:
    """A statistic over curves, at every deployment that any of them has a finite value for."""
    values: dict[int, list[float]] = {}
    for curve in curves:
        for deployment, value in curve.items():
            if math.isfinite(value):
                values.setdefault(deployment, []).append(value)
    return {deployment: statistic(found) for deployment, found in values.items()}


def mean_shares(run: Run, name: str) -> tuple[float, float, float] | None:
    """Shares of drawn rows from the current deployment, from earlier ones, and from the offline data."""
    shares = []
    for key in ("share_current", "share_earlier", "share_offline"):
        curves = [over_agents(run.diagnostic(name, seed, key)) for seed in run.seeds]
        values = [value for curve in curves for value in curve.values() if math.isfinite(value)]
        if not values:
            return None
        shares.append(float(np.mean(values)))
    return shares[0], shares[1], shares[2]
