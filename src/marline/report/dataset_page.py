"""One page about a dataset: what is wrong with it, and what it covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from marline.data.channels import Channels
from marline.data.check import Finding
from marline.data.dataset import Dataset
from marline.data.files import write_output
from marline.data.summary import episodes, summarise
from marline.display.words import plural
from marline.errors import MarlineError
from marline.report.appearance import MINUS, number, shorten
from marline.report.chart import Axis, Cells, Chart, Mark
from marline.report.chart_svg import figure
from marline.report.figures import FROM_ZERO, SHARE
from marline.report.page import content_security_policy, embedded_json, packaged, style, template
from marline.types import AgentID

BINS = 60
GRID = 48
SAMPLE = 20_000  # rows that coverage is drawn from
MAX_ACTIONS = 12  # lines in one figure
MAX_COLUMNS = 200  # rows of a table
MAX_FINDINGS = 500
SPARKS = 28  # bins of a column
TITLES = ("rows", "episodes", "mean length", "mean return", "terminal", "observation", "action", "at bounds")
TITLES += ("errors", "warnings")

Logs = Mapping[AgentID, Dataset | MarlineError]


def write_dataset_page(output: Path, name: str, logs: Logs, findings: Sequence[Finding]) -> None:
    """Write a self-contained HTML page about logs.

    Args:
        output: the page; needs no network and no other file.
        name: what the dataset is called.
        logs: as `dataset.load_each` gives them.
        findings: as `check.lint` gives them.
    """
    scripts = [packaged("marline", "templates/charts.js")]
    sections = []
    for place, (agent, log) in enumerate(logs.items()):
        drawn = _charts(log) if isinstance(log, Dataset) and len(log) else {}
        figures = [
            figure(f"agent-{place}-{key}", chart, f"{chart.title} of {shorten(agent)}. {chart.note}")
            for key, chart in drawn.items()
        ]
        columns = _columns(log) if drawn and isinstance(log, Dataset) else []
        sections.append({"agent": shorten(agent), "figures": figures, "columns": columns})
    ordered = sorted(findings, key=lambda finding: finding.severity != "error")
    page = template("dataset.html").render(
        policy=content_security_policy(scripts),
        style=style(),
        scripts=[Markup(script) for script in scripts],
        data=Markup(embedded_json({one.key: one.told for section in sections for one in section["figures"]})),
        name=shorten(name, 80),
        headline=_headline(findings),
        titles=TITLES,
        rows=[_row(agent, log, findings) for agent, log in logs.items()],
        findings=[(f.severity, f.rule, shorten(f.agent) if f.agent else "-", f.row, f.message) for f in ordered][
            :MAX_FINDINGS
        ],
        more=max(0, len(ordered) - MAX_FINDINGS),
        sections=sections,
    )
    write_output(output, page)


def _headline(findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = plural(len(findings) - errors, "warning")
    if errors:
        return f"These logs cannot be trained on: {plural(errors, 'error')} and {warnings}."
    return f"These logs can be trained on: no errors, {warnings if findings else 'no warnings'}."


def _row(agent: AgentID, log: Dataset | MarlineError, findings: Sequence[Finding]) -> list[str]:
    counts = [
        str(sum(finding.agent == agent and finding.severity == severity for finding in findings))
        for severity in ("error", "warning")
    ]
    if isinstance(log, MarlineError) or len(log) == 0:
        return [shorten(agent), *["–"] * 8, *counts]
    its = summarise(log)
    return [
        shorten(agent),
        f"{its.num_rows:,}",
        f"{its.num_episodes:,}",
        number(its.mean_length, 1),
        number(its.mean_return, 2),
        f"{number(100 * its.share_terminal, 0)} %",
        str(its.observation_size),
        plural(its.action_size, "choice" if its.discrete else "number"),
        "–" if its.discrete else f"{number(100 * its.share_saturated, 1)} %",
        *counts,
    ]


def _charts(log: Dataset) -> dict[str, Chart]:
    lengths, returns = episodes(log)
    charts = {
        **({"actions": _choices(log)} if log.spec.discrete else _actions(log)),
        "rewards": _histogram("Rewards", "", log.rewards, "reward"),
        "returns": _histogram("Returns of episodes", "Sums of rewards, not discounted.", returns, "return"),
        "lengths": _histogram("Lengths of episodes", "", lengths, "steps"),
        "coverage": _coverage(log),
    }
    return {key: chart for key, chart in charts.items() if chart is not None}


class Column(NamedTuple):
    """What is known of a column, and what was logged in it, on the field's scale."""

    name: str
    unit: str
    span: str
    logged: str
    mean: str
    spread: Markup


