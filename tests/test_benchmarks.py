"""What benchmarks call is still there. They measure nothing here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("arguments", [["algorithms.py", "td3-bc"], ["as_the_paper.py"]])
def test_the_small_version_of_a_benchmark_runs(arguments: list[str]) -> None:
    script, *rest = arguments
    run = subprocess.run(
        [sys.executable, BENCHMARKS / script, *rest, "--quick"], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert "| marline | " in run.stdout
