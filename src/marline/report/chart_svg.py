"""Charts as SVG, drawn when a page or a figure is written: what shows them needs no script, and prints them whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from markupsafe import Markup

from marline.report.appearance import Look, shorten, three_figures
from marline.report.chart import Chart, Mark, Scale, bar_width, horizontal, vertical

LETTER = 6.4  # width of a digit at the size of the axes' text
TOP, RIGHT, BELOW, TITLE = 8.0, 12.0, 20.0, 17.0
SHADES = 6
SERIES = 6  # colours of series that belong to no sampler
MOST_AGENTS = 12  # whose values are written out
MANY_POINTS = 24  # of which none is marked
# lines and areas; what holds a chart says --grid, --faint and --paper, and of each `.sN` its colour
SHAPES = """
.chart .grid { stroke: var(--grid); fill: none; }
.chart .zero { stroke: var(--faint); fill: none; }
.chart .tick { font-size: 11px; fill: var(--faint); }
.chart .line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.chart .seed { stroke-width: 1; opacity: .5; }
.chart .agent { stroke-width: 1; opacity: .45; }
.chart .dash { stroke-dasharray: 6 4; }
.chart .dot, .chart .dotted { stroke-dasharray: 1.5 3.5; }
.chart .band { fill: currentColor; stroke: none; opacity: .13; }
.chart .bars, .chart .cells, .chart .point { fill: currentColor; stroke: none; }
.chart .open { fill: var(--paper); stroke: currentColor; stroke-width: 1.4; }
"""


class Drawing(NamedTuple):
    """A chart on paper.

    Attributes:
        parts: elements of SVG, in a box that begins at (0, 0).
        told: what a script needs to tell the values below a pointer; plain values.
    """

    parts: list[str]
    told: dict[str, Any]


def draw(chart: Chart, width: float, height: float) -> Drawing:
    """Draw a chart that has at least one point."""
    bottom = height - BELOW - (TITLE if chart.x.title else 0.0)
    up, levels = vertical(chart, bottom, TOP)
    left = float(round(max([LETTER * len(text) for _, text in levels], default=0.0) + 12))
    along, places = horizontal(chart, left, width - RIGHT)
    parts = ['<g class="levels">']
    for value, text in levels:
        y = up(value)
        line = "zero" if chart.y.zero_line and value == 0 else "grid"
        parts.append(f'<path class="{line}" d="M{left:g} {y:g}H{width - RIGHT:g}"/>')
        parts.append(f'<text class="tick" x="{left - 7:g}" y="{y + 4:g}" text-anchor="end">{escape(text)}</text>')
    parts.append("</g>")
    room = max(1, int((width - RIGHT - left) / max(1, len(places)) / LETTER))
    for value, text in places:
        shown = escape(shorten(text, max(room, 4)))
        anchor = "end" if along(value) > width - RIGHT - 4 and len(text) > 3 else "middle"
        parts.append(f'<text class="tick" x="{along(value)}" y="{bottom + 16:g}" text-anchor="{anchor}">{shown}</text>')
    if chart.x.title:
        middle = (left + width - RIGHT) / 2
        title = escape(chart.x.title)
        parts.append(f'<text class="tick" x="{middle:g}" y="{bottom + 33:g}" text-anchor="middle">{title}</text>')
    parts += _cells(chart, left, width - RIGHT, bottom)
    for mark in chart.marks:
        parts += _mark(mark, along, up, bottom)
    told = {"box": [left, TOP, width - RIGHT, bottom], **_told(chart, along, up)}
    if not chart.y.log:  # for the script to draw it anew when something is hidden
        zero = chart.y.zero_line or chart.y.from_zero
        told["up"] = [up.low, up.high, chart.y.least_span, int(zero), int(chart.y.zero_line), chart.y.suffix]
    return Drawing(parts, told)


def _mark(mark: Mark, along: Scale, up: Scale, bottom: float) -> list[str]:
    own = "" if mark.look is None else f' data-sampler="{mark.look.order}"'
    colour = f"n{mark.series % SERIES}" if mark.look is None else f"s{mark.look.order}"
    dash = f" {mark.look.dash}" if mark.look is not None and mark.look.is_control and mark.role != "dotted" else ""
    dash = " dash" if mark.look is None and mark.series >= SERIES else dash
    if mark.shape == "bars":
        width = bar_width(mark.x)
        path = "".join(
            f"M{along(x - 0.48 * width)} {bottom:g}V{up(y)}H{along(x + 0.48 * width)}V{bottom:g}z"
            for x, y in zip(mark.x, mark.y, strict=True)
            if y
        )
        return [f'<path class="bars {colour}"{own} d="{path}"/>']
    if mark.shape == "dots":
        return [f'<g class="point {colour}"{own}>{_points(mark, "circle", along, up)}</g>']
    if mark.shape == "band":
        return [
            f'<polygon class="band {colour}"{own} points="{_outline(zip(mark.x, mark.y, strict=True), along, up)}"/>'
        ]
    points = list(zip(mark.x, mark.y, strict=True)) if mark.shape == "line" else list(_stairs(mark))
    drawn = []
    if len(points) > 1:
        classes = f"line {mark.role} {colour}{dash}"
        drawn.append(f'<polyline class="{classes}"{own} points="{_outline(points, along, up)}"/>')
    marked = mark.role == "mean" and mark.shape == "line" and len(points) <= MANY_POINTS
    if marked or len(points) == 1:
        symbol = "circle" if mark.look is None else mark.look.symbol
        kind = "point open" if dash else "point"
        drawn.append(f'<g class="{kind} {mark.role} {colour}"{own}>{_points(mark, symbol, along, up)}</g>')
    return drawn


def _stairs(mark: Mark) -> Iterable[tuple[float, float]]:
    for left, right, y in zip(mark.x, mark.x[1:], mark.y, strict=False):
        yield from ((left, y), (right, y))


def _outline(points: Iterable[tuple[float, float]], along: Scale, up: Scale) -> str:
    return " ".join(f"{along(x):g},{up(y):g}" for x, y in points)


def _points(mark: Mark, symbol: str, along: Scale, up: Scale) -> str:
    path = _symbol(symbol)
    return "".join(
        f'<path transform="translate({along(x):g},{up(y):g})" d="{path}"/>' for x, y in zip(mark.x, mark.y, strict=True)
    )


def _symbol(name: str, size: float = 3.0) -> str:
    """The path of a symbol around (0, 0)."""
    if name == "circle":
        return f"M{-size:g} 0a{size:g} {size:g} 0 1 0 {2 * size:g} 0a{size:g} {size:g} 0 1 0 {-2 * size:g} 0z"
    corners = {"square": 4, "diamond": 4, "triangle-up": 3, "pentagon": 5}.get(name, 10)
    turn, inner = math.pi / 4 if name == "square" else 0.0, 0.45 if corners == 10 else 1.0
    steps = []
    for corner in range(corners):
        angle, reach = turn + 2 * math.pi * corner / corners, 1.35 * size * (inner if corner % 2 else 1.0)
        steps.append(f"{reach * math.sin(angle):.1f} {-reach * math.cos(angle):.1f}")
    return f"M{'L'.join(steps)}z"


def _cells(chart: Chart, left: float, right: float, bottom: float) -> list[str]:
    """A path for each shade, of all cells that have it."""
    if chart.cells is None:
        return []
    rows = chart.cells.shares
    width, height = (right - left) / len(rows[0]), (bottom - TOP) / len(rows)
    shades: dict[int, list[str]] = {}
    for row, line in enumerate(rows):
        for column, share in enumerate(line):
            if share is not None:
                corner = f"M{left + column * width:.1f} {bottom - (row + 1) * height:.1f}"
                size = f"h{width:.1f}v{height:.1f}h{-width:.1f}z"
                shades.setdefault(min(int(share * SHADES), SHADES - 1), []).append(corner + size)
    return [
        f'<path class="cells n0" opacity="{(1 + shade) / SHADES:.2f}" d="{"".join(paths)}"/>'
        for shade, paths in sorted(shades.items())
    ]


def _told(chart: Chart, along: Scale, up: Scale) -> dict[str, Any]:
    """Where the pointer can be, what that place is called, and what each mark tells there."""
    rows, places = [], {}
    for mark in chart.marks:
        if mark.role in ("band", "seed") or mark.shape == "band":
            continue
        xs = [(a + b) / 2 for a, b in zip(mark.x, mark.x[1:], strict=False)] if mark.shape == "steps" else mark.x
        places |= {along(x): _place(chart, x) for x in xs}
        texts = mark.texts or [three_figures(y) + chart.y.suffix for y in mark.y]
        rows.append(
            {
                "s": None if mark.look is None else mark.look.order,
                "n": mark.series % SERIES,
                "r": mark.role,
                "name": _named(mark),
                "x": [along(x) for x in xs],
                "y": [up(y) for y in mark.y],
                "t": list(texts),
            }
        )
    return {"places": sorted(places.items()), "rows": rows}


def _place(chart: Chart, x: float) -> str:
    if chart.x.names:
        return chart.x.names[int(x)]
    text = f"{x:.3g}" if not chart.x.whole else f"{x:g}"
    return f"{chart.x.title} {text}".strip()


class Value(NamedTuple):
    """What a mark says where there is one place only."""

    look: Look | None
    name: str
    text: str


class Figure(NamedTuple):
    """A chart as a page shows it: a picture, or the values themselves where it has one place only.

    Attributes:
        key: unique on the page.
        note: how to read it, or, where there is one place only, which.
        picture: an element of SVG; None where values say more.
        values: of each series.
        agents: of each agent, in words.
        series: the names of series that belong to no sampler, where there are several.
        told: for the script; see `Drawing`.
    """

    key: str
    title: str
    note: str
    picture: Markup | None
    values: Sequence[Value] = ()
    agents: str = ""
    series: Sequence[str] = ()
    told: Mapping[str, Any] = {}


def figure(key: str, chart: Chart, words: str, *, large: bool = False) -> Figure:
    """A chart for a page; `words` say what is drawn to those who do not see it."""
    if chart.is_single:
        return _values(key, chart)
    width, height = (400.0, 236.0) if large else (340.0, 220.0)
    drawing = draw(chart, width, height)
    words = escape(words, {'"': "&quot;"})
    picture = (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{words}" data-figure="{key}">'
        f"{''.join(drawing.parts)}</svg>"
    )
    series = [mark.name for mark in chart.marks if mark.look is None]
    return Figure(
        key, chart.title, chart.note, Markup(picture), series=series if len(series) > 1 else (), told=drawing.told
    )


def _values(key: str, chart: Chart) -> Figure:
    def text(mark: Mark) -> str:
        return mark.texts[0] if mark.texts else three_figures(mark.y[0]) + chart.y.suffix

    shown = [mark for role in ("mean", "dotted") for mark in chart.marks if mark.role == role]
    agents = [mark for mark in chart.marks if mark.role == "agent"]
    is_of_one = len({mark.name for mark in agents}) == 1
    told = [f"{mark.detail if is_of_one else _named(mark)} {text(mark)}" for mark in agents[:MOST_AGENTS]]
    told += [f"and {len(agents) - MOST_AGENTS} more"] if len(agents) > MOST_AGENTS else []
    values = [Value(mark.look, _named(mark), text(mark)) for mark in shown]
    said = {(value.look, value.text): value for value in reversed(values)}  # and not the same twice
    (place,) = {_place(chart, x) for mark in chart.marks for x in mark.x}
    return Figure(key, chart.title, place, None, [one for one in values if one in said.values()], " · ".join(told))


def _named(mark: Mark) -> str:
    return f"{mark.name}, {mark.detail}" if mark.detail else mark.name