def _columns(log: Dataset) -> list[Column]:
    """A row for every number that an agent sees or chooses, and for every choice where actions are choices."""
    channels, size = log.channels, log.spec.action_size
    rows = [
        _column("observation", place, channels, log.observations[:, place], "–")
        for place in range(min(log.spec.observation_size, MAX_COLUMNS))
    ]
    if log.spec.discrete:
        counts = np.bincount(log.actions, minlength=size)
        return rows + [
            Column(*_called("action", place, channels), "a choice", f"{counts[place]:,} times", "", Markup())
            for place in range(min(size, MAX_COLUMNS))
        ]
    low, high = channels.bounds(size)
    actions = log.field_actions()
    return rows + [
        _column("action", place, channels, actions[:, place], _span(low[place], high[place]))
        for place in range(min(size, MAX_COLUMNS))
    ]


def _column(part: str, place: int, channels: Channels, values: np.ndarray, span: str) -> Column:
    finite = values[np.isfinite(values)].astype(np.float64)
    if not len(finite):
        return Column(*_called(part, place, channels), span, "nothing finite", "", Markup())
    low, high, mean = (f"{one:.4g}".replace("-", MINUS) for one in (finite.min(), finite.max(), finite.mean()))
    logged = f"{low} to {high}" if finite.min() < finite.max() else f"always {low}"
    return Column(*_called(part, place, channels), span, logged, mean, _sparkline(finite))


def _span(low: float, high: float) -> str:
    return f"{low:.6g} to {high:.6g}".replace("-", MINUS)


def _sparkline(values: np.ndarray) -> Markup:
    """How values are spread between the least and the largest, without an axis."""
    if values.min() == values.max():
        return Markup()
    counts = np.histogram(values, SPARKS)[0] / len(values)
    heights = np.sqrt(counts / counts.max())  # so that what is rare is seen beside what is common
    bars = "".join(f"M{x} 20V{20 - 20 * height:.1f}h1V20z" for x, height in enumerate(heights) if height)
    box = f"0 0 {SPARKS} 20"
    return Markup(
        f'<svg class="spark" viewBox="{box}" preserveAspectRatio="none" aria-hidden="true"><path d="{bars}"/></svg>'
    )


def _called(part: str, place: int, channels: Channels) -> tuple[str, str]:
    names, units = getattr(channels, f"{part}_names"), getattr(channels, f"{part}_units")
    unit = None if units is None else units[place]
    return f"{part} {place}" if names is None else names[place], "–" if unit is None else unit


