"""Traffic signals of Cologne and Ingolstadt in SUMO, an agent each (RESCO; Ault & Sharon 2021)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import subprocess
import sys
import weakref
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from marline.data.channels import Channels
from marline.envs import traffic_simulation
from marline.envs.task import Actions, TimeStep
from marline.envs.traffic_control import Actuated, FixedTime, Layout, MaxPressure
from marline.envs.traffic_picture import RoadMap, Sight, paint
from marline.envs.traffic_simulation import Signal
from marline.errors import ConfigError, require
from marline.inputs.arguments import checked
from marline.types import AgentID, Policy, Spec

Network = Literal["cologne3", "cologne8", "ingolstadt7"]

VEHICLES = 28.0  # that RESCO divides counts and waits by
SPEED = 20.0  # m/s that it divides speeds by, beside
MINUTE = 60.0
WAIT = 224.0  # seconds waited that cost 1, in RESCO's wait_norm
WORST = -4.0


class Facts(NamedTuple):
    """What is known of a network without its files.

    Attributes:
        begin: the second of the day at which its hour of demand begins.
        signals: lanes and green phases of each signal, in the order of their names in SUMO.
    """

    begin: int
    signals: tuple[tuple[int, int], ...]


NETWORKS: dict[Network, Facts] = {
    "cologne3": Facts(25200, ((5, 3), (6, 4), (8, 4))),
    "cologne8": Facts(25200, ((6, 4), (4, 2), (3, 3), (6, 4), (4, 3), (2, 2), (4, 3), (4, 4))),
    "ingolstadt7": Facts(57600, ((7, 2), (6, 3), (12, 3), (9, 3), (7, 3), (10, 3), (8, 3))),
}
PLACES: dict[Network, str] = {
    "cologne3": "3 signals of a corridor in Cologne, from 7 to 8 in the morning",
    "cologne8": "8 signals of a district of Cologne, from 7 to 8 in the morning",
    "ingolstadt7": "7 signals of a corridor in Ingolstadt, from 16 to 17 in the afternoon",
}
INSTALL = "pip install 'marline[traffic]'"


@dataclasses.dataclass(frozen=True)
@checked
class Traffic:
    """Each agent chooses the green phase of a signal, and is charged for the waiting in the lanes that it controls.

    Networks and demand are RESCO's, and so are reward and lanes: vehicles within 200 m that have not waited, those that
    have, their seconds of waiting and their speeds (`drq_norm`); a step costs the seconds waited by all vehicles that
    are there divided by 224, 4 at most (`wait_norm`). A phase that is chosen anew is shown after a yellow. Until it
    has been green for its shortest time, the mask allows no other.

    Observation, for a signal of P phases and L lanes 2P + 1 + 4L numbers: which phase is shown, one-hot; for how many
    minutes it has been green; the pressure of each phase (Varaiya 2013); vehicles approaching, seconds waited, vehicles
    queued, all by 28, and speeds by 20 x 28, of each lane. All but these three kinds of lane counts and the phase are
    ours: controllers of today know them, and a phase that no program changes is held until another is chosen, which
    RESCO leaves to the program of the network.

    Every environment is a process of its own, for SUMO runs one simulation in each. An episode is fixed by its seed.

    Attributes:
        network: where.
        step_seconds: from one choice to the next; RESCO has 10 here, with which no mask forbids anything.
        yellow_seconds: between two phases; within a step.
        min_green_seconds: for which a phase is shown at least, as the networks of Cologne say.
        seconds: of an episode; demand lasts for 3600.
        num_environments: simulations side by side, each in a process of its own, which step at once.
    """

    network: Network = "cologne3"
    step_seconds: int = 5
    yellow_seconds: int = 3
    min_green_seconds: int = 5
    seconds: int = 3600
    num_environments: int = 4

    def __post_init__(self) -> None:
        for name, least in (("yellow_seconds", 0), ("min_green_seconds", 0), ("num_environments", 1)):
            require(getattr(self, name) >= least, f"{name} is {getattr(self, name)}, but must be at least {least}")
        require(
            self.step_seconds > self.yellow_seconds,
            f"step_seconds is {self.step_seconds}, but must be more than yellow_seconds, {self.yellow_seconds}: a "
            "phase turns green within the step that chose it",
        )
        require(
            self.seconds >= self.step_seconds,
            f"seconds is {self.seconds}, but must be at least one step of {self.step_seconds}",
        )

    @property
    def agents(self) -> tuple[AgentID, ...]:
        """In the order of the signals' names in SUMO, see `signals`."""
        return tuple(f"signal_{i}" for i in range(len(NETWORKS[self.network].signals)))

    @property
    def layouts(self) -> Mapping[AgentID, Layout]:
        """Where what is in each agent's observation."""
        sizes = NETWORKS[self.network].signals
        return {agent: Layout(phases, lanes) for agent, (lanes, phases) in zip(self.agents, sizes, strict=True)}

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        return {agent: Spec(layout.size, layout.num_phases, discrete=True) for agent, layout in self.layouts.items()}

    @property
    def channels(self) -> Mapping[AgentID, Channels]:
        return {agent: Channels(observation_names=layout.names) for agent, layout in self.layouts.items()}

    @property
    def horizon(self) -> int:
        return self.seconds // self.step_seconds

    @property
    def description(self) -> str:
        return f"{PLACES[self.network]}, in SUMO (RESCO; Ault & Sharon 2021)"

    @property
    def signals(self) -> Mapping[AgentID, Signal]:
        """Phases and links of every signal; `ConfigError` where the networks are not installed."""
        return {agent: plan.signal for agent, plan in _plans(self).items()}

    def conventions(self) -> Mapping[str, Mapping[AgentID, Policy]]:
        """Signals as they are controlled today: by a program, by who is there, by pressure."""
        plans, layouts = _plans(self), self.layouts
        return {
            "fixed-time": {
                agent: FixedTime(layouts[agent], plan.durations, self.step_seconds) for agent, plan in plans.items()
            },
            "actuated": {
                agent: Actuated(layouts[agent], plan.durations, self.step_seconds, _served(plan.signal))
                for agent, plan in plans.items()
            },
            "max-pressure": {agent: MaxPressure(layouts[agent]) for agent in plans},
        }

    def make(self) -> RunningTraffic:
        require(
            importlib.util.find_spec("libsumo") is not None,
            f"traffic signals need SUMO, and libsumo is not there: {INSTALL}",
        )
        folder, network = _folder(self.network), self.network
        begin = NETWORKS[network].begin
        arguments = [
            *("--net-file", str(folder / f"{network}.net.xml"), "--route-files", str(folder / f"{network}.rou.xml")),
            *("--begin", str(begin), "--time-to-teleport", "-1", "--device.tripinfo.probability", "1"),
            *("--no-step-log", "--no-warnings", "--xml-validation", "never"),
        ]
        return RunningTraffic(self, arguments)


