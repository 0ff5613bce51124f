"""What results/paper-*.csv come to beside the paper: verdicts, tables and figures.

    python experiments/paper_table.py results table-1

A verdict is of what the paper says of a cell: that a method ends above another, and by how much where it has numbers.

- *agrees in sign*: the 95 % interval of our paired differences lies on the paper's side of 0, and p after Holm's
  adjustment over the cell is at most .05. With fewer than ten seeds it is *a direction*, without the adjustment.
- *agrees in size*: besides, our difference and the paper's are not told apart, by Welch's interval of one minus the
  other; the paper tells a mean and a deviation over five seeds of either sampler, so its seeds count as unpaired.
- *differs*: the interval lies on the other side, or with ten seeds both are equal within 2 % of the offline return.
- *not told apart*: none of these. It is never read as agreement.
- *not run*: no seed has got to the last deployment; what it would take stands beside it.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from paper_items import D_E, D_Q, ITEMS, Cell, Item, core_hours

from marline.configuration.run_config import describe
from marline.report.appearance import COLORS, looks, number
from marline.report.chart import Axis, Chart, Mark
from marline.report.chart_svg import SERIES
from marline.report.comparison import LEVEL
from marline.report.figures import Looks, returns_chart
from marline.report.records import Run, sampler_record
from marline.report.statements import interval
from marline.report.svg import Panel, Row, legend, place, sheet
from marline.samplers import SAMPLERS
from marline.statistics.aggregation import holm
from marline.statistics.intervals import (
    EQUALITY_MARGIN,
    MIN_SEEDS,
    Difference,
    Interval,
    equality,
    improvement_percent,
    paired_difference,
    spread,
)

NUMBERS = Path(__file__).with_name("paper_numbers.csv")
COLUMNS = ("cell", "task", "algorithm", "sampler", "seed", "deployment", "return")
AGENT_COLUMNS = ("cell", "sampler", "seed", "deployment", "agent", "value")
PAPER_SEEDS = 5
UNDEFINED = 0.01  # of the range of returns: an offline return below it has no improvement in percent
REPLAY = "the replay of a training until medium, made on the way: hours, once a robot"
SHEET = 430  # wide is a figure: a phone's width and a little
SYMBOLS = {D_E: "d_e", D_Q: "d_q"}  # of the paper, below an axis; the legend says the rest
LETTER = "-paper"  # what ends the names of samplers that are the paper to the letter


class Claim(NamedTuple):
    """What the paper says of a method against another: the sign of the difference, and numbers where it has some."""

    item: str
    cell: str
    method: str
    against: str
    sign: int
    value: float
    std: float
    against_value: float
    against_std: float
    at_most: float
    where: str
    how: str

    @property
    def has_numbers(self) -> bool:
        return math.isfinite(self.value)

    @property
    def difference(self) -> float:
        return self.value - self.against_value

    @property
    def overhead(self) -> float:
        """How much longer than the other, in percent."""
        return 100 * (self.value / self.against_value - 1)


class Finding(NamedTuple):
    """A claim beside what was measured of it; None where nothing was."""

    claim: Claim
    method: str
    ours: Mapping[str, tuple[float, ...]]  # of the method, the other and the shuffled control: a number per seed
    difference: Difference | None
    correction: Difference | None  # to the shuffled control
    verdict: str


@functools.lru_cache
def claims(path: Path = NUMBERS) -> tuple[Claim, ...]:
    """All that the paper says."""
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            numbers = ("value", "std", "against_value", "against_std", "at_most")
            value, std, against_value, against_std, at_most = (float(row[name] or "nan") for name in numbers)
            words = row["item"], row["cell"], row["method"], row["against"], 1 if row["sign"] == "+" else -1
            found.append(Claim(*words, value, std, against_value, against_std, at_most, row["where"], row["how"]))
    return tuple(found)


def run_of(path: Path, rows: Sequence[Mapping[str, str]]) -> Run:
    """The run that such rows were written of, as far as returns go."""
    options = {name: _options(name) for name in dict.fromkeys(row["sampler"] for row in rows)}
    lines: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    for row in rows:
        line = {"deployment": int(row["deployment"]), "return": float(row["return"])}
        lines.setdefault((row["sampler"], int(row["seed"])), {})[int(row["deployment"])] = line
    return Run(
        path=path.with_suffix(""),
        settings={"task": rows[0]["task"], "algorithm": {"type": rows[0]["algorithm"]}},
        samplers=tuple(sampler_record(name, its, options) for name, its in options.items()),
        seeds=tuple(sorted({seed for _, seed in lines})),
        num_deployments=max(int(row["deployment"]) for row in rows),
        lines=lines,
        trajectories={},
        policies={},
        dataset={},
        torn=(),
    )


def _options(name: str) -> dict[str, Any]:
    """What a sampler of this name is, which a table does not say; other names are those of variants of OTC."""
    for prefix, kind in (("shuffled-", "Shuffled"), ("online-matched-", "OnlineMatched")):
        if name.startswith(prefix):
            return {"type": kind}
    return describe(SAMPLERS[name]) if name in SAMPLERS else {"type": "OTC"}


def read(results: Path, item: Item) -> dict[str, Run]:
    """What was measured of an item, by cell; nothing of those that were not run."""
    rows: dict[str, list[dict[str, str]]] = {}
    for row in _rows(results / f"{item.stem}.csv"):
        rows.setdefault(row["cell"], []).append(row)
    return {name: run_of(results / f"{item.stem}.csv", its) for name, its in rows.items()}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def findings(results: Path, item: Item) -> list[Finding]:
    """Every claim of an item, and each sampler of that kind that was run."""
    runs = read(results, item)
    found = []
    for cell in item.cells:
        its = [claim for claim in claims() if (claim.item, claim.cell) == (item.name, cell.name)]
        run = runs.get(cell.name)
        names = {claim: _methods(run, claim) for claim in its}
        pairs = [(claim, method) for claim in its for method in names[claim]]
        made = [_difference(item, cell, run, claim, method) for claim, method in pairs]
        there = [number for number, one in enumerate(made) if one[1] is not None]
        adjusted = dict(zip(there, holm([made[number][1].p for number in there]), strict=True))  # pyright: ignore[reportOptionalMemberAccess]
        for place_of, ((claim, method), (ours, difference, correction, margin)) in enumerate(
            zip(pairs, made, strict=True)
        ):
            word = verdict(claim, difference, adjusted.get(place_of, math.nan), margin)
            found.append(Finding(claim, method, ours, difference, correction, word))
    return found


def _methods(run: Run | None, claim: Claim) -> list[str]:
    """Samplers that a claim is of: that to the letter first, and our own form of it where it was run."""
    there = [] if run is None else [sampler.name for sampler in run.samplers]
    return [claim.method + LETTER, *(name for name in (claim.method,) if name in there)]


Measured = tuple[dict[str, tuple[float, ...]], Difference | None, Difference | None, float]


def _difference(item: Item, cell: Cell, run: Run | None, claim: Claim, method: str) -> Measured:
    """Of a method, what it is against and its shuffled control: a number per seed; the differences, and a margin."""
    if run is None:
        return {}, None, None, 0.0
    values, margin = {}, EQUALITY_MARGIN * 100
    for name in (method, claim.against, f"shuffled-{method}"):
        last = run.returns(name, run.num_deployments)
        if item.unit == "improvement":
            first = {seed: value for seed, value in run.returns(name, 0).items() if seed in last}
            least = UNDEFINED * abs(cell.expert_return - cell.low_return)
            values[name] = {
                seed: float(improvement_percent([value], [last[seed]])[0])
                for seed, value in first.items()
                if abs(value) >= least
            }
        else:
            values[name] = last
    if item.unit == "return":
        offline = list(run.returns(method, 0).values())
        margin = EQUALITY_MARGIN * abs(float(np.mean(offline))) if offline else 0.0
    ours = {name: tuple(its.values()) for name, its in values.items() if its}
    if item.unit == "overhead":
        common = sorted(values[method].keys() & values[claim.against].keys())
        more = [100 * (values[method][one] / values[claim.against][one] - 1) for one in common]
        return ours, paired_difference(more, [0.0] * len(more)) if more else None, None, 0.0
    return (
        ours,
        _minus(values[method], values[claim.against]),
        _minus(values[method], values[f"shuffled-{method}"]),
        margin,
    )


def _minus(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    common = sorted(first.keys() & second.keys())
    return paired_difference([first[seed] for seed in common], [second[seed] for seed in common]) if common else None


def verdict(claim: Claim, ours: Difference | None, p: float, margin: float) -> str:
    """What the rules above say."""
    if ours is None:
        return "not run"
    few = " (a direction)" if len(ours.per_seed) < MIN_SEEDS else ""
    if math.isfinite(claim.at_most):  # a time: what it may cost at most
        if ours.high <= claim.at_most:
            return "agrees in size"
        return "differs" if ours.low > claim.at_most else "not told apart"
    if ours.sign == claim.sign and (few or p <= LEVEL):
        is_near = claim.has_numbers and not _apart(welch(ours.per_seed, claim))
        return ("agrees in size" if is_near else "agrees in sign") + few
    if ours.sign == -claim.sign and (few or p <= LEVEL):
        return "differs" + few
    return "differs" if not few and equality(ours.per_seed, margin).holds else "not told apart"


def welch(per_seed: Sequence[float], claim: Claim) -> Interval:
    """95 % interval of our mean difference less the paper's, of which mean and deviation of either side are known."""
    n, m = len(per_seed), PAPER_SEEDS
    if n < 2 or not claim.has_numbers:
        return Interval(math.nan, math.nan)
    from scipy.special import stdtrit

    u = float(np.var(per_seed, ddof=1)) / n
    v = (claim.std**2 + claim.against_std**2) / m
    mean = float(np.mean(per_seed)) - claim.difference
    if u + v == 0:
        return Interval(mean, mean)
    freedom = (u + v) ** 2 / (u**2 / (n - 1) + v**2 / (m - 1))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(u + v)
    return Interval(mean - half, mean + half)


