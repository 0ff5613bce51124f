"""Where a gain comes from: a sampler minus uniform replay, taken apart by its controls.

From the sampler to uniform replay, one thing is taken away at each step: *which* rows of a source are preferred
(the shuffled control draws others, as often), that few rows are drawn often (the matched control draws any, in the
same shares of sources), and that more of them are fresh (uniform replay). What the steps lose adds up to the whole.
"""

from __future__ import annotations

from typing import NamedTuple

from marline.report.comparison import Comparison, adjusted, compare, last_deployment
from marline.report.records import Run

CAUSES = ("correction", "diversity", "freshness")


class Step(NamedTuple):
    """From one sampler to the next; with more than one cause where the controls between them are missing."""

    causes: tuple[str, ...]
    comparison: Comparison

    @property
    def name(self) -> str:
        """ "correction", "correction and diversity", or "in all"."""
        if self.causes == CAUSES:
            return "in all"
        return " and ".join(self.causes)


class Decomposition(NamedTuple):
    """The steps from a sampler to the last of its references, and all of them as one; on the same seeds."""

    sampler: str
    steps: tuple[Step, ...]
    whole: Step

    @property
    def parts(self) -> list[Step]:
        """The steps, and the whole if it is more than one of them."""
        return [*self.steps, *([self.whole] if len(self.steps) > 1 else [])]

    @property
    def has_correction(self) -> bool:
        """Whether the correction stands alone."""
        return self.steps[0].causes == CAUSES[:1]


def decompositions(run: Run) -> list[Decomposition]:
    """That of every sampler that prefers rows, where it and a reference have been deployed; p adjusted over them."""
    found = [one for name in run.methods if (one := decompose(run, name)) is not None]
    places = {name: [step for one in found for step in one.parts if step.name == name] for name in _names(found)}
    changed = {
        id(step): step._replace(comparison=comparison)
        for steps in places.values()
        for step, comparison in zip(steps, adjusted(step.comparison for step in steps), strict=True)
    }
    return [
        one._replace(
            steps=tuple(changed[id(step)] for step in one.steps),
            whole=changed.get(id(one.whole), changed[id(one.steps[0])]),
        )
        for one in found
    ]


def _names(found: list[Decomposition]) -> dict[str, None]:
    return dict.fromkeys(step.name for one in found for step in one.parts)


def decompose(run: Run, name: str) -> Decomposition | None:
    """A sampler minus its references in turn, over the seeds that all of them have reached.

    A reference that is missing, or has not been deployed yet, is passed over: its two steps become one.
    """
    references = (run.shuffled_of(name), run.matched_of(name), run.baseline)
    present = [
        (place, reference)
        for place, reference in enumerate(references, start=1)
        if reference not in (None, name) and last_deployment(run, name, reference) is not None
    ]
    chain = [(0, name), *present]
    everyone = [sampler for _, sampler in chain]
    deployment = last_deployment(run, *everyone)
    if not present or deployment is None:
        return None

    def step(first: tuple[int, str], second: tuple[int, str]) -> Step | None:
        comparison = compare(run, first[1], second[1], deployment, everyone)
        known = comparison is not None and comparison.seeds
        return Step(CAUSES[first[0] : second[0]], comparison) if comparison is not None and known else None

    steps = [step(first, second) for first, second in zip(chain, chain[1:], strict=False)]
    whole = step(chain[0], chain[-1])
    if whole is None:
        return None
    return Decomposition(name, tuple(one for one in steps if one is not None), whole)