class RunningTraffic:
    """One simulation, in a process of its own that ends with this one."""

    def __init__(self, task: Traffic, arguments: list[str]) -> None:
        self._task, self._signals, self._layouts = task, task.signals, task.layouts
        self._masks: dict[AgentID, np.ndarray] = {}
        self._last: list[dict[str, Any]] = []  # what detectors said
        self._is_stepping = False
        # -P: what lies beside the file shadows nothing
        self._process = subprocess.Popen(
            [sys.executable, "-P", traffic_simulation.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._end = weakref.finalize(self, _end, self._process)  # at the latest when Python ends
        network = [tuple(signal) for signal in self._signals.values()]
        self._ask("start", arguments, network, task.step_seconds, task.yellow_seconds)

    def reset(self, *, seed: int) -> TimeStep:
        if self._is_stepping:  # nobody asked what came of it
            self._is_stepping, _ = False, self._answer()
        return self._seen(self._ask("reset", seed % 2**31), starts=True)

    def begin(self, actions: Actions) -> None:
        """Tell SUMO's process, which steps while this one does something else."""
        wanted = [int(actions[agent]) for agent in self._signals]
        for agent, phase in zip(self._signals, wanted, strict=True):
            allowed = self._masks[agent]
            require(
                0 <= phase < len(allowed) and bool(allowed[phase]),
                f"agent {agent!r} chose phase {phase}, which is not allowed now; choose by the action mask, one of "
                f"{np.flatnonzero(allowed).tolist()}",
            )
        self._tell("step", wanted)
        self._is_stepping = True

    def step(self, actions: Actions) -> TimeStep:
        if not self._is_stepping:
            self.begin(actions)
        self._is_stepping = False
        return self._seen(self._answer(), starts=False)

    def delay(self) -> tuple[int, float]:
        """How many vehicles wanted to drive so far, and the mean seconds that they lost by not driving freely."""
        number, seconds = self._ask("delay")
        return number, seconds

    def render(self) -> np.ndarray:
        """The roads, and what every signal shows and sees, uint8 [height, width, 3]; see `traffic_picture`."""
        sights = [
            Sight(signal, its["phase"], its["green"], its["queue"])
            for signal, its in zip(self._signals.values(), self._last, strict=True)
        ]
        clock, vehicles = self._ask("vehicles")
        return paint(_road_map(self._task.network), sights, [(x, y) for x, y in vehicles], clock)

    def close(self) -> None:
        self._end()

    def _seen(self, seen: list[dict[str, Any]], *, starts: bool) -> TimeStep:
        self._last, of_agents = seen, dict(zip(self._signals, seen, strict=True))
        self._masks = {agent: mask(its, self._layouts[agent], self._task) for agent, its in of_agents.items()}
        return TimeStep(
            {agent: observation(its, self._layouts[agent]) for agent, its in of_agents.items()},
            {} if starts else {agent: reward(its) for agent, its in of_agents.items()},
            action_masks=self._masks,
        )

    def _ask(self, *command: Any) -> Any:
        self._tell(*command)
        return self._answer()

    def _tell(self, *command: Any) -> None:
        assert self._process.stdin is not None
        try:
            traffic_simulation.send(command, self._process.stdin)
        except OSError:
            self._failed()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            done, value = traffic_simulation.receive(self._process.stdout)
        except EOFError:
            self._failed()
        require(done, f"SUMO failed: {value}")
        return value

    def _failed(self) -> NoReturn:
        raise ConfigError(f"SUMO's process ended by itself, with {self._process.wait()}; see what it printed") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let SUMO's process end, which it does when it is told nothing more."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # of what was told and never read, where it is gone
                pipe.close()
    process.wait()


def observation(seen: Mapping[str, Any], layout: Layout) -> np.ndarray:
    """[obs] what a signal sees, see `Traffic`; lanes scaled as in RESCO's `drq_norm`.

    Args:
        seen: what its detectors say, see `traffic_simulation`.
        layout: of its observation.
    """
    values = np.empty(layout.size, np.float32)
    values[layout.phase] = np.arange(layout.num_phases) == seen["phase"]
    values[layout.green] = seen["green"] / MINUTE
    values[layout.pressure] = seen["pressure"]
    for part, what in ((layout.approach, "approach"), (layout.wait, "wait"), (layout.queue, "queue")):
        values[part] = np.array(seen[what]) / VEHICLES
    values[layout.speed] = np.array(seen["speed"]) / (SPEED * VEHICLES)
    return values


def reward(seen: Mapping[str, Any]) -> float:
    """max(-sum of seconds waited / 224, -4): RESCO's `wait_norm`."""
    return max(-sum(seen["wait"]) / WAIT, WORST)


def mask(seen: Mapping[str, Any], layout: Layout, task: Traffic) -> np.ndarray:
    """[phases] which phases may be chosen: all once the one that is shown was green for long enough, till then it."""
    shown = np.arange(layout.num_phases) == seen["phase"]
    return shown | (seen["green"] >= task.min_green_seconds)


class _Plan(NamedTuple):
    """A signal, and for how many seconds its program shows each green phase."""

    signal: Signal
    durations: tuple[float, ...]


def _served(signal: Signal) -> tuple[tuple[bool, ...], ...]:
    """Which lanes each phase gives priority to; of a phase that gives none, those that it lets drive."""
    return tuple(
        tuple(
            any(
                light == ("G" if "G" in phase else "g") and lane == its
                for light, (lane, _) in zip(phase, signal.links, strict=True)
            )
            for its in signal.lanes
        )
        for phase in signal.phases
    )


def _folder(network: Network) -> Path:
    """Where the network lies; nothing of the package that has it is imported, for that wants SUMO's programs."""
    found = importlib.util.find_spec("sumo_rl")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    require(
        len(folders) > 0, f"traffic signals need RESCO's networks, and sumo-rl, which has them, is not there: {INSTALL}"
    )
    folder = Path(folders[0]) / "nets" / "RESCO" / network
    require(folder.is_dir(), f"sumo-rl has no network {network} in {folder}; {INSTALL} brings one that has")
    return folder


def _plans(task: Traffic) -> dict[AgentID, _Plan]:
    plans = _read(task.network)
    sizes = tuple((len(plan.signal.lanes), len(plan.signal.phases)) for plan in plans)
    require(
        sizes == NETWORKS[task.network].signals,
        f"the network {task.network} in {_folder(task.network)} has other signals than RESCO's: lanes and phases are "
        f"{sizes}; {INSTALL} brings one that fits",
    )
    return dict(zip(task.agents, plans, strict=True))


@functools.cache
def _road_map(network: Network) -> RoadMap:
    """The lanes of a network, also those within its junctions."""
    lanes = {}
    for lane in ElementTree.parse(_folder(network) / f"{network}.net.xml").getroot().iter("lane"):
        points = (point.split(",") for point in lane.get("shape", "").split())
        lanes[lane.get("id", "")] = [(float(x), float(y)) for x, y, *_ in points]
    return RoadMap(lanes)


@functools.cache
def _read(network: Network) -> tuple[_Plan, ...]:
    """The signals of a network, in the order of their names; green phases are those that RESCO takes."""
    root = ElementTree.parse(_folder(network) / f"{network}.net.xml").getroot()
    links: dict[str, dict[int, tuple[str, str]]] = {}
    for connection in root.iter("connection"):
        if signal := connection.get("tl"):
            lane, leave = (f"{connection.get(edge)}_{connection.get(f'{edge}Lane')}" for edge in ("from", "to"))
            links.setdefault(signal, {})[int(connection.get("linkIndex", ""))] = (lane, leave)
    plans = []
    for program in sorted(root.iter("tlLogic"), key=lambda program: program.get("id", "")):
        green = [
            (phase.get("state", ""), float(phase.get("duration", "")))
            for phase in program.iter("phase")
            if "y" not in phase.get("state", "") and "g" in phase.get("state", "").lower()
        ]
        name = program.get("id", "")
        its_links = tuple(links[name][light] for light in range(len(links[name])))
        states, durations = zip(*green, strict=True)
        plans.append(_Plan(Signal(name, states, its_links), durations))
    return tuple(plans)