def _apart(ends: Interval) -> bool:
    return ends.low > 0 or ends.high < 0


def item_table(results: Path, item: Item) -> list[str]:
    """The paper's number, ours and the control side by side, with a verdict for each cell."""
    unit = {"improvement": "improvement, %", "return": "last return", "overhead": "ms per update"}[item.unit]
    header = ["cell", "method", "against", "paper", f"ours: {unit}", "control", "seeds"]
    header += ["method minus the other", "minus its shuffled control", "verdict"]
    rows = []
    for one in findings(results, item):
        claim = one.claim
        ours = [_level(one.ours.get(name)) for name in (one.method, claim.against, f"shuffled-{one.method}")]
        seeds = "" if one.difference is None else str(len(one.difference.per_seed))
        row = [claim.cell, f"`{one.method}`", f"`{claim.against}`", _papers(claim, item)]
        row += [f"{ours[0]} / {ours[1]}" if one.difference is not None else "", ours[2], seeds]
        percent = " %" if item.unit == "overhead" and one.difference is not None else ""
        rows.append([*row, _cell(one.difference) + percent, _cell(one.correction), one.verdict])
    return _markdown(header, rows)


def _papers(claim: Claim, item: Item) -> str:
    if not claim.has_numbers:
        return "above" if claim.sign > 0 else "below"
    if item.unit == "overhead":
        return f"{claim.value} / {claim.against_value} ms: {number(claim.overhead, 1, sign=True)} %"
    value, other = (
        f"{number(mean, 1)} ± {number(std, 1)}"
        for mean, std in ((claim.value, claim.std), (claim.against_value, claim.against_std))
    )
    return f"{value} / {other}: {number(claim.difference, 1, sign=True)}"


