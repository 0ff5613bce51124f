"""What benchmarks call is still there. They measure nothing here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from processes import finished

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("arguments", [["algorithms.py", "td3-bc"], ["as_the_paper.py"]])
def test_the_small_version_of_a_benchmark_runs(arguments: list[str]) -> None:
    script, *rest = arguments
    run = finished([sys.executable, BENCHMARKS / script, *rest, "--quick"], patience=300)
    assert run.returncode == 0, run.stderr
    assert "| marline | " in run.stdout


def test_stacked_learners_are_measured_and_are_those_of_the_cpu() -> None:
    run = finished([sys.executable, BENCHMARKS / "stacked.py", "td3-bc-64", "--quick"], patience=300)
    assert run.returncode == 0, run.stderr
    assert "| td3-bc-64 | uniform | 3 | " in run.stdout
