"""What tutorials tell to be typed is typed, and notebooks are run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {"PYTHONPATH": str(ROOT / "src")}
MARLINE = [sys.executable, "-c", "from marline.cli import process; process()"]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["own_logs.md", "comparing_samplers.md"])
def test_every_command_of_a_tutorial_works(page: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="tables need: pip install 'marline[data]'")
    pytest.importorskip("onnxruntime", reason="bundles need: pip install 'marline[export]'")
    shutil.copy(ROOT / "examples" / "tank.py", tmp_path)
    commands = re.findall(r"^\$ ((?:.*\\\n)*.+)$", (ROOT / "docs" / page).read_text("utf-8"), flags=re.MULTILINE)
    assert len(commands) >= 7
    for command in commands:
        program, *arguments = shlex.split(command.replace("\\\n", ""))
        words = [*MARLINE, *arguments] if program == "marline" else [sys.executable, *arguments]
        done = subprocess.run(words, cwd=tmp_path, env={**os.environ, **SOURCES}, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_logs", "comparing_samplers"])
def test_a_notebook_runs_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ROOT / "examples" / f"{name}.ipynb"
    assert place.stat().st_size < 100_000, "light enough to look at in a browser"
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in json.loads(place.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells[1:] if cell["source"]), "what the cells show is kept"
    monkeypatch.chdir(tmp_path)
    for cell in cells:
        exec(compile("".join(cell["source"]), f"{name}.ipynb", "exec"), names)
