"""The wheel and the archive are whole, and the wheel works where there is nothing else."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import marline

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = SETTINGS["project"]
SPLIT = """{"agents": {
  "left": {"observations": "0:2", "actions": [0]},
  "right": {"observations": "2:4", "actions": [1]}}}"""
USE = """
import numpy as np
import marline

rows = np.random.default_rng(0)
ends = np.arange(60) % 20 == 19
joint = {"observations": rows.normal(size=(60, 4)), "actions": rows.uniform(-1, 1, (60, 2)), "rewards": np.ones(60)}
np.savez("joint.npz", **joint, terminals=ends & False, timeouts=ends)
print(marline.__version__, marline.TD3BC(), *(getattr(marline, name) for name in marline.__all__))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` puts into dist/."""
    pytest.importorskip("hatchling", reason="packages are built by: make dev")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


def test_shapes_are_checked_wherever_they_are_written() -> None:
    (told,) = (option for option in SETTINGS["tool"]["pytest"]["ini_options"]["addopts"] if "jaxtyping" in option)
    *checked, _ = told.partition("=")[2].split(",")
    for path in (ROOT / "src").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if "from jaxtyping import" in path.read_text("utf-8"):
            assert any(f"{name}.".startswith(f"{package}.") for package in checked), f"{name} is not in pyproject.toml"


def test_the_packages_hold_all_that_they_should(built: Path) -> None:
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    assert wheel.name == f"marline-{PROJECT['version']}-py3-none-any.whl"
    assert archive.name == f"marline-{PROJECT['version']}.tar.gz"
    sources = {str(path.relative_to(ROOT / "src")) for path in _files(ROOT / "src")}
    with zipfile.ZipFile(wheel) as inside:
        packed = {name for name in inside.namelist() if ".dist-info/" not in name}
    assert packed == sources
    with zipfile.ZipFile(wheel) as inside:
        told = inside.read(f"marline-{PROJECT['version']}.dist-info/METADATA").decode()
    assert f"\nVersion: {PROJECT['version']}\n" in told
    assert {Path(name).suffix for name in packed} > {".html", ".css", ".js", ".safetensors", ".json", ".typed"}
    with tarfile.open(archive) as inside:
        packed = {name.partition("/")[2] for name in inside.getnames()}
    assert {f"src/{name}" for name in sources} <= packed
    assert {
        "LICENSE",
        "CHANGELOG.md",
        "CITATION.cff",
        "docs/index.md",
        "requirements.lock",
        "tests/conftest.py",
    } <= packed


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]


def test_the_version_is_said_once_and_dated_alike() -> None:
    """By pyproject.toml; whoever cites it, and who reads what changed, finds the same version and date."""
    assert marline.__version__ == importlib.metadata.version("marline")
    sources = [*(ROOT / "src").rglob("*.py"), ROOT / "Containerfile", ROOT / "docs" / "conf.py"]
    assert [source for source in sources if f'"{PROJECT["version"]}"' in source.read_text("utf-8")] == []
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    (version,) = re.findall(r"^version: (\S+)", citation, flags=re.MULTILINE)
    (date,) = re.findall(r"^date-released: ([\d-]{10})$", citation, flags=re.MULTILINE)
    assert version == PROJECT["version"]
    assert f"{version} ({date})" in headings


def test_every_extra_is_exercised_by_a_test() -> None:
    """`docs/installation.md` names a test for each of them."""
    page = (ROOT / "docs" / "installation.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| `(tests/[\w/]+\.py)` \|$", page, flags=re.MULTILINE))
    assert set(rows) == set(PROJECT["optional-dependencies"]) - {"dev"}
    assert [test for test in rows.values() if not (ROOT / test).exists()] == []


@pytest.mark.slow
def test_the_wheel_works_where_nothing_else_is_installed(built: Path, tmp_path: Path) -> None:
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    (wheel,) = built.glob("*.whl")
    _install(home, f"{wheel}[export]", tmp_path)

    def run(*arguments: str) -> str:
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command = str(home / "bin" / "marline")
    assert run(command, "--version") == f"marline {PROJECT['version']}\n"
    assert run(str(home / "bin" / "python"), "-c", USE).startswith(f"{PROJECT['version']} TD3BC(")
    run(command, "demo", "--quick")
    assert (tmp_path / "runs" / "demo-quick" / "report.html").stat().st_size > 20_000
    (tmp_path / "split.json").write_text(SPLIT, "utf-8")
    run(command, "data", "import", "joint.npz", "--spec", "split.json", "--out", "logs")
    assert "left" in run(command, "data", "check", "logs", "--html", "logs.html")
    run(command, "export", "runs/demo-quick/changed", "--sampler", "uniform", "--out", "out")
    assert (tmp_path / "out" / "agent_0" / "policy.onnx").exists()
    run(command, "verify", "runs/demo-quick/changed")


def _install(home: Path, what: str, folder: Path) -> None:
    """Install into an environment, in the versions that the locks have; skips where there is no network."""
    lock = (ROOT / "requirements-dev.lock").read_text("utf-8")
    (folder / "versions.txt").write_text("\n".join(re.findall(r"^[\w.-]+==[^\\\n]+", lock, re.MULTILINE)), "utf-8")
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*pip, "-c", folder / "versions.txt", what], capture_output=True, text=True)
    if "NewConnectionError" in done.stderr or "NameResolutionError" in done.stderr:
        pytest.skip("what marline needs cannot be had without a network")
    assert done.returncode == 0, done.stderr
