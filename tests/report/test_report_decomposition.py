"""Correction, diversity and freshness: they add up, and what is missing is not told apart."""

from __future__ import annotations

import csv
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marline.errors import ConfigError
from marline.report import summary_table, write_decomposition, write_differences, write_report, write_summary
from marline.report.decomposition import decompose, decompositions
from marline.report.records import Run, SamplerRecord, read_run

WriteRun = Callable[..., Path]
SVG = "{http://www.w3.org/2000/svg}"
UNIFORM = {"type": "Uniform", "rows": "merged"}
OTC = {"type": "OTC", "distance": "value"}
SHUFFLED = {"type": "Shuffled", "of": OTC, "matches": "otc-value"}
MATCHED = {"type": "OnlineMatched", "matches": "otc-value"}
ALL = {"uniform": UNIFORM, "otc-value": OTC, "shuffled-otc-value": SHUFFLED, "online-matched-otc-value": MATCHED}


def run_of(returns: Mapping[str, list[float]]) -> Run:
    """A run of one deployment, with a return of each sampler and seed."""
    kinds = {"uniform": "uniform", "x": "otc", "shuffled-x": "shuffled", "matched-x": "matched"}
    samplers = tuple(
        SamplerRecord(name, {}, kinds[name], "x" if name not in ("uniform", "x") else None)  # pyright: ignore[reportArgumentType]
        for name in returns
    )
    seeds = tuple(range(len(returns["x"])))
    lines = {
        (name, seed): {0: {"deployment": 0, "return": -10.0}, 1: {"deployment": 1, "return": values[seed]}}
        for name, values in returns.items()
        for seed in seeds
    }
    return Run(Path("run"), {"task": "made-up"}, samplers, seeds, 1, lines, {}, {}, {}, ())


VALUES = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf])


@settings(max_examples=40)
@given(
    st.sets(st.sampled_from(["shuffled-x", "matched-x", "uniform"]), min_size=1),
    st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES), min_size=1, max_size=6),
)
def test_the_parts_add_up_whatever_is_missing(references: set[str], rows: list[tuple[float, ...]]) -> None:
    names = ["x", "shuffled-x", "matched-x", "uniform"]
    returns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    found = decompose(run_of({name: returns[name] for name in names if name == "x" or name in references}), "x")
    used = [place for place, name in enumerate(names) if name == "x" or name in references]
    finite = [seed for seed, row in enumerate(rows) if all(math.isfinite(row[place]) for place in used)]
    if not finite:
        assert found is None
        return
    assert found is not None and len(found.steps) == len(references)
    whole = found.whole.comparison
    assert whole.seeds == tuple(finite)
    assert [step.comparison.seeds for step in found.steps] == [whole.seeds] * len(references)
    per_seed = np.sum([step.comparison.difference.per_seed for step in found.steps], axis=0)
    np.testing.assert_allclose(per_seed, whole.difference.per_seed, atol=1e-8)
    assert sum(step.comparison.difference.mean for step in found.steps) == pytest.approx(
        whole.difference.mean, abs=1e-8
    )
    assert [cause for step in found.steps for cause in step.causes] == list(found.whole.causes)


def test_each_step_takes_one_thing_away() -> None:
    run = run_of({"x": [9.0, 10], "shuffled-x": [6.0, 6], "matched-x": [4.0, 5], "uniform": [3.0, 3]})
    (found,) = decompositions(run)
    assert {step.name: step.comparison.difference.per_seed for step in found.parts} == {
        "correction": (3.0, 4.0),
        "diversity": (2.0, 1.0),
        "freshness": (1.0, 2.0),
        "in all": (6.0, 7.0),
    }
    assert {step.comparison.finding for step in found.parts} == {"no direction", "pointing up"}