def _actions(log: Dataset) -> dict[str, Chart]:
    """A chart for the actions of each range and unit."""
    size, channels = log.spec.action_size, log.channels
    low, high = channels.bounds(size)
    units = channels.action_units or (None,) * size
    together: dict[Any, list[int]] = {}
    for column in range(min(size, MAX_ACTIONS)):
        together.setdefault((low[column], high[column], units[column]), []).append(column)
    note = "Share of rows, a line per number of the action; a tower at either end are actions at their bounds."
    charts = {}
    for place, ((least, most, unit), columns) in enumerate(together.items()):
        edges = np.linspace(-1, 1, BINS + 1)
        ends = ((least + most) / 2 + (most - least) / 2 * edges).tolist()
        if least == most:  # a number that nobody can choose
            continue
        marks = []
        for series, column in enumerate(columns):
            values = np.clip(log.actions[:, column], -1, 1)
            share = np.histogram(values[np.isfinite(values)], edges)[0] / len(values)
            name = f"action {column}" if channels.action_names is None else channels.action_names[column]
            marks.append(Mark(ends, (100 * share).tolist(), "steps", name=shorten(name), series=series))
        title = "Actions" if len(together) == 1 else f"Actions in [{least:.6g}, {most:.6g}]"
        axis = Axis("action" if unit is None else f"action, {unit}")
        charts[f"actions-{place}" if place else "actions"] = Chart(title, note, marks, axis, SHARE)
    return charts


def _choices(log: Dataset) -> Chart:
    taken = np.bincount(np.clip(log.actions, 0, log.spec.action_size - 1), minlength=log.spec.action_size)
    given = log.channels.action_names
    names = [shorten(name) for name in given or map(str, range(len(taken)))]
    places = [float(place) for place in range(len(taken))]
    marks = [Mark(places, (100 * taken / len(log)).tolist(), "bars", name="taken")]
    note = "Share of rows in which each was taken."
    if log.action_masks is not None:
        allowed = 100 * log.action_masks.mean(axis=0)
        marks.append(Mark(places, allowed.tolist(), "dots", name="allowed", series=1))
        note = "Share of rows in which each was taken and, as dots, allowed."
    return Chart("Actions", note, marks, Axis("action", names=names), SHARE)


def _histogram(title: str, note: str, values: np.ndarray, axis: str) -> Chart | None:
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [0.001, 0.999])
    is_whole = bool((values == np.round(values)).all() and high - low < BINS)
    if is_whole or low == high:  # a bar for each number
        low, high = np.floor(low) - 0.5, np.ceil(high) + 0.5
    num_bins = round(high - low) if is_whole else BINS
    counts, edges = np.histogram(np.clip(values, low, high), num_bins, (low, high))
    middles = (edges[1:] + edges[:-1]) / 2
    what = "rows" if axis == "reward" else "episodes"
    texts = [f"{count:,}" for count in counts.tolist()]
    bars = Mark(middles.tolist(), counts.astype(np.float64).tolist(), "bars", name=what, texts=texts)
    outside = " The outermost 0.1 % are counted at the edges." if values.min() < low or values.max() > high else ""
    return Chart(title, (note + outside).strip(), [bars], Axis(axis, whole=is_whole), FROM_ZERO)


def _coverage(log: Dataset) -> Chart | None:
    """How many rows lie where, in the plane in which observations vary most."""
    rows = np.linspace(0, len(log) - 1, min(len(log), SAMPLE)).astype(int)
    observations = log.observations[rows].astype(np.float64)
    observations = observations[np.isfinite(observations).all(axis=1)]
    spread = observations.std(axis=0) if len(observations) else np.zeros(0)
    varying = spread > 0
    if len(observations) < 2 or varying.sum() < 2:
        return None
    standard = (observations[:, varying] - observations[:, varying].mean(axis=0)) / spread[varying]
    variances, directions = np.linalg.eigh(np.cov(standard, rowvar=False))
    plane = standard @ directions[:, [-1, -2]]
    counts, x, y = np.histogram2d(plane[:, 0], plane[:, 1], GRID)
    often = np.log1p(counts) / np.log1p(counts.max())
    shares = [[float(one) if one else None for one in line] for line in often.T]
    share = 100 * (variances[-1] + variances[-2]) / variances.sum()
    note = (
        f"{plural(len(observations), 'row')} in the first two principal components of standardised observations, which "
        f"hold {share:.0f} % of their variance; dark is often (logarithm of counts), empty is never."
    )
    cells = Cells(x.tolist(), y.tolist(), shares)
    return Chart("What the observations cover", note, [], Axis("first component"), Axis(), cells)
