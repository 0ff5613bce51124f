"""Episodes as moving pictures: what a simulator renders, or points of the plane drawn here."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray, UInt8

from marline.data.files import atomic_bytes
from marline.envs import Environment, Rendering, Simulator, Task
from marline.errors import ConfigError, require
from marline.inputs.users_code import users_code
from marline.rollouts import simulation
from marline.rollouts.collection import rollout
from marline.rollouts.rollout import Policies

SUFFIXES = (".gif", ".webp", ".png")
MAX_FRAMES = 250  # of an episode; of a longer one, every second frame, or every third, and so on
FRAMES_PER_SECOND = 20
SIZE = 320  # pixels
MARGIN = 16
AGENT_RADIUS, LANDMARK_RADIUS = 7.0, 5.0
BACKGROUND, LANDMARK = (250, 250, 248), (150, 150, 150)
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 155, 168))

Frame = UInt8[np.ndarray, "height width 3"]


class Video(NamedTuple):
    """One episode: its frames and its return."""

    frames: list[Frame]
    total: float


def record(task: Task, policies: Policies, *, key: PRNGKeyArray, episode: int = 0, deployment: int = 0) -> Video:
    """Play an episode and look at it; the episode is that of `collection.rollout` with this key and number.

    Raises:
        ConfigError: nothing of this task can be shown, with the reason.
    """
    if not isinstance(task, Simulator):
        played = rollout(task, policies, 1, key=key, first_episode=episode, deployment=deployment)
        require(bool(played.drawing), f"{type(task).__name__} draws nothing; let its drawing() return points")
        return Video(paint(played.drawing), float(played.returns[0]))
    frames: list[Frame] = []
    every = -(-task.horizon // MAX_FRAMES)
    moments = itertools.count()

    def watch(environment: Environment) -> None:
        if next(moments) % every == 0:
            if not isinstance(environment, Rendering):
                raise ConfigError(f"{type(task).__name__} cannot be recorded: its environments have no render()")
            with users_code(f"{type(task).__name__}: render()"):
                frames.append(_frame(environment.render(), task))

    played = simulation.play(task, policies, 1, key=key, first_episode=episode, watch=watch)
    return Video(frames, float(played.returns[0]))


def _frame(image: object, task: Task) -> Frame:
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        sort = f"{image.dtype}{list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ConfigError(f"{type(task).__name__}: render() gave {sort} in place of an image, uint8 [height, width, 3]")
    return image.copy()  # for a renderer may paint the next one over it


def paint(drawing: Mapping[str, np.ndarray]) -> list[Frame]:
    """Frames `[T]` from points `[T, n, 2]` in the square [-1, 1]^2: agents in colours, over landmarks in grey."""
    across, up = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(1, -1, SIZE))
    per_pixel = (SIZE / 2 - MARGIN) / (SIZE / 2)  # the margin lets discs at the walls be whole
    num_steps = len(next(iter(drawing.values())))
    frames = []
    for step in range(num_steps):
        canvas = np.full((SIZE, SIZE, 3), BACKGROUND, np.float64)
        for name, radius in (("landmarks", LANDMARK_RADIUS), ("agents", AGENT_RADIUS)):
            for number, (x, y) in enumerate(drawing[name][step] if name in drawing else np.empty((0, 2))):
                distance = np.hypot(across - per_pixel * x, up - per_pixel * y) * SIZE / 2
                inside = np.clip(radius - distance + 0.5, 0.0, 1.0)[:, :, None]  # a smooth edge
                colour = COLOURS[number % len(COLOURS)] if name == "agents" else LANDMARK
                canvas += inside * (np.array(colour) - canvas)
        frames.append(np.rint(canvas).astype(np.uint8))
    return frames


def require_video_format(path: Path) -> None:
    """`ConfigError` unless a moving picture can be written under this name, as far as can be told before."""
    require(path.suffix.lower() in SUFFIXES, f"{path} must end in one of {', '.join(SUFFIXES)}, which all can move")
    _pillow()


def save(path: Path, frames: Iterable[Frame]) -> None:
    """Write an animated GIF, WebP or PNG, which appears as a whole or not at all."""
    require_video_format(path)
    first, *others = map(_pillow().fromarray, frames)
    buffer = io.BytesIO()
    kind = path.suffix.lower().removeprefix(".").upper()
    first.save(
        buffer, format=kind, save_all=True, append_images=others, duration=round(1000 / FRAMES_PER_SECOND), loop=0
    )
    atomic_bytes(path, buffer.getvalue())


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        fix = "pip install 'marline[video]'"
        raise ConfigError(f"moving pictures are written by Pillow, which is not there: {fix}") from None
    return Image
