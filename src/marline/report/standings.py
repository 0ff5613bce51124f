"""The table of where every sampler ended: in numbers, and drawn to one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from marline.report.appearance import Look, digits, number
from marline.report.comparison import Comparison, Outcome
from marline.report.records import Run
from marline.report.statements import field_improvement, finding_text, interval


class Whisker(NamedTuple):
    """A difference drawn to scale, in percent of the width: interval, mean, seeds, and where 0 is."""

    zero: float
    low: float
    high: float
    mean: float
    seeds: list[float]


class Compared(NamedTuple):
    """A cell of the table: a difference in numbers, in words, and drawn."""

    text: str
    finding: str
    after: int | None
    whisker: Whisker


class Row(NamedTuple):
    """What one sampler came to; `after` is set where it has not reached the last deployment.

    `improvement` is in percent of the offline return, of a campaign with its interval.

    `compared` has a cell for each of the run's `references`; `per_seed` the texts of each seed.
    """

    look: Look
    num_seeds: int
    first: str
    last: str
    after: int | None
    improvement: str
    to_baseline: str
    compared: list[Compared | None]
    per_seed: list[tuple[int, list[str]]]


def references(run: Run, found: Sequence[Outcome], looks: Mapping[str, Look]) -> dict[str, str]:
    """What samplers of this run are compared with: the field of an outcome, and its name for people."""
    names = {"to_shuffled": "its shuffled control"}
    names |= {"to_baseline": looks[run.baseline].label} if run.baseline is not None else {}
    names |= {"to_matched": "its matched control"}
    return {
        field: name
        for field, name in names.items()
        if field == "to_baseline" or any(getattr(outcome, field) for outcome in found)
    }


def rows(run: Run, found: Sequence[Outcome], looks: Mapping[str, Look]) -> list[Row]:
    """One row per sampler, all differences on one scale."""
    ends = [0.0]
    for comparison in (comparison for outcome in found for comparison in outcome.comparisons):
        difference = comparison.difference
        ends += [end for end in (difference.low, difference.high, *difference.per_seed) if math.isfinite(end)]
    scale = (min(ends), max(ends))
    decimals = digits([value for outcome in found for value in (*outcome.first, *outcome.last)])
    percent = digits([value for outcome in found for value in outcome.improvement])
    fields = list(references(run, found, looks))
    return [
        _row(run, outcome, looks[outcome.sampler], fields, scale, decimals, percent)
        for outcome in sorted(found, key=lambda outcome: looks[outcome.sampler].order)
    ]


def _row(
    run: Run,
    outcome: Outcome,
    look: Look,
    fields: Sequence[str],
    scale: tuple[float, float],
    decimals: int,
    percent: int,
) -> Row:
    compared: list[Comparison | None] = [getattr(outcome, field) for field in fields]

    def spread(values: Sequence[float], places: int) -> str:
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return "–"
        mean = sum(finite) / len(finite)
        std = math.sqrt(sum((value - mean) ** 2 for value in finite) / len(finite))
        return number(mean, places) + (f" ± {number(std, places)}" if len(finite) > 1 else "")

    def after(deployment: int) -> int | None:
        return run.measured_in(deployment) if run.measured_in(deployment) != run.num_deployments else None

    def cell(comparison: Comparison | None) -> Compared | None:
        if comparison is None or not comparison.seeds:
            return None
        words = interval(comparison.difference), finding_text(comparison)
        return Compared(*words, after(comparison.deployment), _whisker(comparison, scale))

    def of_seed(comparison: Comparison | None, seed: int) -> str:
        if comparison is None or seed not in comparison.seeds:
            return "–"
        value = comparison.difference.per_seed[comparison.seeds.index(seed)]
        return number(value, digits(comparison.difference.per_seed), sign=True)

    per_seed = [
        (
            seed,
            [
                number(first, decimals),
                number(last, decimals),
                number(change, percent, sign=True),
                *(of_seed(comparison, seed) for comparison in compared),
            ],
        )
        for seed, first, last, change in zip(
            outcome.seeds, outcome.first, outcome.last, outcome.improvement, strict=True
        )
    ]
    return Row(
        look=look,
        num_seeds=len(outcome.seeds),
        first=spread(outcome.first, decimals),
        last=spread(outcome.last, decimals),
        after=after(outcome.deployment),
        improvement=interval(field_improvement(run, outcome))
        if run.is_campaign
        else spread(outcome.improvement, percent),
        to_baseline=of_baseline.text if (of_baseline := cell(outcome.to_baseline)) is not None else "",
        compared=[cell(comparison) for comparison in compared],
        per_seed=per_seed,
    )


def _whisker(comparison: Comparison, scale: tuple[float, float]) -> Whisker:
    low, high = scale

    def place(value: float) -> float:
        return round(3 + 94 * (value - low) / (high - low or 1.0), 2)

    mean, *ends, per_seed = comparison.difference
    ends = [end if math.isfinite(end) else mean for end in ends]
    return Whisker(place(0.0), place(ends[0]), place(ends[1]), place(mean), [place(value) for value in per_seed])
