"""Pages that can be checked: every option is listed with its source, and every test that is named exists."""

from __future__ import annotations

import dataclasses
import re
import runpy
from pathlib import Path

import pytest

from marline.algorithms import ALGORITHMS
from marline.data import migrations
from marline.data.experience import Experience
from marline.samplers import SAMPLERS
from marline.types import Transition

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "algorithms.md"


def sections() -> dict[str, str]:
    """The text below each heading, by every name that the heading holds."""
    parts = re.split(r"^### (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return {
        name: text
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
        for name in re.findall(r"`([\w-]+)`", heading)
    }


@pytest.mark.parametrize("name", [*ALGORITHMS, *SAMPLERS])
def test_every_option_is_listed(name: str) -> None:
    method = ALGORITHMS[name] if name in ALGORITHMS else type(SAMPLERS[name])
    text = sections()[name]
    for field in dataclasses.fields(method):  # pyright: ignore[reportArgumentType]
        assert f"`{field.name}`" in text, f"docs/algorithms.md does not list {field.name} of {name}"


def test_what_a_sampler_is_given_is_listed_by_its_names() -> None:
    text = (DOCS / "plugins.md").read_text("utf-8")
    section = text.partition("## What a sampler is given")[2].partition("\n## ")[0]
    named = {
        name for line in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)", line)
    }
    known = {*dir(Experience), *Experience.__annotations__, *dir(Transition), "experience"}
    assert named >= {*Transition._fields, "size", "num_offline", "online_start"} and named <= known


def test_every_test_that_is_named_exists() -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "reliability.md").read_text()))
    assert len(named) > 60
    assert [name for name in sorted(named) if f"def {name}(" not in sources] == []


def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere() -> None:
    """`make docs` checks the same of the site; here it takes no Sphinx."""
    root = DOCS.parent
    linked = re.findall(r"^- \[.+?\]\((.+?)\)", (DOCS / "index.md").read_text("utf-8"), flags=re.MULTILINE)
    assert sorted({link for link in linked if "/" not in link}) == sorted(
        path.name for path in DOCS.glob("*.md") if path.name != "index.md"
    )
    lost = []
    for page in [*root.glob("*.md"), *DOCS.glob("*.md"), *root.glob("results/*.md"), root / "benchmarks" / "README.md"]:
        text = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#?)([^)\s]*)\)", text):
            there = (page.parent / target) if target else page
            if "://" not in target and not (there.exists() and (not anchor or anchor in _anchors(there))):
                lost.append(f"{page.relative_to(root)}: {target}#{anchor}")
    assert lost == []


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["api.md", "command_line.md"])
def test_pages_that_follow_from_the_code_are_those_of_now(page: str) -> None:
    pages = runpy.run_path(str(DOCS / "reference.py"))["pages"]()
    assert (DOCS / page).read_text("utf-8") == pages[DOCS / page], "run python docs/reference.py"


def test_the_summary_of_performance_says_what_was_measured() -> None:
    """Every figure of its tables, but for aims and what verdicts.py derives, stands in results/performance.md."""
    number = r"(?<![\w.])\d[\d,]*\.\d+"
    measured = set(re.findall(number, (DOCS.parent / "results" / "performance.md").read_text("utf-8")))
    summary = re.sub(r"<!-- from .*?<!-- end -->", "", (DOCS / "performance.md").read_text("utf-8"))
    glance, tables = re.findall(r"^## At a glance\n(.*?)^## (.*)", summary, flags=re.MULTILINE | re.DOTALL)[0]
    came_out = [row.split("|")[3] for row in glance.splitlines() if row]
    figures = set(re.findall(number, "\n".join([*came_out, tables])))
    assert len(figures) > 50
    assert figures - measured == set()


def test_the_schemas_of_files_are_told() -> None:
    rows = re.findall(r"^\| (marline \w+) \|.*?\| (\d+) \|", (DOCS / "formats.md").read_text("utf-8"), re.MULTILINE)
    schemas = [schema for schema in vars(migrations).values() if isinstance(schema, migrations.Schema)]
    assert {kind: int(number) for kind, number in rows} == {schema.kind: schema.newest for schema in schemas}


def test_the_architecture_names_every_module_and_its_purpose() -> None:
    written = DOCS / "module_tree.py"

    def without_sizes(text: str) -> list[str]:
        return [re.sub(r" +\d+  | {2,}(?=\S)", "  ", line) for line in text.splitlines()]

    page = runpy.run_path(str(written))["page"]()
    there = (DOCS / "architecture.md").read_text("utf-8")
    assert without_sizes(there) == without_sizes(page), f"run python {written.relative_to(DOCS.parent)}"


def test_tests_stand_where_what_they_test_stands() -> None:
    """test_<module>[_<aspect>].py is in the folder of the module; what many do together is in `behaviour`."""
    tests, sources = Path(__file__).parent, DOCS.parent / "src" / "marline"
    strangers = []
    for test in tests.rglob("test_*.py"):
        folder, name = test.parent.relative_to(tests), test.stem.removeprefix("test_")
        if folder.parts and folder.parts[0] != "behaviour":
            known = {path.stem for path in (sources / folder).glob("[!_]*")} | {folder.name}
        elif not folder.parts:
            known = {path.stem for path in [*sources.glob("[!_]*.py"), *tests.glob("*.py"), *DOCS.parent.iterdir()]}
            known = known - {test.stem} | {"documentation", "public"}
        else:
            continue
        if not any(name == module or name.startswith(f"{module}_") for module in known):
            strangers.append(str(test.relative_to(tests)))
    assert not strangers, "no module has such a name"