def summary_table(results: Path) -> list[str]:
    """A row for each item: what was run, and what came of it."""
    header = ["item", "what", "verdicts", "seeds", "device", "date", "not run: core-hours, 5 seeds", "page"]
    rows = []
    for item in ITEMS.values():
        its, runs = findings(results, item), read(results, item)
        counts: dict[str, int] = {}
        for one in its:
            counts[one.verdict] = counts.get(one.verdict, 0) + 1
        told = ", ".join(f"{word} {count}" for word, count in counts.items())
        seeds = sorted({len(one.difference.per_seed) for one in its if one.difference is not None})
        starts = [start for told_of in provenance(results, item).values() for start in told_of["starts"]]
        devices = dict.fromkeys(start["device"] for start in starts)
        dates = sorted({start["date"][:10] for start in starts})
        left = [cell for cell in item.cells if cell.name not in runs]
        price = _price(sum(core_hours(item, cell, 5) for cell in left)) if left else ""
        page = f"[page]({item.stem}.md)" if (results / f"{item.stem}.md").exists() else f"`{command(item)}`"
        row = [
            item.name,
            item.title,
            told,
            ", ".join(map(str, seeds)),
            ", ".join(devices),
            " to ".join(dates[:: max(1, len(dates) - 1)]),
        ]
        rows.append([*row, price, page])
    return _markdown(header, rows)


