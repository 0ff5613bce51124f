"""Every number and verdict of the README, docs and results that stems from a run, derived again from its CSV file.

    python experiments/verdicts.py           # writes them anew, and the figures
    python experiments/verdicts.py --check   # changes nothing; names what differs, and then exits with 1

A page says where a text comes from in comments that readers do not see:

    it gains <!-- from FILE.csv: difference otc-value uniform -->+3.3 [+0.2, +6.3]<!-- end -->

FILE.csv lies in results/ and was written by `marline report --csv` or by a script beside this one. What can stand
behind it: `summary` and `standings` (what `marline report --summary` writes), `difference A B`, `finding A B` (that and
what it allows to be said), `mean-difference A B` (of the mean over deployments), `equal A B`, `refresh` (a table of
`experiments/refresh.py`), `parity return` and `parity mean_q1` (those of `experiments/parity_table.py`), `theory table`
and `theory bound` (of `experiments/theory.py`), `correction` and `paper` with the name of a table of
`experiments/correction_table.py` and of `experiments/paper_table.py`, `traffic` (the table of
`experiments/traffic_table.py`) and the name of a sentence there. Within a sentence a mark never begins a line, where
Markdown would take it for a block.
"""

from __future__ import annotations

import argparse
import csv
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import correction_table
import paper_table
import parity_table
import refresh
import theory
import traffic_table

from marline.report.comparison import compare, last_deployment
from marline.report.records import Run
from marline.report.statements import finding_text, interval
from marline.report.svg import draw, only
from marline.report.tables import markdown, standings_table

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- from (?P<file>[\w.-]+): (?P<what>[^>]*?) -->)(?P<text>.*?)(<!-- end -->)", re.DOTALL)
FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        f"cooperative-navigation-4-{part}.svg": (f"cooperative-navigation-4-{part}.csv", ())
        for part in ("small-official", "small-moving", "paper-size-moving")
    },
    "cooperative-navigation-4-value.svg": (
        "cooperative-navigation-4-small-moving.csv",
        ("uniform", "otc-value", "online-matched-otc-value"),
    ),
}


@functools.lru_cache
def read_table(path: Path) -> Run:
    """The run of which `marline report --csv` wrote this table, as far as returns go."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return paper_table.run_of(path, rows)


def derive(path: Path, what: str) -> str:
    """The text that stands behind a mark."""
    kind, *names = what.split()
    if kind == "parity":
        return "\n" + "\n".join(parity_table.table(path, names[0])) + "\n"
    if kind == "correction":
        lines = correction_table.table(path, " ".join(names))
        return lines[0] if names[0] in correction_table.SENTENCES else "\n" + "\n".join(lines) + "\n"
    if kind == "traffic":
        return (
            traffic_table.sentence(path, " ".join(names))
            if names
            else "\n" + "\n".join(traffic_table.table(path)) + "\n"
        )
    if kind == "theory":
        rows = theory.read(path)
        return theory.bound_sentence(rows) if names[0] == "bound" else "\n" + "\n".join(theory.table(rows)) + "\n"
    if kind == "paper":
        return "\n" + "\n".join(paper_table.table(path.parent, " ".join(names))) + "\n"
    run = read_table(path)
    if kind in ("difference", "finding"):
        deployment = last_deployment(run, *names)
        found = compare(run, names[0], names[1], deployment) if deployment is not None else None
        if found is None:
            raise LookupError(f"{path} has no deployment of both {' and '.join(names)}")
        text = interval(found.difference)
        return f"{text}, {finding_text(found)}" if kind == "finding" else text
    if kind == "mean-difference":
        return refresh.difference(run, names[0], names[1], "mean")
    if kind == "equal":
        return refresh.equal(run, names[0], names[1], "last")
    tables = {
        "summary": lambda: markdown(run),
        "standings": lambda: "\n".join(standings_table(run)),
        "refresh": lambda: "\n".join(refresh.table(run)).rstrip(),
    }
    return f"\n{tables[kind]()}\n"


def pages(root: Path) -> Iterator[Path]:
    """Every page that may say what came out."""
    yield root / "README.md"
    for folder in ("docs", "results"):
        yield from sorted((root / folder).glob("*.md"))


def renewed(root: Path) -> dict[Path, str]:
    """Every page with marks and every figure, as the tables would have it."""
    results = root / "results"
    found = {}
    for page in pages(root):
        text = page.read_text("utf-8")
        new = MARKED.sub(lambda mark: mark[1] + derive(results / mark["file"], mark["what"]) + mark[5], text)
        if MARKED.search(text):
            found[page] = new
    for figure, (table, samplers) in FIGURES.items():
        run = read_table(results / table)
        found[results / figure] = draw([only(run, samplers) if samplers else run])
    for item in paper_table.ITEMS.values():
        if (results / f"{item.stem}.csv").exists():
            found[results / f"{item.stem}.svg"] = paper_table.draw(results, item)
    if (results / "theory.csv").exists():
        found[results / "theory.svg"] = theory.draw(theory.read(results / "theory.csv"))
    found[results / "correction.svg"] = correction_table.draw(correction_table.read(results / "correction.csv"))
    return found


def outdated(root: Path) -> dict[Path, str]:
    """The pages and figures that are not what their tables say, as they should be."""
    return {path: text for path, text in renewed(root).items() if text != path.read_text("utf-8")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, and name what differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    args = parser.parse_args()
    different = outdated(args.root)
    for path, text in different.items():
        print(f"{path.relative_to(args.root)} is not what its tables say")
        if not args.check:
            path.write_text(text, "utf-8")
    return int(args.check and bool(different))


if __name__ == "__main__":
    sys.exit(main())
