"""The numbers of runs for people and programs: rows, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marline.data import provenance
from marline.data.files import write_output
from marline.display.words import plural
from marline.report import agent_returns
from marline.report.appearance import digits, looks, number, shorten
from marline.report.comparison import Comparison, Outcome, outcomes
from marline.report.coverage import notes, remarks
from marline.report.curves import over_agents
from marline.report.decomposition import decompositions
from marline.report.introduction import titles
from marline.report.records import Run, read_run
from marline.report.statements import caution, field_improvement, finding_text, headline, interval, statements

DIAGNOSTICS = (
    "mean_abs_action",
    "alpha",
    "alpha_raw",
    "estimated_distance",
    "mean_distance",
    "effective_sample_size",
    "distinct_rows",
    "share_offline",
    "share_earlier",
    "share_current",
    "self_matches",
    "td_error_drawn",
    "td_error_uniform",
    "critic_loss",
    "mean_q",
)
DIFFERENCES = (
    "run",
    "task",
    "algorithm",
    "sampler",
    "part",
    "first",
    "second",
    "deployment",
    "seeds",
    "mean",
    "low",
    "high",
    "p_holm",
    "p_sign_flip",
    "margin",
    "finding",
    *provenance.FIELDS,
)
COLUMNS: tuple[str, ...] = (
    *("run", "task", "algorithm", "sampler", "seed", "deployment", "return", "return_in_last_world"),
    *DIAGNOSTICS,
    *provenance.FIELDS,
)


AGENT_COLUMNS = ("run", "task", "algorithm", "sampler", "seed", "deployment", "agent", "return")
NOTE_OF_CAMPAIGN = "Brackets are the 95 % interval by Welch's t over episodes."
NOTE = "± is one standard deviation between seeds; brackets are 95 % intervals of paired differences by Student's t."


def summary_table(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per (run, sampler): what it came to, and its differences with intervals; all fit for JSON.

    What is not known, or not finite, is None. Standard deviations are those of the population of seeds.
    """
    return [row for run in map(read_run, runs) for row in _standings(run)]


def headlines(runs: Sequence[Path]) -> list[str]:
    """What happened in each run, in lines of plain text."""
    lines, read = [], [read_run(run) for run in runs]
    for title, run in zip(titles(read), read, strict=True):
        found, shown = outcomes(run), looks([run])
        told = statements(run, found, shown)
        lines.append(f"{title}: {headline(run, found, shown)}")
        lines += [one.text for one in told] if len(told) > 1 else []
        lines += filter(None, [caution(found)])
        lines += notes(run, shown)
    return lines


def write_csv(runs: Sequence[Path], path: Path) -> Path:
    """One row per (run, sampler, seed, deployment): the return, and diagnostics averaged over agents."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for run in map(read_run, runs):
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in _rows(run))
    write_output(path, file.getvalue())
    return path


def write_differences(runs: Sequence[Path], path: Path) -> Path:
    """One row per comparison, `first` minus `second`, with intervals: of a sampler with each of its references, and for
    each `part` of its decomposition."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, DIFFERENCES, lineterminator="\n")
    writer.writeheader()
    for run in map(read_run, runs):
        writer.writerows({name: _cell(row[name]) for name in DIFFERENCES} for row in _differences(run))
    write_output(path, file.getvalue())
    return path


def write_agent_returns(runs: Sequence[Path], path: Path) -> Path | None:
    """One row per (run, sampler, seed, deployment, agent), where agents have rewards of their own; no file if none."""
    rows: list[tuple[Any, ...]] = []
    for run in map(read_run, runs):
        for sampler, seed in sorted(run.lines, key=lambda item: _position(run, *item)):
            for deployment, values in sorted(run.diagnostic(sampler, seed, agent_returns.KEY).items()):
                where = (run.path.name, run.task, run.algorithm, sampler, seed, deployment)
                rows += [(*where, agent, value) for agent, value in values.items()]
    if not rows:
        return None
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(AGENT_COLUMNS)
    writer.writerows([_cell(value) for value in row] for row in rows)
    write_output(path, file.getvalue())
    return path


def write_summary(runs: Sequence[Path], path: Path) -> Path:
    """A Markdown table per run: what each sampler came to, with intervals, and what happened in a sentence."""
    read = [read_run(run) for run in runs]
    text = "\n\n".join("\n".join([markdown(run), *_origins(run)]) for run in read) + "\n"
    write_output(path, text)
    return path


