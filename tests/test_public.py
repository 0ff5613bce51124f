"""What is public is listed once, is there, and shows itself in notebooks."""

from __future__ import annotations

import doctest
import inspect
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import marline
from marline.display.notebook import html_table

DOCS = Path(__file__).parents[1] / "docs"


def test_every_public_name_is_there_and_listed_once() -> None:
    assert sorted(marline._HOMES) == sorted(marline.__all__)
    assert len(set(marline.__all__)) == len(marline.__all__)
    for name in marline.__all__:
        assert getattr(marline, name) is not None
    assert set(marline.__all__) <= set(dir(marline))


def test_what_is_public_is_what_was_said_to_be() -> None:
    """docs/compatibility.md says what to do where this fails."""
    said = json.loads((DOCS / "public.json").read_text("utf-8"))
    for kind, there in runpy.run_path(str(DOCS / "reference.py"))["public"]().items():
        gone = {name: value for name, value in said[kind].items() if there.get(name) != value}
        new = {name: value for name, value in there.items() if said[kind].get(name) != value}
        assert (gone, new) == ({}, {}), (
            f"public {kind} are not those of docs/public.json; docs/compatibility.md says what a change needs, "
            "and then: python docs/reference.py"
        )


def test_a_name_that_goes_works_for_one_release_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(marline._FORMER, "OldTask", "Task")
    with pytest.warns(DeprecationWarning, match=r"marline.OldTask goes with the next release; use marline.Task"):
        assert marline.OldTask is marline.Task  # pyright: ignore[reportAttributeAccessIssue]
    assert set(marline._FORMER) & set(marline.__all__) == set()


EXAMPLES = [
    test
    for name in marline.__all__
    for test in doctest.DocTestFinder(recurse=False).find(inspect.unwrap(getattr(marline, name)), name)
    if test.examples
]


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_examples_in_docstrings_do_what_they_say(test: doctest.DocTest) -> None:
    test.globs = {"marline": marline, "np": np}
    told: list[str] = []
    assert doctest.DocTestRunner().run(test, out=told.append).failed == 0, "".join(told)


def test_tables_of_notebooks_are_text() -> None:
    assert "<script>" not in html_table("<script>", ("<script>",), [("<script>",)])
    rows = {"observations": np.zeros((4, 2)), "actions": np.zeros((4, 1)), "rewards": np.ones(4)}
    logs = marline.from_arrays("<b>", {**rows, "terminals": np.arange(4) == 3}, source="<b>arm</b>")
    shown = logs._repr_html_()
    assert "&lt;b&gt;arm&lt;/b&gt;" in shown and "<b>" not in shown and "1 ended for good" in shown


def test_a_study_shows_where_it_is(tmp_path: Path) -> None:
    study = marline.Study.create(
        tmp_path / "run",
        task="cooperative-navigation-2",
        algorithm=marline.TD3BC(hidden=(4,)),
        samplers={"mine": marline.Uniform()},
        seeds=1,
        dataset_size=200,  # these are the sizes of tests/test_examples.py, whose programs are the same
        offline_updates=4,
        updates=4,
        deployments=1,
        evaluation_episodes=2,
    )
    assert "not run yet" in study._repr_html_() and "x 1 seed in" in repr(study)
    told: list[str] = []
    study.run(progress=lambda share, text, updates: told.append(text))
    assert told and "not run yet" not in study._repr_html_()
    returns = study.returns
    assert list(returns["sampler"]) == ["mine", "mine"] and list(returns["deployment"]) == [0, 1]
    assert len(study.differences()) == 0
    again = marline.Study.open(tmp_path / "run").extend(seeds=2, samplers=["frozen"])
    assert again.notes == (
        f"{tmp_path / 'run'} gains the seeds 1",
        f"{tmp_path / 'run'} gains the samplers frozen",
    )
    assert again.extend(seeds=1).notes == (f"{tmp_path / 'run'} keeps the seeds 1",)
    again.run(progress=False)
    (pair,) = again.differences() if isinstance(again.differences(), np.ndarray) else again.differences().to_records()
    assert pair["sampler"] == "mine" and pair["minus"] == "frozen" and pair["seeds"] == 2
    assert again.difference("mine", "frozen").difference.mean == pair["mean"]
    assert again.report().exists()
