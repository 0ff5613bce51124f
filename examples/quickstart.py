"""Two carts on a rail learn to meet: logs in, policies out, logs back, better policies.

The carts are simulated in NumPy here; in their place stands whatever runs your policies.
"""

import sys
from pathlib import Path

import numpy as np

import marline

EPISODES, STEPS = 40, 25


def drive(policies):
    """Run both carts for some episodes; returns what each logged, under D4RL's keys."""
    rng = np.random.default_rng(0)
    logs = {name: {key: [] for key in ("observations", "actions", "rewards", "next_observations")} for name in policies}
    for _ in range(EPISODES):
        place = dict(zip(policies, rng.uniform(-1, 1, 2), strict=True))
        for _ in range(STEPS):
            seen = {
                name: np.array([place[name], place[other] - place[name]])
                for name, other in zip("ab", "ba", strict=True)
            }
            moves = {name: policies[name](seen[name]) for name in policies}
            place = {name: np.clip(place[name] + 0.1 * moves[name][0], -1, 1) for name in policies}
            for name, other in zip("ab", "ba", strict=True):
                logs[name]["observations"].append(seen[name])
                logs[name]["actions"].append(moves[name])
                logs[name]["rewards"].append(-abs(place["a"] - place["b"]))
                logs[name]["next_observations"].append(np.array([place[name], place[other] - place[name]]))
    ends = np.arange(1, EPISODES * STEPS + 1) % STEPS == 0
    return {name: {**log, "terminals": np.zeros(len(ends), bool), "timeouts": ends} for name, log in logs.items()}


def main(folder: Path) -> None:
    rng = np.random.default_rng(1)
    random_moves = dict.fromkeys("ab", lambda observation: rng.uniform(-1, 1, 1))
    marline.save(folder / "logs", {name: marline.from_arrays(name, log) for name, log in drive(random_moves).items()})

    logs = marline.load(folder / "logs")  # {agent: Dataset}; raises marline.DataError with file, agent, row
    run = marline.Campaign.create(
        folder / "run",
        logs,
        algorithm=marline.TD3BC(hidden=(32, 32), alpha_bc=20.0),
        sampler=marline.OTC(distance="value"),
        rows_per_deployment=EPISODES * STEPS,
        deployments=2,
        offline_updates=1000,
        updates=200,
    )
    run.train()
    for _ in range(2):
        measured = run.tune(run.deploy(drive))  # drive: policies in, logs out
        print(f"deployment {measured['deployment']}: alpha {measured['agents']['a']['alpha']:.2f}")
    print("return per episode of each deployed team:", [f"{value:.1f}" for value in run.returns])
    print("report:", run.report())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"))
