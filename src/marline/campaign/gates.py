"""After a deployment: whether the team did worse than the one that was deployed before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from marline.evaluation import CONFIDENCE, NUM_REPLICATES
from marline.shell import command

LIMIT = (
    "episodes are drawn anew for the interval, so it knows their scatter and nothing of weather, wear or season: "
    "of teams that are equally good, one in forty is called worse"
)


class Change(NamedTuple):
    """Mean return of a deployment against the one before it.

    Attributes:
        now, before: mean return per episode.
        difference: of both.
        low, high: bootstrap interval of the difference at 95 %; NaN with fewer than two episodes on a side.
    """

    now: float
    before: float
    difference: float
    low: float
    high: float

    @property
    def is_regression(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0


def compare_returns(now: Sequence[float], before: Sequence[float], *, seed: int = 0) -> Change:
    """The change of mean return between two deployments, whose episodes have nothing to do with each other.

    Percentile bootstrap (Efron & Tibshirani 1993, chapter 13) of a difference of two independent means.

    Args:
        now: return of each episode.
        before: the same of the deployment before.
        seed: of the draws; the same seed gives the same interval.
    """
    sides = [np.asarray(now, np.float64), np.asarray(before, np.float64)]
    means = [float(side.mean()) for side in sides]
    low = high = float("nan")
    if min(side.size for side in sides) >= 2:
        random = np.random.default_rng(seed)
        drawn = [side[random.integers(0, side.size, (NUM_REPLICATES, side.size))].mean(axis=1) for side in sides]
        low, high = np.quantile(drawn[0] - drawn[1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Change(means[0], means[1], means[0] - means[1], low, high)


def describe(body: Mapping[str, Any], folder: Path) -> list[str]:
    """What the event of this gate says, and what to do about it."""
    change = Change(*(body[name] for name in Change._fields))
    interval = f"[{change.low:+.3g}, {change.high:+.3g}]" if change.low == change.low else "[too few episodes]"
    lines = [
        f"return per episode {change.now:.4g}, of the team before {change.before:.4g}: "
        f"{change.difference:+.3g} {interval}"
    ]
    if change.is_regression:
        lines.append(f"this is a REGRESSION; {LIMIT}")
        lines += [f"  to go back before tuning: {line}" for line in rollback_commands(body["came_from"], folder)]
    return lines


def rollback_commands(came_from: Mapping[str, int], folder: Path) -> list[str]:
    """What brings a team back, given the deployment that each agent's policy was last tuned on."""
    numbers = sorted(set(came_from.values()))
    if len(numbers) == 1:
        return [command("rollback", folder, "--to", str(numbers[0]))]
    groups = [(number, [agent for agent, its in came_from.items() if its == number]) for number in numbers]
    return [command("rollback", folder, "--to", str(number), "--agent", *agents) for number, agents in groups]
