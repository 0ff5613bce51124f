"""What environments return is looked at: every fault is told with task, agent, episode, step, the rule and the fix."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from marline.cli import entry
from marline.envs import Actions, TimeStep
from marline.envs.checked import Checked, require_task
from marline.errors import ConfigError
from marline.rollouts import simulation
from marline.rollouts.collection import collect_random
from marline.types import Spec

Change = Callable[[TimeStep, int], Any]


class Scripted:
    """`mover` acts in a line, `chooser` has three choices; sees the time; what it returns is changed by a function."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.buffer, self.rewards, self.mask = np.zeros(2), {"mover": 0.0, "chooser": 0.0}, np.ones(3, bool)

    def reset(self, *, seed: int) -> Any:
        self.time = 0
        return self.change(self.show()._replace(rewards={}), 0)

    def step(self, actions: Actions) -> Any:
        self.time += 1
        return self.change(self.show(), self.time)

    def show(self) -> TimeStep:
        """All of it in memory that is used again."""
        self.buffer[:] = self.time, 0.5
        self.rewards["mover"] = self.rewards["chooser"] = float(self.time)
        self.mask[:] = np.arange(3) != self.time % 3
        seen = {"mover": self.buffer, "chooser": self.buffer[:1]}
        return TimeStep(seen, self.rewards, (), (), {"chooser": self.mask})

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Script:
    change: Change = lambda shown, time: shown
    horizon: int = 4
    num_environments: int = 1
    agents: tuple[str, ...] = ("mover", "chooser")
    description: str = "is changed"

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {"mover": Spec(2, 1), "chooser": Spec(1, 3, discrete=True)}

    def make(self) -> Scripted:
        return Scripted(self.change)


def played(change: Change, steps: int = 3) -> Checked:
    task = Script(change)
    environment = Checked(task.make(), "Script", task.specs)
    environment.reset(seed=0, episode=7)
    for _ in range(steps):
        environment.step({"mover": np.zeros(1), "chooser": np.int32(0)})
    return environment


def at(moment: int, **changes: Any) -> Change:
    """Replace fields at one moment; a dict is laid over what there is."""

    def change(shown: TimeStep, time: int) -> TimeStep:
        if time != moment:
            return shown
        laid = {
            name: {**getattr(shown, name), **value} if isinstance(value, dict) else value
            for name, value in changes.items()
        }
        return shown._replace(**laid)

    return change


def without(field: str, agent: str, moment: int) -> Change:
    return lambda shown, time: (
        shown._replace(**{field: {name: its for name, its in getattr(shown, field).items() if name != agent}})
        if time == moment
        else shown
    )


def test_what_an_environment_uses_again_is_copied() -> None:
    logs = collect_random(Script(), 8, seed=0)
    np.testing.assert_array_equal(logs["mover"].observations, [[t, 0.5] for t in (0, 1, 2, 3)] * 2)
    np.testing.assert_array_equal(logs["mover"].next_observations, [[t, 0.5] for t in (1, 2, 3, 4)] * 2)
    np.testing.assert_array_equal(logs["chooser"].rewards, [1, 2, 3, 4] * 2)
    time = np.arange(8) % 4
    np.testing.assert_array_equal(logs["chooser"].action_masks, np.arange(3) != (time % 3)[:, None])
    np.testing.assert_array_equal(logs["chooser"].next_action_masks, np.arange(3) != ((time + 1) % 3)[:, None])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([np.nan, 0.0], "its observation holds nan at place 0; return finite observations"),
        ([0.0, -np.inf], "holds -inf at place 1"),
        ([0.0, 1e39], "holds 1e\\+39 at place 1; .* none beyond 1e\\+18, which cannot be learned from in float32"),
        (np.array([2e18, 0.0], np.float32), "holds 2e\\+18 at place 0"),
        (np.array([0.0, 1e200]), "holds 1e\\+200 at place 1"),
        ([0.0], r"has shape \(1,\), but its space or spec has 2 numbers"),
        ([0.0, 1.0, 2.0], r"has shape \(3,\)"),
        ([[0.0, 1.0]], r"has shape \(1, 2\)"),
        (None, "observation is NoneType None; return an array of numbers"),
        ("ab", "observation is str 'ab'"),
        ([0.0, [1.0, 2.0]], "return an array of numbers"),
        ([0.0, None], "return an array of numbers"),
        ({"x": 0.0}, "observation is dict"),
        ([1j, 0], "return an array of numbers"),
    ],
)
def test_observations(value: Any, told: str) -> None:
    for moment, where in ((0, "reset"), (2, "step 2")):
        with pytest.raises(ConfigError, match=f"^task Script, episode 7, {where}: agent 'mover': .*{told}"):
            played(at(moment, observations={"mover": value}))


