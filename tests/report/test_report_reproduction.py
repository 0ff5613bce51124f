"""The command shown leads to the run that it is shown for, or none is shown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

from marline.cli.commands.study import configure
from marline.cli.options.study import Run
from marline.configuration import planning
from marline.configuration.run_config import RunConfig
from marline.report.records import read_run
from marline.report.reproduction import command
from marline.runs.creation import start_run

SLOW = pytest.mark.slow  # more of the same


@pytest.fixture(autouse=True)
def nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared here are configurations; that they can be run is shown elsewhere."""
    monkeypatch.setattr(planning, "check_compatible", lambda config, sizes: [])


def run_of(tmp_path: Path, arguments: str) -> tuple[Path, RunConfig]:
    config = configure(tyro.cli(Run, args=["--run", str(tmp_path / "run"), *shlex.split(arguments)]))
    start_run(tmp_path / "run", config)
    return tmp_path / "run", config


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        pytest.param("--sampler uniform online-only", marks=SLOW),
        "--sampler otc-value otc-embedding uniform online-matched --hidden 64 32 --seeds 2",
        "--algorithm-option alpha_bc=100.0 --sampler otc-value uniform --sampler-option alpha=2.0 adaptive=false",
        "--sampler 'fixed=otc-value(alpha=2, adaptive=false)' otc-value 'uniform(batch_size=7)' 'shuffled(fixed)'",
        pytest.param(
            "--sampler otc-value balanced uniform shuffled online-matched --sampler-option batch_size=32 --seeds 1",
            marks=SLOW,
        ),
        "--task drifting-navigation --sampler uniform",
        pytest.param("--algorithm bcq --sampler uniform balanced --algorithm-option value=max", marks=SLOW),
        "--algorithm mabcq --sampler uniform --hidden 32 --algorithm-option optimism=0.25 minimum_weight=1.0",
        pytest.param(
            "--algorithm bremen --sampler uniform otc-two-stage --algorithm-option cloning_updates=7", marks=SLOW
        ),
        pytest.param(
            "--task cooperative-navigation-2-discrete --algorithm cql --sampler uniform classifier-ratio", marks=SLOW
        ),
        "--dataset-size 30000 --deployment-fraction 0.0333 --updates 7 --offline-updates 0 --data-seed 3 "
        "--sequential-exploration 0.25",
    ],
)
def test_the_command_leads_to_the_same_settings(tmp_path: Path, arguments: str) -> None:
    folder, config = run_of(tmp_path, arguments)
    shown = command(read_run(folder))
    assert shown is not None and shown.startswith("marline run --run runs/again ")
    assert configure(tyro.cli(Run, args=shlex.split(shown)[2:])) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "; rm -rf ~"},
        {"task": None},
        {"dataset_size": None},
        {"seeds": [1, 2]},
        {"algorithm": {"type": "Mine"}},
        {"algorithm": {"type": "TD3BC", "hidden": [64], "unknown": 1}},
        {"samplers": {"mine": {"type": "Mine"}}},
        {"evaluation_seed": None},
        {"samplers": {"otc-value": {"type": "OTC", "draw": "$(x)"}}},
        {"samplers": {"a": {"type": "Uniform"}, "b": {"type": "OnlineMatched", "matches": "a"}}},
    ],
)
def test_no_command_is_shown_that_would_lead_elsewhere(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder, _ = run_of(tmp_path, "")
    settings = json.loads((folder / "run.json").read_text("utf-8"))
    (folder / "run.json").write_text(json.dumps(settings | changes), "utf-8")
    assert command(read_run(folder)) is None


def test_a_run_made_in_python_has_no_command(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    assert command(read_run(write_run(tmp_path / "run", seeds=(0, 2), deployments=1))) is None
