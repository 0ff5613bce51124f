"""Workers: what they do not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing
import os

from marline.forking import start

print("the script runs", flush=True)
for method in ("spawn", "forkserver"):
    worker = multiprocessing.get_context(method).Process(target=os.write, args=(1, b"a worker ran\\n"))
    start(worker)
    worker.join()
    print(worker.exitcode, __name__, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no forkserver")
def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """A worker of multiprocessing runs the script once more, which would begin everything anew."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, "utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines() == ["the script runs", *["a worker ran", "0 __main__"] * 2], done.stderr
