"""SMAC's interface: lists by agent, the game's info, and what to install. The game itself is in no test."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline.data.check import check
from marline.envs import Simulator, StarCraft, make_task
from marline.envs.starcraft import RunningBattle
from marline.errors import ConfigError
from marline.rollouts.collection import collect_random
from marline.types import Spec

TASK = StarCraft()
KINDS = ("won", "limit", "failed")  # of the recorded battles, which follow one another


class Recorded:
    """Plays battles of 4 steps back in the layout of SMAC's `StarCraft2Env`; agent 4 dies in the second step."""

    def __init__(self, map_name: str = "5m_vs_6m", continuing_episode: bool = False) -> None:
        assert map_name == "5m_vs_6m" and continuing_episode
        self.battle, self.closed = -1, False

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        self.battle, self.time = self.battle + 1, 0
        return self.get_obs(), np.zeros(98, np.float32)

    def is_dead(self, agent: int) -> bool:
        return agent == 4 and self.time >= 2

    def get_obs(self) -> list[np.ndarray]:
        return [
            np.zeros(55, np.float32)
            if self.is_dead(agent)
            else np.linspace(0, 1, 55, dtype=np.float32) * (1 + agent + self.time) / 9
            for agent in range(5)
        ]

    def get_avail_actions(self) -> list[list[int]]:
        living = [0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1 if self.time else 0]
        return [[1] + [0] * 11 if self.is_dead(agent) else living for agent in range(5)]

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, Any]]:
        assert all(type(action) is int for action in actions) and len(actions) == 5
        assert all(self.get_avail_actions()[agent][action] for agent, action in enumerate(actions)), "forbidden"
        self.time += 1
        if self.time < 4:
            return 6 * self.time / 26.5, False, {"battle_won": False}
        kind = KINDS[self.battle % 3]
        if kind == "failed":
            return 0, True, {}
        info = {"battle_won": kind == "won"} | ({"episode_limit": True} if kind == "limit" else {})
        return 213 / 26.5 if kind == "won" else 0.0, True, info

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def smac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package like SMAC's, and a folder for the game."""
    package, module = types.ModuleType("smac"), types.ModuleType("smac.env")
    monkeypatch.setattr(module, "StarCraft2Env", Recorded, raising=False)
    monkeypatch.setitem(sys.modules, "smac", package)
    monkeypatch.setitem(sys.modules, "smac.env", module)
    monkeypatch.setenv("SC2PATH", str(tmp_path))


def test_sizes_are_smacs() -> None:
    assert make_task("smac-5m_vs_6m") == TASK and isinstance(TASK, Simulator)
    assert TASK.horizon == 70 and TASK.specs == dict.fromkeys(TASK.agents, Spec(55, 12, discrete=True))
    assert StarCraft("3m").specs["agent_2"] == Spec(30, 9, discrete=True)  # SMAC's obs_shape and n_actions of 3m
    with pytest.raises(ConfigError, match="unknown map '5m_vs_7m'; did you mean '5m_vs_6m'"):
        StarCraft("5m_vs_7m")


@pytest.mark.usefixtures("smac")
def test_recorded_battles_as_logs() -> None:
    logs = collect_random(TASK, 12, seed=0)
    check(logs)
    last = logs["agent_4"]
    # won: terminal; cut by the limit, or by a failure of the game: neither
    assert list(np.flatnonzero(last.terminals)) == [3] and list(np.flatnonzero(last.timeouts)) == [7, 11]
    np.testing.assert_allclose(last.rewards[:4], [6 / 26.5, 12 / 26.5, 18 / 26.5, 213 / 26.5])
    # dead from the second step on: nothing to see, nothing to do
    np.testing.assert_array_equal(last.observations.any(axis=1), [True, True, False, False] * 3)
    np.testing.assert_array_equal(last.actions == 0, [False, False, True, True] * 3)
    assert last.next_action_masks is not None
    np.testing.assert_array_equal(last.next_action_masks[1], np.arange(12) == 0)
    np.testing.assert_allclose(logs["agent_1"].observations[1], np.linspace(0, 1, 55) * 3 / 9, rtol=1e-6)


@pytest.mark.usefixtures("smac")
def test_a_closed_battle_closes_the_game() -> None:
    battle = TASK.make()
    assert isinstance(battle, RunningBattle)
    battle.close()
    assert battle._game.closed


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = r"install StarCraft II 4.10.*SMAC_Maps.*github.com/oxwhirl/smac.git.*smax-5m_vs_6m"
    monkeypatch.setitem(sys.modules, "smac.env", None)
    with pytest.raises(ConfigError, match=f"package SMAC of oxwhirl, which is not there.*{told}"):
        TASK.make()
    another = types.ModuleType("smac.env")  # PyPI's smac, an optimizer of hyperparameters
    monkeypatch.setitem(sys.modules, "smac", another)
    monkeypatch.setitem(sys.modules, "smac.env", another)
    with pytest.raises(ConfigError, match="StarCraft2Env"):
        TASK.make()
    monkeypatch.setattr(another, "StarCraft2Env", Recorded, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=f"StarCraft II is not in .*nowhere: {told}"):
        TASK.make()
