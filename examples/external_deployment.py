"""A campaign in the real world, start to end: train on logs, send policies out, bring logs back, tune, again.

The field site is a process of its own, which knows nothing of marline: it has the bundles, and runs each policy by the
`run_policy.py` in it. Here it moves three carts along a rail, which are to meet; in its place stand your robots. Every
step is also a command: `marline train`, `export`, `ingest`, `tune`, `status`, `rollback`, `verify`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

CARTS, STEPS = ("left", "middle", "right"), 25


def observe(places):
    """What each cart sees: where it is, and how far the others are."""
    return {cart: [places[cart], *(places[other] - places[cart] for other in CARTS if other != cart)] for cart in CARTS}


def move(places, actions):
    """Where the carts are a step later, and the reward they share: minus how far they are apart."""
    places = {cart: float(np.clip(places[cart] + 0.1 * actions[cart][0], -1, 1)) for cart in CARTS}
    return places, -float(np.ptp(list(places.values())))


class Robot:
    """A cart's computer: the bundle's own script, spoken to line by line."""

    def __init__(self, bundle, logs):
        self.server = subprocess.Popen(
            [sys.executable, str(bundle / "run_policy.py"), str(logs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, step):
        assert self.server.stdin is not None and self.server.stdout is not None
        self.server.stdin.write(json.dumps(step) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def leave(self):
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait()


def field_site(bundles, logs, episodes):
    """Drive; run as `python external_deployment.py BUNDLES LOGS EPISODES`."""
    rng = np.random.default_rng(0)
    robots = {cart: Robot(bundles / cart, logs / cart) for cart in CARTS}
    for _ in range(episodes):
        places = dict(zip(CARTS, rng.uniform(-1, 1, len(CARTS)), strict=True))
        told = {cart: {"observation": seen} for cart, seen in observe(places).items()}
        for step in range(STEPS):
            actions = {cart: robots[cart].say(told[cart])["action"] for cart in CARTS}
            places, reward = move(places, actions)
            outcome = {"reward": reward, "terminal": False, "timeout": step == STEPS - 1}
            told = {cart: {"observation": seen, **outcome} for cart, seen in observe(places).items()}
        for cart in CARTS:
            robots[cart].say(told[cart])  # the step that ends the episode: its log is written
    for robot in robots.values():
        robot.leave()


def random_play(episodes):
    """Offline logs: the carts move at random."""
    rng = np.random.default_rng(1)
    logs = {cart: {key: [] for key in ("observations", "actions", "rewards", "next_observations")} for cart in CARTS}
    for _ in range(episodes):
        places = dict(zip(CARTS, rng.uniform(-1, 1, len(CARTS)), strict=True))
        for _ in range(STEPS):
            actions = {cart: rng.uniform(-1, 1, 1) for cart in CARTS}
            before, (places, reward) = observe(places), move(places, actions)
            after = observe(places)
            for cart in CARTS:
                row = (before[cart], actions[cart], reward, after[cart])
                for column, value in zip(logs[cart].values(), row, strict=True):
                    column.append(value)
    ends = np.arange(1, episodes * STEPS + 1) % STEPS == 0
    return {
        cart: {**columns, "terminals": np.zeros(len(ends), bool), "timeouts": ends} for cart, columns in logs.items()
    }


def main(folder, episodes=40, deployments=2):
    import marline

    logs = {cart: marline.from_arrays(cart, columns) for cart, columns in random_play(episodes).items()}
    run = marline.Campaign.create(
        folder / "run",
        logs,
        algorithm=marline.TD3BC(hidden=(32, 32), alpha_bc=20.0),
        sampler=marline.OTC(distance="value"),
        deployments=deployments,
        rows_per_deployment=episodes // 2 * STEPS,
        offline_updates=1000,
        updates=200,
    )
    run.train()
    for number in range(1, deployments + 1):
        bundles, came_back = folder / f"sent-{number}", folder / f"came-back-{number}"
        exported = run.export(bundles)
        print(f"deployment {number}: team {exported.team[:12]} went out")
        site = [sys.executable, __file__, str(bundles), str(came_back), str(episodes // 2)]
        subprocess.run(site, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        arrived = run.ingest(came_back)
        print(f"deployment {number}: {arrived.outcome}, rows {dict(arrived.rows)}")
        assert run.ingest(came_back).outcome == "repeated"  # the same logs again change nothing
        record = run.tune()
        for cart in CARTS:
            print(f"  {cart}: alpha {record['agents'][cart]['alpha']:.2f}")
    print("return per episode of each deployed team:", [f"{value:.1f}" for value in run.returns])
    print("report:", run.report())


if __name__ == "__main__":
    if len(sys.argv) == 4:
        field_site(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/external"))
