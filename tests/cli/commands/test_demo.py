"""What the demonstration shows: correction where logs are outdated, and none where they tell the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from marline.cli.commands.demo import demo
from marline.cli.options.study import Demo
from marline.report.records import read_run
from marline.study.study import Study


@pytest.mark.slow
def test_correction_helps_in_one_case_and_keeps_its_hands_off_in_the_other(tmp_path: Path) -> None:
    assert demo(Demo(run=tmp_path / "demo")) == 0
    for name, gained in (("changed", 0.5), ("unchanged", 0.0)):
        study = Study.open(tmp_path / "demo" / name)
        found = study.difference("kernel-ratio", "shuffled-kernel-ratio").difference
        assert found.per_seed == pytest.approx((gained, gained), abs=0.02)
    for name, opens in (("changed", 1.0), ("unchanged", 0.0)):
        run = read_run(tmp_path / "demo" / name)
        gates = [run.diagnostic("kernel-ratio", seed, "gate_open")[1] for seed in run.seeds]
        assert all(gate == dict.fromkeys(("agent_0", "agent_1"), opens) for gate in gates)
    assert "matrix(rare=1,bold=1)" in (tmp_path / "demo" / "report.html").read_text("utf-8")
