"""Who ended where: paired comparisons of the samplers of one run, and what each of them allows to be said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from marline.report.records import Run
from marline.statistics.aggregation import holm
from marline.statistics.intervals import (
    MIN_SEEDS,
    Difference,
    Spread,
    equality,
    equality_margin,
    improvement_percent,
    paired_difference,
    spread,
)

LEVEL = 0.05
Finding = Literal[
    "above",
    "below",
    "equal",
    "not told apart",
    "pointing up",
    "pointing down",
    "no direction",
    "one seed",
    "not finite",
]
VERDICTS: tuple[Finding, ...] = ("above", "below", "equal", "not told apart")


class Comparison(NamedTuple):
    """Sampler `a` minus sampler `b` after one deployment, over the seeds that both have reached.

    Attributes:
        lost: seeds that both have reached, but with a return that is not finite.
        is_final: whether no seed of the run is still to come, and no deployment.
        margin: what counts as equal: 2 % of the size of the mean offline return.
        p: of the paired t test, adjusted for the number of methods that were compared alike.
    """

    a: str
    b: str
    deployment: int
    seeds: tuple[int, ...]
    difference: Difference
    lost: int
    is_final: bool
    margin: float
    p: float

    @property
    def is_settled(self) -> bool:
        """Whether there may be a verdict: all of at least `MIN_SEEDS` seeds are there to the end, and none diverged."""
        return self.is_final and not self.lost and len(self.seeds) >= MIN_SEEDS

    @property
    def is_equal(self) -> bool:
        """Whether the mean is shown to be within the margin."""
        return equality(self.difference.per_seed, self.margin).holds

    @property
    def finding(self) -> Finding:
        """What may be said: a verdict where it is settled, a direction where it is not."""
        sign, num = self.difference.sign, len(self.seeds)
        if num < 2:
            return "one seed" if num else "not finite"
        if not self.is_settled:
            return ("no direction", "pointing up", "pointing down")[sign]
        if sign and self.p <= LEVEL:
            return "above" if sign > 0 else "below"
        return "equal" if self.is_equal else "not told apart"


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
    to_shuffled: Comparison | None
    to_matched: Comparison | None

    @property
    def final(self) -> Spread:
        return spread(self.last)

    @property
    def improvement_spread(self) -> Spread:
        return spread(self.improvement)

    @property
    def comparisons(self) -> list[Comparison]:
        """Those that there are, of any seed."""
        found = (self.to_baseline, self.to_shuffled, self.to_matched)
        return [comparison for comparison in found if comparison is not None and comparison.seeds]


def outcomes(run: Run) -> list[Outcome]:
    """The outcome of every sampler that has been deployed at least once."""
    found = [
        _outcome(run, sampler.name, deployment)
        for sampler in run.samplers
        if (deployment := last_deployment(run, sampler.name)) is not None
    ]
    for place in ("to_baseline", "to_shuffled", "to_matched"):
        judged = [(number, getattr(one, place)) for number, one in enumerate(found) if one.sampler in run.methods]
        judged = [(number, comparison) for number, comparison in judged if comparison is not None]
        for (number, _), comparison in zip(judged, adjusted(c for _, c in judged), strict=True):
            found[number] = found[number]._replace(**{place: comparison})
    return found


def adjusted(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The same, each with its p adjusted for there being all of them (Holm)."""
    found = list(comparisons)
    return [one._replace(p=p) for one, p in zip(found, holm([one.difference.p for one in found]), strict=True)]


def _outcome(run: Run, name: str, deployment: int) -> Outcome:
    first, last = run.returns(name, 0), run.returns(name, deployment)
    seeds = tuple(seed for seed in last if seed in first) or tuple(last)
    before = [first.get(seed, math.nan) for seed in seeds]
    after = [last[seed] for seed in seeds]
    # all references after the same deployment, or no conclusion could be drawn from them together
    references = [ref if ref != name else None for ref in (run.baseline, run.shuffled_of(name), run.matched_of(name))]
    references = [ref if ref is None or last_deployment(run, name, ref) is not None else None for ref in references]
    common = last_deployment(run, name, *(ref for ref in references if ref is not None))
    return Outcome(
        name,
        deployment,
        seeds,
        tuple(before),
        tuple(after),
        tuple(improvement_percent(before, after).tolist()),
        *(None if ref is None or common is None else compare(run, name, ref, common) for ref in references),
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


def compare(run: Run, a: str, b: str, deployment: int, beside: Sequence[str] = ()) -> Comparison | None:
    """Sampler `a` against `b` after a deployment, if any seed has reached it in both.

    Args:
        beside: other samplers in which a seed must have got there with a finite return, to be counted.
    """
    everyone = (a, b, *beside)
    returns = {name: run.returns(name, deployment) for name in everyone}
    seeds = tuple(seed for seed in run.seeds if all(seed in returns[name] for name in everyone))
    reached = sum(all(deployment in run.curve(name, seed) for name in everyone) for seed in run.seeds)
    if not reached:
        return None
    difference = paired_difference([returns[a][seed] for seed in seeds], [returns[b][seed] for seed in seeds])
    offline = run.returns(a, 0)
    return Comparison(
        a,
        b,
        deployment,
        seeds,
        difference,
        lost=reached - len(seeds),
        is_final=deployment == run.num_deployments and reached == len(run.seeds),
        margin=equality_margin(list(offline.values())),
        p=difference.p,
    )


def comparisons(run: Run, a: str, b: str) -> list[Comparison]:
    """`a` against `b` after every deployment, the offline team included."""
    deployments = sorted({deployment for seed in run.seeds for deployment in run.curve(a, seed)})
    found = [compare(run, a, b, deployment) for deployment in deployments]
    return [comparison for comparison in found if comparison is not None and comparison.seeds]
