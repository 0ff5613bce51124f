"""Moving pictures: what is painted where, the files, and what cannot be recorded."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import pytest

from marline.envs import Actions, CooperativeNavigation, TimeStep
from marline.errors import ConfigError
from marline.policy import RandomPolicy
from marline.rollouts.collection import rollout
from marline.rollouts.video import (
    BACKGROUND,
    CAPTION,
    COLOURS,
    FAINT,
    INK,
    MARGIN,
    SIZE,
    paint,
    record,
    save,
)
from marline.types import Spec

pillow = pytest.importorskip("PIL.Image", reason="moving pictures need: pip install 'marline[video]'")
KEY = jax.random.key(0)
MIDDLE = SIZE // 2


def test_points_are_painted_where_they_are() -> None:
    agents = np.array([[[0.0, 0.0], [-1.0, 1.0]], [[0.5, 0.0], [-1.0, 1.0]]])
    landmarks = np.array([[[0.5, 0.0]]] * 2)
    first, second = paint({"agents": agents, "landmarks": landmarks})
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8
    beside = 5  # the number of an agent
    assert is_colour(first[MIDDLE, MIDDLE + beside], COLOURS[0])
    corner = first[MARGIN, MARGIN + beside], second[MARGIN, MARGIN + beside]
    assert all(is_colour(pixel, COLOURS[1]) for pixel in corner)  # up is up; whole within the margin
    right = MIDDLE + (MIDDLE - MARGIN) // 2
    assert FAINT[0] - 6 < first[MIDDLE, right].max() < 200 and is_colour(second[MIDDLE, right + beside], COLOURS[0])
    trail = second[MIDDLE, MIDDLE + 30].astype(int)  # paler than the agent that left it
    assert COLOURS[0][0] < trail[0] < 250 and trail[2] > trail[0]


def is_colour(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= 6)


def test_what_else_is_painted_has_its_own_shape() -> None:
    nan = np.full((1, 1, 2), np.nan)
    agents = np.array([[[-0.5, 0.0]]])
    drawing = {"agents": agents, "others": np.array([[[0.5, 0.0]]]), "goals": np.zeros((1, 1, 2))}
    (frame,) = paint(drawing | {"fallen": nan})
    left, right = (MIDDLE + sign * (MIDDLE - MARGIN) // 2 for sign in (-1, 1))
    assert is_colour(frame[MIDDLE, right], INK) and is_colour(frame[MIDDLE, left + 5], COLOURS[0])
    assert is_colour(frame[MIDDLE, MIDDLE + 8], COLOURS[0]) and is_colour(frame[MIDDLE, MIDDLE], BACKGROUND)  # a ring
    (fallen,) = paint(drawing | {"fallen": agents})
    assert is_colour(fallen[MIDDLE - 5, left + 3], BACKGROUND)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_files_that_move(suffix: str, tmp_path: Path) -> None:
    frames = [np.full((8, 12, 3), shade, np.uint8) for shade in (0, 100, 200)]
    save(tmp_path / "new" / f"video{suffix}", iter(frames))
    with pillow.open(tmp_path / "new" / f"video{suffix}") as image:
        assert image.n_frames == 3 and image.size == (12, 8)
        image.seek(1)
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - 100).max() <= 3
        assert image.info["duration"] == 50
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"video{suffix}"]


def test_a_video_of_a_world_is_the_episode_that_is_rolled_out() -> None:
    task = CooperativeNavigation(2, horizon=4)
    team = {agent: RandomPolicy(spec) for agent, spec in task.specs.items()}
    shown = record(task, team, key=KEY, episode=3)
    played = rollout(task, team, 1, key=KEY, first_episode=3)
    assert shown.total == played.returns[0] and len(shown.frames) == 4
    assert all(frame.shape == (SIZE + CAPTION, SIZE, 3) for frame in shown.frames)
    pictures = np.stack([frame[:SIZE] for frame in shown.frames])
    np.testing.assert_array_equal(pictures, np.stack(paint(played.drawing)))
    captions = {frame[SIZE:].tobytes() for frame in shown.frames}
    assert len(captions) == 4  # the step, and the return so far


class Counter:
    """Its picture is how many steps were made."""

    def reset(self, *, seed: int) -> TimeStep:
        self.time = 0
        return TimeStep({"a": np.zeros(1, np.float32)})

    def step(self, actions: Actions) -> TimeStep:
        self.time += 1
        return TimeStep({"a": np.zeros(1, np.float32)}, {"a": 1.0})

    def render(self) -> np.ndarray:
        return np.full((2, 2, 3), self.time % 256, np.uint8)

    def close(self) -> None: ...


class Unseen(Counter):
    render = None  # pyright: ignore[reportAssignmentType]


class Grey(Counter):
    def render(self) -> np.ndarray:
        return np.zeros((2, 2))


@dataclasses.dataclass(frozen=True)
class Counting:
    horizon: int = 300
    num_environments: int = 2
    agents: tuple[str, ...] = ("a",)
    description: str = "counts"
    environment: type[Counter] = Counter

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {"a": Spec(1, 1)}

    def make(self) -> Counter:
        return self.environment()


def test_long_episodes_are_recorded_in_fewer_frames() -> None:
    team = {"a": RandomPolicy(Spec(1, 1))}
    frames, total = record(Counting(), team, key=KEY)
    assert total == 300.0
    assert [int(frame[0, 0, 0]) for frame in frames] == [time % 256 for time in range(0, 301, 2)]


def test_what_cannot_be_recorded_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    team = {"a": RandomPolicy(Spec(1, 1))}
    with pytest.raises(ConfigError, match="Counting cannot be recorded: its environments have no render"):
        record(Counting(environment=Unseen), team, key=KEY)
    with pytest.raises(ConfigError, match=r"Counting: render\(\) gave float64\[2, 2\] in place of an image"):
        record(Counting(environment=Grey), team, key=KEY)
    with pytest.raises(ConfigError, match=r"video.mp4 must end in one of .gif, .webp, .png"):
        save(tmp_path / "video.mp4", iter(()))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match=r"pip install 'marline\[video\]'"):
        save(tmp_path / "video.gif", iter(()))
    assert list(tmp_path.iterdir()) == []
