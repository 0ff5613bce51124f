"""A small team, and a field where its bundles act: random worlds, real scripts, real logs."""

from __future__ import annotations

import hashlib
import runpy
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from marline.algorithms import TD3BC
from marline.campaign.campaign import Campaign
from marline.data.dataset import Dataset, from_arrays
from marline.samplers import OTC
from marline.tuning import Algorithms

SIZES = {"arm": (3, 2), "cart": (5, 1), "lift": (3, 2)}
EPISODES, STEPS = 2, 5
ROWS = EPISODES * STEPS


def offline_logs() -> dict[str, Dataset]:
    """What three agents logged in the same 60 steps, and share the rewards of."""
    random = np.random.default_rng(0)
    num_rows = 60
    shared = {
        "rewards": random.normal(size=num_rows),
        "terminals": np.zeros(num_rows, bool),
        "timeouts": np.arange(1, num_rows + 1) % STEPS == 0,
    }
    logs = {}
    for agent, (num_seen, num_done) in SIZES.items():
        columns = {
            "observations": random.normal(size=(num_rows, num_seen)),
            "actions": random.uniform(-1, 1, (num_rows, num_done)),
            "next_observations": random.normal(size=(num_rows, num_seen)),
        }
        logs[agent] = from_arrays(agent, columns | shared)
    return logs


def create(folder: Path, algorithm: Algorithms | None = None) -> Campaign:
    return Campaign.create(
        folder,
        offline_logs(),
        algorithm=algorithm or TD3BC(hidden=(4,)),
        sampler=OTC("value", num_candidates=8, num_references=8, batch_size=4, num_estimate=8),
        deployments=2,
        offline_updates=4,
        updates=4,
        rows_per_deployment=ROWS,
    )


def act(
    bundles: Path,
    logs: Path,
    agents: Collection[str] = tuple(SIZES),
    *,
    seed: int = 0,
    episodes: int = EPISODES,
    broken_sensor: str | None = None,
) -> None:
    """Let bundles act by their own script, each agent in a world of its own, with rewards that all share.

    One of them may see a million million times what there is.
    """
    for agent in agents:
        server = runpy.run_path(str(bundles / agent / "run_policy.py"))["Agent"](logs / agent, bundles / agent)
        random, rewards = np.random.default_rng([seed, SIZES[agent][0]]), np.random.default_rng(seed)
        scale = 1e12 if agent == broken_sensor else 1.0
        for _ in range(episodes):
            server.step({"observation": scale * random.normal(size=SIZES[agent][0])})
            for step in range(STEPS):
                came = {"reward": rewards.normal(), "terminal": False, "timeout": step == STEPS - 1}
                server.step({"observation": scale * random.normal(size=SIZES[agent][0]), **came})


def copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all files but the lock."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def policies(folder: Path, number: int) -> dict[str, str]:
    """Hashes of what came out of a deployment."""
    (home,) = folder.glob(f"seed-0/otc*/deployment-{number:02d}/policies")
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in home.glob("*.safetensors")}


def flip(path: Path, place: int | None = None) -> bytes:
    """Change a bit; returns what was there."""
    content = path.read_bytes()
    place = len(content) // 2 if place is None else place
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    return content
