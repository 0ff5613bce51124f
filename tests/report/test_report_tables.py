"""Rows, CSV, Markdown and the still figure."""

from __future__ import annotations

import csv
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from marline.errors import ConfigError
from marline.report import headlines, summary_table, write_csv, write_figure, write_summary

WriteRun = Callable[..., Path]
SVG = "{http://www.w3.org/2000/svg}"


def test_one_row_per_run_and_sampler(write_run: WriteRun, tmp_path: Path) -> None:
    rows = summary_table([write_run(tmp_path / name, task=name, seeds=(0, 1), deployments=3) for name in ("a", "b")])
    assert [(row["task"], row["sampler"]) for row in rows[:5]] == [
        ("a", "uniform"),
        ("a", "online-only"),
        ("a", "otc-value"),
        ("a", "online-matched-otc-value"),
        ("b", "uniform"),
    ]
    uniform, otc = rows[0], rows[2]
    assert (uniform["to_uniform"], uniform["to_control"], otc["seeds"]) == (None, None, [0, 1])
    assert otc["to_shuffled"] is None
    assert otc["to_control"]["sampler"] == "online-matched-otc-value"
    first, second = (otc["returns"][place] - uniform["returns"][place] for place in (0, 1))
    assert otc["to_uniform"]["per_seed"] == pytest.approx([first, second])
    assert otc["to_uniform"]["mean"] == pytest.approx((first + second) / 2)
    half = 12.7062 * abs(first - second) / 2  # t of .975 and 1, times s / sqrt(2)
    mean = (first + second) / 2
    assert [otc["to_uniform"]["low"], otc["to_uniform"]["high"]] == pytest.approx([mean - half, mean + half], rel=1e-4)
    assert otc["to_uniform"]["finding"] in ("no direction", "pointing up") and otc["to_uniform"]["p_sign_flip"] == 0.5
    assert [part["part"] for part in otc["decomposition"]] == ["correction and diversity", "freshness", "in all"]


def test_the_summary_is_strict_json(write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=2)
    change_line(path, 0, "otc-value", 2, **{"return": math.inf})
    otc = next(row for row in summary_table([path]) if row["sampler"] == "otc-value")
    assert otc["return_mean"] is None and otc["to_uniform"] is None and otc["decomposition"] is None
    json.dumps(summary_table([path]), allow_nan=False)


def test_headlines_are_lines_of_text(write_run: WriteRun, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "run"), write_run(tmp_path / "few", task="\x1b[31mred", seeds=(0, 1))]
    lines = headlines(runs)
    assert lines[0].startswith("made-up-navigation: Over 5 seeds, OTC (value) ")
    assert lines[1].startswith("With 5 seeds these are directions")
    assert any(line.startswith("[31mred: Over 2 seeds, OTC (value) ") for line in lines)


def test_csv_has_a_row_per_deployment_and_reads_back(
    write_run: WriteRun, change_line: Callable[..., None], tmp_path: Path
) -> None:
    path = write_run(tmp_path / "run", task="=cmd()\nx,y", seeds=(0, 1), deployments=2)
    change_line(path, 0, "uniform", 2, **{"return": math.nan})
    with write_csv([path], tmp_path / "out" / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2 * 3
    assert {row["task"] for row in rows} == {"'=cmd() x,y"}
    assert [row["return"] for row in rows[:3]][2] == "nan"
    tuned = next(row for row in rows if row["sampler"] == "otc-value" and row["deployment"] == "2")
    assert 0.5 < float(tuned["alpha"]) < 1.5 and float(tuned["share_offline"]) == pytest.approx(0.9)
    assert rows[0]["alpha"] == ""


def test_markdown_says_what_happened_with_intervals(write_run: WriteRun, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "run"), write_run(tmp_path / "few", task="a|b<i>`", seeds=(0, 1))]
    text = write_summary(runs, tmp_path / "summary.md").read_text("utf-8")
    assert text.startswith("### made-up-navigation, TD3BC\n\nOver 5 seeds, OTC (value) ")
    assert "### a\\|b\\<i\\>\\`, TD3BC" in text
    assert "With 2 seeds these are directions" in text
    row = next(line for line in text.splitlines() if line.startswith("| OTC (value)"))
    assert re.search(r"\| \+\d\.\d \[\+\d\.\d, \+\d\.\d\], a direction, up; sign-flip p 0\.062 \|", row)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")} == {8, 5}
    assert "| OTC (value) | freshness | +" in text and "nan" not in text


def test_one_seed_has_no_spread(write_run: WriteRun, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"{num}", seeds=range(num), deployments=1) for num in (1, 2)]
    tables = [write_summary([run], tmp_path / "summary.md").read_text("utf-8") for run in runs]
    rows = [[line for line in table.splitlines() if line.startswith("| uniform replay |")] for table in tables]
    assert [[row.count("±") for row in found] for found in rows] == [[0], [2]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seeds": (0,), "deployments": 1},
        {"samplers": {"otc-value": {"type": "OTC"}}},
        {"reached": lambda sampler, seed: -1},
        {"reached": lambda sampler, seed: 0},
        {"noise": 0.0, "gains": {}, "start": 0.0},
        {"task": "<&]]>\x00", "deployments": 33},
    ],
)
def test_the_still_figure_is_xml_within_its_frame(write_run: WriteRun, tmp_path: Path, options: dict) -> None:
    runs = [write_run(tmp_path / "run", **options), write_run(tmp_path / "other", seeds=(0, 1))]
    root = ElementTree.parse(write_figure(runs, tmp_path / "figure.svg")).getroot()
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        for point in element.attrib.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width and 0 <= y <= height
    assert not list(root.iter(f"{SVG}script")) and not list(root.iter(f"{SVG}image"))


def test_the_still_figure_draws_every_sampler(write_run: WriteRun, tmp_path: Path) -> None:
    root = ElementTree.parse(write_figure([write_run(tmp_path / "run")], tmp_path / "figure.svg")).getroot()
    assert len(list(root.iter(f"{SVG}polyline"))) == 4 + 3
    assert "matched control of OTC (value)" in [text.text for text in root.iter(f"{SVG}text")]


def test_the_still_figure_is_an_svg_of_something(write_run: WriteRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not end in \.svg"):
        write_figure([write_run(tmp_path / "run", seeds=(0,), deployments=1)], tmp_path / "figure.png")
    with pytest.raises(ConfigError, match="no run was given"):
        write_figure([], tmp_path / "figure.svg")
