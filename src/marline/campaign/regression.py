"""After a deployment: whether the team did worse than the one that was deployed before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from marline.display.shell import command
from marline.runs.events import MIN_EPISODES, Change, Gated
from marline.statistics.intervals import Interval, welch_interval

LIMIT = (
    "the interval knows the scatter of episodes and nothing of weather, wear or season: "
    "of teams that are equally good, one in forty is called worse"
)
FEW = f"with fewer than {MIN_EPISODES} episodes in a deployment this is a direction, not a verdict"


def compare_returns(now: Sequence[float], before: Sequence[float]) -> Change:
    """The change of mean return between two deployments, whose episodes have nothing to do with each other.

    Args:
        now: return of each episode.
        before: the same of the deployment before.
    """
    means = [float(np.mean(side)) for side in (now, before)]
    interval = welch_interval(np.asarray(now), np.asarray(before))
    return Change(means[0], means[1], means[0] - means[1], *interval, len(now), len(before))


def describe(gate: Gated, folder: Path) -> list[str]:
    """What the event of this gate says, and what to do about it."""
    change = gate.change
    lines = [
        f"return per episode {change.now:.4g}, of the team before {change.before:.4g}: "
        f"{change.difference:+.3g} {Interval(change.low, change.high)}"
    ]
    if change.is_lower:
        lines.append(f"this is a REGRESSION; {LIMIT}" if change.is_regression else f"the return fell; {FEW}")
        lines += [f"  to go back before tuning: {line}" for line in rollback_commands(gate.came_from or {}, folder)]
    return lines


def rollback_commands(came_from: Mapping[str, int], folder: Path) -> list[str]:
    """What brings a team back, given the deployment that each agent's policy was last tuned on."""
    numbers = sorted(set(came_from.values()))
    if len(numbers) == 1:
        return [command("rollback", folder, "--to", str(numbers[0]))]
    groups = [(number, [agent for agent, its in came_from.items() if its == number]) for number in numbers]
    return [command("rollback", folder, "--to", str(number), "--agent", *agents) for number, agents in groups]
