"""Environments of the user's: PettingZoo and Gymnasium as tasks, and how they are named on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marline import cli, envs
from marline.algorithms import TD3BC
from marline.configuration.run_config import RunConfig
from marline.data.channels import Channels
from marline.envs import ParallelTask, Simulator, make_task
from marline.envs.parallel import RunningEnvironment
from marline.errors import ConfigError
from marline.rollouts import simulation
from marline.rollouts.collection import collect_random
from marline.samplers import Uniform
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


class Broken(gymnasium.Env):
    """Three steps of a gauge and a lever; subclasses return something else."""

    observation_space = spaces.Box(-9, 9, (2,), np.float32)
    action_space: Any = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return np.full(2, self.time, np.float32), 1.0, self.time == 3, False, {}


def broken(**methods: Any) -> ParallelTask:
    return ParallelTask(type("Broken", (Broken,), methods), num_environments=1)


def stepping(*reply: Any) -> dict[str, Any]:
    return {"step": lambda self, action: reply}


SEEN = np.zeros(2, np.float32)


def no_seed(self: Any) -> Any:
    return SEEN, {}


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({"reset": no_seed}, r"reset: reset\(\) failed with TypeError.*'seed'.*let it be reset\(self, \*, seed=None"),
        (
            {"reset": lambda self, seed: SEEN},
            r"reset: reset\(\) returned float32\[2\]; let it return the two of observation",
        ),
        ({"reset": lambda self, seed: (SEEN, None)}, "reset: agent 'agent_0': its info is None; return a dict"),
        ({"reset": lambda self, seed: (SEEN, 0.5)}, "its info is 0.5; return a dict"),
        (stepping(SEEN, 1.0, False, {}), r"step 1: step\(\) returned 4 values; .* divide the old done into terminated"),
        (stepping(SEEN, 1.0, False, False, None), "step 1: agent 'agent_0': its info is None"),
        (stepping(SEEN, None, False, False, {}), "step 1: agent 'agent_0': its reward is NoneType None"),
        (stepping(SEEN, np.ones(1), False, False, {}), r"its reward is ndarray array\(\[1.\]\)"),
        (stepping(SEEN, np.nan, False, False, {}), "its reward is nan"),
        (stepping(SEEN, 1.0, None, False, {}), "terminated is NoneType None; return True or False"),
        (stepping(SEEN, 1.0, False, np.nan, {}), "truncated is float nan"),
        (stepping(SEEN, 1.0, np.array([False]), False, {}), r"terminated is ndarray array\(\[False\]\)"),
        (stepping(None, 1.0, False, False, {}), "step 1: agent 'agent_0' observes .*but its space is Box"),
        (stepping(np.zeros(3), 1.0, False, False, {}), r"observes an array of shape \(3,\), but its space is Box"),
        (stepping({"x": SEEN}, 1.0, False, False, {}), "observes a dict of x, but its space is Box"),
        (stepping([[0.0], [1.0, 2.0]], 1.0, False, False, {}), "which is not of its space"),
        (stepping(SEEN, 1.0, False, False, {"action_mask": [1]}), "continuous actions, which cannot be masked"),
        (stepping(), r"step\(\) returned 0 values"),
    ],
)
def test_replies_of_other_shapes_are_told(methods: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^task test_parallel:Broken, episode 0, .*{told}"):
        simulation.try_out(broken(**methods))


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({"num_envs": 4}, "Broken is a vector of environments; make a single one"),
        ({"observation_space": spaces.Box(-1, 1, (0,))}, "'agent_0' observes .*which is empty"),
        ({"action_space": spaces.Box(-1, 1, (0,))}, "'agent_0' acts in .*which is empty"),
        ({"action_space": spaces.Box(-3e38, 3e38, (1,))}, "no bounds to scale"),
        (
            {"action_space": property(lambda self: self.nowhere)},
            r"AttributeError: .*nowhere.* \(.*test_parallel.py:\d+\)",
        ),
        (
            {"__init__": lambda self, config: None},
            "must make an environment without arguments, and failed with TypeError",
        ),
    ],
)
def test_what_cannot_be_an_environment_is_told(methods: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        simulation.try_out(broken(**methods))


def test_functions_that_make_no_environment_are_told() -> None:
    for make_env, told in (
        (lambda: Broken, "is a class and no environment"),
        (lambda: None, "NoneType is neither"),
        (lambda: gymnasium.make_vec("CartPole-v1", num_envs=2), "is a vector of environments"),
    ):
        with pytest.raises(ConfigError, match=told):
            ParallelTask(make_env).make()
    sizes = iter((1, 2, 3))

    def another() -> Any:
        made = Broken()
        made.action_space = spaces.Box(-1, next(sizes), (1,), np.float32)
        return made

    with pytest.raises(ConfigError, match="made two environments that differ in agents or spaces"):
        ParallelTask(another).make()


class Odd(Office):
    """`change` sees the five parts of every reply."""

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        observations, infos = super().reset(seed, options)
        reply = self.change(observations, {}, {}, {}, infos)
        return reply[0], reply[4]

    def step(self, actions: dict[str, Any]) -> Any:
        return self.change(*super().step(actions))

    def change(self, observations: Any, rewards: Any, terminated: Any, truncated: Any, infos: Any) -> Any:
        raise NotImplementedError


def odd(change: Any) -> ParallelTask:
    return ParallelTask(type("Odd", (Odd,), {"change": change}), num_environments=1)


def less(values: dict[str, Any], agent: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != agent}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda self, o, r, t, c, i: (o, less(r, "boss"), t, c, i), "step 1: agent 'boss': is there and has no reward"),
        (lambda self, o, r, t, c, i: ({**o, "ghost": 1}, r, t, c, i), "reset: observations has agent 'ghost'"),
        (lambda self, o, r, t, c, i: (o, r, {**t, "__all__": False}, c, i), "terminations has agent '__all__'"),
        (lambda self, o, r, t, c, i: (o, r, t, c, None), "reset: infos is NoneType None; return a dict by agent"),
        (lambda self, o, r, t, c, i: (o, r, t, c, {**i, "boss": None}), "agent 'boss': its info is None"),
        (lambda self, o, r, t, c, i: (less(o, "boss"), r, t, c, i), "'boss'.*who has no observation at the reset"),
        (
            lambda self, o, r, t, c, i: (o, r, t, c, {**i, "temp": {"action_mask": np.zeros(4, np.int8)}}),
            "reset: agent 'temp': its action mask allows nothing",
        ),
        (
            lambda self, o, r, t, c, i: (o, r, t, c, {**i, "temp": {"action_mask": [0.0, -np.inf, 0.0, 0.0]}}),
            "reset: agent 'temp': its action mask is list .* nothing else",
        ),
        (
            lambda self, o, r, t, c, i: (o, r, t, c, {} if self.clock else i),
            "step 1: agent 'temp' had an action mask at the reset and has none now",
        ),
        (
            lambda self, o, r, t, c, i: ({**o, "clerk": {"observation": o["clerk"]["observation"]}}, r, t, c, i),
            "'clerk' observes a dict of observation, without the \"action_mask\"",
        ),
        (
            lambda self, o, r, t, c, i: ({**o, "boss": {**o["boss"], "action_mask": np.ones(3)}}, r, t, c, i),
            "'boss' observes a dict of .*action_mask, but its space has the parts clock, mood",
        ),
        (
            lambda self, o, r, t, c, i: ({**o, "boss": {**o["boss"], "mood": -1}}, r, t, c, i),
            "not in its space Discrete",
        ),
    ],
)
def test_replies_of_a_team_that_contradict_it_are_told(change: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^task test_parallel:Odd, episode 0, .*{told}"):
        simulation.try_out(odd(change))


def test_who_leaves_says_how_and_who_was_cut_has_a_last_look() -> None:
    def leaves(self: Any, o: Any, r: Any, t: Any, c: Any, i: Any) -> Any:
        if self.clock == 2 and self.quietly:
            t = dict.fromkeys(t, False)
        if self.clock == 2 and self.cut:
            t, c = dict.fromkeys(t, False), {**c, "temp": True}
        return (less(o, "temp") if self.clock == 2 else o), r, t, c, i

    def office(*, quietly: bool, cut: bool) -> ParallelTask:
        kind = type("Leaving", (Odd,), {"change": leaves, "quietly": quietly, "cut": cut})
        return ParallelTask(kind, num_environments=1)

    simulation.try_out(office(quietly=False, cut=False))  # terminated, and no last look, of which nothing depends
    with pytest.raises(ConfigError, match="'temp' is no longer among agents, but neither terminated nor truncated"):
        simulation.try_out(office(quietly=True, cut=False))
    with pytest.raises(ConfigError, match="step 2: agent 'temp': is there and sees nothing; .*the last one when it"):
        simulation.try_out(office(quietly=False, cut=True))


def test_what_does_not_render_says_so() -> None:
    with pytest.raises(ConfigError, match="gave NoneType in place of an image.*make it with render_mode='rgb_array'"):
        RunningEnvironment(Office()).render()

    class Shares(Office):
        def render(self) -> Any:
            return np.full((4, 6, 3), 0.5)

    with pytest.raises(ConfigError, match=r"gave float64\[4, 6, 3\] in place of an image, uint8"):
        RunningEnvironment(Shares()).render()

    class Pictures(Office):
        def render(self) -> Any:
            return np.full((4, 6, 4), 7, np.uint8)

    class Blind(Office):
        def render(self) -> Any:
            raise NotImplementedError

    assert RunningEnvironment(Pictures()).render().shape == (4, 6, 3)
    with pytest.raises(ConfigError, match=r"does not render here \(NotImplementedError\)"):
        RunningEnvironment(Blind()).render()


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
    document = RunConfig("their_module:spam", TD3BC(), {"uniform": Uniform()}, dataset_size=10).to_json()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text(json.dumps(document))
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
    of_data = (("make", "their_module:ham/random"), ("import", "log.npz", "--task", "their_module:ham"))
    for command in of_data:
        told = refused(capsys, "data", *command, "--out", "data", "--trust")
        assert "ham() must make it without arguments" in told
    assert "call marline where no_such_module.py is" in refused(
        capsys, "run", "--run", "r", "--trust", "--task", "no_such_module:x"
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        "imported",
        "old",
        "their_module.py",
    ]


THEIR_ENVIRONMENT = """
import gymnasium, numpy as np, pettingzoo
BOX = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

