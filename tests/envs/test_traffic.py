"""Traffic signals: what is known without SUMO, what is counted, and hours in SUMO where it is installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline import cli
from marline.data.check import check
from marline.data.dataset import load
from marline.envs import Simulator, Traffic, make_task
from marline.envs.traffic import RunningTraffic, mask, observation, reward
from marline.envs.traffic_control import Actuated, FixedTime, Layout, MaxPressure
from marline.envs.traffic_simulation import Detectors, Signal, pressures, yellow
from marline.errors import ConfigError
from marline.rollouts.collection import collect
from marline.types import Spec

needs_sumo = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("libsumo", "sumo_rl")),
    reason="traffic signals need: pip install 'marline[traffic]'",
)
# two lanes from the west, the left one also turns; one from the south
SIGNAL = Signal("x", ("GGrr", "rrGG", "rgGr"), (("w0", "e0"), ("w1", "e0"), ("w1", "n0"), ("s0", "n0")))
LAYOUT = Layout(3, 3)
SEEN = {
    "phase": 1,
    "green": 7,
    "pressure": [2.5, -1.0, 0.0],
    "approach": [7.0, 0.0, 14.0],
    "wait": [0.0, 56.0, 168.0],
    "queue": [0.0, 2.0, 3.0],
    "speed": [56.0, 0.0, 112.0],
}


def test_what_is_known_without_sumo(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task("traffic-cologne3")
    assert isinstance(task, Simulator) and task == Traffic() and task.horizon == 720
    assert task.specs == {
        "signal_0": Spec(27, 3, discrete=True),
        "signal_1": Spec(33, 4, discrete=True),
        "signal_2": Spec(41, 4, discrete=True),
    }
    assert len(make_task("traffic-cologne8").agents) == 8 and len(make_task("traffic-ingolstadt7").agents) == 7
    names = Traffic().channels["signal_0"].observation_names
    assert names is not None and len(names) == 27 and names[3:5] == ("green", "pressure_0") and names[-1] == "speed_4"
    with pytest.raises(ConfigError, match="step_seconds is 3, but must be more than yellow_seconds, 3"):
        Traffic(step_seconds=3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"need SUMO, and libsumo is not there: pip install 'marline\[traffic\]'"):
        Traffic().make()
    with pytest.raises(ConfigError, match=r"sumo-rl, which has them, is not there: pip install 'marline\[traffic\]'"):
        Traffic("cologne8", yellow_seconds=2).conventions()


def test_yellow_is_where_green_ends() -> None:
    assert yellow("GGrr", "rrGG") == "yyrr"
    assert yellow("Ggrs", "Grgs") == "Gyrs"  # what stays green stays as it is
    assert yellow("rrGG", "rrGG") == "rrGG"


def test_pressure_of_a_phase() -> None:
    """Phase 0 serves w0 (5 - 1) and w1 (2 - 1); phase 1 w1 to n0 (2 - 4) and s0 (3 - 4); phase 2 w1 to n0 alone."""
    halting = {"w0": 5, "w1": 2, "s0": 3, "e0": 1, "n0": 4}
    assert pressures(SIGNAL, halting) == [5.0, -3.0, -2.0]
    both = Signal("x", ("GGr",), (("w", "e"), ("w", "n"), ("s", "n")))  # one lane to two exits: 5 - (1 + 4) / 2
    assert pressures(both, {"w": 5, "s": 9, "e": 1, "n": 4}) == [2.5]


class Road:
    """As much of SUMO as detectors look at: vehicles as (lane, metres to the light, speed, seconds stood)."""

    def __init__(self) -> None:
        self.vehicles: dict[str, tuple[str, float, float, float]] = {}
        self.lane = self.vehicle = self

    def getLastStepVehicleIDs(self, lane: str) -> list[str]:
        return [name for name, (where, *_) in self.vehicles.items() if where == lane]

    def getNextTLS(self, name: str) -> tuple[Any, ...]:
        return (("x", 0, self.vehicles[name][1], "r"),)

    def getWaitingTime(self, name: str) -> float:
        return self.vehicles[name][3]

    def getSpeed(self, name: str) -> float:
        return self.vehicles[name][2]

    def getLastStepHaltingNumber(self, lane: str) -> int:
        return sum(self.vehicles[name][2] < 0.1 for name in self.getLastStepVehicleIDs(lane))


def test_detectors_count_as_rescos() -> None:
    road = Road()
    detectors = Detectors(road, SIGNAL)
    road.vehicles = {
        "a": ("w0", 10, 0.0, 2),
        "b": ("w0", 50, 9.0, 0),
        "far": ("w0", 201, 5.0, 9),
        "c": ("s0", 5, 4.0, 0),
    }
    seen = detectors.see(5)
    assert seen["approach"] == [1, 0, 1] and seen["queue"] == [1, 0, 0] and seen["wait"] == [2, 0, 0]
    assert seen["speed"] == [9, 0, 4] and seen["pressure"] == [1.0, 0.0, 0.0]
    road.vehicles = {"a": ("w0", 4, 3.0, 0), "b": ("w0", 20, 0.0, 4)}  # who once stood counts on while it is there
    seen = detectors.see(5)
    assert seen["approach"] == [0, 0, 0] and seen["queue"] == [2, 0, 0] and seen["wait"] == [2 + 5 + 4, 0, 0]
    road.vehicles = {}
    assert detectors.see(5)["wait"] == [0, 0, 0]
    road.vehicles = {"a": ("w0", 90, 8.0, 0)}  # back again: another visit
    assert detectors.see(5)["queue"] == [0, 0, 0]


def test_observation_reward_and_mask_by_hand() -> None:
    expected = [0, 1, 0, 7 / 60, 2.5, -1, 0, 0.25, 0, 0.5, 0, 2, 6, 0, 2 / 28, 3 / 28, 0.1, 0, 0.2]
    np.testing.assert_allclose(observation(SEEN, LAYOUT), expected, rtol=1e-6)
    assert reward(SEEN) == -1.0 and reward(SEEN | {"wait": [897.0]}) == -4.0
    assert mask(SEEN, LAYOUT, Traffic()).all()
    held = mask(SEEN | {"green": 2}, LAYOUT, Traffic())
    np.testing.assert_array_equal(held, [False, True, False])


def test_controllers_by_hand() -> None:
    def choice(policy: Any, allowed: tuple[bool, ...] = (True, True, True), **changed: Any) -> int:
        seen = jnp.asarray(observation(SEEN | changed, LAYOUT))
        return int(jax.jit(policy)(seen, key=jax.random.key(0), action_mask=jnp.array(allowed)))

    fixed = FixedTime(LAYOUT, (33.0, 6.0, 38.0), 5)
    assert choice(fixed, green=2) == 1 and choice(fixed, green=7) == 2  # 6 s end nearer to 7 than to 2
    assert choice(fixed, phase=0, green=27) == 0 and choice(fixed, phase=0, green=32) == 1
    assert choice(fixed, phase=2, green=37) == 0
    assert choice(fixed, (False, True, False), green=7) == 1
    actuated = Actuated(LAYOUT, (33.0, 38.0, 6.0), 5, ((True, True, False), (False, False, True), (False, True, False)))
    assert choice(actuated) == 1  # somebody is in lane 2
    empty: dict[str, Any] = {"approach": [0, 0, 0], "queue": [0, 2, 0]}
    assert choice(actuated, **empty) == 2  # the next that serves lane 1
    assert choice(actuated, **empty, phase=2, green=7) == 0  # its time is up, and phase 0 serves lane 1 too
    assert choice(actuated, approach=[0, 0, 3], queue=[0, 0, 0], phase=0) == 1  # nobody ahead, phase 1 has somebody
    assert choice(actuated, approach=[0, 0, 0], queue=[0, 0, 0]) == 1  # nobody anywhere: it stays
    pressure = MaxPressure(LAYOUT)
    assert choice(pressure) == 0 and choice(pressure, (False, True, True)) == 1
    assert choice(pressure, pressure=[1.0, 1.0, 0.0]) == 1  # a tie is no reason to change
    assert choice(pressure, pressure=[0.0, 9.0, 1.0], green=47) == 1
    assert choice(pressure, pressure=[0.0, 9.0, 1.0], green=52) == 2


@pytest.fixture(scope="module")
def running() -> Iterator[RunningTraffic]:
    environment = Traffic(seconds=60).make()
    yield environment
    environment.close()


def played(environment: RunningTraffic, seed: int) -> list[Any]:
    rng, now = np.random.default_rng(0), environment.reset(seed=seed)
    moments = [now]
    for _ in range(12):
        actions = {agent: rng.choice(np.flatnonzero(allowed)) for agent, allowed in now.action_masks.items()}
        now = environment.step(actions)
        moments.append(now)
    return moments


@needs_sumo
def test_an_episode_is_fixed_by_its_seed(running: RunningTraffic) -> None:
    first, other, again = (played(running, seed) for seed in (1, 2, 1))
    for one, same in zip(first, again, strict=True):
        assert one.rewards == same.rewards
        for agent, seen in one.observations.items():
            np.testing.assert_array_equal(seen, same.observations[agent])
    assert any(one.rewards != different.rewards for one, different in zip(first, other, strict=True))


@needs_sumo
def test_a_shortest_green_is_kept(running: RunningTraffic) -> None:
    now = running.reset(seed=0)
    assert [int(allowed.sum()) for allowed in now.action_masks.values()] == [1, 1, 1]
    with pytest.raises(ConfigError, match="'signal_1' chose phase 2, which is not allowed now.*one of \\[0\\]"):
        running.step({"signal_0": np.int64(0), "signal_1": np.int64(2), "signal_2": np.int64(0)})
    now = running.step(dict.fromkeys(now.observations, np.int64(0)))
    assert all(allowed.all() for allowed in now.action_masks.values())  # green for 5 s
    now = running.step(dict.fromkeys(now.observations, np.int64(1)))
    for agent, seen in now.observations.items():  # green for 2 s, after 3 of yellow
        layout = Traffic().layouts[agent]
        assert seen[layout.phase].argmax() == 1 and seen[layout.green] == pytest.approx(2 / 60)
        np.testing.assert_array_equal(np.flatnonzero(now.action_masks[agent]), [1])
    vehicles, lost = running.delay()
    assert vehicles > 0 and lost >= 0


@needs_sumo
def test_logs_are_the_same_however_many_run_at_once() -> None:
    team = Traffic().conventions()["actuated"]
    alone, beside = (
        collect(Traffic(seconds=30, num_environments=seats), team, 12, key=jax.random.key(0)) for seats in (1, 2)
    )
    check(beside)
    for agent, log in alone.items():
        assert log.timeouts.sum() == 2
        np.testing.assert_array_equal(log.observations, beside[agent].observations)
        np.testing.assert_array_equal(log.actions, beside[agent].actions)
        np.testing.assert_array_equal(log.rewards, beside[agent].rewards)


@needs_sumo
def test_logs_of_a_team_are_made_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, told in (("fixed-time", "3 agents, 12 transitions of each"), ("fixed-tim", "did you mean 'fixed-time'")):
        with pytest.raises(SystemExit) as stop:
            make = ("make", f"traffic-cologne3(seconds=60)/{name}", "--size", "12", "--out", str(tmp_path / name))
            cli.main(["data", *make])
        captured = capsys.readouterr()
        assert told in captured.out + captured.err and stop.value.code == (0 if name == "fixed-time" else 2)
    provenance = json.loads((tmp_path / "fixed-time" / "dataset.json").read_text())["provenance"]
    assert provenance["policy"] == {"kind": "scripted", "convention": "fixed-time"}
    assert set(provenance["versions"]) == {"marline", "jax", "libsumo", "sumo-rl"}
    log = load(tmp_path / "fixed-time")["signal_2"]
    assert set(log.actions) == {0, 1, 2} and log.action_masks is not None and not log.action_masks.all()


@needs_sumo
def test_the_networks_are_those_that_sizes_are_known_of() -> None:
    for network in ("cologne3", "cologne8", "ingolstadt7"):
        task = Traffic(network)
        assert set(task.conventions()) == {"fixed-time", "actuated", "max-pressure"}
        for agent, signal in task.signals.items():
            assert all(len(phase) == len(signal.links) for phase in signal.phases)
            assert task.specs[agent].action_size == len(signal.phases)


@needs_sumo
def test_a_process_that_dies_is_told() -> None:
    environment = Traffic(seconds=60).make()
    environment.reset(seed=0)
    environment.begin(dict.fromkeys(Traffic().agents, np.int64(0)))
    environment.reset(seed=0)  # who set out and never asked
    environment._process.kill()
    with pytest.raises(ConfigError, match="SUMO's process ended by itself, with -9"):
        environment.reset(seed=0)
    environment.close()
