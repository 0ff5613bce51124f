"""Every benchmark runs, in small, and prints its table: what it calls is still there. Nothing is measured here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from processes import finished

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMESPACE = ["unshare", "--user", "--map-root-user", "--net", "true"]
HELPERS = {"interleave.py", "processes.py"}
# by script: what is given beside --quick, and what is printed
QUICK = {
    "algorithms.py": (["td3-bc"], "| marline | "),
    "as_the_paper.py": ([], "| marline | "),
    "checkpoints.py": ([], "| deployment | "),
    "dataset.py": ([], "| check three | "),
    "stacked.py": (["td3-bc-64"], "| td3-bc-64 | uniform | 3 | "),
    "stacked_studies.py": ([], "| hopper-3x1 | awac | "),
    "many_machines.py": ([], "| local, 2 processes | "),
    "memory.py": ([], "| kernel's high-water mark | "),
    "refresh.py": ([], "| otc-value-refresh | "),
    "samplers.py": ([], "| best_match_scalar | "),
    "scaling.py": ([], "| parts | report | "),
    "simulators.py": ([], "| `hopper-3x1`, deployment | "),
    "soak.py": ([], "| folder_mib | "),
    "startup.py": ([], "| full cache, after 250 updates | "),
    "wire.py": ([], "| `tune(paths)` | "),
}
MORE_THAN_TEN_SECONDS = {
    "stacked.py",
    "dataset.py",
    "algorithms.py",
    "stacked_studies.py",
    "as_the_paper.py",
    "checkpoints.py",
    "many_machines.py",
    "memory.py",
    "refresh.py",
    "samplers.py",
    "scaling.py",
    "soak.py",
    "simulators.py",
    "startup.py",
    "wire.py",
}
PACKAGES = {"many_machines.py": "ray", "simulators.py": "mujoco", "stacked_studies.py": "mujoco", "wire.py": "ray"}
LINUX = {"memory.py", "startup.py", "soak.py", "scaling.py", "wire.py"}  # /proc tells of memory, time and handles


def test_every_benchmark_is_run_here() -> None:
    assert QUICK.keys() == {path.name for path in BENCHMARKS.glob("*.py")} - HELPERS


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=pytest.mark.slow if name in MORE_THAN_TEN_SECONDS else ()) for name in QUICK]
)
def test_the_small_version_of_a_benchmark_runs(script: str) -> None:
    if script in PACKAGES:
        pytest.importorskip(PACKAGES[script], reason=f"this benchmark needs the package {PACKAGES[script]}")
    if script in LINUX and sys.platform != "linux":
        pytest.skip("/proc tells of memory, time and handles")
    if script == "wire.py" and not (all(map(shutil.which, ("ip", "unshare"))) and finished(NAMESPACE).returncode == 0):
        pytest.skip("no network namespaces can be made here")
    arguments, table = QUICK[script]
    run = finished([sys.executable, BENCHMARKS / script, *arguments, "--quick"])
    assert run.returncode == 0, run.stdout + run.stderr
    assert table in run.stdout