class Team(pettingzoo.ParallelEnv):
    metadata = {"name": "team"}
    possible_agents = ["AGENT"]
    def observation_space(self, agent): return BOX
    def action_space(self, agent): return BOX
    def reset(self, seed=None, options=None):
        self.agents = ["AGENT"]
        return {"AGENT": np.zeros(1, np.float32)}, {"AGENT": {}}
    def step(self, actions):
        raise RuntimeError("the crane is stuck")
"""


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ("team/a", "agent 'team/a' cannot name a file"),
        ("a", "task THEIRS:Team, episode 0, step 1: step() failed with RuntimeError: the crane is stuck (FILE:14)"),
    ],
)
def test_a_run_is_refused_before_there_is_a_folder(
    agent: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"their_environment_of_{len(agent)}"
    file = tmp_path / f"{module}.py"
    file.write_text(THEIR_ENVIRONMENT.replace("AGENT", agent))
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, "run", "--run", "run", "--task", f"{module}:Team", "--trust", "--dataset-size", "100")
    assert told.replace("THEIRS", module).replace("FILE", str(file)) in error and "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [file.name]


def test_a_trusted_function_is_a_task() -> None:
    with pytest.raises(ConfigError, match="add --trust"):
        make_task(f"{__name__}:Office")
    envs.trust(f"{__name__}:Office")
    assert make_task(f"{__name__}:Office").agents == ("boss", "clerk", "temp")
    envs.trust("marline.envs:CooperativeNavigation")  # makes a task, which is taken as it is
    assert make_task("marline.envs:CooperativeNavigation") == envs.CooperativeNavigation()
