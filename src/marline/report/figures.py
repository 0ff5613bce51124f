"""The charts of a run: what is drawn of its returns, differences and diagnostics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from marline.report import agent_returns
from marline.report.appearance import Look, shorten
from marline.report.chart import Axis, Chart, Mark, Role
from marline.report.comparison import comparisons
from marline.report.curves import Curve, by_agent, measured, over, over_agents
from marline.report.records import Run
from marline.report.statements import interval
from marline.statistics.intervals import spread

Looks = Mapping[str, Look]
MAX_AGENT_LINES = 32
PLAIN, FROM_ZERO, WITH_ZERO = Axis(), Axis(from_zero=True), Axis(zero_line=True)
SHARE = Axis(from_zero=True, suffix=" %")
_MEANS = "Mean over seeds, and one standard deviation between them. "
_PAIRS = "Each seed against the same seed; bands are 95 % intervals of the mean by Student's t."


def returns_chart(run: Run, looks: Looks) -> Chart | None:
    """Return against deployment: mean, a band of one standard deviation, and every seed."""
    marks = []
    for name in _in_order(run, looks):
        curves = [{run.measured_in(k): value for k, value in run.curve(name, seed).items()} for seed in run.seeds]
        marks += [] if looks[name].is_control else _band(over(curves, _one_std), looks[name])
        marks += [
            _line(curve, looks[name], "seed", f"seed {seed}") for seed, curve in zip(run.seeds, curves, strict=True)
        ]
        marks += [_line(over(curves, np.mean), looks[name], "mean")]
    note = f"{_MEANS if len(run.seeds) > 1 else ''}Deployment 0 is the offline team."
    if run.is_campaign:
        return _chart("Return in each deployment", "In deployment 1 the offline team was out.", marks)
    return _chart("Return after each deployment", note, marks)


def last_world_chart(run: Run, looks: Looks) -> Chart | None:
    """Return in one fixed world, that of after the last deployment, where the world drifts."""
    marks = []
    for name in _in_order(run, looks):
        curves = [run.curve(name, seed, "return_in_last_world") for seed in run.seeds]
        marks.append(_line(over(curves, np.mean), looks[name], "mean"))
    note = "The team of after each deployment in the world of after the last: what changes is the team's doing alone."
    return _chart("Return in the last world", note, marks)


def difference_chart(run: Run, looks: Looks) -> Chart | None:
    """Paired difference to uniform replay after every deployment, with its interval."""
    if run.baseline is None:
        return None
    others = [name for name in _in_order(run, looks) if name != run.baseline]
    title = f"Difference to {looks[run.baseline].label}"
    note = _PAIRS if len(run.seeds) > 1 else "Of one seed, which tells nothing of others."
    return _differences(run, looks, [(name, run.baseline) for name in others], title, note)


def shuffled_chart(run: Run, looks: Looks) -> Chart | None:
    """Paired difference of every sampler to its own shuffled control."""
    pairs = [(name, control) for name in _in_order(run, looks) if (control := run.shuffled_of(name)) is not None]
    note = "A shuffled control draws as often from the same sources, but other rows: what is left is the correction."
    return _differences(run, looks, pairs, "Difference to its shuffled control", note)


def matched_chart(run: Run, looks: Looks) -> Chart | None:
    """Paired difference of every sampler to the control with its shares of fresh rows."""
    pairs = [(name, control) for name in _in_order(run, looks) if (control := run.matched_of(name)) is not None]
    note = (
        "A matched control replays the same share of fresh rows, any of them: what is left is correction and diversity."
    )
    return _differences(run, looks, pairs, "Difference to its matched control", note)


def diagnostic_chart(
    run: Run,
    looks: Looks,
    title: str,
    key: str,
    *,
    note: str = "",
    dotted: str | None = None,
    minus: str | None = None,
    per_agent: bool = False,
    samplers: Iterable[str] | None = None,
    axis: Axis = PLAIN,
) -> Chart | None:
    """A measured quantity against deployment, mean over agents and seeds; nothing if it was never measured.

    Args:
        dotted: another quantity, drawn dotted in the same colour.
        minus: another quantity, subtracted.
        per_agent: with a thin line for every agent.
    """
    marks = []
    for name in _in_order(run, looks) if samplers is None else samplers:
        seeds = [measured(run, name, seed, key, minus) for seed in run.seeds]
        if key == agent_returns.KEY:
            seeds = [{run.measured_in(k): values for k, values in one.items()} for one in seeds]
        if per_agent:
            agents = by_agent(seeds)
            marks += [_line(agents[a], looks[name], "agent", shorten(a)) for a in list(agents)[:MAX_AGENT_LINES]]
        if dotted is not None:
            curves = [over_agents(measured(run, name, seed, dotted)) for seed in run.seeds]
            marks.append(_line(over(curves, np.mean), looks[name], "dotted", "before clipping"))
        marks.append(_line(over([over_agents(one) for one in seeds], np.mean), looks[name], "mean"))
    return _chart(title, note, marks, axis)


def fresh_share_chart(run: Run, looks: Looks) -> Chart | None:
    """Share of the drawn rows that came from deployments, of samplers that draw from both."""
    settings = {sampler.name: sampler.settings for sampler in run.samplers}
    marks = []
    for name in _in_order(run, looks):
        if settings[name].get("rows") in ("offline", "online"):
            continue
        curves = [over_agents(measured(run, name, seed, "share_offline")) for seed in run.seeds]
        fresh = [{deployment: 100 * (1 - share) for deployment, share in curve.items()} for curve in curves]
        marks.append(_line(over(fresh, np.mean), looks[name], "mean"))
    has_controls = any(sampler.matches is not None for sampler in run.samplers)
    told = "A matched control lies on its sampler; a shuffled one may part from it, for it learns from other rows."
    note = told if has_controls else ""
    return _chart("Fresh rows among those drawn", note, marks, SHARE)


def distance_axis(run: Run) -> Axis:
    """Logarithmic where samplers measure distances on scales that one axis cannot hold."""
    values = [
        value
        for sampler in run.samplers
        for seed in run.seeds
        for agents in run.diagnostic(sampler.name, seed, "mean_distance").values()
        for value in agents.values()
        if math.isfinite(value)
    ]
    low, high = min(values, default=0.0), max(values, default=0.0)
    return FROM_ZERO if low <= 0 or high / low <= 20 else Axis(log=True)


def _differences(run: Run, looks: Looks, pairs: Sequence[tuple[str, str]], title: str, note: str) -> Chart | None:
    bands, lines, margin = [], [], 0.0
    for name, reference in pairs:
        found = comparisons(run, name, reference)
        if max((comparison.deployment for comparison in found), default=0) == 0:
            continue  # before any deployment all samplers are the same team
        margin = max([margin, *(c.margin for c in found if math.isfinite(c.margin))])
        ends = {c.deployment: (c.difference.low, c.difference.high) for c in found}
        ends = {deployment: both for deployment, both in ends.items() if all(map(math.isfinite, both))}
        bands += [] if looks[name].is_control else _band(ends, looks[name])
        for seed in run.seeds:
            curve = {c.deployment: c.difference.per_seed[c.seeds.index(seed)] for c in found if seed in c.seeds}
            lines.append(_line(curve, looks[name], "seed", f"seed {seed}"))
        line = _line({c.deployment: c.difference.mean for c in found}, looks[name], "mean")
        texts = {float(c.deployment): interval(c.difference) for c in found}
        lines.append(dataclasses.replace(line, texts=[texts[deployment] for deployment in line.x]))
    # what counts as equal, to either side, may fill it, and nothing that is smaller
    return _chart(title, note, [*bands, *lines], dataclasses.replace(WITH_ZERO, least_span=2 * margin))


def _chart(title: str, note: str, marks: Sequence[Mark], axis: Axis = PLAIN) -> Chart | None:
    drawn = [mark for mark in marks if mark.x]
    return Chart(title, note, drawn, Axis("deployment", whole=True), axis) if drawn else None


def _line(curve: Curve, look: Look, role: Role, detail: str = "") -> Mark:
    points = {float(deployment): value for deployment, value in sorted(curve.items()) if math.isfinite(value)}
    return Mark(list(points), list(points.values()), role=role, look=look, name=look.label, detail=detail)


def _band(ends: Mapping[int, tuple[float, float]], look: Look) -> list[Mark]:
    places = sorted(ends)
    if len(places) < 2:
        return []
    x = [float(place) for place in places + places[::-1]]
    y = [ends[place][0] for place in places] + [ends[place][1] for place in places[::-1]]
    return [Mark(x, y, "band", "band", look)]


def _one_std(values: list[float]) -> tuple[float, float]:
    mean, std = spread(values)
    return mean - std, mean + std


def _in_order(run: Run, looks: Looks) -> list[str]:
    """Controls first, so that what they are compared with is drawn on top of them; the baseline in between."""
    names = [sampler.name for sampler in run.samplers]
    return sorted(names, key=lambda name: (not looks[name].is_control, looks[name].order))
