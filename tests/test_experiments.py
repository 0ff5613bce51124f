"""Scripts of experiments run, in small, and end with what they promise."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
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
