"""Several tasks put together: interquartile means, who beats whom, and profiles, with what seeds leave open.

After Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice* (NeurIPS 2021), but for
two things. All samplers of a seed start from the same offline team, so seeds are drawn anew for all of them together,
and an improvement is one over the same seed. And a bootstrap of n seeds is too narrow by sqrt((n - 1) / n), which is
made good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from marline.errors import require, require_name
from marline.statistics.intervals import CONFIDENCE, Values, iqm

Statistic = Callable[..., np.ndarray | np.floating]
Scores = Mapping[str, Sequence[Values]]

NUM_REPLICATES = 2000


class Aggregate(NamedTuple):
    """A statistic over tasks x seeds, and its interval; NaN ends where a task has fewer than 2 seeds."""

    value: float
    low: float
    high: float


def aggregate(
    scores: Scores,
    statistic: Statistic = iqm,
    *,
    num_replicates: int = NUM_REPLICATES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, Aggregate]:
    """A statistic of each sampler over all tasks and seeds, with stratified bootstrap intervals.

    Args:
        scores: of each sampler, of each task in the same order, one normalised score per seed in the same order;
            numbers of seeds may differ between tasks, not between samplers.
        statistic: takes an array and an `axis`, like `numpy.mean` and `iqm`; of all values at once.
        num_replicates: how often the seeds are drawn anew, within each task and for all samplers together.
        confidence: share of the replicates inside.
        seed: of the draws; the same seed gives the same interval.
    """
    tasks, fewest = _checked(scores, num_replicates, confidence)
    drawn = _redrawn(tasks, num_replicates, seed)
    return {
        name: _interval(
            statistic(np.concatenate(tasks[name]), axis=-1), statistic(drawn[name], axis=-1), fewest, confidence
        )
        for name in tasks
    }


def aggregate_difference(
    scores: Scores,
    a: str,
    b: str,
    statistic: Statistic = iqm,
    *,
    num_replicates: int = NUM_REPLICATES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Aggregate:
    """The statistic of sampler `a` minus that of `b`, both of the same seeds in every replicate; see `aggregate`."""
    for name in (a, b):
        require_name(name, scores, "sampler of these scores")
    tasks, fewest = _checked({a: scores[a], b: scores[b]}, num_replicates, confidence)
    drawn = _redrawn(tasks, num_replicates, seed)
    value = statistic(np.concatenate(tasks[a]), axis=-1) - statistic(np.concatenate(tasks[b]), axis=-1)
    return _interval(value, statistic(drawn[a], axis=-1) - statistic(drawn[b], axis=-1), fewest, confidence)


def paired_probability_of_improvement(
    a: Sequence[Values],
    b: Sequence[Values],
    *,
    num_replicates: int = NUM_REPLICATES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Aggregate:
    """How often `a` beats `b` in the same seed of the same task; a tie counts half, every task alike.

    Args:
        a, b: of each task in the same order, one value per seed in the same order.
    """
    tasks, fewest = _checked({"a": a, "b": b}, num_replicates, confidence)
    wins = [(np.sign(first - second) + 1) / 2 for first, second in zip(tasks["a"], tasks["b"], strict=True)]
    random = np.random.default_rng(seed)
    drawn = [win[random.integers(0, win.size, (num_replicates, win.size))].mean(axis=1) for win in wins]
    value = float(np.mean([np.mean(win) for win in wins]))
    found = _interval(value, np.mean(drawn, axis=0), fewest, confidence)
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))


def performance_profile(tasks: Sequence[Values], thresholds: Values) -> np.ndarray:
    """Of each threshold, the share of scores above it: within each task, then over tasks, every task alike.

    A score that is not finite is above none.
    """
    require(len(tasks) > 0 and all(np.size(task) > 0 for task in tasks), "a profile needs a score in every task")
    thresholds = np.asarray(thresholds, np.float64)
    shares = []
    for task in tasks:
        values = np.asarray(task, np.float64)
        values = np.where(np.isfinite(values), values, -np.inf)
        shares.append(np.mean(values[:, None] > thresholds, axis=0))
    return np.mean(shares, axis=0)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being the best of several (Holm 1979), in the order given; NaN stays and counts for none.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none falls below one before it, or exceeds 1.
    """
    adjusted = list(map(float, p_values))
    known = sorted((place for place, p in enumerate(adjusted) if not math.isnan(p)), key=lambda place: adjusted[place])
    least = 0.0
    for rank, place in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * adjusted[place]))
        adjusted[place] = least
    return adjusted


def _checked(scores: Scores, num_replicates: int, confidence: float) -> tuple[dict[str, list[np.ndarray]], int]:
    """The scores as arrays, and the least number of seeds of a task."""
    require(num_replicates > 0, f"num_replicates is {num_replicates}, but an interval needs at least 1")
    require(0 < confidence < 1, f"confidence is {confidence}, but must be between 0 and 1")
    tasks = {name: [np.asarray(values, np.float64) for values in its] for name, its in scores.items()}
    shapes = {name: [values.shape for values in its] for name, its in tasks.items()}
    first = next(iter(shapes.values()), [])
    require(len(first) > 0 and all(len(shape) == 1 and shape[0] > 0 for shape in first), "no scores to put together")
    for name, its in shapes.items():
        require(
            its == first,
            f"{name} has scores of shape {its}, and another sampler {first}: samplers are compared on the same seeds "
            "of the same tasks",
        )
    return tasks, min(shape[0] for shape in first)


def _redrawn(tasks: Mapping[str, Sequence[np.ndarray]], num_replicates: int, seed: int) -> dict[str, np.ndarray]:
    """Of each sampler [replicates, values of all tasks]; a replicate holds the same seeds for all samplers."""
    random = np.random.default_rng(seed)
    sizes = [values.size for values in next(iter(tasks.values()))]
    places = [random.integers(0, size, (num_replicates, size)) for size in sizes]
    return {
        name: np.concatenate([values[place] for values, place in zip(its, places, strict=True)], axis=1)
        for name, its in tasks.items()
    }


def _interval(
    value: float | np.ndarray | np.floating, replicates: np.ndarray | np.floating, num_seeds: int, confidence: float
) -> Aggregate:
    """The percentiles of the replicates, moved away from the value by sqrt(n / (n - 1))."""
    value, replicates = float(value), np.asarray(replicates)
    if num_seeds < 2 or not math.isfinite(value):
        return Aggregate(value, math.nan, math.nan)
    wider = value + math.sqrt(num_seeds / (num_seeds - 1)) * (replicates - value)
    low, high = np.quantile(wider, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Aggregate(value, float(low), float(high))
