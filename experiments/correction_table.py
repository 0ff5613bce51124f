"""What results/correction.csv comes to: tables, and the figure that shows them.

    python experiments/correction_table.py results/correction.csv

Everything is in points: 0 is random play and 100 the best known. Differences are paired over seeds after the last
deployment, with 95 % intervals by Student's t; a verdict takes ten seeds, an interval apart from 0, and p at most .05
after Holm's adjustment over the methods of the task. Fewer seeds give a direction.
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
from xml.sax.saxutils import escape

import numpy as np

from marline.report.appearance import number
from marline.report.comparison import LEVEL
from marline.report.statements import interval
from marline.report.svg import DARK, STYLE
from marline.statistics.aggregation import (
    Aggregate,
    aggregate,
    aggregate_difference,
    holm,
    paired_probability_of_improvement,
)
from marline.statistics.intervals import (
    EQUALITY_MARGIN,
    MIN_SEEDS,
    Difference,
    equality,
    mean_interval,
    paired_difference,
)

SHARE, SHUFFLED, ORACLE, UNIFORM, RETURNS = "fresh-", "shuffled-", "oracle", "uniform", "return-weighted"
ADAPTIVE = "adaptive-share"
PRODUCT, FACTOR = "kernel-ratio-and-return", "kernel-ratio"  # whose controls are its two factors
OWN_CONTROLS = {"retarget": "retarget-logs"}  # of what prefers no rows, so that a shuffled control tells nothing
OURS = ("kernel-ratio", "two-sided-pooled", "two-sided", "dynamics-ratio", "best-ratio")
DRAWN = ("kernel-ratio", "dynamics-ratio", "otc-value")  # the default, by networks, and the paper's
PAPERS = {"otc-embedding": "d_e", "otc-value": "d_q"}
COMPARED = (*OURS, *PAPERS)


def control_of(method: str) -> str:
    """What a method is first of all compared with: in the same way at work, without what it is to show."""
    return OWN_CONTROLS.get(method, SHUFFLED + method)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What a task's run came to.

    Attributes:
        points: of each sampler and seed, by deployment; 0 is the offline team.
        corrects: of each sampler that asks, by deployment: the share of agents and seeds to whom something had changed.
        point: how much return a point is.
    """

    name: str
    algorithm: str
    points: Mapping[str, Mapping[int, Mapping[int, float]]]
    corrects: Mapping[str, Mapping[int, float]]
    point: float
    random: float

    @functools.cached_property
    def last(self) -> int:
        """The last deployment."""
        return max(number for seeds in self.points.values() for curve in seeds.values() for number in curve)

    def finals(self, sampler: str) -> dict[int, float]:
        """Points after the last deployment by seed, of those that have got there."""
        return {seed: curve[self.last] for seed, curve in self.points.get(sampler, {}).items() if self.last in curve}

    def offline(self, sampler: str = UNIFORM) -> dict[int, float]:
        return {seed: curve[0] for seed, curve in self.points.get(sampler, {}).items() if 0 in curve}

    def has(self, *samplers: str | None) -> bool:
        return all(sampler is not None and bool(self.finals(sampler)) for sampler in samplers)

    @property
    def methods(self) -> list[str]:
        """Those with a control; the oracle, which nobody can be, is none."""
        return [name for name in self.points if self.has(name, control_of(name)) and name != ORACLE]

    @property
    def best_share(self) -> str | None:
        """The fixed share of fresh rows that turned out best, known in hindsight only."""
        shares = [name for name in self.points if name.startswith(SHARE) and self.has(name)]
        return max(shares, key=lambda name: np.mean(list(self.finals(name).values())), default=None)

    def minus(self, sampler: str, other: str | None) -> Difference | None:
        """In points, over the seeds that both have; nothing where one of them was not run."""
        if other is None or not self.has(sampler, other) or sampler == other:
            return None
        first, second = self.finals(sampler), self.finals(other)
        seeds = sorted(first.keys() & second.keys())
        return paired_difference([first[seed] for seed in seeds], [second[seed] for seed in seeds]) if seeds else None

    @property
    def margin(self) -> float:
        """What counts as equal, in points: 2 % of the size of the mean offline return."""
        return EQUALITY_MARGIN * abs(float(np.mean(list(self.offline().values()))) + self.random / self.point)


