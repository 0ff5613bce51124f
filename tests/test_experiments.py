"""Scripts of experiments run, in small, and end with what they promise."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(f"experiments.{name}", EXPERIMENTS / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module  # where dataclasses look their annotations up
    found.loader.exec_module(module)
    return module


def test_every_experiment_is_run_by_a_test() -> None:
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    elsewhere = {"verdicts": "test_experiments_verdicts.py", "kill_campaign": "behaviour/test_campaign_faults.py"}
    assert {path.stem for path in EXPERIMENTS.glob("*.py")} <= here | elsewhere.keys()
    for name, file in elsewhere.items():
        assert name in (Path(__file__).parent / file).read_text("utf-8")


def test_cooperative_navigation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    script("cooperative_navigation").main(["small-moving", "--quick", *places])
    results = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert results == [f"cooperative-navigation-4-small-moving{end}" for end in (".csv", ".md", ".svg")]
    table = (tmp_path / "results" / results[0]).read_text("utf-8")
    assert "otc-value" in table and "uniform" in table


@pytest.mark.slow
def test_refresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    script("refresh").main(["predator-prey", "--quick", *places])
    assert "| `otc-value-refresh` |" in capsys.readouterr().out


def test_value_samples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = script("value_samples")
    small = {"OFFLINE_ROWS": 600, "ONLINE_ROWS": 200, "CANDIDATES": 64, "UPDATES": 2, "REPEATS": 1, "MANY": 4}
    for name, value in {**small, "FEW": (1,), "LEARNERS": {"AWAC": module.LEARNERS["AWAC"]}}.items():
        monkeypatch.setattr(module, name, value)
    module.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == ["of each row", "the same for all rows"]


def test_parity_balanced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = script("parity_balanced")
    for name, value in {"NUM_OFFLINE": 600, "NUM_ONLINE": 300, "NUM_UPDATES": 4, "EVERY": 2, "SCORED": 100}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr("sys.argv", ["parity_balanced.py", "--seeds", "1", "--csv", str(tmp_path / "curves.csv")])
    module.main()
    header, *rows = (tmp_path / "curves.csv").read_text("utf-8").splitlines()
    assert (
        header.startswith("side,seed,updates,share_online")
        and rows
        and all(row.startswith("marline,0,") for row in rows)
    )


def test_parity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = script("parity")
    for name, value in {"NUM_ROWS": 600, "NUM_UPDATES": 4, "EVERY": 2, "EPISODES": 2, "SCORED": 100}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr("sys.argv", ["parity.py", "iql", "--seeds", "1", "--csv", str(tmp_path / "curves.csv")])
    module.main()
    header, *rows = (tmp_path / "curves.csv").read_text("utf-8").splitlines()
    assert header == "side,algorithm,seed,updates,return,mean_q1"
    assert [row.rsplit(",", 2)[0] for row in rows] == ["marline,iql,0,2", "marline,iql,0,4"]


def test_parity_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["parity_table.py", str(EXPERIMENTS.parent / "results" / "parity.csv")])
    script("parity_table").main()
    printed = capsys.readouterr().out
    assert "Return, by number of updates" in printed and "| `td3-bc`, marline | " in printed


def test_false_verdicts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["false_verdicts.py", "--quick"])
    script("false_verdicts").main()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if re.match(r"\| (normal|skewed)", line)]
    assert [row[:2] for row in rows] == [[law, str(n)] for law in ("normal", "skewed") for n in (3, 5, 10, 20)]
    for _, num_seeds, bootstrap, student, verdict, flips, _ in rows:
        assert float(bootstrap) >= float(student)
        assert float(verdict) == (float(student) if int(num_seeds) >= 10 else 0.0)
        assert int(num_seeds) > 5 or float(flips) == 0.0
