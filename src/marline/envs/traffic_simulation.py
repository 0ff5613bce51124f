"""SUMO in a process of its own, for it runs one simulation per process: signals are set, what detectors see comes back.

`marline.envs.traffic` starts this file as a program. It imports nothing of marline, so that the process is small and
soon there, and that SUMO's libraries meet no other copies of themselves, such as those of PyArrow.
"""

from __future__ import annotations

import importlib
import json
import os
import signal as signals
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

RANGE = 200.0  # m before the stop line within which vehicles are detected (RESCO's agent_config)


class Signal(NamedTuple):
    """A signal as its network describes it.

    Attributes:
        name: SUMO's.
        phases: the light of every link in each of the green phases, as SUMO writes it, such as "GGrr".
        links: for each light the lane that it controls, and the one that it leads to.
    """

    name: str
    phases: tuple[str, ...]
    links: tuple[tuple[str, str], ...]

    @property
    def lanes(self) -> tuple[str, ...]:
        """Those that it controls."""
        return tuple(dict.fromkeys(lane for lane, _ in self.links))

    @property
    def exits(self) -> tuple[str, ...]:
        """Those that they lead to."""
        return tuple(dict.fromkeys(lane for _, lane in self.links))


def yellow(before: str, after: str) -> str:
    """The lights between two phases: yellow where green ends, else as before (RESCO's `create_yellows`)."""
    return "".join("y" if old in "Gg" and new in "rs" else old for old, new in zip(before, after, strict=True))


def pressures(signal: Signal, halting: Mapping[str, int]) -> list[float]:
    """Pressure of each phase: vehicles that stand in lanes with priority, less those where they lead to.

    Varaiya (2013), Max pressure control of a network of signalized intersections: sum over the lanes that the phase
    serves of x(lane) - mean x(exit), with all exits of a lane equally likely.

    Args:
        signal: whose phases.
        halting: vehicles that stand in each lane and exit.
    """
    of_phases = []
    for phase in signal.phases:
        leads_to: dict[str, list[str]] = {}
        for light, (lane, leave) in zip(phase, signal.links, strict=True):
            if light == "G":
                leads_to.setdefault(lane, []).append(leave)
        of_phases.append(
            sum(halting[lane] - sum(halting[leave] for leave in exits) / len(exits) for lane, exits in leads_to.items())
        )
    return of_phases


class Detectors:
    """What one signal sees of the vehicles in its lanes, as RESCO's `Signal.observe` counts them."""

    def __init__(self, sumo: Any, signal: Signal) -> None:
        self._sumo, self._signal = sumo, signal
        self._waited: dict[str, float] = {}  # seconds since a vehicle first stood here, while it is here

    def see(self, seconds: int) -> dict[str, list[float]]:
        """By lane: vehicles that have not waited (approach), those that have (queue), seconds waited, and speeds (m/s).

        Args:
            seconds: since the last look.
        """
        sumo, here = self._sumo, set()
        seen: dict[str, list[float]] = {"approach": [], "wait": [], "queue": [], "speed": []}
        for lane in self._signal.lanes:
            approach = queue = wait = speed = 0.0
            for vehicle in sumo.lane.getLastStepVehicleIDs(lane):
                ahead = sumo.vehicle.getNextTLS(vehicle)
                if not ahead or ahead[0][2] > RANGE:
                    continue
                here.add(vehicle)
                if vehicle in self._waited:
                    self._waited[vehicle] += seconds
                else:
                    stands_for = sumo.vehicle.getWaitingTime(vehicle)
                    if stands_for > 0:
                        self._waited[vehicle] = stands_for
                waited = self._waited.get(vehicle, 0.0)
                approach, queue = (approach, queue + 1) if waited > 0 else (approach + 1, queue)
                wait, speed = wait + waited, speed + sumo.vehicle.getSpeed(vehicle)
            for what, value in (("approach", approach), ("wait", wait), ("queue", queue), ("speed", speed)):
                seen[what].append(value)
        self._waited = {vehicle: waited for vehicle, waited in self._waited.items() if vehicle in here}
        halting = {
            lane: sumo.lane.getLastStepHaltingNumber(lane) for lane in (*self._signal.lanes, *self._signal.exits)
        }
        return seen | {"pressure": pressures(self._signal, halting)}


