"""Who ended where: paired comparisons of the samplers of one run."""

from __future__ import annotations

import math
from typing import NamedTuple

from marline.evaluation import Difference, Spread, improvement_percent, paired_difference, spread
from marline.report.records import Run


class Comparison(NamedTuple):
    """Sampler `a` minus sampler `b` after one deployment, over the seeds that both have reached.

    Attributes:
        lost: seeds that both have reached, but with a return that is not finite.
    """

    a: str
    b: str
    deployment: int
    seeds: tuple[int, ...]
    difference: Difference
    lost: int


class Outcome(NamedTuple):
    """What one sampler came to: its last deployment, by seed, and against its references.

    `improvement` holds percent per seed, in the order of `seeds`; NaN where the offline team returns 0.
    """

    sampler: str
    deployment: int
    seeds: tuple[int, ...]
    first: tuple[float, ...]
    last: tuple[float, ...]
    improvement: tuple[float, ...]
    to_baseline: Comparison | None
    to_control: Comparison | None

    @property
    def final(self) -> Spread:
        return spread(self.last)

    @property
    def improvement_spread(self) -> Spread:
        return spread(self.improvement)


def outcomes(run: Run) -> list[Outcome]:
    """The outcome of every sampler that has been deployed at least once."""
    return [
        _outcome(run, sampler.name, deployment)
        for sampler in run.samplers
        if (deployment := last_deployment(run, sampler.name)) is not None
    ]


def _outcome(run: Run, name: str, deployment: int) -> Outcome:
    first, last = run.returns(name, 0), run.returns(name, deployment)
    seeds = tuple(seed for seed in last if seed in first) or tuple(last)
    before = [first.get(seed, math.nan) for seed in seeds]
    after = [last[seed] for seed in seeds]
    # both references after the same deployment, or no conclusion could be drawn from the two together
    references = [ref if ref != name else None for ref in (run.baseline, run.control_of(name))]
    references = [ref if ref is None or last_deployment(run, name, ref) is not None else None for ref in references]
    common = last_deployment(run, name, *(ref for ref in references if ref is not None))
    to_baseline, to_control = (compare(run, name, ref, common) for ref in references)
    return Outcome(
        sampler=name,
        deployment=deployment,
        seeds=seeds,
        first=tuple(before),
        last=tuple(after),
        improvement=tuple(improvement_percent(before, after).tolist()),
        to_baseline=to_baseline,
        to_control=to_control,
    )


def last_deployment(run: Run, *samplers: str) -> int | None:
    """The last deployment that at least half of the seeds that have started have reached in all of the samplers."""
    reached = [
        {deployment for deployment in set.intersection(*paths) if deployment > 0}
        for seed in run.seeds
        if all(paths := [set(run.curve(sampler, seed)) for sampler in samplers])
    ]
    for deployment in sorted(set().union(*reached), reverse=True):
        if 2 * sum(deployment in deployments for deployments in reached) >= len(reached):
            return deployment
    return None


def compare(run: Run, a: str, b: str | None, deployment: int | None) -> Comparison | None:
    """Sampler `a` against `b` after a deployment, if any seed has reached it in both."""
    if b is None or deployment is None:
        return None
    first, second = run.returns(a, deployment), run.returns(b, deployment)
    seeds = tuple(seed for seed in run.seeds if seed in first and seed in second)
    both = sum(deployment in run.curve(a, seed) and deployment in run.curve(b, seed) for seed in run.seeds)
    if not both:
        return None
    difference = paired_difference([first[seed] for seed in seeds], [second[seed] for seed in seeds])
    return Comparison(a, b, deployment, seeds, difference, both - len(seeds))


def comparisons(run: Run, a: str, b: str) -> list[Comparison]:
    """`a` against `b` after every deployment, the offline team included."""
    deployments = sorted({deployment for seed in run.seeds for deployment in run.curve(a, seed)})
    found = [compare(run, a, b, deployment) for deployment in deployments]
    return [comparison for comparison in found if comparison is not None and comparison.seeds]
