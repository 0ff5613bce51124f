"""Every example runs and does what it says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_quickstart_trains_deploys_and_reports(tmp_path: Path, capsys) -> None:
    runpy.run_path(str(EXAMPLES / "quickstart.py"))["main"](tmp_path)
    printed = capsys.readouterr().out
    assert "deployment 2: alpha" in printed
    assert (tmp_path / "run" / "report.html").stat().st_size > 1_000_000
    assert (tmp_path / "run" / "seed-0" / "otc-value" / "deployment-02" / "policies" / "a.safetensors").exists()


def test_an_external_deployment_sends_policies_and_takes_logs(tmp_path: Path, capsys) -> None:
    runpy.run_path(str(EXAMPLES / "external_deployment.py"))["main"](tmp_path, episodes=4, deployments=1)
    printed = capsys.readouterr().out
    assert "deployment 1: ingested, rows {'left': 50, 'middle': 50, 'right': 50}" in printed
    assert (tmp_path / "came-back-1" / "left" / "000001.npz").exists()


def test_an_environment_of_ones_own_is_learned(tmp_path: Path, capsys) -> None:
    pytest.importorskip("pettingzoo", reason="environments of the user's need: pip install 'marline[parallel]'")
    example = runpy.run_path(str(EXAMPLES / "custom_environment.py"))
    example["main"](tmp_path, rows=2000, updates=400)
    printed = capsys.readouterr().out
    returns = [float(value) for value in re.findall(r"'(-[\d.]+)'", printed)]
    assert len(returns) == 3 and max(returns) <= 0.0
    assert (tmp_path / "run" / "report.html").exists()


def test_correction_in_a_loop_of_ones_own_flips_the_choice() -> None:
    learn = runpy.run_path(str(EXAMPLES / "correct_in_your_own_loop.py"))["learn"]
    uncorrected, corrected = learn(False, seed=0, updates=600), learn(True, seed=0, updates=600)
    assert uncorrected.argmax() == 0
    assert corrected.argmax() == 1
    assert np.abs(corrected - [0.2, 2.8]).sum() < np.abs(uncorrected - [0.2, 2.8]).sum()
