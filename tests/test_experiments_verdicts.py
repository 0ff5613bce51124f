"""What the README, docs and results say of runs is what their tables say: experiments/verdicts.py."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from marline.algorithms import TD3BC
from marline.configuration.run_config import RunConfig
from marline.configuration.selection import select_samplers
from marline.report.records import sampler_record

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "results").glob("*.md"))]
MARKED = re.compile(r"<!-- from [^>]*? -->(.*?)<!-- end -->", re.DOTALL)
INTERVAL = re.compile(r"\[[+−][\d.,]+, [+−][\d.,]+\]")


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    return importlib.import_module("verdicts")


def test_pages_and_figures_say_what_their_tables_say(verdicts: ModuleType) -> None:
    assert list(verdicts.outdated(ROOT)) == []


@pytest.mark.slow
def test_a_number_or_a_word_that_is_not_from_the_table_is_found(verdicts: ModuleType, tmp_path: Path) -> None:
    for folder in ("docs", "results"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    readme = (ROOT / "README.md").read_text("utf-8")
    changed = readme.replace("+3.3 [+0.2, +6.3], a direction, up", "+3.3 [+1.7, +5.5], above")
    assert changed != readme
    (tmp_path / "README.md").write_text(changed, "utf-8")
    table = tmp_path / "results" / "refresh-predator-prey.csv"
    table.write_text(re.sub(r"(otc-value-refresh,0,5),[^,]+", r"\1,99.0", table.read_text("utf-8")), "utf-8")
    found = verdicts.outdated(tmp_path)
    pages = ("README.md", "docs/performance.md", "results/performance.md", "results/refresh.md")
    assert sorted(found) == [tmp_path / name for name in pages]
    assert found[tmp_path / "README.md"] == readme


def test_a_table_is_read_as_the_run_that_it_is_of(verdicts: ModuleType, tmp_path: Path) -> None:
    names = ("uniform", "frozen", "offline-only", "balanced", "classifier-ratio", "otc-value", "shuffled")
    samplers, matches = select_samplers((*names, "cut=otc-value(alpha=2)", "online-matched"))
    run = RunConfig(task="a", algorithm=TD3BC(), samplers=samplers, matches=matches).to_json()
    rows = "".join(f"a,TD3BC,{name},0,{number},{number}\n" for name in samplers for number in (0, 1))
    (tmp_path / "run.csv").write_text("task,algorithm,sampler,seed,deployment,return\n" + rows, "utf-8")
    found = verdicts.read_table(tmp_path / "run.csv")
    described = {one.name: (one.kind, one.matches) for one in found.samplers}
    told = {name: sampler_record(name, its, run["samplers"]) for name, its in run["samplers"].items()}
    assert described == {name: (one.kind, one.matches) for name, one in told.items()}
    assert described["frozen"] == ("other", None), "it prefers no rows: nothing of it is judged beside the methods"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_interval_or_verdict_stands_beside_the_marks(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not re.search(r"^ *<!-- from [^\n]*?-->(?!\n)", text, re.MULTILINE), "a mark begins a line of a sentence"
    beside = MARKED.sub("", text)
    assert INTERVAL.findall(beside) == []
    for claim in ("does harm", "most of the gain", "learns as well, ", "bootstrap interval"):
        assert claim not in beside


def test_where_numbers_come_from_is_said_in_words_that_hold_anywhere() -> None:
    sources = sorted((ROOT / "results").glob("*.json"))
    assert len(sources) > 3
    for path in sources:
        assert not re.search(r'[ "=]/\w+/', path.read_text("utf-8")), path.name
