"""Made-up run directories: no number in them was measured, and none is ever shown as a result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

UNIFORM = {"type": "Uniform", "rows": "merged", "batch_size": 128}
OTC = {"type": "OTC", "distance": "value", "alpha": 1.0, "alpha_bounds": [0.1, 4.0], "batch_size": 128}
SAMPLERS: dict[str, dict[str, Any]] = {
    "uniform": UNIFORM,
    "online-only": {"type": "Uniform", "rows": "online", "batch_size": 128},
    "otc-value": OTC,
    "online-matched-otc-value": {"type": "OnlineMatched", "batch_size": 128, "matches": "otc-value"},
}
GAINS = {"uniform": 0.2, "online-only": -4.0, "otc-value": 2.3, "online-matched-otc-value": 1.4}
AGENTS = ("agent_0", "agent_1")


def make_run(
    path: Path,
    *,
    task: str = "made-up-navigation",
    samplers: Mapping[str, Mapping[str, Any]] = SAMPLERS,
    gains: Mapping[str, float] = GAINS,
    noise: float = 0.4,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    deployments: int = 10,
    agents: Sequence[str] = AGENTS,
    reached: Callable[[str, int], int] | None = None,
    start: float = -86.0,
) -> Path:
    """Write a run directory.

    Args:
        gains: of each sampler, how much the return rises until the last deployment.
        noise: standard deviation of that between seeds.
        reached: the last deployment of a sampler and seed, or -1 if it has not started.
    """
    path.mkdir(parents=True)
    settings = {
        "schema": 1,
        "task": task,
        "algorithm": {"type": "TD3BC", "hidden": [64, 64], "alpha_bc": 2.5},
        "samplers": samplers,
        "seeds": list(seeds),
        "dataset_size": 1_000_000,
        "rows_per_deployment": 10_000,
        "offline_updates": 100_000,
        "deployments": deployments,
        "updates": 2000,
        "evaluation_episodes": 100,
        "data_seed": 0,
    }
    _write(path / "run.json", settings)
    files = {f"{place}.h5": {"sha256": f"{place:02x}" * 32} for place, _ in enumerate(agents)}
    _write(path / "data" / "dataset.json", {"schema": 1, "agents": list(agents), "files": files, "provenance": {}})
    for seed in seeds:
        first = start + 3 * np.random.default_rng(seed).standard_normal()
        for place, (name, options) in enumerate(samplers.items()):
            last = deployments if reached is None else reached(name, seed)
            if last < 0:
                continue
            random = np.random.default_rng([seed, place])
            gain = gains.get(name, 0.0) + noise * random.standard_normal()
            folder = path / f"seed-{seed}" / name
            folder.mkdir(parents=True)
            lines = [_line(k, first, gain * k / deployments, options, agents, place, random) for k in range(last + 1)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
            if last == deployments:
                _write(folder / "trajectories.json", _trajectories(seed, gain))
                files = {f"{place}.safetensors": {"sha256": f"{seed + place:02x}" * 32} for place in range(len(agents))}
                _write(folder / f"deployment-{deployments:02d}" / "policies" / "manifest.json", {"files": files})
    return path


def edit_line(path: Path, seed: int, sampler: str, deployment: int, **changes: Any) -> None:
    """Change one line of a metrics.jsonl."""
    file = path / f"seed-{seed}" / sampler / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    lines[deployment] |= changes
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def _line(
    k: int,
    first: float,
    gain: float,
    options: Mapping[str, Any],
    agents: Sequence[str],
    place: int,
    random: np.random.Generator,
) -> dict[str, Any]:
    value = first + gain + (0.25 * random.standard_normal() if k else 0.0)
    episodes = (value + random.standard_normal(5)).round(2).tolist()
    line: dict[str, Any] = {
        "deployment": k,
        "return": round(float(value), 3),
        "returns": episodes,
        "mean_abs_action": {agent: 0.05 + 0.01 * k * (1 + place) for agent in agents},
    }
    if k:
        line["seconds"] = 12.1
        line["agents"] = {agent: _diagnostics(k, options, place, number, random) for number, agent in enumerate(agents)}
    return line


def _diagnostics(
    k: int, options: Mapping[str, Any], place: int, number: int, random: np.random.Generator
) -> dict[str, float]:
    otc = options.get("type") == "OTC"
    kept = otc or options.get("type") == "OnlineMatched"
    fresh = 1.0 if options.get("rows") == "online" else 0.01 * k + (0.08 if kept else 0.0)
    current = 1.0 if options.get("rows") == "online" else fresh / (1 + 0.3 * k)
    found = {
        "share_offline": 1 - fresh,
        "share_earlier": fresh - current,
        "share_current": current,
        "distinct_rows": (70.0 if otc else 127.0) + random.uniform(-1, 1),
        "td_error_drawn": -0.2 - (0.2 if otc else 0.0) + 0.03 * random.standard_normal(),
        "td_error_uniform": -0.2 + 0.03 * random.standard_normal(),
        "critic_loss": 1.2 / k,
        "mean_q": -150.0 - 2 * k + place,
    }
    if otc:
        alpha = 1 + 0.06 * k * (number - 0.5) + 0.05 * random.standard_normal()
        found |= {
            "alpha": min(alpha, 1.2),
            "alpha_raw": alpha,
            "estimated_distance": 0.4 * alpha * (1 if options.get("distance") == "value" else 10),
            "mean_distance": 0.41 * alpha * (1 if options.get("distance") == "value" else 10),
            "median_distance": 0.3 * alpha,
            "effective_sample_size": 28 / alpha,
            "self_matches": 0.08,
        }
    return found


def _trajectories(seed: int, gain: float) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    start, landmarks = random.uniform(-1, 1, (3, 2)), random.uniform(-1, 1, (3, 2))
    steps = np.linspace(0, 1, 26)[:, None, None]
    wobble = np.cumsum(random.normal(0, 0.02, (26, 3, 2)), axis=0)

    def episode(reach: float) -> dict[str, Any]:
        paths = start + reach * steps * (landmarks - start) + wobble
        return {"agents": paths.round(3).tolist(), "landmarks": landmarks.round(3).tolist(), "return": -80 + 9 * reach}

    return {"before": episode(0.3), "after": episode(min(0.5 + 0.15 * gain, 1.0))}


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), "utf-8")


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """`make_run`, for tests that cannot import this file."""
    return make_run


@pytest.fixture
def change_line() -> Callable[..., None]:
    """`edit_line`, for tests that cannot import this file."""
    return edit_line
