"""One evaluation episode before and after tuning, as small multiples of paths in the plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from marline.report.appearance import Look
from marline.report.records import Run

SIZE = 200.0  # of a panel's view box
MARGIN = 12.0
MAX_STEPS = 500
MAX_AGENTS = 50


class Path(NamedTuple):
    """One agent's way through a panel.

    Attributes:
        points: SVG's "x,y x,y ...".
        start: where the first point is.
        end: where the last point is.
    """

    points: str
    start: tuple[float, float]
    end: tuple[float, float]


class Episode(NamedTuple):
    """One panel; `sampler` is nothing for the offline team."""

    sampler: str | None
    value: float
    paths: list[Path]
    landmarks: list[tuple[float, float]]


class SeedEpisodes(NamedTuple):
    """The panels of one seed, on one scale: the offline team first, then every sampler but the controls."""

    seed: int
    panels: list[Episode]
    num_steps: int


def episodes(run: Run, looks: Mapping[str, Look]) -> list[SeedEpisodes]:
    """What there is to show, by seed; records that are not paths in the plane are left out."""
    found = [_of_seed(run, looks, seed) for seed in run.seeds]
    return [seed for seed in found if seed is not None]


def _of_seed(run: Run, looks: Mapping[str, Look], seed: int) -> SeedEpisodes | None:
    names = sorted((name for name in looks if not looks[name].is_control), key=lambda name: looks[name].order)
    records = {name: run.trajectories[name, seed] for name in names if (name, seed) in run.trajectories}
    parsed: list[tuple[str | None, _Record]] = []
    before = [record for name in records if (record := _parse(records[name].get("before"))) is not None]
    if before:
        parsed.append((None, before[0]))
    parsed += [(name, record) for name in records if (record := _parse(records[name].get("after"))) is not None]
    if not parsed:
        return None
    everything = np.concatenate([part.reshape(-1, 2) for _, one in parsed for part in (one.agents, one.landmarks)])
    low, high = everything.min(axis=0), everything.max(axis=0)
    center, span = (low + high) / 2, max(float((high - low).max()), 1e-9)
    scale = (SIZE - 2 * MARGIN) / span

    def place(positions: np.ndarray) -> np.ndarray:
        return np.round((positions - center) * scale * [1, -1] + SIZE / 2, 1)  # SVG's y runs downwards

    panels = [
        Episode(name, record.value, _paths(place(record.agents)), [(x, y) for x, y in place(record.landmarks).tolist()])
        for name, record in parsed
    ]
    return SeedEpisodes(seed, panels, max(len(record.agents) for _, record in parsed) - 1)


class _Record(NamedTuple):
    agents: np.ndarray  # [T+1, N, 2]
    landmarks: np.ndarray  # [M, 2]
    value: float


def _parse(record: Any) -> _Record | None:
    if not isinstance(record, dict):
        return None
    try:
        agents = np.asarray(record["agents"], np.float64)
        landmarks = np.asarray(record.get("landmarks") or np.empty((0, 2)), np.float64)
        value = float(record.get("return", np.nan))
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
    if (
        agents.ndim != 3
        or agents.shape[0] < 2
        or agents.shape[2] != 2
        or landmarks.ndim != 2
        or landmarks.shape[1] != 2
    ):
        return None
    if not (np.isfinite(agents).all() and np.isfinite(landmarks).all()):
        return None
    return _Record(agents[:MAX_STEPS, :MAX_AGENTS], landmarks[:MAX_AGENTS], value)


def _paths(agents: np.ndarray) -> list[Path]:
    paths = []
    for positions in agents.transpose(1, 0, 2).tolist():
        points = " ".join(f"{x:g},{y:g}" for x, y in positions)
        paths.append(Path(points, tuple(positions[0]), tuple(positions[-1])))
    return paths
