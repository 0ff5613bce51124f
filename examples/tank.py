"""Two valves keep the level of a tank: a table of logs, as a plant might have it, and the plant itself.

    python tank.py                      # writes tank.csv: both valves moved at random, as somebody tried them out
    python tank.py BUNDLES LOGS         # the plant by day: each valve by its policy, by the run_policy.py beside it

Each valve sees the level and is paid for it; none knows what the other does. docs/own_logs.md goes through it.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

VALVES, STEPS, DAYS = ("inlet", "outlet"), 25, 40


def flow(level, inlet, outlet):
    """The level a step later; valves are open by 5 to 60 per cent, and a full tank runs out faster."""
    return float(np.clip(level + 0.004 * (inlet - outlet * (0.5 + level)), 0, 2))


def write_table(path):
    """Forty days of the plant under hand."""
    rng = np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["agent", "episode", "step", "level", "valve_pct", "reward"])
        for day in range(DAYS):
            level = rng.uniform(0, 1.5)
            for step in range(STEPS):
                opened = rng.uniform(5, 60, 2)
                before, level = level, flow(level, *opened)
                for valve, percent in zip(VALVES, opened, strict=True):
                    table.writerow([valve, day, step, f"{before:.4f}", f"{percent:.2f}", f"{-abs(level - 0.5):.4f}"])


def play(bundles, logs):
    """Forty days under the policies, which are asked line by line and write their own logs."""
    valves = {
        valve: subprocess.Popen(
            [sys.executable, str(bundles / valve / "run_policy.py"), str(logs / valve)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for valve in VALVES
    }

    def say(valve, step):
        server = valves[valve]
        assert server.stdin is not None and server.stdout is not None
        print(json.dumps(step), file=server.stdin, flush=True)
        return json.loads(server.stdout.readline())

    rng = np.random.default_rng(1)
    for _ in range(DAYS):
        level, outcome = rng.uniform(0, 1.5), {}
        for step in range(STEPS):
            opened = [say(valve, {"observation": [level], **outcome})["action"][0] for valve in VALVES]
            level = flow(level, *opened)
            outcome = {"reward": -abs(level - 0.5), "terminal": False, "timeout": step == STEPS - 1}
        for valve in VALVES:
            say(valve, {"observation": [level], **outcome})
    for server in valves.values():
        assert server.stdin is not None
        server.stdin.close()
        server.wait()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        play(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        write_table("tank.csv")
