"""What the page says and shows of one run, in the order in which it matters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from marline.display.words import plural
from marline.report import agent_returns
from marline.report.appearance import Look, shorten
from marline.report.chart import Chart
from marline.report.comparison import Outcome
from marline.report.coverage import notes, remarks
from marline.report.curves import mean_shares
from marline.report.decomposition_figure import pictures
from marline.report.figures import (
    FROM_ZERO,
    WITH_ZERO,
    diagnostic_chart,
    difference_chart,
    distance_axis,
    fresh_share_chart,
    last_world_chart,
    matched_chart,
    returns_chart,
    shuffled_chart,
)
from marline.report.histograms import distance_charts
from marline.report.introduction import about, next_step
from marline.report.records import Run, file_hashes
from marline.report.reproduction import command
from marline.report.standings import references, rows
from marline.report.statements import caution, headline, statements
from marline.report.trajectories import episodes

MAX_SETTINGS = 500
Looks = Mapping[str, Look]


class Group(NamedTuple):
    """Figures that belong together, each with a name that is unique on the page."""

    title: str
    charts: list[tuple[str, Chart]]


def section(name: str, title: str, run: Run, found: Sequence[Outcome], looks: Looks) -> dict[str, Any]:
    """Everything the template shows of a run; `name` is unique on the page."""
    told = statements(run, found, looks)
    shares = [(looks[s.name], share) for s in run.samplers if (share := mean_shares(run, s.name)) is not None]
    return {
        "name": name,
        "task": title,
        "is_campaign": run.is_campaign,
        "algorithm": shorten(run.algorithm, 24),
        "seeds": run.seeds_text,
        "has_seeds": len(run.seeds) > 1,
        "about": about(run),
        "next": next_step(run, found),
        "facts": _facts(run),
        "headline": headline(run, found, looks),
        "caution": caution(found),
        "statements": [(looks[one.sampler], one.text) for one in told] if len(told) > 1 else [],
        "notes": notes(run, looks),
        "remarks": remarks(run, looks),
        "groups": _groups(name, run, looks),
        "rows": rows(run, found, looks),
        "agents": agent_returns.rows(run, looks),
        "references": list(references(run, found, looks).values()),
        "parts": pictures(run, looks),
        "deployments": run.num_deployments,
        "when": "in deployment" if run.is_campaign else "after",
        "measured_in": run.measured_in,
        "episodes": episodes(run, looks),
        "shares": sorted(shares, key=lambda item: item[0].order),
        "settings": _settings(run),
        "dataset": [(shorten(file, 80), shorten(value, 80)) for file, value in file_hashes(run.dataset).items()],
        "policies": [
            (looks[sampler].label, seed, shorten(file, 80), shorten(value, 80))
            for (sampler, seed), hashes in run.policies.items()
            for file, value in hashes.items()
        ],
        "command": command(run),
        "starts": [{name: shorten(value, 400) for name, value in start.items()} for start in run.starts],
    }


def _facts(run: Run) -> str:
    facts = [
        shorten(run.algorithm, 24),
        *([] if run.is_campaign else [run.seeds_text]),
        plural(run.num_deployments, "deployment"),
    ]
    for name, what in (
        ("rows_per_deployment", "rows each"),
        ("dataset_size", "offline rows"),
        ("evaluation_episodes", "evaluation episodes"),
    ):
        evaluated = run.settings["task"] is not None or name != "evaluation_episodes"
        if evaluated and type(value := run.settings.get(name)) is int:
            facts.append(f"{value:,} {what}")
    if is_whose := agent_returns.whose(run):
        facts.append(f"return: {is_whose}")
    return " · ".join(facts)


def _groups(name: str, run: Run, looks: Looks) -> list[Group]:
    def measured(title: str, key: str, **options: Any) -> Chart | None:
        return diagnostic_chart(run, looks, title, key, **options)

    otc = [name for name in looks if name in run.of_kind("otc")]
    agents, from_zero = "Thin lines are agents", FROM_ZERO
    groups = {
        "": [
            returns_chart(run, looks),
            measured(
                "Return of each agent", agent_returns.KEY, per_agent=True, note=f"{agents}, by their own rewards."
            ),
            last_world_chart(run, looks),
            difference_chart(run, looks),
            shuffled_chart(run, looks),
            matched_chart(run, looks),
            fresh_share_chart(run, looks),
        ],
        "What was drawn": [
            measured(
                "Effective rows to draw from",
                "effective_sample_size",
                note="Of the candidates of an update, as the exponent weighs them.",
                axis=from_zero,
            ),
            measured("Distinct rows in a batch", "distinct_rows", axis=from_zero),
            measured("Rows matched with themselves", "self_matches", note="Share of those drawn.", axis=from_zero),
            measured(
                "TD error, drawn less uniform rows",
                "td_error_drawn",
                minus="td_error_uniform",
                note="Where it leaves 0, the choice of rows pulls the critic aside; below 0, down.",
                axis=WITH_ZERO,
            ),
        ],
        "How the exponent adapted": [
            measured(
                "Exponent alpha",
                "alpha",
                dotted="alpha_raw",
                per_agent=True,
                samplers=otc,
                note=f"{agents}; dotted is before clipping. 0 would be uniform replay.",
            ),
            measured(
                "Mean distance to the best match",
                "mean_distance",
                per_agent=True,
                samplers=otc,
                note=f"{agents}.",
                axis=distance_axis(run),
            ),
            *distance_charts(run, looks),
        ],
        "Whether what follows an action has changed": [
            measured(
                "Gain of today's law, nats a row",
                "change_nats",
                per_agent=True,
                note=f"{agents}. On held-out episodes, over the law of the logs, where the logs have been.",
                axis=WITH_ZERO,
            ),
            measured(
                "p-value of no change",
                "change_p_value",
                per_agent=True,
                note=f"{agents}. Offline rows are weighted where it is small.",
                axis=from_zero,
            ),
            measured(
                "What weighted rows are worth",
                "effective_share",
                per_agent=True,
                note=f"{agents}. Share of the offline rows; 1 is uniform replay.",
                axis=from_zero,
            ),
        ],
        "What policies and critics did": [
            measured(
                "Mean |action|",
                "mean_abs_action",
                per_agent=True,
                note=f"{agents}. Of actions scaled to [-1, 1]; behaviour cloning on random ones holds it near 0.",
                axis=from_zero,
            ),
            measured("Mean Q", "mean_q"),
        ],
    }
    return [
        Group(title, [(f"{name}-{place}-{p}", chart) for p, chart in enumerate(charts) if chart is not None])
        for place, (title, charts) in enumerate(groups.items())
        if any(chart is not None for chart in charts)
    ]


def _settings(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """The settings as titled lists of names and values."""
    plain = {name: value for name, value in run.settings.items() if name not in ("samplers", "algorithm")}
    groups = [("run", plain), ("algorithm", run.settings.get("algorithm", {}))]
    groups += [(sampler.name, sampler.settings) for sampler in run.samplers]
    groups.append(("data", run.dataset.get("provenance", {})))
    shown = [(shorten(title), list(_flat(values))[:MAX_SETTINGS]) for title, values in groups]
    return [(title, values) for title, values in shown if values]


def _flat(value: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items() if depth < 5 else ():
            yield from _flat(item, f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield shorten(name, 60), shorten(value if isinstance(value, str) else json.dumps(value), 120)
