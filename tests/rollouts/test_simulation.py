"""Roll-outs in simulators: agents that leave early, masks, batches of environments, and exact numbers of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.envs import Actions, Simulator, TimeStep, World
from marline.nn.actors import DeterministicActor
from marline.policy import RandomPolicy
from marline.population import stacked
from marline.rollouts.collection import collect, collect_random, collect_teams, evaluate, trace
from marline.types import Spec

KEY = jax.random.key(0)


class RunningRelay:
    """`quick` leaves for good after 1 to 4 steps, `slow` may be stopped after 5; each is paid what it can compute."""

    def reset(self, *, seed: int) -> TimeStep:
        self.time, self.life, self.stopped, self.there = 0, 1 + seed % 4, seed % 3 == 0, ["quick", "slow"]
        self.start = (seed % 1000) / 1000
        return self.show(TimeStep({}))

    def step(self, actions: Actions) -> TimeStep:
        assert list(actions) == self.there
        assert "slow" not in actions or actions["slow"] != self.time % 3, "a forbidden action"
        self.time += 1
        shown = self.show(
            TimeStep(
                {},
                rewards={agent: float(self.time if agent == "quick" else actions[agent]) for agent in self.there},
                terminated=[agent for agent in self.there if agent == "quick" and self.time == self.life],
                truncated=[agent for agent in self.there if agent == "slow" and self.stopped and self.time == 5],
            )
        )
        self.there = [agent for agent in self.there if agent not in (*shown.terminated, *shown.truncated)]
        return shown

    def show(self, step: TimeStep) -> TimeStep:
        seen = {"quick": np.array([self.start, self.time]), "slow": np.array([self.start, self.time, self.life])}
        mask = np.arange(3) != self.time % 3
        return step._replace(observations={agent: seen[agent] for agent in self.there}, action_masks={"slow": mask})

    def close(self) -> None: ...


class Learned(NamedTuple):
    actor: DeterministicActor

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return self.actor(observation)


@dataclasses.dataclass(frozen=True)
class Relay:
    horizon: int = 6
    num_environments: int = 3
    agents: tuple[str, ...] = ("quick", "slow")
    description: str = "one leaves, one goes on"

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {"quick": Spec(2, 1), "slow": Spec(3, 3, discrete=True)}

    def make(self) -> RunningRelay:
        return RunningRelay()


def test_rows_by_hand() -> None:
    assert isinstance(Relay(), Simulator) and not isinstance(Relay(), World)
    logs = collect_random(Relay(), 60, seed=0)
    quick, slow = logs["quick"], logs["slow"]
    assert len(quick) == len(slow) == 60
    # quick: steps 1, 2, ... of its life, terminal at the end; its rewards count them
    step = quick.observations[:, 1]
    np.testing.assert_array_equal(quick.next_observations, quick.observations + [0.0, 1.0])
    np.testing.assert_array_equal(quick.rewards, step + 1)
    ends = np.append(step[1:] == 0, True)
    np.testing.assert_array_equal(quick.terminals | quick.timeouts, ends)
    assert quick.terminals[:-1].tolist() == ends[:-1].tolist() and quick.actions.shape == (60, 1)
    # slow: cut after 5 or 6 steps, never terminal; paid its action; never a forbidden one
    assert not slow.terminals.any()
    lengths = np.diff(np.flatnonzero(slow.timeouts[:-1]), prepend=-1)
    assert set(lengths) == {5, 6}
    np.testing.assert_array_equal(slow.rewards, slow.actions)
    assert slow.action_masks is not None and slow.next_action_masks is not None
    forbidden = (slow.observations[:, 1] % 3).astype(int)
    np.testing.assert_array_equal(slow.action_masks, np.arange(3) != forbidden[:, None])
    np.testing.assert_array_equal(slow.next_action_masks, np.arange(3) != ((forbidden + 1) % 3)[:, None])
    assert set(slow.actions) == {0, 1, 2}
    assert quick.action_masks is None


def test_both_agents_tell_of_the_same_episodes() -> None:
    logs = collect_random(Relay(), 60, seed=0)
    starts = [log.observations[log.observations[:, 1] == 0, 0] for log in logs.values()]
    num = min(map(len, starts))
    np.testing.assert_array_equal(starts[0][:num], starts[1][:num])
    assert len(np.unique(starts[1])) == len(starts[1])  # no episode twice


@pytest.mark.parametrize("num_environments", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_logs_do_not_depend_on_how_many_environments_there_are(num_environments: int) -> None:
    policies = {agent: RandomPolicy(spec) for agent, spec in Relay().specs.items()}
    several = collect(Relay(), policies, 40, key=KEY)
    other = collect(Relay(num_environments=num_environments), policies, 40, key=KEY)
    fewer = collect(Relay(), policies, 11, key=KEY)
    for agent, log in several.items():
        np.testing.assert_array_equal(log.observations, other[agent].observations)
        np.testing.assert_array_equal(log.actions, other[agent].actions)
        np.testing.assert_array_equal(log.actions[:11], fewer[agent].actions)


@pytest.mark.parametrize("way", [False, True], ids=["in turn", "at once"])
def test_teams_log_what_each_would_alone(way: bool) -> None:
    """Of different lengths: who is done first waits."""
    specs = Relay().specs
    create = jax.jit(lambda key: DeterministicActor.create(specs["quick"], (8, 8), key=key))
    actors = {
        number: {
            "quick": Learned(create(jax.random.key(number))),
            "slow": RandomPolicy(specs["slow"]),
        }
        for number in range(3)
    }
    keys = {number: jax.random.key(10 + number) for number in actors}
    alone = {number: collect(Relay(), team, 40, key=keys[number]) for number, team in actors.items()}
    with stacked(way):
        logs = collect_teams(Relay(), actors, 40, keys=keys)
    for number, its in alone.items():
        for agent, log in its.items():
            for column in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations"):
                np.testing.assert_array_equal(getattr(log, column), getattr(logs[number][agent], column))
    assert not np.array_equal(alone[0]["quick"].actions, alone[1]["quick"].actions)


def test_returns_are_means_over_agents() -> None:
    policies = {agent: RandomPolicy(spec) for agent, spec in Relay().specs.items()}
    result = evaluate(Relay(), policies, 5, key=KEY)
    logs = collect(Relay(), policies, 30, key=KEY)
    earned = {
        agent: np.split(log.rewards, np.flatnonzero(log.observations[:, 1] == 0)[1:])[:5] for agent, log in logs.items()
    }
    by_hand = [(quick.sum() + slow.sum()) / 2 for quick, slow in zip(*earned.values(), strict=True)]
    np.testing.assert_allclose(result.returns, by_hand)
    assert result.mean_abs_action.keys() == {"quick"} and 0 < result.mean_abs_action["quick"] < 1
    drawn = trace(Relay(), policies, key=KEY)
    assert drawn == {"agents": [], "landmarks": [], "return": pytest.approx(by_hand[0])}


class Seen(RandomPolicy):
    """Acts by what it sees alone."""

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return jnp.tanh(observation[:1])


def test_each_environment_is_shown_its_own_action() -> None:
    policies = {"quick": Seen(Relay().specs["quick"]), "slow": RandomPolicy(Relay().specs["slow"])}
    quick = collect(Relay(), policies, 40, key=KEY)["quick"]
    np.testing.assert_allclose(quick.actions[:, 0], np.tanh(quick.observations[:, 0]), atol=1e-6)
