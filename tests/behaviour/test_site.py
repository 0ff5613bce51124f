"""The pages as a site: every link and every docstring of it, in a build that takes no warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import marline

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "furo", "myst_nb"):
        pytest.importorskip(package, reason="the site needs: make docs, or pip install 'marline[docs]'")
    build = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*build, "-c", "docs", "-d", tmp_path / "read", ".", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "docs" / "api.html").read_text("utf-8")
    assert [name for name in marline.__all__ if f'id="marline.{name}"' not in reference] == []
    pages = list((tmp_path / "site").rglob("*.html"))
    assert [page for page in pages if '<script src="http' in page.read_text("utf-8")] == []