def test_what_float32_holds_passes_in_any_type() -> None:
    for value in (
        np.array([1e18, -1e18]),
        np.array([3, -4]),
        [1, 2],
        np.array([True, False]),
        np.array([300, 2], np.float16),
    ):
        task = Script(at(0, observations={"mover": value}))
        moment = Checked(task.make(), "Script", task.specs).reset(seed=0, episode=0)
        assert moment.observations.dtype == np.float32
        np.testing.assert_array_equal(moment.observations, np.array([*value, 0.0], np.float32))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "its reward is NoneType None; return a single number"),
        (np.array([1.0]), r"its reward is ndarray array\(\[1\.\]\); return a single number, such as float\(reward\)"),
        ([1.0], "return a single number"),
        ("1", "return a single number"),
        (np.nan, "its reward is nan; return finite rewards"),
        (np.float32(np.inf), "its reward is inf"),
        (-1e19, "none beyond 1e\\+18"),
        (10**400, "return a single number within float32"),
    ],
)
def test_rewards(value: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^task Script, episode 7, step 3: agent 'mover': .*{told}"):
        played(at(3, rewards={"mover": value}))


def test_rewards_of_all_sorts_of_numbers_pass() -> None:
    for value in (1, True, np.float32(1), np.int8(1), np.array(1.0)):
        assert played(at(1, rewards={"mover": value})).present == ("mover", "chooser")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([0, 0, 0], "its action mask allows nothing; allow at least one choice"),
        ([0.0, -np.inf, 0.0], r"give 1 or True for what is allowed .* \(no 0 and -inf, as it is added to logits\)"),
        ([1.0, np.nan, 1.0], "give 1 or True"),
        ([0.2, 0.8, 0.0], "give 1 or True"),
        ([1, 2, 1], "give 1 or True"),
        ([-1, 1, 1], "give 1 or True"),
        (["yes", "no", "no"], "give 1 or True"),
        (None, "give 1 or True"),
        ([1, 1], r"its action mask has shape \(2,\) for 3 choices"),
        ([[1, 1, 1]], r"has shape \(1, 3\)"),
    ],
)
def test_masks(value: Any, told: str) -> None:
    for moment, where in ((0, "reset"), (2, "step 2")):
        with pytest.raises(ConfigError, match=f"^task Script, episode 7, {where}: agent 'chooser': .*{told}"):
            played(at(moment, action_masks={"chooser": value}))


