"""Seconds to make, write, load, check and import logs, and the memory that an import takes.

Random play of Cooperative Navigation with four agents, a million transitions of each, made in memory, written to disk
and loaded back; and a joint file of D4RL's shape (17 observations, 6 actions, `next_observations`), placed on the
device whole, given to two agents, and checked as three. On all cores that there are; each import in a new process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import interleave
import jax
import numpy as np

import marline
from marline.data.check import check
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.rollouts.collection import collect_random

OBSERVATIONS, ACTIONS, EPISODE = 17, 6, 1000
BLOCK = 100_000  # rows made at a time


def timed(seconds: list[tuple[float, float]], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of a call; its time on the wall and that of all cores are appended."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*args, **kwargs)
    seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    return result


def require_same(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """What is not the same data again was not loaded, however quickly."""
    if not all(np.array_equal(ours[key], theirs[key]) for key in ours):
        raise SystemExit("what was loaded differs from what was saved")


def write_joint(path: Path, rows: int) -> None:
    """A file as D4RL writes it, of noise: episodes of a thousand steps, each cut by the time limit."""
    rng = np.random.default_rng(0)
    widths = {
        "observations": (OBSERVATIONS,),
        "next_observations": (OBSERVATIONS,),
        "actions": (ACTIONS,),
        "rewards": (),
    }
    with h5py.File(path, "w") as file:
        arrays = {key: file.create_dataset(key, (rows, *width), np.float32) for key, width in widths.items()}
        for start in range(0, rows, BLOCK):
            stop = min(start + BLOCK, rows)
            states = rng.standard_normal((stop - start + 1, OBSERVATIONS), np.float32)
            arrays["observations"][start:stop] = states[:-1]
            arrays["next_observations"][start:stop] = states[1:]
            arrays["actions"][start:stop] = rng.uniform(-1, 1, (stop - start, ACTIONS))
            arrays["rewards"][start:stop] = rng.standard_normal(stop - start, np.float32)
        file["terminals"] = np.zeros(rows, np.bool_)
        file["timeouts"] = np.arange(rows) % EPISODE == EPISODE - 1


IMPORT = """
import json, sys, time
from pathlib import Path
from marline.data.decentralize import import_log
from marline.data.formats import open_log
from marline.types import Spec

def peak():  # Linux's; ru_maxrss would be that of the process that started this one
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

before, wall, cpu = peak(), time.perf_counter(), time.process_time()
import_log(open_log(sys.argv[1]), sys.argv[2], specs={"front": Spec(17, 3), "back": Spec(17, 3)})
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu, before, peak()]))
"""


def import_in_a_new_process(joint: Path, out: Path) -> list[float]:
    """Seconds on the wall and of CPU, MiB in use before the import, and at its peak."""
    done = subprocess.run([sys.executable, "-c", IMPORT, joint, out], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def place_on_device(folder: Path) -> Experience:
    """From a folder with the plain file of one agent to rows that a compiled loop can draw from."""
    (logs,) = marline.load(folder).values()
    return jax.block_until_ready(
        Experience.create(logs.transition(), logs.spec, num_deployments=10, rows_per_deployment=len(logs) // 100)
    )


def shared_by_three(folder: Path) -> dict[str, Dataset]:
    """Three agents that act in their own ways in the same steps."""
    (logs,) = marline.load(folder).values()
    columns = logs.columns()
    return {
        str(i): marline.from_arrays(str(i), columns | {"actions": np.roll(columns["actions"], i, axis=1)})
        for i in range(3)
    }


def measure_random_play(agents: int, num_rows: int, rounds: int, parent: Path | None) -> None:
    """Print the first table."""
    task = marline.CooperativeNavigation(agents)
    made, saved, loaded = [], [], []
    num_bytes = 0
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            data = timed(made, collect_random, task, num_rows, seed=number)
            timed(saved, marline.save, Path(folder, "data"), data)
            back = timed(loaded, marline.load, Path(folder, "data"))
            num_bytes = sum(file.stat().st_size for file in Path(folder, "data").iterdir())
            for agent in data:
                require_same(data[agent].columns(), back[agent].columns())
    print(f"{agents} agents, {num_rows:,} transitions of each, {num_bytes / 2**20:.0f} MiB on disk\n")
    print_table("", {"make in memory": made, "write to disk": saved, "load back": loaded})
    print("The first round's making, which includes compilation: " + f"{made[0][0]:.2f} s\n")


def measure_joint(folder: Path, rows: int, memory_rows: int, rounds: int) -> None:
    """Print the second table."""
    plain = folder / "plain"
    plain.mkdir()
    write_joint(plain / "halfcheetah.hdf5", rows)
    placed, checked = [], []
    timed([], place_on_device, plain)  # to warm up
    for _ in range(rounds):
        timed(placed, place_on_device, plain)
    team = shared_by_three(plain)
    for _ in range(rounds):
        timed(checked, check, team)
    imported = [
        import_in_a_new_process(plain / "halfcheetah.hdf5", folder / f"team-{number}") for number in range(rounds)
    ]
    table = {"load and place on the device": placed, "give two agents their own": imported, "check three": checked}
    print_table(f"a joint file of {rows:,} rows", table)
    write_joint(folder / "large.hdf5", memory_rows)
    for name, num_rows in (("plain/halfcheetah.hdf5", rows), ("large.hdf5", memory_rows)):
        _, _, before, most = import_in_a_new_process(folder / name, folder / f"peak-{num_rows}")
        print(f"import of {num_rows:,} rows: {most:.0f} MiB at most, {before:.0f} before it began")


def print_table(title: str, table: Mapping[str, list[Any]]) -> None:
    """Medians of wall and CPU time."""
    rows = [
        [what, *(interleave.spread([second[clock] for second in seconds], "{:.2f}") for clock in (0, 1))]
        for what, seconds in table.items()
    ]
    interleave.print_table([title, "s", "s of CPU, all cores"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="transitions per agent")
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; the system's temporary folder if not given")
    parser.add_argument("--memory-rows", type=int, default=5_000_000, help="rows of the import whose peak is told")
    parser.add_argument("--only", choices=("random", "joint"), help="one of the two parts")
    parser.add_argument("--quick", action="store_true", help="few rows, to see that everything runs")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.memory_rows, args.rounds = 20_000, 100_000, 2
    if args.only != "joint":
        measure_random_play(args.agents, args.rows, args.rounds, args.folder)
    if args.only != "random":
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            measure_joint(Path(folder), args.rows, args.memory_rows, args.rounds)


if __name__ == "__main__":
    main()
