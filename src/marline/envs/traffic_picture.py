"""What traffic looks like: roads, vehicles, the light and the queue of each lane, and a line for each signal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from marline.envs.traffic_simulation import Signal
from marline.errors import ConfigError

WIDTH, ROW, MARGIN = 640, 20, 12  # pixels: of the picture, of the line of a signal, and around both
TALLEST = 640  # of the part with the roads
VEHICLE = 7.5  # m that a vehicle takes in a queue
AROUND = 130.0  # m around the junctions that are shown
FINER = 3  # times as large as it is shown, for smooth edges
BACKGROUND, ROAD, INK, FAINT = (250, 250, 248), (214, 214, 210), (60, 60, 60), (226, 226, 222)
GREEN, RED = (0, 158, 115), (200, 60, 40)
_PHASES, _QUEUE = 34, 300  # pixels from the left at which they begin in the line of a signal

Point = tuple[float, float]
Line = Sequence[Point]


class Sight(NamedTuple):
    """What is to be seen of a signal.

    Attributes:
        signal: its phases and links.
        phase: the one that is shown.
        green: seconds that it has been green.
        queue: vehicles that wait in each of its lanes.
    """

    signal: Signal
    phase: int
    green: float
    queue: Sequence[float]


@dataclasses.dataclass(frozen=True)
class RoadMap:
    """Where everything is, in metres, with y to the north.

    Attributes:
        lanes: of the whole network, in the direction in which vehicles drive.
    """

    lanes: Mapping[str, Line]

    def junction(self, signal: Signal) -> Point:
        """The middle of a signal's stop lines."""
        x, y = zip(*(self.lanes[lane][-1] for lane in signal.lanes), strict=True)
        return sum(x) / len(x), sum(y) / len(y)

    def box(self, signals: Sequence[Signal]) -> tuple[float, float, float, float]:
        """West, south, east, north of what is shown: all junctions, and a little around them."""
        x, y = zip(*(self.junction(signal) for signal in signals), strict=True)
        return min(x) - AROUND, min(y) - AROUND, max(x) + AROUND, max(y) + AROUND


def paint(roads: RoadMap, sights: Sequence[Sight], vehicles: Sequence[Point], clock: float) -> np.ndarray:
    """A picture, uint8 [height, width, 3].

    Above, the roads: where a lane ends at a signal its light is green or red, and a line of its colour leads back from
    there, by 7.5 m for each vehicle that waits in the lane. The number of its agent stands above a junction. Below, a
    line for each signal: its phases, of which the one that is shown is green, for how long it has been, and how many
    vehicles wait.

    Args:
        roads: where everything is.
        sights: what is to be seen of each signal.
        vehicles: where they are.
        clock: seconds since midnight.

    Raises:
        ConfigError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        fix = "pip install 'marline[video]'"
        raise ConfigError(f"moving pictures are painted by Pillow, which is not there: {fix}") from None
    west, south, east, north = roads.box([sight.signal for sight in sights])
    unit = min((WIDTH - 2 * MARGIN) / (east - west), (TALLEST - 2 * MARGIN) / (north - south))
    height = math.ceil((north - south) * unit) + 2 * MARGIN
    image = Image.new("RGB", (WIDTH * FINER, (height + ROW * len(sights) + MARGIN) * FINER), BACKGROUND)
    pen: Any = ImageDraw.Draw(image)
    font = ImageFont.load_default(11 * FINER)
    left = (WIDTH - (east - west) * unit) / 2

    def place(point: Point) -> Point:
        return (left + (point[0] - west) * unit) * FINER, (MARGIN + (north - point[1]) * unit) * FINER

    def line(points: Line, colour: tuple[int, int, int], width: float) -> None:
        pen.line([place(point) for point in points], fill=colour, width=round(width * FINER), joint="curve")

    for lane in roads.lanes.values():
        line(lane, ROAD, 2.5)
    for sight in sights:
        for lane, queue, is_green in zip(sight.signal.lanes, sight.queue, lights(sight), strict=True):
            colour = GREEN if is_green else RED
            line(tail(roads.lanes[lane], queue * VEHICLE), colour, 4.0)
            _dot(pen, *place(roads.lanes[lane][-1]), 3.0, colour)
    for x, y in map(place, vehicles):
        _dot(pen, x, y, 1.5, INK)
    pen.rectangle((0, height * FINER, WIDTH * FINER, image.height), fill=BACKGROUND)  # roads lead on below
    most = max(len(sight.signal.phases) for sight in sights)
    for number, sight in enumerate(sights):
        x, y = place(roads.junction(sight.signal))
        _number(pen, font, number, x, y - 17 * FINER)
        _line_of(pen, font, number, sight, float((height + ROW * number) * FINER), right=_PHASES + 16 * most)
    hours, seconds = divmod(round(clock), 3600)
    told = f"{hours:02d}:{seconds // 60:02d}:{seconds % 60:02d}   {len(vehicles)} vehicles"
    pen.text((MARGIN * FINER, MARGIN * FINER), told, fill=INK, font=font)
    return np.asarray(image.resize((WIDTH, image.height // FINER), Image.Resampling.BOX))


def lights(sight: Sight) -> list[bool]:
    """Whether each lane may drive somewhere."""
    phase = sight.signal.phases[sight.phase]
    driving = {lane for light, (lane, _) in zip(phase, sight.signal.links, strict=True) if light in "Gg"}
    return [lane in driving for lane in sight.signal.lanes]


def tail(points: Line, length: float) -> list[Point]:
    """The last metres of a line, from its end on; all of it where it is shorter."""
    if length <= 0:
        return [points[-1]] * 2
    found = [points[-1]]
    for (x, y), (ahead_x, ahead_y) in zip(points[-2::-1], points[:0:-1], strict=True):
        part = math.hypot(ahead_x - x, ahead_y - y)
        if part >= length:
            share = length / part
            return [*found, (ahead_x + share * (x - ahead_x), ahead_y + share * (y - ahead_y))]
        found.append((x, y))
        length -= part
    return found


def _dot(pen: Any, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    radius *= FINER
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _number(pen: Any, font: Any, number: int, x: float, y: float) -> None:
    """A junction, or its line, by the number of its agent."""
    radius = 8.0 * FINER
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=INK, outline=BACKGROUND, width=FINER)
    pen.text((x, y), str(number), fill=BACKGROUND, font=font, anchor="mm")


def _line_of(pen: Any, font: Any, number: int, sight: Sight, top: float, *, right: int) -> None:
    """A signal: which of its phases is shown, since when, and how many vehicles wait."""
    middle, side = top + ROW * FINER / 2, 12 * FINER
    _number(pen, font, number, (MARGIN + 8.0) * FINER, middle)
    x = float(_PHASES * FINER)
    for phase in range(len(sight.signal.phases)):
        colour = GREEN if phase == sight.phase else FAINT
        pen.rectangle((x, middle - side / 2, x + side, middle + side / 2), fill=colour)
        x += side + 4 * FINER
    told = f"phase {sight.phase}, green for {sight.green:.0f} s"
    pen.text((right * FINER, middle), told, fill=INK, font=font, anchor="lm")
    queue, x = sum(sight.queue), float(_QUEUE * FINER)
    end = x + min(queue * 4, WIDTH - _QUEUE - 80) * FINER
    pen.rectangle((x, middle - 4 * FINER, end, middle + 4 * FINER), fill=RED if queue else BACKGROUND)
    pen.text((end + 6 * FINER, middle), f"{queue:.0f} waiting", fill=INK, font=font, anchor="lm")
