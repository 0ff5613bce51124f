"""Multi-agent MuJoCo against Gymnasium's environments, and what random and idle teams earn."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.envs import MultiAgentMujoco, Simulator, make_task
from marline.errors import ConfigError
from marline.policy import RandomPolicy
from marline.rollouts.collection import collect_random, evaluate
from marline.types import Spec

gymnasium = pytest.importorskip("gymnasium", reason="MuJoCo tasks need: pip install 'marline[mujoco]'")
pytest.importorskip("mujoco", reason="MuJoCo tasks need: pip install 'marline[mujoco]'")

NAMES = {
    f"{robot.lower()}-{agents}{suffix}": f"{robot}-v{version}"
    for robot, agents in (("HalfCheetah", "2x3"), ("Walker2d", "2x3"), ("Hopper", "3x1"))
    for version, suffix in ((4, ""), (5, "-v5"))
}


def task_of(name: str) -> MultiAgentMujoco:
    task = make_task(name)
    assert isinstance(task, MultiAgentMujoco) and isinstance(task, Simulator)
    return task


def raw(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium recommends v5
        return gymnasium.make(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rewards_and_observations_as_the_raw_environment(name: str) -> None:
    task, reference = task_of(name), raw(NAMES[name])
    assert reference.spec is not None and task.horizon == reference.spec.max_episode_steps
    sizes = [(spec.observation_size, spec.action_size) for spec in task.specs.values()]
    assert {size for size, _ in sizes} == {reference.observation_space.shape[0]}
    assert sum(size for _, size in sizes) == reference.action_space.shape[0]
    np.testing.assert_array_equal(reference.action_space.low, -1.0)
    np.testing.assert_array_equal(reference.action_space.high, 1.0)
    environment = task.make()
    rng = np.random.default_rng(0)
    falls = 0
    for seed in range(3, 7):
        shown, (expected, _) = environment.reset(seed=seed), reference.reset(seed=seed)
        for _ in range(120):
            assert list(shown.observations) == list(task.agents)
            for observation in shown.observations.values():
                np.testing.assert_array_equal(observation, expected)
            actions = {
                agent: rng.uniform(-1, 1, size).astype(np.float32)
                for agent, (_, size) in zip(task.agents, sizes, strict=True)
            }
            shown = environment.step(actions)
            joint = np.concatenate(list(actions.values())).astype(np.float64)
            expected, reward, terminated, _, _ = reference.step(joint)
            assert shown.rewards == dict.fromkeys(task.agents, reward)
            assert set(shown.terminated) == (set(task.agents) if terminated else set())
            if terminated:
                falls += 1
                break
    assert falls == (0 if task.robot == "HalfCheetah" else 4)
    environment.close()


def test_agents_move_neighbouring_actuators() -> None:
    environment = task_of("walker2d-2x3").make()
    environment.reset(seed=0)
    environment.step({"agent_0": np.array([0.1, 0.2, 0.3]), "agent_1": np.array([-0.4, -0.5, -0.6])})
    np.testing.assert_allclose(environment._robot.data.ctrl, [0.1, 0.2, 0.3, -0.4, -0.5, -0.6])
    model = environment._robot.model
    names = [model.joint(number).name for number in model.actuator_trnid[:, 0]]
    assert names == ["thigh_joint", "leg_joint", "foot_joint", "thigh_left_joint", "leg_left_joint", "foot_left_joint"]


def test_a_time_limit_is_no_end() -> None:
    task = dataclasses.replace(task_of("halfcheetah-2x3"), horizon=30)
    for log in collect_random(task, 100, seed=0).values():
        assert list(np.flatnonzero(log.timeouts)) == [29, 59, 89, 99] and not log.terminals.any()


def test_a_fall_is_an_end() -> None:
    logs = collect_random(task_of("hopper-3x1"), 300, seed=0)
    assert {agent: log.spec for agent, log in logs.items()} == dict.fromkeys(logs, Spec(11, 1))
    log = logs["agent_1"]
    assert log.terminals.sum() > 5 and not log.timeouts[:-1].any()
    goes_on = ~log.terminals[:-1]
    np.testing.assert_array_equal(log.next_observations[:-1][goes_on], log.observations[1:][goes_on])
    healthy = 0.7 < log.next_observations[:, 0]  # the height of the torso, and its angle
    healthy &= np.abs(log.next_observations[:, 1]) < 0.2
    np.testing.assert_array_equal(log.terminals, ~healthy)


def test_joints_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ConfigError, match="must divide the 3 joints of Hopper"):
        MultiAgentMujoco("Hopper", 2)
    with pytest.raises(ConfigError, match="version is 3"):
        MultiAgentMujoco("Hopper", 3, version=3)


def test_what_is_not_installed_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium.envs.mujoco.hopper_v4", None)
    with pytest.raises(ConfigError, match=r"pip install 'marline\[mujoco\]'"):
        task_of("hopper-3x1").make()


class Idle(RandomPolicy):
    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return jnp.zeros(self.spec.action_size)


@pytest.mark.parametrize(
    ("name", "episodes", "at_random", "idle"),
    [
        ("halfcheetah-2x3", 3, (-400, -180), (-5, 5)),
        ("walker2d-2x3", 50, (-5, 10), (50, 500)),
        ("hopper-3x1", 50, (13, 24), (50, 500)),
    ],
)
def test_known_teams_earn_what_they_must(
    name: str, episodes: int, at_random: tuple[float, float], idle: tuple[float, float]
) -> None:
    """D4RL's reference for random play: -280, 1.6 and 20."""
    task = task_of(name)
    for kind, num, (low, high) in ((RandomPolicy, episodes, at_random), (Idle, 1, idle)):
        policies = {agent: kind(spec) for agent, spec in task.specs.items()}
        mean = evaluate(task, policies, num, key=jax.random.key(0)).returns.mean()
        assert low < mean < high, kind.__name__