def _price(hours: float) -> str:
    return number(hours, 0) if hours >= 10 else number(hours, 1)


def command(item: Item, *more: str) -> str:
    return " ".join(("python experiments/paper.py", item.name, *more))


def price_table(results: Path) -> list[str]:
    """What each cell that was not run would take, and what is missing for it."""
    rows = []
    for item in ITEMS.values():
        runs = read(results, item)
        for cell in item.cells:
            if cell.name not in runs:
                hours = _price(core_hours(item, cell, 5))
                lacks = REPLAY if cell.logs == "medium-replay" else ""
                rows.append([item.name, cell.name, hours, f"`{command(item, '--only', cell.name)}`", lacks])
    return _markdown(["item", "cell", "core-hours, 5 seeds", "command", "missing"], rows)


def provenance(results: Path, item: Item) -> dict[str, Any]:
    """Where the numbers of an item come from, by cell."""
    path = results / f"{item.stem}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def provenance_table(results: Path, item: Item) -> list[str]:
    """Settings, versions, device and date of each cell that was run."""
    rows = []
    for name, told in provenance(results, item).items():
        starts = told["starts"]
        commits = dict.fromkeys(start.get("commit", "")[:10] for start in starts)
        versions = dict.fromkeys(f"jax {start['jax']}, Python {start['python']}" for start in starts)
        devices = dict.fromkeys(start["device"] for start in starts)
        settings = ", ".join(f"{key} {value}" for key, value in told["settings"].items())
        seeds = f"{told['seeds'][0]} to {told['seeds'][-1]}" if told["seeds"] else ""
        dates = dict.fromkeys(start["date"][:10] for start in starts)
        rows.append([name, settings, told["logs"], seeds, *map(", ".join, (commits, versions, devices, dates))])
    return _markdown(["cell", "settings", "logs", "seeds", "commits", "versions", "device", "dates"], rows)


def table(results: Path, what: str) -> list[str]:
    """One of them, by the words that stand in a mark of `experiments/verdicts.py`."""
    kind, _, name = what.partition(" ")
    if kind == "summary":
        return summary_table(results)
    if kind == "prices":
        return price_table(results)
    return {"cells": item_table, "provenance": provenance_table}[kind](results, ITEMS[name])


def draw(results: Path, item: Item) -> str:
    """The paper's figure from our numbers: a panel for each cell, and below it one for each agent's quantity."""
    runs = read(results, item)
    shown = looks(runs.values())
    body, top = legend([(look, look.label) for look in shown.values()], sheet_width=SHEET)
    panels = []
    for cell in item.cells:
        draws = times_chart if item.unit == "overhead" else returns_chart
        chart = draws(runs[cell.name], shown) if cell.name in runs else None
        if chart is not None:
            title = f"{cell.name}: {chart.title}" if item.unit == "overhead" else cell.name
            papers = dataclasses.replace(chart, y=dataclasses.replace(chart.y, covers=item.axis))
            panels.append(Panel(f"{title}: the paper's axis" if item.axis else title, papers))
            panels += [Panel("the same, nearer", chart)] if item.axis else []
    quantities = _rows(results / f"{item.stem}-{item.per_agent}.csv") if item.per_agent else []
    for cell in item.cells:
        chart = violins([row for row in quantities if row["cell"] == cell.name], item.per_agent)
        panels += [Panel(f"{item.per_agent} of each agent, {cell.name}", chart)] if chart is not None else []
    for panel in panels:  # one below the other, so that a phone shows them at the size of its text
        row = Row([panel], 1, 250.0)
        body += place(row, top, sheet_width=SHEET)
        top += row.height
    hues = "".join(f".n{series} {{ color: {light}; }}" for series, (light, _) in enumerate(COLORS.values()))
    about = [f"<style>{hues}</style>"] if quantities else []
    return sheet(f"{item.name}: {item.title}", body, top + 12, shown, about, sheet_width=SHEET)