def read(path: Path) -> list[Task]:
    """The tasks of a table that `experiments/correction.py` wrote."""
    return list(_read(path, path.stat().st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> tuple[Task, ...]:
    """As long as the file is what it was; what was derived from a task is known of it then."""
    found: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["task"], []).append(row)
    return tuple(_task(name, rows) for name, rows in found.items())


def _task(name: str, rows: Sequence[Mapping[str, str]]) -> Task:
    random, best = (float(rows[0][key]) for key in ("random", "best"))
    point = (best - random) / 100
    points: dict[str, dict[int, dict[int, float]]] = {}
    asked: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        deployment = int(row["deployment"])
        curve = points.setdefault(row["sampler"], {}).setdefault(int(row["seed"]), {})
        curve[deployment] = (float(row["return"]) - random) / point
        if row["corrects"]:
            asked.setdefault(row["sampler"], {}).setdefault(deployment, []).append(float(row["corrects"]))
    corrects = {sampler: {k: float(np.mean(its)) for k, its in by.items()} for sampler, by in asked.items()}
    return Task(name, rows[0]["algorithm"], points, corrects, point, random)


def finding(difference: Difference, p: float, margin: float) -> str:
    """What may be said of a difference, p being adjusted."""
    if len(difference.per_seed) < MIN_SEEDS:
        return ("no direction", "a direction, up", "a direction, down")[difference.sign]
    if difference.sign and p <= LEVEL:
        return "**better**" if difference.sign > 0 else "**worse**"
    return "equal" if equality(difference.per_seed, margin).holds else "not told apart"


def references(task: Task, method: str) -> dict[str, str | None]:
    """What a method is compared with, the primary contrast first."""
    others = {f"minus {called}": name for name, called in PAPERS.items()}
    return {
        "minus its shuffled control": control_of(method),
        "minus uniform": UNIFORM,
        "minus return-weighted": RETURNS,
        "minus the best share": task.best_share,
        **others,
    }


@functools.cache
def findings(task: Task) -> dict[tuple[str, str], tuple[Difference, float, str]]:
    """Of each method and contrast: the difference, p after Holm over the methods, and what may be said."""
    found: dict[tuple[str, str], tuple[Difference, float, str]] = {}
    for contrast in references(task, ""):
        its = {method: task.minus(method, references(task, method)[contrast]) for method in task.methods}
        there = {method: difference for method, difference in its.items() if difference is not None}
        for (method, difference), p in zip(there.items(), holm([one.p for one in there.values()]), strict=True):
            found[method, contrast] = difference, p, finding(difference, p, task.margin)
    return found


def headroom_table(tasks: Iterable[Task]) -> list[str]:
    """What there is to be gained: by true weights, by freshness alone, by picking good episodes."""
    header = ["task", "algorithm", "seeds", "offline", "uniform", "oracle minus its shuffled control"]
    header += ["oracle minus the best share", "best share minus uniform", "return-weighted minus uniform"]
    rows = []
    for task in tasks:
        seeds, best = len(task.finals(UNIFORM)), task.best_share
        levels = [_mean(task.offline()), _mean(task.finals(UNIFORM))]
        pairs = [(ORACLE, SHUFFLED + ORACLE), (ORACLE, best), (best or "", UNIFORM), (RETURNS, UNIFORM)]
        shares = ["", "", "" if best is None else f" ({best.removeprefix(SHARE)})", ""]
        cells = [_cell(task.minus(*pair)) + more for pair, more in zip(pairs, shares, strict=True)]
        rows.append([task.name, task.algorithm, str(seeds), *levels, *cells])
    return _markdown(header, rows)


def shares_table(tasks: Iterable[Task]) -> list[str]:
    """How the share of fresh rows that every agent finds for itself does beside the fixed ones."""
    header = ["task", "best share in hindsight", "adaptive-share minus it", "adaptive-share minus uniform"]
    rows = []
    for task in tasks:
        best = task.best_share
        to_best = task.minus(ADAPTIVE, best)
        if best is None or to_best is None:
            continue
        word = finding(to_best, to_best.p, task.margin)
        share = best.removeprefix(SHARE)
        rows.append([task.name, share, f"{_cell(to_best)}, {word}", _cell(task.minus(ADAPTIVE, UNIFORM))])
    return _markdown(header, rows)


def product_table(tasks: Iterable[Task]) -> list[str]:
    """Whether weights by return and by a ratio of laws add up: the product beside either."""
    others = (RETURNS, FACTOR, UNIFORM)
    rows = []
    for task in tasks:
        found = [task.minus(PRODUCT, other) for other in others]
        if not task.has(PRODUCT):
            continue
        told = ["" if its is None else f"{_cell(its)}, {finding(its, its.p, task.margin)}" for its in found]
        rows.append([task.name, str(len(task.finals(PRODUCT))), _mean(task.finals(PRODUCT)), *told])
    return _markdown(["task", "seeds", "points", *(f"minus {other}" for other in others)], rows)


def methods_table(task: Task) -> list[str]:
    """Every method of a task against all that it must beat."""
    found = findings(task)
    contrasts = list(dict.fromkeys(contrast for _, contrast in found))
    header = ["method", "points", "corrects", *contrasts]
    rows = []
    for method in task.methods:
        gates = task.corrects.get(method, {})
        asked = f"{100 * np.mean(list(gates.values())):.0f} %" if gates else ""
        cells = []
        for contrast in contrasts:
            difference, p, word = found.get((method, contrast), (None, math.nan, ""))
            text = _cell(difference)
            if difference is not None:
                text += f", {word}"
            if difference is not None and contrast == contrasts[0]:
                text += f"; p by Holm {_p(p)}, by sign flips {_p(difference.p_sign_flip)}"
            cells.append(text)
        own = f" (control: `{OWN_CONTROLS[method]}`)" if method in OWN_CONTROLS else ""
        rows.append([f"`{method}`{own}", _mean(task.finals(method)), asked, *cells])
    return _markdown(header, rows)


def levels_table(task: Task) -> list[str]:
    """Where every sampler ended."""
    rows = []
    for sampler in task.points:
        finals = task.finals(sampler)
        if finals:
            low, high = mean_interval(list(finals.values()))
            ends = f"[{number(low, 1)}, {number(high, 1)}]"
            rows.append(
                [f"`{sampler}`", str(len(finals)), f"{_mean(finals)} {ends}", _cell(task.minus(sampler, UNIFORM))]
            )
    return _markdown(["sampler", "seeds", "points", "minus uniform"], rows)


def together(tasks: Sequence[Task], methods: Sequence[str] = COMPARED) -> list[str]:
    """All tasks of a method: interquartile means of what a seed gained by tuning, and who beats whom."""
    header = ["method", "tasks", "IQM of the change by tuning", "the same of uniform", "of its shuffled control"]
    header += ["P(better than its shuffled control)", "P(better than uniform)", "P(better than return-weighted)"]
    rows = []
    for method in methods:
        names = (method, UNIFORM, control_of(method))
        common = [task for task in tasks if task.has(*names)]
        if not common:
            continue
        levels = aggregate(_gains(common, *names))
        cells = [_aggregate(levels[name]) for name in names]
        for other in (control_of(method), UNIFORM, RETURNS):
            both = [task for task in common if task.has(other)]
            found = paired_probability_of_improvement(*_gains(both, method, other).values()) if both else None
            cells.append("" if found is None else _aggregate(found, 2))
        rows.append([f"`{method}`", str(len(common)), *cells])
    return _markdown(header, rows)


def differences(tasks: Sequence[Task], methods: Sequence[str] = COMPARED) -> list[str]:
    """Of all tasks of a method: its interquartile mean less those of what it must beat, on the same seeds."""
    header = ["method", "tasks", "minus its shuffled control", "minus uniform", "minus return-weighted"]
    rows = []
    for method in methods:
        cells, common = [], [task for task in tasks if task.has(method, control_of(method), UNIFORM)]
        if not common:
            continue
        for other in (control_of(method), UNIFORM, RETURNS):
            both = [task for task in common if task.has(other)]
            found = aggregate_difference(_gains(both, method, other), method, other) if both else None
            cells.append("" if found is None else _aggregate(found))
        rows.append([f"`{method}`", str(len(common)), *cells])
    return _markdown(header, rows)


def aim_table(tasks: Sequence[Task], methods: Sequence[str] = COMPARED) -> list[str]:
    """In how many tasks each method is better, worse, or neither."""
    contrasts = list(references(tasks[0], ""))[:4]
    rows = []
    for method in methods:
        words = {contrast: [] for contrast in contrasts}
        for task in tasks:
            found = findings(task)
            for contrast in contrasts:
                if (method, contrast) in found:
                    words[contrast].append(found[method, contrast][2])
        if not words[contrasts[0]]:
            continue
        cells = []
        for its in words.values():
            counts = [(its.count(word), name) for word, name in (("**better**", "better"), ("**worse**", "worse"))]
            cells.append(", ".join(f"{name} on {count}" for count, name in counts) + f" of {len(its)}")
        rows.append([f"`{method}`", *cells])
    return _markdown(["method", *contrasts], rows)


def counts(tasks: Sequence[Task], method: str) -> str:
    """The same of one method, for a sentence."""
    contrasts = ("minus its shuffled control", "minus uniform", "minus return-weighted")
    told = []
    for contrast in contrasts:
        words = [found[2] for task in tasks if (found := findings(task).get((method, contrast))) is not None]
        better, worse = words.count("**better**"), words.count("**worse**")
        told.append(f"than {contrast.removeprefix('minus ')} on {better} (worse on {worse}) of {len(words)}")
    return f"better {', '.join(told)}"


def difference(tasks: Sequence[Task], method: str, task: str, other: str) -> str:
    """Of a method and what it is compared with on one task, for a sentence."""
    (its,) = [one for one in tasks if one.name == task]
    return _cell(its.minus(method, other))


def provenance_table(path: Path) -> list[str]:
    """By which commands, versions and device the numbers of a task were computed."""
    rows = []
    for name, told in json.loads(path.read_text("utf-8")).items():
        starts = told["starts"]
        versions = {f"jax {start['jax']}, numpy {start['numpy']}, Python {start['python']}" for start in starts}
        commits = dict.fromkeys(start.get("commit", "")[:10] for start in starts)
        devices = dict.fromkeys(start["device"] for start in starts)
        dates = f"{starts[0]['date'][:10]} to {starts[-1]['date'][:10]}" if starts else ""
        seeds = f"{told['seeds'][0]} to {told['seeds'][-1]}"
        rows.append([name, ", ".join(commits), ", ".join(sorted(versions)), ", ".join(devices), seeds, dates])
    return _markdown(["task", "commits", "versions", "device", "seeds", "dates"], rows)


def tables(tasks: Sequence[Task]) -> list[str]:
    """All of them."""
    if not tasks:
        return ["no task was run"]
    lines = ["Headroom", "", *headroom_table(tasks), "", *aim_table(tasks), "", *shares_table(tasks), ""]
    lines += [*product_table(tasks), ""]
    for task in tasks:
        lines += [task.name, "", *methods_table(task), "", *levels_table(task), ""]
    return [*lines, "All tasks", "", *together(tasks), "", *differences(tasks)]


def table(path: Path, what: str) -> list[str]:
    """One of them, by the words that stand in a mark of `experiments/verdicts.py`."""
    kind, _, name = what.partition(" ")
    if kind == "provenance":
        return provenance_table(path)
    tasks = read(path)
    if kind in SENTENCES:
        return [SENTENCES[kind](tasks, *name.split())]
    if name:
        (task,) = [task for task in tasks if task.name == name]
        return {"methods": methods_table, "levels": levels_table}[kind](task)
    whole = {
        "headroom": headroom_table,
        "aim": aim_table,
        "shares": shares_table,
        "product": product_table,
        "together": together,
        "differences": differences,
    }
    return whole[kind](tasks)


SENTENCES = {"counts": counts, "difference": difference}
WIDTH, LEFT, RIGHT, TOP, ROW, GAP = 860, 190, 20, 96, 46, 40
MARKS = """
.grid { stroke: var(--grid); } .zero { stroke: var(--faint); }
.better { stroke: #009e73; fill: #009e73; } .worse { stroke: #d55e00; fill: #d55e00; }
.open { stroke: #8a939d; fill: #8a939d; } .bar { stroke-width: 3; stroke-linecap: round; }
.ring { fill: var(--paper); stroke-width: 2; } .room { fill: #56b4e9; opacity: .25; }
.task { fill: var(--text); font-size: 13px; }
"""


def draw(tasks: Sequence[Task], methods: Sequence[str] = DRAWN) -> str:
    """A panel per method: of each task what it gains over its shuffled control (dots) and over uniform (rings)."""
    shown = [method for method in methods if any(method in task.methods for task in tasks)]
    rows = [task for task in tasks if any(method in task.methods for method in shown)]
    height = TOP + ROW * len(rows) + 52
    width = (WIDTH - LEFT - RIGHT - GAP * max(len(shown) - 1, 0)) / max(len(shown), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>What correction gains, per task</title>",
        f"<style>{STYLE}{MARKS}@media (prefers-color-scheme: dark) {{ {DARK} }}</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        '<text class="title" x="20" y="26">What correction gains after the last deployment</text>',
        '<text x="20" y="44">in points: 0 is random play, 100 the best known; paired seeds, 95 % intervals</text>',
        *_key(),
    ]
    for place, task in enumerate(rows):
        middle = TOP + ROW * (place + 0.5)
        seeds = min(len(task.finals(method)) for method in shown if method in task.methods)
        few = "" if seeds >= MIN_SEEDS else f", {seeds} seeds"
        parts.append(f'<text class="task" x="20" y="{middle + 4:.0f}">{escape(task.name)}{few}</text>')
    for number_of, method in enumerate(shown):
        parts += _panel(rows, method, LEFT + number_of * (width + GAP), width)
    return "\n".join([*parts, "</svg>\n"])


def _key() -> list[str]:
    """What dots, rings, bands and colours are."""
    parts, x = [], 20.0
    for shape, text, width in (
        ('<circle class="open" cx="{}" cy="62" r="5"/>', "minus its shuffled control", 176),
        ('<circle class="open ring" cx="{}" cy="62" r="5"/>', "minus uniform replay", 146),
        ('<rect class="room" x="{}" y="55" width="14" height="14"/>', "what perfect weights gain", 186),
        ('<path class="better bar" d="M{} 62h12"/>', "better", 64),
        ('<path class="worse bar" d="M{} 62h12"/>', "worse", 64),
        ('<path class="open bar" d="M{} 62h12"/>', "neither, or few seeds", 150),
    ):
        parts += [shape.format(x + 6), f'<text x="{x + 26}" y="66">{text}</text>']
        x += width + 8
    return parts


def _panel(tasks: Sequence[Task], method: str, left: float, width: float) -> list[str]:
    """Intervals of a method, one row for each task."""
    others = (control_of(method), UNIFORM)
    # nothing of a task whose control is still to be run
    pairs = [[task.minus(method, other) if method in task.methods else None for other in others] for task in tasks]
    rooms = [
        task.minus(ORACLE, SHUFFLED + ORACLE) if any(pair) else None for task, pair in zip(tasks, pairs, strict=True)
    ]
    ends = [end for pair in pairs for one in pair if one is not None for end in _ends(one)]
    ends += [room.mean for room in rooms if room is not None]
    low, high = min([*ends, -5.0]), max([*ends, 5.0])
    low, high = low - 0.04 * (high - low), high + 0.12 * (high - low)  # with room for a number
    bottom = TOP + ROW * len(tasks)

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * width, 1)

    parts = [f'<text class="title" x="{left}" y="{TOP - 10}">{escape(method)}</text>']
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if (high - low) / step <= 7)
    for tick in range(math.ceil(low / step) * step, math.floor(high) + 1, step):
        line = "zero" if tick == 0 else "grid"
        parts.append(f'<path class="{line}" d="M{x(tick)} {TOP}V{bottom}"/>')
        parts.append(
            f'<text x="{x(tick)}" y="{bottom + 18}" text-anchor="middle">{number(float(tick), 0, sign=True)}</text>'
        )
    parts.append(f'<text x="{left + width / 2:.0f}" y="{bottom + 38}" text-anchor="middle">points gained</text>')
    for place, (pair, room) in enumerate(zip(pairs, rooms, strict=True)):
        if room is not None:
            first, last = sorted((x(0), x(room.mean)))
            parts.append(
                f'<rect class="room" x="{first}" y="{TOP + ROW * place + 7}" width="{last - first:.1f}" height="32"/>'
            )
        for below, (difference, shape) in enumerate(zip(pair, ("", " ring"), strict=True)):
            if difference is None:
                continue
            y = TOP + ROW * place + 16 + 14 * below
            contrast = list(references(tasks[place], method))[below]
            word = findings(tasks[place])[method, contrast][2].strip("*")
            kind = word if word in ("better", "worse") else "open"
            first, last = _ends(difference)
            parts.append(f'<path class="{kind} bar" d="M{x(first)} {y}H{x(last)}"/>')
            parts.append(f'<circle class="{kind}{shape}" cx="{x(difference.mean)}" cy="{y}" r="5"/>')
            text = number(difference.mean, 1, sign=True)
            parts.append(f'<text class="name" x="{max(x(last), x(difference.mean)) + 9:.1f}" y="{y + 4}">{text}</text>')
    return parts


