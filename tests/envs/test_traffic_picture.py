"""What traffic looks like: lights, queues and phases are where they are."""

from __future__ import annotations

import numpy as np
import pytest

from marline.envs.traffic_picture import BACKGROUND, GREEN, INK, RED, WIDTH, RoadMap, Sight, lights, paint, tail
from marline.envs.traffic_simulation import Signal

SIGNAL = Signal("x", ("Gr", "rg"), (("west", "out"), ("south", "out")))
ROADS = RoadMap(
    {"west": [(-100.0, 0.0), (-10.0, 0.0)], "south": [(0.0, -100.0), (0.0, -10.0)], "out": [(10.0, 0.0), (99.0, 0.0)]}
)


def test_lights_and_the_last_metres_of_a_lane() -> None:
    assert lights(Sight(SIGNAL, 0, 5, [0, 0])) == [True, False] and lights(Sight(SIGNAL, 1, 5, [0, 0])) == [False, True]
    line = [(0.0, 0.0), (3.0, 4.0), (3.0, 10.0)]
    assert tail(line, 6.0) == [(3.0, 10.0), (3.0, 4.0)] and tail(line, 8.5) == [(3.0, 10.0), (3.0, 4.0), (1.5, 2.0)]
    assert tail(line, 99.0) == line[::-1] and tail(line, 0.0) == [(3.0, 10.0)] * 2


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) <= 3).sum())


def test_what_waits_and_who_may_drive_is_painted() -> None:
    pytest.importorskip("PIL", reason="moving pictures need: pip install 'marline[video]'")
    west, south, east, north = ROADS.box([SIGNAL])
    assert (west + east) / 2 == -5 and (south + north) / 2 == -5  # around the middle of the stop lines
    free, queued = (paint(ROADS, [Sight(SIGNAL, 0, 12, [0, cars])], [(50.0, 0.0)], 25200.0) for cars in (0, 8))
    assert free.shape == queued.shape and free.shape[1:] == (WIDTH, 3) and free.dtype == np.uint8
    assert count(queued, RED) > count(free, RED) + 300 and count(free, GREEN) > 100
    assert count(free, BACKGROUND) > free.size / 3 / 2 and count(free, INK) > 50