def _standings(run: Run) -> list[dict[str, Any]]:
    parts = {
        one.sampler: [{"part": step.name, **(_described(step.comparison) or {})} for step in one.parts]
        for one in decompositions(run)
    }
    return [{**_standing(run, outcome), "decomposition": parts.get(outcome.sampler)} for outcome in outcomes(run)]


def _standing(run: Run, outcome: Outcome) -> dict[str, Any]:
    return {
        "run": run.path.name,
        "task": run.task,
        "algorithm": run.algorithm,
        "sampler": outcome.sampler,
        "deployment": outcome.deployment,
        "seeds": list(outcome.seeds),
        "offline_returns": [_known(value) for value in outcome.first],
        "returns": [_known(value) for value in outcome.last],
        "return_mean": _known(outcome.final.mean),
        "return_std": _known(outcome.final.std),
        "return_is": agent_returns.whose(run) or None,
        "agent_returns": _returns_of_agents(run, outcome),
        "improvement_percent": [_known(value) for value in outcome.improvement],
        "improvement_mean": _known(outcome.improvement_spread.mean),
        "improvement_std": _known(outcome.improvement_spread.std),
        "to_shuffled": _described(outcome.to_shuffled),
        "to_uniform": _described(outcome.to_baseline),
        "to_control": _described(outcome.to_matched),
    }


def _returns_of_agents(run: Run, outcome: Outcome) -> dict[str, list[float | None]]:
    """By agent, of each seed, those that go with `returns`."""
    curves = [run.diagnostic(outcome.sampler, seed, agent_returns.KEY) for seed in outcome.seeds]
    last = [curve.get(outcome.deployment, {}) for curve in curves]
    return {
        agent: [_known(values.get(agent, math.nan)) for values in last]
        for agent in dict.fromkeys(agent for values in last for agent in values)
    }