def _ends(difference: Difference) -> tuple[float, float]:
    """Of the interval, or twice the mean where there is none."""
    return (difference.low, difference.high) if math.isfinite(difference.low) else (difference.mean, difference.mean)


def _gains(tasks: Sequence[Task], *samplers: str) -> dict[str, list[list[float]]]:
    """Of each sampler and task: what each seed gained by tuning, in points; of seeds that got to the end in all."""
    gains: dict[str, list[list[float]]] = {name: [] for name in samplers}
    for task in tasks:
        seeds = sorted(set.intersection(*(set(task.finals(name)) for name in samplers)))
        for name in samplers:
            offline, finals = task.offline(name), task.finals(name)
            gains[name].append([finals[seed] - offline[seed] for seed in seeds])
    return gains


def _mean(values: Mapping[int, float]) -> str:
    return number(float(np.mean(list(values.values()))), 1) if values else ""


def _cell(difference: Difference | None) -> str:
    return "" if difference is None else interval(difference)


def _aggregate(found: Aggregate, decimals: int = 1) -> str:
    value, low, high = (number(one, decimals, sign=decimals == 1) for one in found)
    return f"{value} [{low}, {high}]"


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="as experiments/correction.py writes it")
    args = parser.parse_args()
    print(*tables(read(args.csv)), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
