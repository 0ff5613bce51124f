"""What a reader must know before trusting a figure: what is missing, not finite, or degenerate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from marline.configuration.selection import SHUFFLED
from marline.display.shell import command_elsewhere
from marline.display.words import plural
from marline.report.appearance import Look, join, shorten
from marline.report.records import Run
from marline.runs.layout import RunDirectory

UNTOLD = "correction cannot be told apart from freshness and diversity"
MIN_ACTIVE_UNITS = 2
MIN_EFFECTIVE_ROWS = 5


def notes(run: Run, looks: Mapping[str, Look]) -> list[str]:
    """What bears on every comparison, most important first."""
    return [
        *_diverged(run, looks),
        *_not_finite(run, looks),
        *_unfinished(run, looks),
        *_collected_in_turns(run),
        *_without_reference(run, looks),
    ]


def remarks(run: Run, looks: Mapping[str, Look]) -> list[str]:
    """Where a sampler ran at the edge of what it is made for."""
    return [*_degenerate(run, looks)]


def _diverged(run: Run, looks: Mapping[str, Look]) -> Iterator[str]:
    for sampler in run.samplers:
        found = [
            f"{shorten(agent)} of seed {seed} {f'in deployment {deployment}' if deployment else 'offline'}"
            for seed in run.seeds
            for deployment, line in run.lines.get((sampler.name, seed), {}).items()
            for agent in (line["diverged"] if isinstance(line.get("diverged"), dict) else ())
        ]
        if found:
            more = [plural(len(found) - 5, "other")] if len(found) > 5 else []
            yield (
                f"{looks[sampler.name].label}: {join(found[:5] + more)} left the finite numbers, stopped, and kept "
                "an earlier policy, with which the team was measured on."
            )


def _not_finite(run: Run, looks: Mapping[str, Look]) -> Iterator[str]:
    for sampler in run.samplers:
        lost = {}
        for seed in run.seeds:
            curve = run.curve(sampler.name, seed)
            if bad := [deployment for deployment, value in curve.items() if not math.isfinite(value)]:
                lost[seed] = min(bad)
        if lost:
            which = join([f"seed {seed} at deployment {first}" for seed, first in lost.items()][:5])
            name = looks[sampler.name].label
            yield f"{name}: the return stops being finite in {which}; what is not finite is left out of all means."


def _unfinished(run: Run, looks: Mapping[str, Look]) -> Iterator[str]:
    behind, low = [], 0
    for sampler in run.samplers:
        reached = [max(run.lines.get((sampler.name, seed), {0: {}})) for seed in run.seeds]
        low, high = min(reached, default=0), max(reached, default=0)
        if low < run.num_deployments:
            finished = sum(deployment >= run.num_deployments for deployment in reached)
            partly = f" ({finished} of {len(reached)} seeds finished)" if finished else ""
            span = f"{low}" if low == high else f"{low} to {high}"
            behind.append(f"{looks[sampler.name].label} stands at {span}{partly}")
    if behind and run.is_campaign:
        yield f"Unfinished: {low} of {plural(run.num_deployments, 'deployment')} done."
    elif behind:
        stands = f"of {plural(run.num_deployments, 'deployment')}, {'; '.join(behind)}"
        yield f"Unfinished: {stands}. Every mean is over the seeds that got there."
    for file in run.torn:
        name = shorten(file.relative_to(run.path), 80)
        yield f"The last line of {name} was cut and is left out; marline may still be writing it."


def _collected_in_turns(run: Run) -> Iterator[str]:
    epsilon, num_rows = run.settings.get("sequential_exploration"), run.settings.get("rows_per_deployment")
    if not isinstance(epsilon, int | float) or not isinstance(num_rows, int):
        return
    agents = max((len(line.get("agents", {})) for lines in run.lines.values() for line in lines.values()), default=0)
    deployments = max((max(lines, default=0) for lines in run.lines.values()), default=0)
    if agents and deployments:
        yield (
            f"Agents collected one after another, each acting at random with probability {epsilon:g} in its own turn: "
            f"a deployment cost {agents} turns of {num_rows:,} rows, {agents} times what collecting at once costs; "
            f"{plural(deployments, 'deployment')} of a team cost {agents * num_rows * deployments:,}."
        )


def _degenerate(run: Run, looks: Mapping[str, Look]) -> Iterator[str]:
    for sampler in run.samplers:
        name = looks[sampler.name].label
        units = _values(run, sampler.name, "active_units")
        if units and min(units) < MIN_ACTIVE_UNITS:
            yield f"{name}: an encoder uses only {min(units):.0f} of its dimensions, so its distances say little."
        rows = _values(run, sampler.name, "effective_sample_size")
        if rows and min(rows) < MIN_EFFECTIVE_ROWS:
            yield f"{name}: its exponent left as few as {min(rows):.1f} effective rows to draw from."
        clipped, adapted = _clipped(run, sampler.name)
        if clipped:
            yield f"{name}: the exponent was clipped in {clipped} of {plural(adapted, 'adaptation')}."
        floors = _values(run, sampler.name, "floors")
        if floors and sum(floors):
            share = sum(value > 0 for value in floors) / len(floors)
            yield f"{name}: V was close to 0 and its scale floored in {100 * share:.0f} % of the tunings."


def _without_reference(run: Run, looks: Mapping[str, Look]) -> Iterator[str]:
    judged = run.methods
    if run.is_campaign:
        yield _one_team(run, looks)
        return
    if judged and run.baseline is None:
        yield "There is no uniform replay in this run, so gains cannot be told from those of plain further training."
    if alone := [looks[name].label for name in judged if run.shuffled_of(name) is None]:
        adds = f"name {SHUFFLED} among the samplers to add it."
        is_there = RunDirectory(run.path).configuration.exists()  # it may be read off a table
        if is_there:
            adds = f"this adds it: {command_elsewhere('resume', run.path, '--sampler', SHUFFLED)}"
        yield f"There is no shuffled control for {_some(alone)}, so {UNTOLD}; {adds}"


def _one_team(run: Run, looks: Mapping[str, Look]) -> str:
    """What the numbers of a campaign cannot tell, whatever they are."""
    moved = "a change of the return may also come from a world that changed meanwhile (partners, weather, wear)"
    if run.baseline is not None:
        return f"Only one team is deployed: {moved}, and no other team tells how much."
    return (
        f"Only one team is deployed: without a team tuned by uniform replay beside it, nobody can say what "
        f"{join([looks[one.name].label for one in run.samplers])} added; and {moved}."
    )


def _some(names: list[str]) -> str:
    return join(names[:5] + ["others"] * (len(names) > 5))


def _clipped(run: Run, name: str) -> tuple[int, int]:
    used, raw = _values(run, name, "alpha"), _values(run, name, "alpha_raw")
    pairs = list(zip(used, raw, strict=True)) if len(used) == len(raw) else []
    return sum(not math.isclose(a, b, rel_tol=1e-4) for a, b in pairs), len(pairs)


def _values(run: Run, name: str, key: str) -> list[float]:
    measured = [run.diagnostic(name, seed, key) for seed in run.seeds]
    values = [value for curve in measured for agents in curve.values() for value in agents.values()]
    return [value for value in values if math.isfinite(value)]
