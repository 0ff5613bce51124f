"""Environments that are stepped side by side must not be one, hold one, or change what another goes on from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from marline.envs import Actions, ParallelTask, TimeStep
from marline.errors import ConfigError
from marline.rollouts import simulation
from marline.rollouts.collection import collect_random
from marline.types import Spec

gymnasium = pytest.importorskip("gymnasium", reason="environments of the user's need: pip install 'marline[parallel]'")


class Counter(gymnasium.Env):
    """Sees its own number of steps, of 6."""

    observation_space = gymnasium.spaces.Box(-100, 100, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        self.set(0)
        return np.array([self.get()], np.float32), {}

    def step(self, action: Any) -> Any:
        self.set(self.get() + 1)
        return np.array([self.get()], np.float32), 1.0, False, self.get() >= 6, {}

    def set(self, time: int) -> None:
        self.time = time

    def get(self) -> int:
        return self.time


class OfItsClass(Counter):
    """Its state is the class's."""

    buffer = np.zeros(1)

    def set(self, time: int) -> None:
        self.buffer[0] = time

    def get(self) -> int:
        return int(self.buffer[0])


class World:
    time = 0


class OfAWorld(Counter):
    def __init__(self, world: World) -> None:
        self.world = world

    def set(self, time: int) -> None:
        self.world.time = time

    def get(self) -> int:
        return self.world.time


class OfNumPysGenerator(Counter):
    """Seeded as used to be usual."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        np.random.seed(seed)
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        _, *others = super().step(action)
        return np.array([np.random.uniform()]), *others


class Unseeded(Counter):
    """No episode is like another, and none disturbs another."""

    rng = np.random.default_rng(0)

    def step(self, action: Any) -> Any:
        _, *others = super().step(action)
        return np.array([self.rng.uniform()]), *others


ONE, ONE_WORLD = Counter(), World()


@pytest.mark.parametrize(
    ("make_env", "told"),
    [
        (lambda: ONE, "are or hold the same Counter, in which their episodes would mix; .*num_environments=1"),
        (lambda: gymnasium.wrappers.TimeLimit(ONE, 5), "are or hold the same Counter"),
        (OfItsClass, "share what changes"),
        (lambda: OfAWorld(ONE_WORLD), "share what changes"),
        (OfNumPysGenerator, "share what changes: an episode of a seed goes another way .*NumPy's global generator"),
    ],
)
def test_what_would_mix_is_refused_with_several_and_played_with_one(make_env: Callable[[], Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        simulation.try_out(ParallelTask(make_env))
    simulation.try_out(ParallelTask(make_env, num_environments=1))


def test_it_is_refused_before_anything_is_logged() -> None:
    with pytest.raises(ConfigError, match="task test_apart:.*lambda.* are or hold the same Counter"):
        collect_random(ParallelTask(lambda: ONE), 24, seed=0)


def test_one_environment_gives_one_episode_after_another() -> None:
    logs = collect_random(ParallelTask(lambda: ONE, num_environments=1), 12, seed=0)["agent_0"]
    assert logs.observations.ravel().tolist() == [0, 1, 2, 3, 4, 5] * 2


def test_what_is_made_anew_or_cannot_be_told_passes() -> None:
    for make_env in (Counter, lambda: gymnasium.wrappers.TimeLimit(Counter(), 5), lambda: OfAWorld(World()), Unseeded):
        simulation.try_out(ParallelTask(make_env))


class Line:
    """An environment of ours; `shared` is what its simulator gives to all."""

    def reset(self, *, seed: int) -> TimeStep:
        self.time = 0
        return TimeStep({"a": np.zeros(1)})

    def step(self, actions: Actions) -> TimeStep:
        self.time += 1
        return TimeStep({"a": np.full(1, self.time)}, {"a": 0.0})

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Lines:
    shared: Line = dataclasses.field(default_factory=Line)
    agents: tuple[str, ...] = ("a",)
    horizon: int = 3
    num_environments: int = 2
    description: str = "one line"

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {"a": Spec(1, 1)}

    def make(self) -> Line:
        return self.shared


def test_a_simulator_that_makes_one_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="task Lines makes two environments that are or hold the same Line"):
        collect_random(Lines(), 6, seed=0)
