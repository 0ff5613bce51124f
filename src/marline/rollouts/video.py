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
from marline.rollouts.rollout import Policies, Rollout

SUFFIXES = (".gif", ".webp", ".png")
MAX_FRAMES = 250  # of an episode; of a longer one, every second frame, or every third, and so on
FRAMES_PER_SECOND = 20
SIZE, CAPTION = 320, 22  # pixels: of the square that points lie in, and of the line below a picture
MARGIN = 20
FINER = 3  # times as large as it is shown, for smooth edges
TRAIL = 30  # steps that a path stays visible
BACKGROUND, EDGE, FAINT, INK = (250, 250, 248), (222, 222, 218), (150, 150, 150), (60, 60, 60)
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (184, 92, 147), (230, 159, 0), (86, 180, 233))

Frame = UInt8[np.ndarray, "height width 3"]
Captioned = UInt8[np.ndarray, "taller width 3"]
Colour = tuple[int, int, int]


class Video(NamedTuple):
    """One episode: its frames and its return."""

    frames: list[Captioned]
    total: float


def record(task: Task, policies: Policies, *, key: PRNGKeyArray, episode: int = 0, deployment: int = 0) -> Video:
    """Play an episode and look at it; the episode is that of `collection.rollout` with this key and number.

    Below every frame stand the episode, the step and the return so far.

    Raises:
        ConfigError: nothing of this task can be shown, with the reason, or Pillow is missing.
    """
    _pillow()
    if not isinstance(task, Simulator):
        played = rollout(task, policies, 1, key=key, first_episode=episode, deployment=deployment)
        require(bool(played.drawing), f"{type(task).__name__} draws nothing; let its drawing() return points")
        frames = paint(played.drawing)
        every = -(-len(frames) // MAX_FRAMES)
        shown = {step + 1: frame for step, frame in enumerate(frames) if (step + 1) % every == 0 or not step}
        return Video(_captioned(shown, played, episode), float(played.returns[0]))
    pictures: dict[int, Frame] = {}
    every = -(-task.horizon // MAX_FRAMES)
    moments = itertools.count()

    def watch(environment: Environment) -> None:
        if (step := next(moments)) % every == 0:
            if not isinstance(environment, Rendering):
                raise ConfigError(f"{type(task).__name__} cannot be recorded: its environments have no render()")
            with users_code(f"{type(task).__name__}: render()"):
                pictures[step] = _frame(environment.render(), task)

    played = simulation.play(task, policies, 1, key=key, first_episode=episode, watch=watch)
    return Video(_captioned(pictures, played, episode), float(played.returns[0]))


def _frame(image: object, task: Task) -> Frame:
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        sort = f"{image.dtype}{list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ConfigError(f"{type(task).__name__}: render() gave {sort} in place of an image, uint8 [height, width, 3]")
    return image.copy()  # for a renderer may paint the next one over it


def _captioned(frames: Mapping[int, Frame], played: Rollout, episode: int) -> list[Captioned]:
    """Frames, by the number of steps before them, over a line that tells where the episode stands."""
    rewards = [its.reward for its in played.transitions.values()]
    length = max(map(len, rewards))
    earned = np.mean([np.pad(its.astype(np.float64), (0, length - len(its))) for its in rewards], axis=0)
    so_far = np.concatenate([[0.0], np.cumsum(earned)])
    return [
        _over_line(frame, f"episode {episode}   step {step} of {length}   return {so_far[min(step, length)]:.2f}")
        for step, frame in frames.items()
    ]


def _over_line(frame: Frame, text: str) -> Captioned:
    Image, ImageDraw, ImageFont = _pillow()
    image = Image.new("RGB", (frame.shape[1], frame.shape[0] + CAPTION), BACKGROUND)
    image.paste(Image.fromarray(frame), (0, 0))
    place = MARGIN // 2, frame.shape[0] + 4
    ImageDraw.Draw(image).text(place, text, fill=INK, font=ImageFont.load_default(12))
    return np.asarray(image)


def paint(drawing: Mapping[str, np.ndarray]) -> list[Frame]:
    """Frames `[T]` from points `[T, n, 2]` in the square [-1, 1]^2, by the names that `World.drawing` may give them.

    Agents are numbered discs with the paths that they came by; landmarks are crosses, goals are rings in the colour of
    the agent with the same number, others are squares. Points that are not finite are left out.
    """
    return [_painted(drawing, step) for step in range(len(next(iter(drawing.values()))))]


def _painted(drawing: Mapping[str, np.ndarray], step: int) -> Frame:
    Image, ImageDraw, ImageFont = _pillow()
    image = Image.new("RGB", (SIZE * FINER, SIZE * FINER), BACKGROUND)
    pen, middle, unit = ImageDraw.Draw(image), SIZE * FINER / 2, (SIZE / 2 - MARGIN) * FINER
    font = ImageFont.load_default(9 * FINER)

    def places(name: str, at: int = step) -> list[tuple[int, float, float]]:
        points = drawing[name][at] if name in drawing else np.empty((0, 2))
        pairs = enumerate(points.tolist())
        return [(number, middle + unit * x, middle - unit * y) for number, (x, y) in pairs if np.isfinite(x + y)]

    def box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
        return x - radius * FINER, y - radius * FINER, x + radius * FINER, y + radius * FINER

    pen.rectangle(box(middle, middle, unit / FINER + 12), outline=EDGE, width=FINER)
    for _, x, y in places("landmarks"):
        left, top, right, bottom = box(x, y, 5.0)
        pen.line([(left, top), (right, bottom)], fill=FAINT, width=2 * FINER)
        pen.line([(left, bottom), (right, top)], fill=FAINT, width=2 * FINER)
    for number, x, y in places("goals"):
        pen.ellipse(box(x, y, 9.0), outline=COLOURS[number % len(COLOURS)], width=2 * FINER)
    for name in ("others", "agents"):
        for before in range(max(0, step - TRAIL), step):
            ends = {number: (x, y) for number, x, y in places(name, before + 1)}
            age = (step - before) / (TRAIL + 1)
            for number, x, y in places(name, before):
                if number in ends:
                    colour = FAINT if name == "others" else COLOURS[number % len(COLOURS)]
                    pen.line([(x, y), ends[number]], fill=_mixed(colour, BACKGROUND, age), width=2 * FINER)
    for _, x, y in places("others"):
        pen.rectangle(box(x, y, 5.5), fill=INK)
    for number, x, y in places("agents"):
        pen.ellipse(box(x, y, 8.0), fill=COLOURS[number % len(COLOURS)], outline=BACKGROUND, width=FINER)
        pen.text((x, y), str(number), fill=BACKGROUND, font=font, anchor="mm")
    for _, x, y in places("fallen"):
        pen.ellipse(box(x, y, 8.5), fill=BACKGROUND, outline=FAINT, width=FINER)
        pen.line([box(x, y, 4.0)[:2], box(x, y, 4.0)[2:]], fill=FAINT, width=2 * FINER)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(own + share * (its - own)) for own, its in zip(colour, other, strict=True))
    return red, green, blue


def require_video_format(path: Path) -> None:
    """`ConfigError` unless a moving picture can be written under this name, as far as can be told before."""
    require(path.suffix.lower() in SUFFIXES, f"{path} must end in one of {', '.join(SUFFIXES)}, which all can move")
    _pillow()


def save(path: Path, frames: Iterable[Frame]) -> None:
    """Write an animated GIF, WebP or PNG, which appears as a whole or not at all."""
    require_video_format(path)
    first, *others = map(_pillow()[0].fromarray, frames)
    buffer = io.BytesIO()
    kind = path.suffix.lower().removeprefix(".").upper()
    first.save(
        buffer, format=kind, save_all=True, append_images=others, duration=round(1000 / FRAMES_PER_SECOND), loop=0
    )
    atomic_bytes(path, buffer.getvalue())


def _pillow() -> tuple[Any, Any, Any]:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        fix = "pip install 'marline[video]'"
        raise ConfigError(f"moving pictures are painted by Pillow, which is not there: {fix}") from None
    return Image, ImageDraw, ImageFont
