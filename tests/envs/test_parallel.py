"""Environments of the user's: PettingZoo and Gymnasium as tasks, and how they are named on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline import cli, envs
from marline.collection import collect_random
from marline.data.channels import Channels
from marline.envs import ParallelTask, Simulator, make_task
from marline.envs.parallel import RunningEnvironment
from marline.errors import ConfigError
from marline.types import Spec

gymnasium = pytest.importorskip("gymnasium", reason="environments of the user's need: pip install 'marline[parallel]'")
pettingzoo = pytest.importorskip(
    "pettingzoo", reason="environments of the user's need: pip install 'marline[parallel]'"
)
spaces = gymnasium.spaces


class Office(pettingzoo.ParallelEnv):
    """Three agents that differ in all their spaces; `temp` leaves after 2 steps, all others stop after 5."""

    metadata = {"name": "office"}
    possible_agents = ["boss", "clerk", "temp"]
    observation_spaces = {
        "boss": spaces.Dict({"mood": spaces.Discrete(2), "clock": spaces.Box(0, 9, (1,))}),
        "clerk": spaces.Dict({"observation": spaces.Box(0, 9, (1,)), "action_mask": spaces.MultiBinary(3)}),
        "temp": spaces.Box(0, 9, (2,)),
    }
    action_spaces = {
        "boss": spaces.Box(np.float32(0), np.float32(4), (1,)),
        "clerk": spaces.Discrete(3),
        "temp": spaces.MultiDiscrete([2, 2]),
    }

    def observation_space(self, agent: str) -> Any:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.clock, self.mood, self.agents = 0, (seed or 0) % 2, list(self.possible_agents)
        return self.look(self.agents)

    def look(self, agents: list[str]) -> Any:
        clock = np.array([self.clock], np.float32)
        mask = (np.arange(3) != self.clock % 3).astype(np.int8)
        seen = {
            "boss": {"mood": self.mood, "clock": clock},
            "clerk": {"observation": clock, "action_mask": mask},
            "temp": np.array([self.clock, self.mood], np.float32),
        }
        infos = {"temp": {"action_mask": (np.array([1, 0]), np.array([1, 1]))}}
        return {agent: seen[agent] for agent in agents}, {agent: infos.get(agent, {}) for agent in agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert list(actions) == self.agents
        assert all(self.action_space(agent).contains(action) for agent, action in actions.items())
        self.clock += 1
        there = self.agents
        rewards = {"boss": float(actions["boss"][0]), "clerk": float(actions["clerk"]), "temp": float(self.clock)}
        observations, infos = self.look(there)
        terminated = {agent: agent == "temp" and self.clock == 2 for agent in there}
        truncated = {agent: self.clock == 5 for agent in there}
        self.agents = [agent for agent in there if not (terminated[agent] or truncated[agent])]
        return observations, {agent: rewards[agent] for agent in there}, terminated, truncated, infos

    def render(self) -> None: ...


def test_agents_that_differ_in_everything() -> None:
    task = ParallelTask(Office, num_environments=2)
    assert isinstance(task, Simulator) and task.horizon == 1000
    assert task.agents == ("boss", "clerk", "temp")
    assert task.specs == {"boss": Spec(3, 1), "clerk": Spec(1, 3, discrete=True), "temp": Spec(2, 4, discrete=True)}
    logs = collect_random(task, 12, seed=0)
    boss, clerk, temp = logs.values()
    assert boss.channels == Channels(action_low=(0.0,), action_high=(4.0,)) and clerk.channels == Channels()
    assert temp.channels.action_names == ("[0, 0]", "[0, 1]", "[1, 0]", "[1, 1]")
    np.testing.assert_allclose(boss.rewards, boss.field_actions()[:, 0], atol=1e-5)
    # boss: the clock, then its mood one-hot; truncated after 5 steps; paid its action in its own scale
    np.testing.assert_array_equal(boss.observations[:, 0], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(boss.observations[:, 1:].sum(axis=1), 1)
    np.testing.assert_allclose(boss.rewards, 2 * boss.actions[:, 0] + 2, atol=1e-5)
    assert list(np.flatnonzero(boss.timeouts)) == [4, 9, 11] and not boss.terminals.any()
    # clerk: a mask in the observation
    assert clerk.action_masks is not None and clerk.next_action_masks is not None
    np.testing.assert_array_equal(clerk.action_masks, np.arange(3) != (clerk.observations % 3))
    np.testing.assert_array_equal(clerk.next_action_masks, np.arange(3) != (clerk.next_observations % 3))
    # temp: terminal after two steps, so six episodes; a mask of parts in info
    np.testing.assert_array_equal(temp.rewards, [1, 2] * 6)
    np.testing.assert_array_equal(temp.terminals, [False, True] * 6)
    assert temp.action_masks is not None and set(temp.actions) == {0, 1}
    np.testing.assert_array_equal(temp.action_masks, [[True, True, False, False]] * 12)


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1"])
def test_gymnasium_is_a_team_of_one(name: str) -> None:
    task = ParallelTask(lambda: gymnasium.make(name), num_environments=1)
    reference = gymnasium.make(name)
    assert reference.spec is not None and task.horizon == reference.spec.max_episode_steps
    environment = task.make()
    shown, (expected, _) = environment.reset(seed=5), reference.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(60):
        np.testing.assert_array_equal(shown.observations["agent_0"], expected)
        if name == "Pendulum-v1":
            action = rng.uniform(-1, 1, 1).astype(np.float32)
            expected, reward, terminated, *_ = reference.step(2 * action)
        else:
            action = rng.integers(2)
            expected, reward, terminated, *_ = reference.step(action)
        shown = environment.step({"agent_0": action})
        assert shown.rewards["agent_0"] == pytest.approx(reward)
        assert list(shown.terminated) == (["agent_0"] if terminated else [])
        if terminated:
            break


class Late(Office):
    def step(self, actions: dict[str, Any]) -> Any:
        result = super().step(actions)
        self.agents = [*self.agents, "temp"] if self.clock == 3 else self.agents
        return result


def test_what_is_no_environment_and_who_comes_late_is_refused() -> None:
    with pytest.raises(ConfigError, match="dict is neither a PettingZoo ParallelEnv"):
        ParallelTask(dict).make()
    with pytest.raises(ConfigError, match="came in during an episode"):
        collect_random(ParallelTask(Late), 12, seed=0)
    with pytest.raises(ConfigError, match="max_steps is 0"):
        ParallelTask(Office, max_steps=0)


def test_an_agent_without_any_choice_may_do_anything() -> None:
    class Hopeless(Office):
        def look(self, agents: list[str]) -> Any:
            observations, infos = super().look(agents)
            return observations, {**infos, "temp": {"action_mask": np.zeros(4, np.int8)}}

    shown = RunningEnvironment(Hopeless()).reset(seed=0)
    assert shown.action_masks["temp"].all() and not shown.action_masks["clerk"].all()


def test_what_does_not_render_says_so() -> None:
    with pytest.raises(ConfigError, match="gave NoneType in place of an image; make it with render_mode='rgb_array'"):
        RunningEnvironment(Office()).render()

    class Pictures(Office):
        def render(self) -> Any:
            return np.full((4, 6, 4), 7, np.uint8)

    class Broken(Office):
        def render(self) -> Any:
            raise NotImplementedError

    assert RunningEnvironment(Pictures()).render().shape == (4, 6, 3)
    with pytest.raises(ConfigError, match=r"does not render here \(NotImplementedError\)"):
        RunningEnvironment(Broken()).render()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_code_is_imported_only_when_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "their_module.py").write_text("open('imported', 'w').close()\nspam = 3\ndef ham(x): ...\n")
    monkeypatch.chdir(tmp_path)
    for name in ("their_module:spam", "their_module:eggs"):
        assert "add --trust" in refused(capsys, "run", "--run", "run", "--task", name)
    document = {"schema": 1, "task": "their_module:spam", "algorithm": {"type": "TD3BC"}, "seeds": [0]}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text(json.dumps({**document, "samplers": {"uniform": {"type": "Uniform"}}}))
    assert "add --trust" in refused(capsys, "resume", "old")
    assert not (tmp_path / "imported").exists()
    told = refused(capsys, "run", "--run", "run", "--trust", "--task", "their_module:spam")
    assert "must be a function that makes an environment" in told and (tmp_path / "imported").exists()
    assert "ham() must make it without arguments: TypeError" in refused(
        capsys, "run", "--run", "r", "--trust", "--task", "their_module:ham"
    )
    assert "unknown name in their_module 'eggs'" in refused(
        capsys, "run", "--run", "r", "--trust", "--task", "their_module:eggs"
    )
    assert "call marline where no_such_module.py is" in refused(
        capsys, "run", "--run", "r", "--trust", "--task", "no_such_module:x"
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        "imported",
        "old",
        "their_module.py",
    ]


def test_a_trusted_function_is_a_task() -> None:
    with pytest.raises(ConfigError, match="add --trust"):
        make_task(f"{__name__}:Office")
    envs.trust(f"{__name__}:Office")
    assert make_task(f"{__name__}:Office").agents == ("boss", "clerk", "temp")
    envs.trust("marline.envs:CooperativeNavigation")  # makes a task, which is taken as it is
    assert make_task("marline.envs:CooperativeNavigation") == envs.CooperativeNavigation()
