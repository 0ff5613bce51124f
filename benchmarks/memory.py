"""Peak memory of a campaign, stage by stage, against the size of its logs.

`marline run` in a new process: two agents, networks of 256 wide, one seed, one deployment; random logs made in memory
or given in a folder, and for either at first nothing compiled, and then all of it in the cache. Resident memory of the
process and its children, looked at every 20 ms; a stage ends when what it writes appears in the run directory. The
kernel's own high-water mark of the process stands beside the greatest seen. Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import interleave
from processes import family

from marline.data import dataset
from marline.envs import make_task
from marline.rollouts.collection import collect_random

TASK = "cooperative-navigation-2"
MIB = 2**20
# what a run writes, in this order; `*` stands for what differs
STAGES = {
    "start, making or reading logs": "run.json",
    "keeping logs": "data/dataset.json",
    "offline training": "seed-0/offline/checkpoint-*",
    "deployment": "seed-0/otc-value/deployment-01/logs/dataset.json",
    "merging, tuning": "seed-0/otc-value/checkpoint-*",
    "report": "report.html",
}


def resident(pid: int) -> tuple[int, int]:
    """Bytes now and at most of one process; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    now, most = (int(found[name].split()[0]) * 1024 if name in found else 0 for name in ("VmRSS", "VmHWM"))
    return now, most


def follow(process: subprocess.Popen[bytes], folder: Path) -> tuple[dict[str, int], int]:
    """The most bytes in use during each stage, by the whole family, and the high-water mark of the process."""
    peaks, left, mark = dict.fromkeys(STAGES, 0), list(STAGES), 0
    while process.poll() is None:
        seen = [resident(pid) for pid in family(process.pid)]
        peaks[left[0]] = max(peaks[left[0]], sum(now for now, _ in seen))
        mark = max(mark, seen[0][1])
        while len(left) > 1 and any(folder.glob(STAGES[left[0]])):
            left.pop(0)
        time.sleep(0.02)
    if process.returncode or len(left) > 1:
        raise SystemExit(f"the run failed with {process.returncode}, before: {left[0]}")
    return peaks, mark


def campaign(folder: Path, rows: int, hidden: list[int], logs: Path | None, cache: Path) -> subprocess.Popen[bytes]:
    """`marline run`, started."""
    source = ["--dataset-size", rows] if logs is None else ["--data", logs]
    command = ["run", "--run", folder, "--task", TASK, "--sampler", "otc-value", "--seeds", 1, *source]
    command += ["--hidden", *hidden, "--offline-updates", 100, "--updates", 100, "--deployments", 1, "--json"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-m", "marline", *map(str, command)], stdout=subprocess.DEVNULL, env=environment
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="transitions per agent")
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--quick", action="store_true", help="few rows, to see that everything runs")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.hidden = 2000, [8]
    with tempfile.TemporaryDirectory() as parent:
        dataset.save(Path(parent, "logs"), collect_random(make_task(TASK), args.rows, seed=0))
        size = sum(file.stat().st_size for file in Path(parent, "logs").glob("*.h5"))
        peaks, marks = {}, {}
        for name, logs in (("made", None), ("given", Path(parent, "logs"))):
            for when in ("at first", "compiled before"):
                side = f"logs {name}, {when}"
                folder, cache = Path(parent, side), Path(parent, f"{name}-cache")
                process = campaign(folder, args.rows, args.hidden, logs, cache)
                peaks[side], marks[side] = follow(process, folder)
    print(f"{args.rows:,} rows of two agents: {size / MIB:.0f} MiB; aimed at: {1.5 * size / MIB + 600:.0f} MiB\n")
    table = [[stage, *(f"{peaks[name][stage] / MIB:.0f}" for name in peaks)] for stage in STAGES]
    table.append(["kernel's high-water mark", *(f"{mark / MIB:.0f}" for mark in marks.values())])
    interleave.print_table(["MiB at most during", *peaks], table)


if __name__ == "__main__":
    main()
