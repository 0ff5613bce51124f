"""One page about a dataset: what is wrong with it, and what it covers."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from marline.data.channels import Channels
from marline.data.check import Finding
from marline.data.dataset import Dataset
from marline.data.files import write_output
from marline.data.summary import episodes, summarise
from marline.errors import MarlineError
from marline.report.appearance import number, plural, shorten
from marline.report.page import content_security_policy, embedded_json, packaged, template
from marline.types import AgentID

BINS = 60
GRID = 48
SAMPLE = 20_000  # rows that coverage is drawn from
MAX_ACTIONS = 12  # lines in one figure
MAX_COLUMNS = 200  # rows of a table
MAX_FINDINGS = 500

Figure = dict[str, Any]
Logs = Mapping[AgentID, Dataset | MarlineError]


def write_dataset_page(output: Path, name: str, logs: Logs, findings: Sequence[Finding]) -> None:
    """Write a self-contained HTML page about logs.

    Args:
        output: the page; needs no network and no other file.
        name: what the dataset is called.
        logs: as `dataset.load_each` gives them.
        findings: as `check.lint` gives them.
    """
    scripts = [packaged("plotly", "package_data/plotly.min.js"), packaged("marline", "templates/dataset.js")]
    sections, figures = [], {}
    for place, (agent, log) in enumerate(logs.items()):
        drawn = _figures(log) if isinstance(log, Dataset) and len(log) else {}
        panels = [(f"agent-{place}-{key}", figure) for key, figure in drawn.items()]
        figures |= {key: {"data": figure["data"], "layout": figure["layout"]} for key, figure in panels}
        columns = _columns(log) if drawn and isinstance(log, Dataset) else []
        sections.append({"agent": shorten(agent), "panels": panels, "columns": columns})
    ordered = sorted(findings, key=lambda finding: finding.severity != "error")
    page = template("dataset.html").render(
        policy=content_security_policy(scripts),
        style=Markup(packaged("marline", "templates/report.css")),
        scripts=[Markup(script) for script in scripts],
        data=Markup(embedded_json({"figures": figures})),
        name=shorten(name, 80),
        headline=_headline(findings),
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
        f"{its.action_size} {'choices' if its.discrete else 'numbers'}",
        "–" if its.discrete else f"{number(100 * its.share_saturated, 1)} %",
        *counts,
    ]


def _figures(log: Dataset) -> dict[str, Figure]:
    lengths, returns = episodes(log)
    figures = {
        **({"actions": _choices(log)} if log.spec.discrete else _actions(log)),
        "rewards": _histogram("Rewards", "", log.rewards, "reward"),
        "returns": _histogram("Returns of episodes", "Sums of rewards, not discounted.", returns, "return"),
        "lengths": _histogram("Lengths of episodes", "", lengths, "steps"),
        "coverage": _coverage(log),
    }
    return {key: figure for key, figure in figures.items() if figure is not None}


def _columns(log: Dataset) -> list[list[str]]:
    """Name, unit, range and what was seen of every column, where more is known than numbers."""
    channels = log.channels
    if not channels.to_json():
        return []
    rows = []
    for place in range(min(log.spec.observation_size, MAX_COLUMNS)):
        seen = log.observations[:, place]
        rows.append([*_called("observation", place, channels), "–", f"{seen.min():.6g} to {seen.max():.6g}"])
    low, high = channels.bounds(log.spec.action_size)
    actions = log.field_actions()
    for place in range(min(log.spec.action_size, MAX_COLUMNS)):
        if log.spec.discrete:
            rows.append([*_called("action", place, channels), "–", f"{np.count_nonzero(actions == place):,} times"])
            continue
        seen = actions[:, place]
        span, seen = f"{low[place]:.6g} to {high[place]:.6g}", f"{seen.min():.6g} to {seen.max():.6g}"
        rows.append([*_called("action", place, channels), span, seen])
    return rows


def _called(part: str, place: int, channels: Channels) -> list[str]:
    names, units = getattr(channels, f"{part}_names"), getattr(channels, f"{part}_units")
    unit = None if units is None else units[place]
    return [f"{part} {place}", "–" if names is None else names[place], "–" if unit is None else unit]


def _actions(log: Dataset) -> dict[str, Figure]:
    """A figure for the actions of each range and unit."""
    size, channels = log.spec.action_size, log.channels
    low, high = channels.bounds(size)
    units = channels.action_units or (None,) * size
    together: dict[Any, list[int]] = {}
    for column in range(min(size, MAX_ACTIONS)):
        together.setdefault((low[column], high[column], units[column]), []).append(column)
    note = "Share of rows, %, a line per number of the action; a tower at either end are actions at their bounds."
    figures = {}
    for place, ((least, most, unit), columns) in enumerate(together.items()):
        edges = np.linspace(-1, 1, BINS + 1)
        middles = (least + most) / 2 + (most - least) / 2 * (edges[1:] + edges[:-1]) / 2
        traces = []
        for column in columns:
            values = np.clip(log.actions[:, column], -1, 1)
            share = np.histogram(values[np.isfinite(values)], edges)[0] / len(values)
            line = {"x": middles.tolist(), "y": (100 * share).tolist(), "line": {"shape": "hvh"}}
            name = f"action {column}" if channels.action_names is None else channels.action_names[column]
            traces.append({"type": "scatter", "mode": "lines", "name": name, **line})
        title = "Actions" if len(together) == 1 else f"Actions in [{least:.6g}, {most:.6g}]"
        axis = html.escape("action" if unit is None else f"action, {unit}")
        figures[f"actions-{place}" if place else "actions"] = _figure(title, note, traces, axis, "%")
    return figures


def _choices(log: Dataset) -> Figure:
    taken = np.bincount(np.clip(log.actions, 0, log.spec.action_size - 1), minlength=log.spec.action_size)
    names = log.channels.action_names
    places = list(range(len(taken))) if names is None else [html.escape(name) for name in names]
    trace = {"type": "bar", "x": places, "y": (100 * taken / len(log)).tolist(), "name": "taken"}
    traces = [trace]
    if log.action_masks is not None:
        allowed = 100 * log.action_masks.mean(axis=0)
        traces.append({"type": "scatter", "mode": "markers", "x": trace["x"], "y": allowed.tolist(), "name": "allowed"})
    return _figure("Actions", "Share of rows in which each was taken and, as dots, allowed, %.", traces, "action", "%")


def _histogram(title: str, note: str, values: np.ndarray, axis: str) -> Figure | None:
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [0.001, 0.999])
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(values, low, high), BINS, (low, high))
    middles = (edges[1:] + edges[:-1]) / 2
    bars = {"x": middles.tolist(), "y": counts.tolist(), "width": float(edges[1] - edges[0])}
    outside = " The outermost 0.1 % are counted at the edges." if values.min() < low or values.max() > high else ""
    return _figure(title, (note + outside).strip(), [{"type": "bar", "name": title, **bars}], axis, "count")


def _coverage(log: Dataset) -> Figure | None:
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
    shown = np.where(counts > 0, np.log10(np.maximum(counts, 1)), np.nan).T
    trace = {
        "type": "heatmap",
        "x": ((x[1:] + x[:-1]) / 2).tolist(),
        "y": ((y[1:] + y[:-1]) / 2).tolist(),
        "z": [[None if np.isnan(value) else float(value) for value in line] for line in shown],
        "name": "rows",
    }
    share = 100 * (variances[-1] + variances[-2]) / variances.sum()
    note = (
        f"{plural(len(observations), 'row')} in the first two principal components of standardised observations, which "
        f"hold {share:.0f} % of their variance; dark is often (logarithm of counts), empty is never."
    )
    return _figure("What the observations cover", note, [trace], "first component", "second component")


def _figure(title: str, note: str, traces: list[dict[str, Any]], x: str, y: str) -> Figure:
    layout = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}, "rangemode": "tozero"}}
    traces = [trace | {"name": html.escape(trace["name"])} for trace in traces]
    return {"title": title, "note": note, "data": traces, "layout": layout}
