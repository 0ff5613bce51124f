"""A small still figure of runs: return against deployment, and the difference to uniform replay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from marline.data import provenance
from marline.data.files import write_output
from marline.errors import ConfigError, require_name
from marline.report.appearance import Look, looks, shorten
from marline.report.chart import Chart
from marline.report.chart_svg import SHAPES
from marline.report.chart_svg import draw as draw_chart
from marline.report.figures import difference_chart, returns_chart
from marline.report.records import Run, read_run

WIDTH, MARGIN = 860, 20.0
CHARTS = ((returns_chart, "± one standard deviation"), (difference_chart, "paired seeds, 95 % interval"))
MOST_CURVES = 6  # in one panel; of more, each sampler gets a panel with its controls
STYLE = """
svg { --paper: #fff; --text: #24292f; --faint: #656d76; --grid: #e6e9ed; --edge: #d8dee4; }
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--faint); }
.title { font-weight: 600; font-size: 13px; fill: var(--text); }
.name { fill: var(--text); }
.paper { fill: var(--paper); stroke: var(--edge); }
.grid { stroke: var(--grid); fill: none; }
.zero { stroke: var(--faint); fill: none; }
"""
DARK = "svg { --paper: #161b22; --text: #e6edf3; --faint: #9aa5b1; --grid: #2a323c; --edge: #30363d; }"


class Panel(NamedTuple):
    """A chart and what stands above it."""

    title: str
    chart: Chart


class Row(NamedTuple):
    """Panels side by side; the last row of several may have fewer than the others, and the first has a caption."""

    panels: Sequence[Panel]
    columns: int
    height: float
    caption: str = ""


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
    many = any(len(run.samplers) > MOST_CURVES for run in runs)
    body, top = legend(_roles(shown) if many else [(look, look.label) for look in shown.values()])
    for run in runs:
        body.append(f'<text class="title" x="{MARGIN:g}" y="{top + 14:g}">{escape(_title(run))}</text>')
        top += 22
        for row in _multiples(run, shown) if len(run.samplers) > MOST_CURVES else _pair(run, shown):
            if row.caption:
                body.append(f'<text class="name" x="{MARGIN:g}" y="{top + 16:g}">{escape(row.caption)}</text>')
                top += 20
            body += place(row, top)
            top += row.height
        top += 12
    return sheet("; ".join(_title(run) for run in runs), body, top, shown, metadata(runs))


def sheet(
    title: str,
    body: Sequence[str],
    height: float,
    shown: Mapping[str, Look],
    about: Sequence[str] = (),
    *,
    sheet_width: int = WIDTH,
) -> str:
    """What was drawn, `height` high, as an SVG file with the colours of these looks."""
    light = "\n".join(f".s{look.order} {{ color: {look.light}; }}" for look in shown.values())
    dark = "\n".join(f".s{look.order} {{ color: {look.dark}; }}" for look in shown.values())
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {sheet_width} {height:g}" '
            f'width="{sheet_width}" '
            'role="img">',
            f"<title>{escape(title)}</title>",
            *about,
            f"<style>{STYLE}{SHAPES}{light}\n@media (prefers-color-scheme: dark) {{\n{DARK}\n{dark}\n}}</style>",
            f'<rect class="paper" x="0.5" y="0.5" width="{sheet_width - 1}" height="{height - 1:g}" rx="8"/>',
            *body,
            "</svg>\n",
        ]
    )


def metadata(runs: Sequence[Run]) -> list[str]:
    """Where the numbers of runs come from, for a figure to keep; nothing where none says."""
    starts = [start for run in runs for start in run.starts]
    return [f"<metadata>{escape(provenance.to_text(starts))}</metadata>"] if starts else []


def _title(run: Run) -> str:
    return f"{shorten(run.task)}, {shorten(run.algorithm, 24)}, {run.seeds_text}"


def _roles(shown: Mapping[str, Look]) -> Iterator[tuple[Look, str]]:
    """What lines mean in small multiples, whose titles name the samplers."""
    first: dict[str, Look] = {}
    for look in shown.values():
        first.setdefault(look.dash if look.is_control or look.order else "baseline", look)
    names = {"solid": "the sampler named above", "dash": "its shuffled control", "dot": "its matched control"}
    for role, look in first.items():
        yield look, names.get(role, look.label)


def legend(entries: Iterable[tuple[Look, str]], *, sheet_width: int = WIDTH) -> tuple[list[str], float]:
    """Lines and names, wrapped, and the height that they take."""
    parts, x, y = [], MARGIN, 26.0
    for look, name in entries:
        width = 44 + 6.6 * len(name)
        if x + width > sheet_width - MARGIN and x > MARGIN:
            x, y = MARGIN, y + 20
        dash = f" {look.dash}" if look.is_control else ""
        parts.append(f'<path class="line s{look.order}{dash}" d="M{x:.0f} {y - 4:g}h24"/>')
        parts.append(f'<text class="name" x="{x + 30:.0f}" y="{y:g}">{escape(name)}</text>')
        x += width
    return parts, y + 16


def _pair(run: Run, shown: Mapping[str, Look]) -> list[Row]:
    """Returns, and differences where there is uniform replay, each in one panel."""
    panels = [
        Panel(f"{chart.title}{_bands(run, what)}", chart)
        for chart_of, what in CHARTS
        if (chart := chart_of(run, shown)) is not None
    ]
    return [Row(panels, 2, 250.0)] if panels else []


def _multiples(run: Run, shown: Mapping[str, Look]) -> list[Row]:
    """A panel for every sampler, with its controls and uniform replay: first all returns, then all differences."""
    rows = []
    for chart_of, what in CHARTS:
        panels, caption = [], ""
        for name in _leading(run, shown):
            its = (name, run.shuffled_of(name), run.matched_of(name), run.baseline)
            chart = chart_of(only(run, [one for one in its if one is not None]), shown)
            if chart is not None:
                panels.append(Panel(shown[name].label, chart))
                caption = f"{chart.title}{_bands(run, what)}"
        columns = 4 if len(panels) % 4 == 0 else 3
        of_row = [_on_one_scale(panels)[place : place + columns] for place in range(0, len(panels), columns)]
        rows += [Row(its, columns, 190.0, "" if place else caption) for place, its in enumerate(of_row)]
    return rows


def _leading(run: Run, shown: Mapping[str, Look]) -> list[str]:
    """The samplers that are no controls of another one of the run."""
    names = [sampler.name for sampler in run.samplers if sampler.matches is None and sampler.name != run.baseline]
    return sorted(names, key=lambda name: shown[name].order)


def _bands(run: Run, what: str) -> str:
    return f" ({what})" if len(run.seeds) > 1 else ""


def _on_one_scale(panels: Sequence[Panel]) -> list[Panel]:
    still = [_still(panel.chart) for panel in panels]
    values = [y for chart in still for mark in chart.marks for y in mark.y]
    ends = (min(values), max(values)) if values else ()
    axes = [dataclasses.replace(chart.y, covers=ends) for chart in still]
    return [
        Panel(panel.title, dataclasses.replace(chart, y=axis))
        for panel, chart, axis in zip(panels, still, axes, strict=True)
    ]


def _still(chart: Chart) -> Chart:
    """Without what only a page can show or hide."""
    return dataclasses.replace(chart, marks=[mark for mark in chart.marks if mark.role in ("band", "mean")])


def place(row: Row, top: float, *, sheet_width: int = WIDTH) -> list[str]:
    """The panels of a row, below a height."""
    gap = 24
    width = (sheet_width - 2 * MARGIN - gap * (row.columns - 1)) / row.columns
    parts = []
    for place, panel in enumerate(row.panels):
        chart = _still(panel.chart)
        if chart.marks:
            left = MARGIN + place * (width + gap)
            parts.append(f'<text x="{left:.0f}" y="{top + 16:g}">{escape(shorten(panel.title, int(width / 6)))}</text>')
            parts.append(f'<g transform="translate({left:.1f} {top + 22:g})">')
            parts += [*draw_chart(chart, width, row.height - 30).parts, "</g>"]
    return parts
