"""Seconds from starting `marline demo` to its first updates, with an empty cache of compiled programs and a full one.

What a person sees is what is measured: the demo runs on a terminal of its own, whose progress display names "offline
training" when the first worker is ready for its first update, and moves from 0 % when its first 250 updates are done.
The display is drawn ten times a second. Beside the time on the wall stands the CPU time that all processes of the demo
had taken until then: what is left on a quiet machine of many cores is between that and a share of it. Linux.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import interleave
from processes import family

READY, UPDATED = "before the first update", "after 250 updates"
PATIENCE = 600.0  # seconds
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Of a process and its descendants, those that ended included."""
    total = 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))  # its own, and of children waited for
    return total / TICKS


def start(folder: Path, cache: Path) -> dict[str, tuple[float, float]]:
    """Seconds on the wall and of CPU until the demo has come so far; then it is stopped."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TERM": "xterm", "COLUMNS": "150"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "marline", "demo", "--run", str(folder)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    shown, reached = "", {}
    try:
        while UPDATED not in reached:
            if time.perf_counter() - began > PATIENCE or process.poll() is not None:
                raise SystemExit(f"the demo did not come to train:\n{shown[-2000:]}")
            if select.select([ours], [], [], 0.02)[0]:
                shown += os.read(ours, 65536).decode(errors="replace")
            now = time.perf_counter() - began, cpu_seconds(process.pid)
            if "offline training" in shown:
                reached.setdefault(READY, now)
            if re.search(r"[1-9]\d*%", shown):
                reached[UPDATED] = now
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        os.close(ours)
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="with a full cache; there is one with an empty one")
    parser.add_argument("--quick", action="store_true", help="one round")
    args = parser.parse_args()
    rounds = 1 if args.quick else args.rounds
    found: dict[str, list[dict[str, tuple[float, float]]]] = {"empty cache": [], "full cache": []}
    with tempfile.TemporaryDirectory() as parent:
        cache = Path(parent, "cache")
        found["empty cache"].append(start(Path(parent, "first"), cache))
        for number in range(rounds):
            found["full cache"].append(start(Path(parent, f"run-{number}"), cache))
    table = [
        [f"{what}, {when}", *(interleave.spread([run[when][clock] for run in runs], "{:.1f}") for clock in (0, 1))]
        for what, runs in found.items()
        for when in (READY, UPDATED)
    ]
    interleave.print_table(["", "s", "s of CPU, all cores"], table)


if __name__ == "__main__":
    main()
