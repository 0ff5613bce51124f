"""Processes that step environments: the same logs to the bit as one process makes, and nothing left of killed ones."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Mapping
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import jax
import numpy as np
import pytest
from test_simulation import KEY, Learned, Relay, RunningRelay

from marline.envs import TASKS, Actions, TimeStep
from marline.errors import ConfigError, MarlineError
from marline.nn.actors import DeterministicActor
from marline.policy import RandomPolicy
from marline.population import stacked
from marline.rollouts import pool
from marline.rollouts.collection import rollout_teams


def relay_teams(num: int) -> dict[int, Any]:
    """Of each team one agent that has learned something of its own, and one that acts at random."""
    specs = Relay().specs
    create = jax.jit(lambda key: DeterministicActor.create(specs["quick"], (4,), key=key))
    actors = {team: create(jax.random.fold_in(KEY, team)) for team in range(num)}
    return {team: {"quick": Learned(actor), "slow": RandomPolicy(specs["slow"])} for team, actor in actors.items()}


def keys(teams: Mapping[int, Any]) -> dict[int, Any]:
    return {team: jax.random.fold_in(KEY, 100 + team) for team in teams}


def same(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def played(task: Any, teams: Mapping[int, Any]) -> dict[int, Any]:
    """Episodes of each team, of its own numbers."""
    episodes = {team: range(team, team + number) for team, number in zip(teams, (2, 5, 5, 0), strict=False)}
    return {
        team: its._replace(drawing={})
        for team, its in rollout_teams(task, teams, episodes, keys={team: keys(teams)[team] for team in teams}).items()
    }


def test_what_is_played_does_not_depend_on_how_many_processes_there_are() -> None:
    """Agents that leave early, masks, seats that become free, teams with fewer episodes than seats and with none."""
    teams = relay_teams(4)
    with stacked(False):
        alone = played(Relay(), teams)
    with stacked(True):
        same(played(Relay(), teams), alone)
        for number in (1, 2):
            with pool.stepping(number):
                assert pool.pool_for(Relay()) is not None
                same(played(Relay(), teams), alone)
                same(played(Relay(), teams), alone)  # in the environments of before


@pytest.mark.slow
def test_robots_that_fall_log_the_same() -> None:
    pytest.importorskip("mujoco")
    task = dataclasses.replace(TASKS["hopper-3x1"], horizon=40, num_environments=3)  # pyright: ignore[reportArgumentType]
    teams = {team: {agent: RandomPolicy(spec) for agent, spec in task.specs.items()} for team in range(3)}
    with stacked(False):
        alone = played(task, teams)
    with stacked(True), pool.stepping(2):
        same(played(task, teams), alone)


def test_a_killed_process_is_told_of_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    class Named(SharedMemory):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            names.append(self.name)

    monkeypatch.setattr(pool, "SharedMemory", Named)
    teams = relay_teams(2)
    with stacked(True), pool.stepping(2):
        its = pool.pool_for(Relay())
        assert its is not None
        before = played(Relay(), teams)
        processes = [process for _, process in its._workers]
        os.kill(processes[1].pid or 0, signal.SIGKILL)
        with pytest.raises(MarlineError, match="was killed by SIGKILL; was it out of memory"):
            played(Relay(), teams)
        assert not any(process.is_alive() for process in processes)
        same(played(Relay(), teams), before)  # by others
    assert len(names) >= 3
    for name in names:
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)


class Failing(RunningRelay):
    def step(self, actions: Actions) -> TimeStep:
        raise ValueError("a gear broke")


@dataclasses.dataclass(frozen=True)
class Breaking(Relay):
    def make(self) -> Failing:
        return Failing()


def test_what_an_environment_raises_is_told_as_here() -> None:
    teams = relay_teams(2)
    with stacked(True), pool.stepping(1), pytest.raises(ConfigError, match=r"step 1: .*a gear broke"):
        played(Breaking(), teams)


def test_a_task_that_is_only_here_is_played_here() -> None:
    @dataclasses.dataclass(frozen=True)
    class Local(Relay):
        specs: Any = dataclasses.field(default=None)

    with pool.stepping(1):
        assert pool.pool_for(Local()) is None
    assert pool.pool_for(Relay()) is None