@pytest.mark.parametrize(
    ("missing", "parts"),
    [
        (["shuffled-otc-value"], ["correction and diversity", "freshness", "in all"]),
        (["online-matched-otc-value"], ["correction", "diversity and freshness", "in all"]),
        (["uniform"], ["correction", "diversity", "correction and diversity"]),
        (["uniform", "online-matched-otc-value"], ["correction"]),
        (["shuffled-otc-value", "online-matched-otc-value"], ["in all"]),
    ],
)
def test_what_cannot_be_told_apart_is_one_part(
    write_run: WriteRun, tmp_path: Path, missing: list[str], parts: list[str]
) -> None:
    samplers = {name: options for name, options in ALL.items() if name not in missing}
    path = write_run(tmp_path / "run", samplers=samplers, seeds=(0, 1), deployments=2)
    row = next(row for row in summary_table([path]) if row["sampler"] == "otc-value")
    assert [part["part"] for part in row["decomposition"]] == parts
    root = ElementTree.parse(write_decomposition([path], tmp_path / "parts.svg")).getroot()
    drawn = [text.text for text in root.iter(f"{SVG}text")]
    assert [text for text in drawn if text in parts] == parts
    page = write_report([path], tmp_path / "report.html").read_text("utf-8")
    assert "Where the difference comes from" in page
    assert ("correction cannot be told apart from freshness and diversity" in page) == ("correction" not in parts)


def test_a_control_that_is_not_deployed_yet_is_passed_over(write_run: WriteRun, tmp_path: Path) -> None:
    late: dict[str, Any] = {"reached": lambda sampler, seed: 0 if sampler.startswith("shuffled") else 2}
    path = write_run(tmp_path / "run", samplers=ALL, seeds=(0, 1), deployments=2, **late)
    (found,) = decompositions(read_run(path))
    assert [step.name for step in found.parts] == ["correction and diversity", "freshness", "in all"]


def test_every_form_of_the_report_has_the_same_parts(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", samplers=ALL, seeds=range(10), deployments=2)
    (found,) = decompositions(read_run(path))
    with write_differences([path], tmp_path / "differences.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"]]
    assert [(row["sampler"], row["part"], row["first"], row["second"]) for row in rows] == [
        ("otc-value", "correction", "otc-value", "shuffled-otc-value"),
        ("otc-value", "diversity", "shuffled-otc-value", "online-matched-otc-value"),
        ("otc-value", "freshness", "online-matched-otc-value", "uniform"),
        ("otc-value", "in all", "otc-value", "uniform"),
    ]
    summary = write_summary([path], tmp_path / "summary.md").read_text("utf-8")
    page = write_report([path], tmp_path / "report.html").read_text("utf-8")
    for step, row in zip(found.parts, rows, strict=True):
        mean, low, high, _ = step.comparison.difference
        assert [float(row[name]) for name in ("mean", "low", "high")] == [mean, low, high]
        assert row["finding"] == step.comparison.finding and row["seeds"] == "10"
        assert f"| OTC (value) | {step.name} | " in summary and f">{step.name}</text>" in page


def test_the_picture_is_an_svg_that_fits_a_phone(write_run: WriteRun, tmp_path: Path) -> None:
    hostile = "</text><script>" + "x" * 200
    samplers = {hostile: OTC, "s": {**SHUFFLED, "matches": hostile}, "uniform": UNIFORM}
    runs = [
        write_run(tmp_path / "one", samplers=ALL, seeds=(0,), deployments=1),
        write_run(tmp_path / "two", samplers=samplers, seeds=(0, 1, 2), deployments=1, task="<&>"),
        write_run(tmp_path / "same", samplers=ALL, seeds=(0, 1), deployments=1, noise=0.0, gains={}, start=0.0),
    ]
    path = write_decomposition(runs, tmp_path / "parts.svg")
    root = ElementTree.parse(path).getroot()
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    assert width <= 390 and height > 300
    assert not list(root.iter(f"{SVG}script")) and "nan" not in path.read_text("utf-8")
    with pytest.raises(ConfigError, match=r"does not end in \.svg"):
        write_decomposition(runs, tmp_path / "parts.png")
    nothing = write_run(tmp_path / "nothing", samplers={"uniform": UNIFORM}, seeds=(0,), deployments=1)
    with pytest.raises(ConfigError, match="nothing to take apart"):
        write_decomposition([nothing], tmp_path / "parts.svg")