def times_chart(run: Run, shown: Looks) -> Chart:
    """Milliseconds per update, a dot for each round."""
    marks = []
    for number_of, sampler in enumerate(run.samplers):
        times = list(run.returns(sampler.name, run.num_deployments).values())
        marks.append(Mark([float(number_of)] * len(times), times, "dots", look=shown[sampler.name]))
    names = [SYMBOLS.get(sampler.name, shown[sampler.name].label) for sampler in run.samplers]
    return Chart("ms per update", "", marks, Axis(names=names), Axis(from_zero=True))


def violins(rows: Sequence[Mapping[str, str]], title: str) -> Chart | None:
    """A quantity of every agent: a dotted mean over seeds, and a violin over seeds at each deployment."""
    marks = []
    for series, agent in enumerate(dict.fromkeys(row["agent"] for row in rows)):
        by: dict[int, list[float]] = {}
        for row in rows:
            if row["agent"] == agent:
                by.setdefault(int(row["deployment"]), []).append(float(row["value"]))
        for deployment, values in sorted(by.items()):
            outline = violin(values, float(deployment))
            marks += [Mark(*outline, "band", "band", series=series % SERIES)] if outline is not None else []
        x = [float(deployment) for deployment in sorted(by)]
        means = [float(np.mean(by[int(at)])) for at in x]
        marks.append(Mark(x, means, role="mean", name=agent, series=series % SERIES))
    return Chart(title, "", marks, Axis("deployment", whole=True)) if marks else None


def violin(values: Sequence[float], middle: float) -> tuple[list[float], list[float]] | None:
    """The outline of a density by Gaussian kernels, with Silverman's bandwidth; nothing where values do not spread."""
    sample = np.asarray(values)
    deviation = float(np.std(sample))
    if len(sample) < 2 or deviation == 0:
        return None
    width = 0.9 * deviation * len(sample) ** -0.2
    at = np.linspace(sample.min() - 2 * width, sample.max() + 2 * width, 41)
    density = np.exp(-0.5 * ((at[:, None] - sample) / width) ** 2).sum(axis=1)
    reach = 0.4 * density / density.max()
    return [*(middle - reach).tolist(), *(middle + reach[::-1]).tolist()], [*at.tolist(), *at[::-1].tolist()]


def page(item: Item) -> str:
    """The page of an item, whose tables `experiments/verdicts.py` fills in."""
    files = f"[every seed]({item.stem}.csv), [where it comes from]({item.stem}.json)"
    return f"""# {item.name}: {item.title}

Made by `{command(item)}`; {files}. What words mean stands in [the summary](README.md#how-to-read-a-verdict).

![{escape(item.title)}]({item.stem}.svg)

<!-- from {item.stem}.csv: paper cells {item.name} -->
<!-- end -->

Where the numbers come from:

<!-- from {item.stem}.csv: paper provenance {item.name} -->
<!-- end -->
"""


def _level(values: Sequence[float] | None) -> str:
    if not values:
        return ""
    mean, std = spread(values)
    return f"{number(mean, 1)} ± {number(std, 1)}"


def _cell(difference: Difference | None) -> str:
    return "" if difference is None else interval(difference)


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder that experiments/paper.py writes into")
    parser.add_argument("items", nargs="*", metavar="ITEM", help="their tables; the summary unless given")
    args = parser.parse_args()
    tables = [item_table(args.results, ITEMS[name]) for name in args.items] or [summary_table(args.results)]
    print(*("\n".join(lines) for lines in tables), sep="\n\n")


if __name__ == "__main__":
    sys.exit(main())