def test_a_mask_of_nothing_passes_only_where_an_episode_is_over_for_good() -> None:
    nothing = {"chooser": np.zeros(3, bool)}
    assert played(at(3, action_masks=nothing, terminated=["chooser"])).present == ("mover",)
    with pytest.raises(ConfigError, match="step 3: agent 'chooser': its action mask allows nothing"):
        played(at(3, action_masks=nothing, truncated=["chooser"]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("observations", "chooser", 2), "step 2: agent 'chooser': is there and sees nothing"),
        (without("observations", "chooser", 0), "step 1: agent 'chooser': came in during an episode"),
        (without("rewards", "mover", 1), "step 1: agent 'mover': is there and has no reward"),
        (at(1, observations={"ghost": np.zeros(1)}), "observations has str 'ghost', who is no agent of this task"),
        (at(1, rewards={"ghost": 1.0}), "rewards has str 'ghost'"),
        (at(1, action_masks={"ghost": np.ones(3)}), "action_masks has str 'ghost'"),
        (at(1, action_masks={"mover": np.ones(1)}), "agent 'mover': has an action mask, but continuous actions"),
        (at(1, terminated=["ghost"]), "terminated names str 'ghost'"),
        (at(1, terminated=True), "terminated is bool True; name the agents that ended"),
        (at(1, truncated="mover"), "truncated is str 'mover'"),
        (lambda shown, time: shown._replace(terminated={"mover": False}), "terminated is dict"),
        (lambda shown, time: shown._replace(rewards=None) if time else shown, "rewards is NoneType None; "),
        (lambda shown, time: shown._replace(observations=np.zeros(2)), "observations is ndarray .*; return a dict"),
        (lambda shown, time: shown._replace(observations={}), "reset: nobody is there"),
        (lambda shown, time: tuple(shown), "reset.. returned tuple .*return a marline.envs.TimeStep"),
        (lambda shown, time: None if time else shown, r"step 1: step.. returned NoneType None"),
    ],
)
def test_agents_and_shapes_of_replies(change: Change, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^task Script, episode 7, .*{told}"):
        played(change)


def test_an_exception_is_told_with_its_place_and_chained() -> None:
    def fails(shown: TimeStep, time: int) -> TimeStep:
        if time == 2:
            raise RuntimeError("the motor\n  is off")
        return shown

    line = fails.__code__.co_firstlineno + 2
    place = rf"\(.*test_checked.py:{line}\)"
    told = rf"^task Script, episode 7, step 2: step\(\) failed with RuntimeError: the motor is off {place}$"
    with pytest.raises(ConfigError, match=told) as caught:
        played(fails)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_who_ends_the_process_is_told_apart_from_a_signal() -> None:
    def leaves(shown: TimeStep, time: int) -> TimeStep:
        sys.exit(0)

    def stopped(shown: TimeStep, time: int) -> TimeStep:
        entry._stop(15, None)
        return shown

    with pytest.raises(ConfigError, match=r"reset\(\) failed with SystemExit: 0 \(.*test_checked.py:"):
        played(leaves)
    with pytest.raises(SystemExit) as caught:
        played(stopped)
    assert caught.value.code == 143


def test_the_library_that_failed_is_not_the_users_place() -> None:
    def fails(shown: TimeStep, time: int) -> TimeStep:
        return shown._replace(observations={"mover": np.linalg.inv(np.zeros((2, 2)))})

    with pytest.raises(ConfigError, match=r"LinAlgError: Singular matrix \(.*test_checked.py:"):
        played(fails)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"agents": ("mover", "team/a")}, "agent 'team/a' cannot name a file"),
        ({"agents": ("mover", "Mover")}, "differ at most in case"),
        ({"agents": ("mover",)}, "but specs of mover, chooser"),
        ({"agents": ()}, "has no agents"),
        ({"horizon": 0}, "horizon is 0, but must be a whole number"),
        ({"horizon": 4.5}, "horizon is 4.5"),
        ({"num_environments": 0}, "num_environments is 0"),
    ],
)
def test_what_a_task_says_of_itself(changes: dict[str, Any], told: str) -> None:
    task = dataclasses.replace(Script(), **changes)
    with pytest.raises(ConfigError, match=f"^task Script.*{told}"):
        require_task(task, "Script")
    with pytest.raises(ConfigError, match=told):
        simulation.try_out(task)


def test_trying_out_finds_what_is_wrong_in_the_first_steps() -> None:
    simulation.try_out(Script())
    with pytest.raises(ConfigError, match="step 2: agent 'mover': its reward is nan"):
        simulation.try_out(Script(at(2, rewards={"mover": np.nan})))