def _described(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None or not comparison.seeds:
        return None
    difference = comparison.difference
    return {
        "sampler": comparison.b,
        "deployment": comparison.deployment,
        "seeds": list(comparison.seeds),
        "mean": _known(difference.mean),
        "low": _known(difference.low),
        "high": _known(difference.high),
        "p_holm": _known(comparison.p),
        "p_sign_flip": _known(difference.p_sign_flip),
        "margin": _known(comparison.margin),
        "finding": comparison.finding,
        "per_seed": list(difference.per_seed),
    }


def _differences(run: Run) -> list[dict[str, Any]]:
    references = [(one.sampler, None, comparison) for one in outcomes(run) for comparison in one.comparisons]
    parts = [(one.sampler, step.name, step.comparison) for one in decompositions(run) for step in one.parts]
    return [
        {
            **(_described(comparison) or {}),
            "run": run.path.name,
            "task": run.task,
            "algorithm": run.algorithm,
            "sampler": sampler,
            "part": part,
            "first": comparison.a,
            "second": comparison.b,
            "seeds": len(comparison.seeds),
            **provenance.merged(run.starts),
        }
        for sampler, part, comparison in [*references, *parts]
    ]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rows(run: Run) -> list[dict[str, Any]]:
    rows, origin = [], provenance.merged(run.starts)
    for (sampler, seed), lines in sorted(run.lines.items(), key=lambda item: _position(run, *item[0])):
        diagnostics = {name: over_agents(run.diagnostic(sampler, seed, name)) for name in DIAGNOSTICS}
        values, fixed = run.curve(sampler, seed), run.curve(sampler, seed, "return_in_last_world")
        for deployment in sorted(lines):
            rows.append(
                {
                    "run": run.path.name,
                    "task": run.task,
                    "algorithm": run.algorithm,
                    "sampler": sampler,
                    "seed": seed,
                    "deployment": deployment,
                    "return": values.get(deployment),
                    "return_in_last_world": fixed.get(deployment),
                    **{name: curve.get(deployment) for name, curve in diagnostics.items()},
                    **origin,
                }
            )
    return rows


def _position(run: Run, sampler: str, seed: int) -> tuple[int, int]:
    return [one.name for one in run.samplers].index(sampler), run.seeds.index(seed)


def _cell(value: Any) -> Any:
    """Names as one short line that no spreadsheet takes for a formula; numbers in full."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = shorten(value, 1000)
    return f"'{text}" if text[:1] in "=+-@" else text


def markdown(run: Run) -> str:
    """What `write_summary` writes of one run."""
    found, shown = outcomes(run), looks([run])
    known = [f"- {_plain(note, 1000)}" for note in notes(run, shown) + remarks(run, shown)]
    return "\n".join(
        [
            f"### {_plain(run.task)}, {_plain(run.algorithm)}",
            "",
            " ".join(filter(None, [_plain(headline(run, found, shown), 2000), caution(found)])),
            "",
            *standings_table(run),
            "",
            NOTE_OF_CAMPAIGN if run.is_campaign else NOTE,
            *(["", *table] if (table := agents_table(run)) else []),
            *(["", *table] if (table := decomposition_table(run)) else []),
            *(["", *known] if known else []),
        ]
    )


def _origins(run: Run) -> list[str]:
    """Where the numbers of a run come from: lines of Markdown, none where it does not say."""
    return [line for start in run.starts for line in ("", f"Made by {_plain(provenance.sentence(start), 1000)}")]


def standings_table(run: Run) -> list[str]:
    """Where every sampler ended, and its differences to its references: lines of Markdown."""
    found, shown = outcomes(run), looks([run])
    columns = [
        ("difference to its shuffled control", [outcome.to_shuffled for outcome in found]),
        ("difference to uniform", [outcome.to_baseline for outcome in found]),
        ("difference to its matched control", [outcome.to_matched for outcome in found]),
    ]
    columns = [(title, column) for title, column in columns if any(column)]
    after = f"after {plural(run.num_deployments, 'deployment')}"
    after = f"in deployment {run.num_deployments}" if run.is_campaign else after
    titles = ["sampler", "seeds", "offline", after, "improvement %", *(title for title, _ in columns)]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for place, outcome in sorted(enumerate(found), key=lambda item: shown[item[1].sampler].order):
        before = [value for value in outcome.first if math.isfinite(value)]
        decimals = digits([*before, *outcome.last])
        improved = [value for value in outcome.improvement if math.isfinite(value)]
        cells = [
            _plain(shown[outcome.sampler].label),
            f"{len(outcome.seeds)}",
            number(float(np.mean(before)), decimals) if before else "–",
            _spread(outcome.last, decimals) + _when(outcome.deployment, run),
            interval(field_improvement(run, outcome)) if run.is_campaign else _spread(improved, digits(improved)),
            *(_comparison(column[place], run) for _, column in columns),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def agents_table(run: Run) -> list[str]:
    """What each agent returned, where agents have rewards of their own: lines of Markdown, or none."""
    found = agent_returns.rows(run, looks([run]))
    lines = ["| sampler | agent | offline | last known return |", "|---|---|---|---|"] if found else []
    for row in found:
        last = f"{row.last}{_when(row.deployment, run)}"
        lines.append(f"| {_plain(row.look.label)} | {_plain(row.agent)} | {row.first} | {last} |")
    return lines


def decomposition_table(run: Run) -> list[str]:
    """Correction, diversity and freshness of every sampler that has a control: lines of Markdown, or none."""
    shown = looks([run])
    found = [one for one in decompositions(run) if len(one.steps) > 1]
    if not found:
        return []
    lines = ["| where the difference comes from | part | difference | |", "|---|---|---|---|"]
    for one in sorted(found, key=lambda one: shown[one.sampler].order):
        for step in one.parts:
            words = interval(step.comparison.difference) + _when(step.comparison.deployment, run)
            cells = [_plain(shown[one.sampler].label), step.name, words, finding_text(step.comparison)]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _spread(values: Sequence[float], decimals: int) -> str:
    if not values:
        return "–"
    mean = number(float(np.mean(values)), decimals)
    return f"{mean} ± {number(float(np.std(values)), decimals)}" if len(values) > 1 else mean


def _comparison(comparison: Comparison | None, run: Run) -> str:
    if comparison is None or not comparison.seeds:
        return ""
    return f"{interval(comparison.difference)}{_when(comparison.deployment, run)}, {finding_text(comparison)}"


def _when(deployment: int, run: Run) -> str:
    number = run.measured_in(deployment)
    return f" ({run.when} {number})" if number != run.num_deployments else ""


def _plain(text: str, length: int = 60) -> str:
    """Text that Markdown, and the HTML within it, leaves as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~&!" else c for c in shorten(text, length))
