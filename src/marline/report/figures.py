"""The figures of a run, as plotly traces without colours: the page paints them, light or dark.

Every trace says in `meta` whose it is and what part it plays, so that the page can hide a
sampler everywhere, or show its seeds, without knowing the figures.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from marline.report.appearance import Look, digits, shorten
from marline.report.comparison import comparisons
from marline.report.curves import Curve, by_agent, measured, over, over_agents
from marline.report.records import Run
from marline.report.statements import interval
from marline.statistics.intervals import spread

Trace = dict[str, Any]
Looks = Mapping[str, Look]
MAX_AGENT_LINES = 32


class Panel(NamedTuple):
    """One small figure.

    Attributes:
        title: what is drawn, in the words of its axis.
        note: how to read it; may be empty.
    """

    title: str
    note: str
    traces: list[Trace]
    layout: dict[str, Any]


def returns_panel(run: Run, looks: Looks) -> Panel | None:
    """Return against deployment: mean, a band of one standard deviation, and every seed."""
    traces = []
    for name in _in_order(run, looks):
        curves = [run.curve(name, seed) for seed in run.seeds]
        traces += [] if looks[name].is_control else _band(over(curves, _one_std), looks[name])
        traces += [
            _line(curve, looks[name], "seed", f"seed {seed}") for seed, curve in zip(run.seeds, curves, strict=True)
        ]
        traces += [_line(over(curves, np.mean), looks[name], "mean")]
    note = "Mean over seeds, and one standard deviation between them. Deployment 0 is the offline team."
    return _panel("Return after each deployment", note, traces)


def last_world_panel(run: Run, looks: Looks) -> Panel | None:
    """Return in one fixed world, that of after the last deployment, where the world drifts."""
    traces = []
    for name in _in_order(run, looks):
        curves = [run.curve(name, seed, "return_in_last_world") for seed in run.seeds]
        traces.append(_line(over(curves, np.mean), looks[name], "mean"))
    note = "The team of after each deployment in the world of after the last: what changes is the team's doing alone."
    return _panel("Return in the last world", note, traces)


def difference_panel(run: Run, looks: Looks) -> Panel | None:
    """Paired difference to uniform replay after every deployment, with its interval."""
    if run.baseline is None:
        return None
    others = [name for name in _in_order(run, looks) if name != run.baseline]
    title = f"Difference to {looks[run.baseline].label}"
    note = "Each seed against the same seed; bands are 95 % intervals of the mean by Student's t."
    return _differences(run, looks, [(name, run.baseline) for name in others], title, note)


def shuffled_panel(run: Run, looks: Looks) -> Panel | None:
    """Paired difference of every sampler to its own shuffled control."""
    pairs = [(name, control) for name in _in_order(run, looks) if (control := run.shuffled_of(name)) is not None]
    note = "A shuffled control draws as often from the same sources, but other rows: what is left is the correction."
    return _differences(run, looks, pairs, "Difference to its shuffled control", note)


def matched_panel(run: Run, looks: Looks) -> Panel | None:
    """Paired difference of every sampler to the control with its shares of fresh rows."""
    pairs = [(name, control) for name in _in_order(run, looks) if (control := run.matched_of(name)) is not None]
    note = (
        "A matched control replays the same share of fresh rows, any of them: what is left is correction and diversity."
    )
    return _differences(run, looks, pairs, "Difference to its matched control", note)


def diagnostic_panel(
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
    axis: Mapping[str, Any] | None = None,
) -> Panel | None:
    """A measured quantity against deployment, mean over agents and seeds; nothing if it was never measured.

    Args:
        dotted: another quantity, drawn dotted in the same colour.
        minus: another quantity, subtracted.
        per_agent: with a thin line for every agent.
    """
    traces = []
    for name in _in_order(run, looks) if samplers is None else samplers:
        seeds = [measured(run, name, seed, key, minus) for seed in run.seeds]
        if per_agent:
            agents = by_agent(seeds)
            traces += [_line(agents[a], looks[name], "agent", safe_name(a)) for a in list(agents)[:MAX_AGENT_LINES]]
        if dotted is not None:
            curves = [over_agents(measured(run, name, seed, dotted)) for seed in run.seeds]
            traces.append(_line(over(curves, np.mean), looks[name], "dotted"))
        traces.append(_line(over([over_agents(one) for one in seeds], np.mean), looks[name], "mean"))
    panel = _panel(title, note, traces, axis)
    if panel is not None and per_agent:
        panel.layout["hovermode"] = "closest"
    return panel


def fresh_share_panel(run: Run, looks: Looks) -> Panel | None:
    """Share of the drawn rows that came from deployments, of samplers that draw from both."""
    settings = {sampler.name: sampler.settings for sampler in run.samplers}
    traces = []
    for name in _in_order(run, looks):
        if settings[name].get("rows") in ("offline", "online"):
            continue
        curves = [over_agents(measured(run, name, seed, "share_offline")) for seed in run.seeds]
        fresh = [{deployment: 100 * (1 - share) for deployment, share in curve.items()} for curve in curves]
        traces.append(_line(over(fresh, np.mean), looks[name], "mean"))
    note = "Controls lie on the sampler that they match."
    return _panel("Fresh rows among those drawn, %", note, traces, {"rangemode": "tozero"})


def distance_axis(run: Run) -> dict[str, Any]:
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
    if low <= 0 or high / low <= 20:
        return {"rangemode": "tozero"}
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in ((1, 2, 5) if len(powers) < 5 else (1,))]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _differences(run: Run, looks: Looks, pairs: Sequence[tuple[str, str]], title: str, note: str) -> Panel | None:
    bands, lines = [], []
    for name, reference in pairs:
        found = comparisons(run, name, reference)
        if max((comparison.deployment for comparison in found), default=0) == 0:
            continue  # before any deployment all samplers are the same team
        ends = {c.deployment: (c.difference.low, c.difference.high) for c in found if math.isfinite(c.difference.low)}
        bands += _band(ends, looks[name])
        for seed in run.seeds:
            curve = {c.deployment: c.difference.per_seed[c.seeds.index(seed)] for c in found if seed in c.seeds}
            lines.append(_line(curve, looks[name], "seed", f"seed {seed}"))
        line = _line({c.deployment: c.difference.mean for c in found}, looks[name], "mean")
        texts = {c.deployment: interval(c.difference) for c in found}
        lines.append(line | {"hovertemplate": "%{text}", "text": [texts[deployment] for deployment in line["x"]]})
    return _panel(title, note, [*bands, *lines], {"zeroline": True})


def _panel(title: str, note: str, traces: Sequence[Trace], axis: Mapping[str, Any] | None = None) -> Panel | None:
    drawn = [trace for trace in traces if trace["x"]]
    if not drawn:
        return None
    last = max(max(trace["x"]) for trace in drawn)
    first = min(min(trace["x"]) for trace in drawn)
    steps = {"dtick": 1} if last <= 12 else {"nticks": 8}
    layout = {
        "xaxis": {"range": [first - 0.03 * (last - first or 1), last + 0.03 * (last - first or 1)], **steps},
        "yaxis": dict(axis or {}),
        "hovermode": "x unified",
    }
    return Panel(title, note, drawn, layout)


def _line(curve: Curve, look: Look, role: str, detail: str = "") -> Trace:
    points = {deployment: value for deployment, value in sorted(curve.items()) if math.isfinite(value)}
    name = f"{safe_name(look.label)}{f', {detail}' if detail else ''}"
    trace: Trace = {
        "x": list(points),
        "y": list(points.values()),
        "name": name,
        "mode": "lines+markers" if role == "mean" else "lines",
        "meta": {"sampler": look.order, "role": role},
        "marker": {"symbol": look.symbol + ("-open" if look.is_control else ""), "size": 6},
        "line": {"dash": "dot" if role == "dotted" else look.dash},
        "hovertemplate": f"%{{y:.{digits(list(points.values()))}f}}",
    }
    return trace if role in ("mean", "agent") else trace | {"hoverinfo": "skip", "hovertemplate": None}


def _band(ends: Mapping[int, tuple[float, float]], look: Look) -> list[Trace]:
    places = sorted(ends)
    if len(places) < 2:
        return []
    x = places + places[::-1]
    y = [ends[place][0] for place in places] + [ends[place][1] for place in places[::-1]]
    meta = {"sampler": look.order, "role": "band"}
    return [{"x": x, "y": y, "mode": "lines", "fill": "toself", "hoverinfo": "skip", "meta": meta, "name": ""}]


def _one_std(values: list[float]) -> tuple[float, float]:
    mean, std = spread(values)
    return mean - std, mean + std


def _in_order(run: Run, looks: Looks) -> list[str]:
    """Controls first, so that what they are compared with is drawn on top of them; the baseline in between."""
    names = [sampler.name for sampler in run.samplers]
    return sorted(names, key=lambda name: (not looks[name].is_control, looks[name].order))


def safe_name(name: str) -> str:
    """Plotly reads a little HTML in names and fills in templates; there is neither left in this."""
    return html.escape(shorten(name)).replace("%{", "% {")
