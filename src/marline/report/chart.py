"""What a chart is: marks over two axes, what the axes span, and the round values on them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal

from marline.report.appearance import Look, number

LEAST_SPAN = 0.1  # of an axis, of the largest value on it: smaller differences are not to look like large ones
Role = Literal["mean", "band", "seed", "agent", "dotted"]
Shape = Literal["line", "steps", "band", "bars", "dots"]


@dataclasses.dataclass(frozen=True)
class Mark:
    """One line, band, or group of bars.

    Attributes:
        x, y: the points; of a band its outline; of steps the heights `y` between edges `x`, one more of them.
        shape: what is drawn.
        role: the part it plays, so that a page can show seeds, or hide them, without knowing the chart.
        look: whose it is; None where a chart has one series, or series without a sampler, told apart by `series`.
        name: what a reader is told beside its values.
        detail: of what has one name, which agent or seed this is.
        texts: what is told of each point in place of its `y`.
    """

    x: Sequence[float]
    y: Sequence[float]
    shape: Shape = "line"
    role: Role = "mean"
    look: Look | None = None
    name: str = ""
    detail: str = ""
    texts: Sequence[str] = ()
    series: int = 0


@dataclasses.dataclass(frozen=True)
class Axis:
    """How an axis is drawn.

    Attributes:
        title: what it measures; the vertical axis has the title of its chart.
        log: logarithmic.
        whole: of whole numbers, such as deployments.
        from_zero: 0 is within.
        zero_line: 0 is within, and drawn stronger.
        least_span: it spans at least this.
        covers: what else is within, so that charts beside each other have one scale.
        suffix: behind every number on it.
        names: written at 0, 1, 2, ... in place of numbers.
    """

    title: str = ""
    log: bool = False
    whole: bool = False
    from_zero: bool = False
    zero_line: bool = False
    least_span: float = 0.0
    covers: Sequence[float] = ()
    suffix: str = ""
    names: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Cells:
    """How often something lies where in the plane: of every cell [row, column], up to 1; None where it never does."""

    x: Sequence[float]
    y: Sequence[float]  # the edges of columns and rows
    shares: Sequence[Sequence[float | None]]


@dataclasses.dataclass(frozen=True)
class Chart:
    """One small figure.

    Attributes:
        title: what is drawn, in the words of its vertical axis.
        note: how to read it; may be empty.
        cells: drawn below the marks.
    """

    title: str
    note: str
    marks: Sequence[Mark]
    x: Axis = Axis()
    y: Axis = Axis()
    cells: Cells | None = None

    @property
    def is_single(self) -> bool:
        """Whether all there is was measured at one place only, so that numbers say more than a figure."""
        return self.cells is None and len({x for mark in self.marks for x in mark.x}) == 1


@dataclasses.dataclass(frozen=True)
class Scale:
    """From values to places on paper: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._on_paper(self.low), self._on_paper(self.high)
        share = (self._on_paper(value) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def _on_paper(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value


def horizontal(chart: Chart, start: float, end: float) -> tuple[Scale, list[tuple[float, str]]]:
    """The scale of the horizontal axis between two places, and the values written on it."""
    values = [x for mark in chart.marks for x in mark.x] + list(chart.cells.x if chart.cells else ())
    low, high = min(values), max(values)
    if chart.x.log:
        return Scale(low, high, start, end, log=True), list(_log_ticks(low, high))
    if chart.x.names:
        step = max(1, math.ceil(len(chart.x.names) / 8))
        low, high = min(low, 0.0) - 0.6, max(high, len(chart.x.names) - 1.0) + 0.6
        return Scale(low, high, start, end), [(float(at), name) for at, name in enumerate(chart.x.names)][::step]
    if chart.x.whole:
        inset = 0.6 if any(mark.shape == "bars" for mark in chart.marks) else 0.03 * (high - low or 1.0)
        most = min(12, (end - start) / 22)  # labels that have room
        step = max(1, round_step((high - low) / most)) if high - low > most else 1
        first = math.ceil(low / step) * step
        ticks = [(float(at), f"{at:,}") for at in range(int(first), int(high) + 1, int(step))]
        return Scale(low - inset, high + inset, start, end), ticks
    if any(mark.shape == "bars" for mark in chart.marks):
        width = bar_width(values)
        low, high = low - width / 2, high + width / 2
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    return Scale(low, high, start, end), _labelled(ticks_within(low, high, 6), chart.x.suffix)


def vertical(chart: Chart, bottom: float, top: float) -> tuple[Scale, list[tuple[float, str]]]:
    """The scale of the vertical axis between two places, and the values written on it.

    Values that lie close together do not fill it: it spans a tenth of the largest of them, or what the axis asks for.
    """
    values = [y for mark in chart.marks for y in mark.y]
    values += [*(chart.cells.y if chart.cells else ()), *chart.y.covers]
    if chart.y.log:
        low, high = min(values), max(values)
        low, high = low / 1.05, high * 1.05
        return Scale(low, high, bottom, top, log=True), list(_log_ticks(low, high))
    values += [0.0] if chart.y.from_zero or chart.y.zero_line else []
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    span = max(chart.y.least_span, LEAST_SPAN * size, 1e-9) if size or chart.y.least_span else 1.0
    if high - low < span:
        missing = span - (high - low)
        stays_low, stays_high = chart.y.from_zero and low == 0, chart.y.from_zero and high == 0 and low < 0
        low -= 0.0 if stays_low else missing if stays_high else missing / 2
        high = low + span
    ticks = ticks_within(low, high, 6)
    if len(ticks) > 1 and chart.cells is None:  # room for what touches the edge, but for a floor at 0
        step, room = ticks[1] - ticks[0], 0.05 * (high - low)
        low = low if chart.y.from_zero and low == 0 else max(low - room, ticks[0] - step)
        high = high if chart.y.from_zero and high == 0 else min(high + room, ticks[-1] + step)
        ticks = ticks_within(low, high, 6)
    return Scale(low, high, bottom, top), _labelled(ticks, chart.y.suffix)


def ticks_within(low: float, high: float, most: int) -> list[float]:
    """Round values within a range, about as many as asked for."""
    step = round_step((high - low) / most)
    return [count * step for count in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def round_step(rough: float) -> float:
    """The next of 1, 2, 5, 10, ... times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def bar_width(middles: Sequence[float]) -> float:
    """Of bars that stand side by side."""
    places = sorted(set(middles))
    return min((b - a for a, b in zip(places, places[1:], strict=False)), default=1.0)


def _log_ticks(low: float, high: float) -> Iterator[tuple[float, str]]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) < 4 else (1,)
    for value in (factor * 10.0**power for power in powers for factor in factors):
        if low <= value <= high:
            yield value, f"{value:g}"


def _labelled(ticks: Sequence[float], suffix: str) -> list[tuple[float, str]]:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) if ticks and ticks[0] else 1.0
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    if places > 4 or max(map(abs, ticks), default=0.0) >= 1e7:
        return [(tick, f"{tick:.3g}{suffix}") for tick in ticks]
    return [(tick, number(tick, places) + suffix) for tick in ticks]