class Simulation:
    """One running simulation, all of whose signals are set by others."""

    def __init__(self, sumo: Any, arguments: Sequence[str], network: Sequence[Signal], step: int, yellow: int) -> None:
        self._sumo, self._arguments, self._network = sumo, list(arguments), network
        self._step, self._yellow, self._is_running = step, yellow, False

    def reset(self, seed: int) -> list[dict[str, Any]]:
        """Start again with all signals in their first phase."""
        arguments = [*self._arguments, "--seed", str(seed)]
        if self._is_running:
            self._sumo.load(arguments)
        else:
            self._sumo.start(["sumo", *arguments])
        self._is_running = True
        self._detectors = [Detectors(self._sumo, signal) for signal in self._network]
        self._shown, self._green = [0] * len(self._network), [0] * len(self._network)
        for signal in self._network:
            self._sumo.trafficlight.setRedYellowGreenState(signal.name, signal.phases[0])
        return self._see()

    def step(self, wanted: Sequence[int]) -> list[dict[str, Any]]:
        """Show the phases that are wanted, after a yellow where they are others, to the end of the step."""
        sumo = self._sumo
        for signal, shown, phase in zip(self._network, self._shown, wanted, strict=True):
            between = yellow(signal.phases[shown], signal.phases[phase])
            sumo.trafficlight.setRedYellowGreenState(signal.name, between)
        for _ in range(self._yellow):
            sumo.simulationStep()
        for signal, phase in zip(self._network, wanted, strict=True):
            sumo.trafficlight.setRedYellowGreenState(signal.name, signal.phases[phase])
        for _ in range(self._step - self._yellow):
            sumo.simulationStep()
        self._green = [
            green + self._step if shown == phase else self._step - self._yellow
            for green, shown, phase in zip(self._green, self._shown, wanted, strict=True)
        ]
        self._shown = list(wanted)
        return self._see()

    def delay(self) -> tuple[int, float]:
        """How many vehicles wanted to drive so far, and the mean of the seconds that they lost, before the start too.

        Those under way or still waiting to start count with what they lost so far, as in RESCO's results.
        """
        sumo = self._sumo
        finished = int(sumo.simulation.getParameter("", "device.tripinfo.count"))
        lost = [
            float(sumo.simulation.getParameter("", f"device.tripinfo.{what}")) for what in ("timeLoss", "departDelay")
        ]
        driving, waiting = sumo.vehicle.getIDList(), sumo.simulation.getPendingVehicles()
        total = finished * sum(lost) if finished else 0.0
        total += sum(sumo.vehicle.getTimeLoss(vehicle) + sumo.vehicle.getDepartDelay(vehicle) for vehicle in driving)
        total += sum(sumo.vehicle.getDepartDelay(vehicle) for vehicle in waiting)
        num_vehicles = finished + len(driving) + len(waiting)
        return num_vehicles, total / max(num_vehicles, 1)

    def vehicles(self) -> tuple[float, list[tuple[float, float]]]:
        """The second of the day, and where every vehicle is that drives, in metres."""
        sumo = self._sumo
        return sumo.simulation.getTime(), [sumo.vehicle.getPosition(vehicle) for vehicle in sumo.vehicle.getIDList()]

    def _see(self) -> list[dict[str, Any]]:
        return [
            {"phase": phase, "green": green, **detectors.see(self._step)}
            for phase, green, detectors in zip(self._shown, self._green, self._detectors, strict=True)
        ]


def send(message: Sequence[Any], pipe: IO[bytes]) -> None:
    """A line of JSON, in which numbers come out as they went in."""
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """What was sent; `EOFError` where nothing whole comes any more."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)


def serve(commands: IO[bytes], replies: IO[bytes]) -> None:
    """Do what the process that started this one says, until it has nothing more to say."""
    simulation: Simulation | None = None
    while True:
        try:
            method, *given = receive(commands)
        except EOFError:
            return
        try:
            if simulation is None:
                sumo = importlib.import_module("libsumo")
                arguments, network, step, yellow_seconds = given
                network = [Signal(*described) for described in network]
                simulation, value = Simulation(sumo, arguments, network, step, yellow_seconds), None
            else:
                value = getattr(simulation, method)(*given)
            reply = (True, value)
        except Exception as error:  # whatever SUMO raises is told where it was asked for
            reply = (False, f"{type(error).__name__}: {error}")
        send(reply, replies)


if __name__ == "__main__":
    signals.signal(signals.SIGINT, signals.SIG_IGN)  # it ends when it is told nothing more
    os.environ["LIBSUMO_AS_TRACI"] = "quiet"  # or it would warn of a PyArrow that is never loaded here
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what SUMO prints is no reply
    serve(sys.stdin.buffer, answers)
