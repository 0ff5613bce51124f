"""Scripts of experiments run, in small, and end with what they promise."""

from __future__ import annotations

import importlib.util
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


def test_cooperative_navigation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    script("cooperative_navigation").main(["small-moving", "--quick", *places])
    results = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert results == [f"cooperative-navigation-4-small-moving{end}" for end in (".csv", ".md", ".svg")]
    table = (tmp_path / "results" / results[0]).read_text("utf-8")
    assert "otc-value" in table and "uniform" in table


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
