"""A small still figure of runs: return against deployment, and the difference to uniform replay."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from marline.data import provenance
from marline.data.files import write_output
from marline.errors import ConfigError, require_name
from marline.report.appearance import Look, looks, number, shorten
from marline.report.figures import Panel, Trace, difference_panel, returns_panel
from marline.report.records import Run, read_run

WIDTH = 860
ROW = 270  # height of one run
LEFT, GAP, RIGHT, TOP, BOTTOM = 62.0, 78.0, 24.0, 52.0, 40.0
PANEL = (WIDTH - LEFT - GAP - RIGHT) / 2
STYLE = """
svg { --paper: #fff; --text: #24292f; --faint: #656d76; --grid: #e6e9ed; --edge: #d8dee4; }
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--faint); }
.title { font-weight: 600; font-size: 13px; fill: var(--text); }
.name { fill: var(--text); }
.paper { fill: var(--paper); stroke: var(--edge); }
.grid { stroke: var(--grid); }
.zero { stroke: var(--faint); }
.line.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.dash { stroke-dasharray: 5 4; stroke-width: 1.7; }
.dot { stroke-dasharray: 2 3; stroke-width: 1.7; }
.band.band { stroke: none; opacity: 0.13; }
"""
DARK = "svg { --paper: #161b22; --text: #e6edf3; --faint: #9aa5b1; --grid: #2a323c; --edge: #30363d; }"


class Axes(NamedTuple):
    """Where a panel lies, and what it spans."""

    left: float
    top: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * PANEL, 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(self.top + (high - value) / (high - low) * (ROW - TOP - BOTTOM), 1)


def write_figure(runs: Sequence[Path], path: Path, *, samplers: Sequence[str] = ()) -> Path:
    """Draw runs, one below the other, as an SVG file that follows the reader's light or dark scheme.

    Args:
        runs: run directories.
        path: the file.
        samplers: draw only these; all unless given.

    Raises:
        ConfigError: no run was given, or `path` does not end in .svg.
    """
    read = require_drawable(runs, path, samplers)
    if samplers:
        read = [only(run, samplers) for run in read]
    write_output(path, draw(read))
    return path


def require_drawable(runs: Sequence[Path], path: Path, samplers: Sequence[str]) -> list[Run]:
    """What `write_figure` draws, read; `ConfigError` as of it."""
    if path.suffix.lower() != ".svg":
        raise ConfigError(f"{path} does not end in .svg, the only form that this figure is drawn in; rename it")
    if not runs:
        raise ConfigError("no run was given to draw; give at least one run directory")
    read = [read_run(run) for run in runs]
    for name in samplers:
        require_name(name, dict.fromkeys(one.name for run in read for one in run.samplers), "sampler of these runs")
    return read


def only(run: Run, samplers: Sequence[str]) -> Run:
    """A run with no more than these samplers."""
    return dataclasses.replace(run, samplers=tuple(one for one in run.samplers if one.name in samplers))


def draw(runs: Sequence[Run]) -> str:
    """The SVG of runs that have been read."""
    shown = looks(runs)
    legend, top = _legend(shown)
    height = top + ROW * len(runs)
    light = "\n".join(f".c{look.order} {{ stroke: {look.light}; fill: {look.light}; }}" for look in shown.values())
    dark = "\n".join(f".c{look.order} {{ stroke: {look.dark}; fill: {look.dark}; }}" for look in shown.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
        f"<title>{escape('; '.join(_title(run) for run in runs))}</title>",
        *metadata(runs),
        f"<style>{STYLE}{light}\n@media (prefers-color-scheme: dark) {{\n{DARK}\n{dark}\n}}</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        *legend,
    ]
    for place, run in enumerate(runs):
        offset = top + ROW * place
        parts.append(f'<text class="title" x="{LEFT}" y="{offset + 14}">{escape(_title(run))}</text>')
        left, right = returns_panel(run, shown), difference_panel(run, shown)
        if left is not None:
            parts += _panel(left, "± one standard deviation", shown, LEFT, offset + TOP)
        if right is not None:
            parts += _panel(right, "paired seeds, 95 % interval", shown, LEFT + PANEL + GAP, offset + TOP)
    return "\n".join([*parts, "</svg>\n"])


def metadata(runs: Sequence[Run]) -> list[str]:
    """Where the numbers of runs come from, for a figure to keep; nothing where none says."""
    starts = [start for run in runs for start in run.starts]
    return [f"<metadata>{escape(provenance.to_text(starts))}</metadata>"] if starts else []


def _title(run: Run) -> str:
    return f"{shorten(run.task)}, {shorten(run.algorithm, 24)}, {run.seeds_text}"


def _legend(shown: Mapping[str, Look]) -> tuple[list[str], int]:
    """The names, wrapped into lines, and the height that they take."""
    parts, x, y = [], float(LEFT), 26
    for look in sorted(shown.values(), key=lambda look: look.order):
        width = 44 + 6.6 * len(look.label)
        if x + width > WIDTH - RIGHT and x > LEFT:
            x, y = float(LEFT), y + 20
        dashed = _dashed(look)
        parts.append(f'<path class="c{look.order} line{dashed}" d="M{x:.0f} {y - 4}h24"/>')
        parts.append(f'<text class="name" x="{x + 30:.0f}" y="{y}">{escape(look.label)}</text>')
        x += width
    return parts, y + 22


def _panel(panel: Panel, bands: str, shown: Mapping[str, Look], left: float, top: float) -> list[str]:
    drawn = [trace for trace in panel.traces if trace["meta"]["role"] in ("band", "mean")]
    if not drawn:
        return []
    zero = "zeroline" in panel.layout["yaxis"]
    axes, ticks = _axes(drawn, left, top, zero)
    parts = [f'<text x="{left}" y="{top - 14}">{escape(panel.title)} ({bands})</text>']
    for tick in ticks:
        y = axes.y(tick)
        line = "zero" if zero and tick == 0 else "grid"
        parts.append(f'<path class="{line}" d="M{left} {y}h{PANEL:.0f}"/>')
        decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{number(tick, decimals)}</text>')
    bottom = top + ROW - TOP - BOTTOM
    first, last = (int(end) for end in axes.x_range)
    for deployment in range(first, last + 1, max(1, math.ceil((last - first) / 10))):
        parts.append(
            f'<text x="{axes.x(float(deployment))}" y="{bottom + 17}" text-anchor="middle">{deployment}</text>'
        )
    parts.append(f'<text x="{left + PANEL / 2:.0f}" y="{bottom + 33}" text-anchor="middle">deployment</text>')
    by_order = {look.order: look for look in shown.values()}
    return parts + [_curve(trace, axes, by_order[trace["meta"]["sampler"]]) for trace in drawn]


def _curve(trace: Trace, axes: Axes, look: Look) -> str:
    points = " ".join(f"{axes.x(float(x))},{axes.y(y)}" for x, y in zip(trace["x"], trace["y"], strict=True))
    if trace["meta"]["role"] == "band":
        return f'<polygon class="c{look.order} band" points="{points}"/>'
    if len(trace["x"]) == 1:
        return f'<circle class="c{look.order}" cx="{axes.x(float(trace["x"][0]))}" cy="{axes.y(trace["y"][0])}" r="3"/>'
    return f'<polyline class="c{look.order} line{_dashed(look)}" points="{points}"/>'


def _dashed(look: Look) -> str:
    return f" {look.dash}" if look.is_control else ""


def _axes(traces: Sequence[Trace], left: float, top: float, zero: bool) -> tuple[Axes, list[float]]:
    deployments = [float(x) for trace in traces for x in trace["x"]]
    values = [y for trace in traces for y in trace["y"]] + ([0.0] if zero else [])
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - (abs(low) or 1.0), high + (abs(high) or 1.0)
    ticks = _ticks(low, high)
    span = (min(low, ticks[0]), max(high, ticks[-1]))
    first, last = min(deployments), max(deployments)
    return Axes(left, top, (first, max(last, first + 1)), span), ticks


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round values within a range."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [count * step for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
