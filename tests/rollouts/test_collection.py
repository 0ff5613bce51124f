"""Logs, returns and trajectories of teams in a simulated task."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.data.check import check
from marline.data.dataset import Dataset
from marline.envs import CooperativeNavigation
from marline.nn.actors import DeterministicActor
from marline.policy import RandomPolicy
from marline.population import stacked
from marline.rollouts import collection
from marline.rollouts.collection import (
    collect,
    collect_in_turns,
    collect_random,
    collect_teams,
    collect_teams_in_turns,
    evaluate,
    evaluate_teams,
    trace,
)
from marline.types import Spec

TASK = CooperativeNavigation(2)
COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
KEY = jax.random.key(0)


class Constant(NamedTuple):
    """Moves the same way whatever it sees."""

    action: Array

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return self.action


class Learned(NamedTuple):
    actor: DeterministicActor

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return self.actor(observation)


def assert_same(first: dict[str, Dataset], second: dict[str, Dataset], num: int | None = None) -> None:
    assert first.keys() == second.keys()
    for agent in first:
        for column in COLUMNS:
            one, other = getattr(first[agent], column)[:num], getattr(second[agent], column)[:num]
            np.testing.assert_array_equal(one, other, err_msg=f"{agent}: {column}")


def team_of(seed: int) -> dict[str, Learned]:
    keys = jax.random.split(jax.random.key(seed), 2)
    return {agent: Learned(create(TASK.specs[agent], key)) for agent, key in zip(TASK.agents, keys, strict=True)}


@functools.partial(jax.jit, static_argnums=0)
def create(spec: Spec, key: Array) -> DeterministicActor:
    return DeterministicActor.create(spec, (16,), key=key)


@pytest.mark.parametrize("num_rows", [1, 50, 110])
def test_exactly_as_many_rows_as_asked_for(num_rows: int) -> None:
    logs = collect_random(TASK, num_rows, seed=0)
    assert tuple(logs) == TASK.agents
    for agent, dataset in logs.items():
        assert len(dataset) == num_rows
        assert dataset.spec == TASK.specs[agent]
        assert dataset.observations.shape == dataset.next_observations.shape == (num_rows, 8)
        assert dataset.actions.shape == (num_rows, 2)
        assert dataset.observations.dtype == dataset.actions.dtype == dataset.rewards.dtype == np.float32
        assert not dataset.terminals.any()
        ends = {49, 99, num_rows - 1}  # episodes of 50, and the cut
        assert set(np.flatnonzero(dataset.timeouts)) == {end for end in ends if end < num_rows}
    check(logs)  # raises nothing


@pytest.mark.parametrize("num_teams", [2, 3])
def test_teams_log_what_each_would_alone(num_teams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, also where the teams are more than are played at once."""
    monkeypatch.setattr(collection, "PLAYED_AT_ONCE", 2 * collection.bytes_played(TASK))
    teams = {number: team_of(number) for number in range(num_teams)}
    keys = {number: jax.random.key(10 + number) for number in teams}
    alone = {number: collect(TASK, team, 110, key=keys[number]) for number, team in teams.items()}
    with stacked(True):
        logs = collect_teams(TASK, teams, 110, keys=keys)
        in_turns = collect_teams_in_turns(TASK, teams, 20, epsilon=0.5, keys=keys)
        evaluated = evaluate_teams(TASK, teams, 3, keys=keys)
    for number, team in teams.items():
        assert_same(alone[number], logs[number])
        assert_same(collect_in_turns(TASK, team, 20, epsilon=0.5, key=keys[number]), in_turns[number])
        np.testing.assert_array_equal(evaluate(TASK, team, 3, key=keys[number]).returns, evaluated[number].returns)


def test_rows_of_an_episode_follow_each_other() -> None:
    logs = collect_random(TASK, 200, seed=1)
    for dataset in logs.values():
        goes_on = ~dataset.timeouts[:-1]
        np.testing.assert_array_equal(dataset.next_observations[:-1][goes_on], dataset.observations[1:][goes_on])
        moved = dataset.next_observations[:, :2] - dataset.observations[:, :2]
        expected = np.clip(dataset.observations[:, :2] + 0.1 * dataset.actions, -1, 1) - dataset.observations[:, :2]
        np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_the_reward_is_shared_and_that_of_the_positions_reached() -> None:
    first, second = collect_random(TASK, 200, seed=1).values()
    np.testing.assert_array_equal(first.rewards, second.rewards)
    landmarks, other = first.next_observations[:, 2:6].reshape(-1, 2, 2), first.next_observations[:, 6:8]
    from_self = np.linalg.norm(landmarks, axis=-1)
    from_other = np.linalg.norm(landmarks - other[:, None, :], axis=-1)
    np.testing.assert_allclose(first.rewards, -np.minimum(from_self, from_other).sum(axis=1), atol=1e-5)


def test_random_actions_fill_their_range_and_differ_between_agents_and_steps() -> None:
    logs = collect_random(TASK, 2000, seed=0)
    actions = np.stack([dataset.actions for dataset in logs.values()], axis=1).reshape(2000, 4)
    assert -1.0 <= actions.min() < -0.99 and 0.99 < actions.max() <= 1.0
    np.testing.assert_allclose(actions.mean(axis=0), 0.0, atol=0.06)
    np.testing.assert_allclose(np.corrcoef(actions.T), np.eye(4), atol=0.1)
    assert len(np.unique(actions[:, 0])) > 1900


def test_random_play_of_discrete_moves_keeps_to_what_is_allowed() -> None:
    logs = collect_random(CooperativeNavigation(2, discrete=True), 1000, seed=0)
    check(logs)  # raises nothing: no logged action was forbidden
    for dataset in logs.values():
        assert dataset.actions.dtype == np.int64 and set(dataset.actions) == set(range(5))
        assert dataset.action_masks is not None and dataset.next_action_masks is not None
        assert 0.0 < np.mean(~dataset.action_masks) < 0.3
        goes_on = ~dataset.timeouts[:-1]
        np.testing.assert_array_equal(dataset.next_action_masks[:-1][goes_on], dataset.action_masks[1:][goes_on])


def test_in_turns_only_one_explores_and_logs_what_the_others_will_do() -> None:
    held = jnp.array([0.5, -0.25])
    team = {agent: Constant(held) for agent in TASK.agents}
    for epsilon in (0.0, 0.3, 1.0):
        logs = collect_in_turns(TASK, team, 600, epsilon=epsilon, key=KEY)
        check(logs)
        for log in logs.values():
            assert len(log) == 600
            explored = np.any(log.actions != np.asarray(held), axis=1)
            assert explored.mean() == pytest.approx(epsilon, abs=0.06)
            other, after = (seen[:, :2] + seen[:, 6:8] for seen in (log.observations, log.next_observations))
            np.testing.assert_allclose(after, np.clip(other + 0.1 * np.asarray(held), -1, 1), atol=1e-6)
    first, second = (log.observations[0, 2:6] for log in logs.values())
    assert not np.array_equal(first, second)  # other episodes in every turn


def test_a_seed_fixes_every_bit() -> None:
    first, second = collect_random(TASK, 110, seed=3), collect_random(TASK, 110, seed=3)
    assert_same(first, second)
    other = collect_random(TASK, 110, seed=4)
    assert np.all(other["agent_0"].observations != first["agent_0"].observations)


def test_fewer_rows_are_the_first_of_more() -> None:
    few, more = collect_random(TASK, 200, seed=0), collect_random(TASK, 500, seed=0)
    assert_same(few, more, 200)


def test_episodes_do_not_depend_on_how_many_are_played_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    team = team_of(0)
    random, learned = collect_random(TASK, 470, seed=0), collect(TASK, team, 470, key=KEY)
    monkeypatch.setattr(collection, "EPISODES_PER_BLOCK", 4)
    again = collect_random(TASK, 470, seed=0), collect(TASK, team, 470, key=KEY)
    for before, after in zip((random, learned), again, strict=True):
        for agent in TASK.agents:  # another program, which may round in another order
            for column in COLUMNS:
                one, other = getattr(before[agent], column), getattr(after[agent], column)
                np.testing.assert_allclose(one, other, atol=1e-4, err_msg=f"{agent}: {column}")


def test_returns_are_sums_of_rewards_and_actions_are_measured() -> None:
    team = {"agent_0": Constant(jnp.array([0.5, 0.0])), "agent_1": Constant(jnp.array([0.0, -1.0]))}
    result = evaluate(TASK, team, 6, key=KEY)
    logs = collect(TASK, team, 300, key=KEY)["agent_0"]
    np.testing.assert_allclose(result.returns, logs.rewards.reshape(6, 50).sum(axis=1), rtol=1e-5)
    assert result.returns.dtype == np.float64
    assert result.mean_abs_action == {"agent_0": pytest.approx(0.25), "agent_1": pytest.approx(0.5)}


def test_every_team_meets_the_same_episodes() -> None:
    still = {agent: Constant(jnp.array([0.0, 0.0])) for agent in TASK.agents}
    logs = [collect(TASK, team, 300, key=KEY)["agent_0"] for team in (still, team_of(0))]
    starts = [dataset.observations[::50] for dataset in logs]
    np.testing.assert_array_equal(starts[0], starts[1])


def test_a_trace_is_the_first_of_these_episodes() -> None:
    team = {"agent_0": Constant(jnp.array([0.1, 0.0])), "agent_1": Constant(jnp.array([0.0, 0.0]))}
    drawn = trace(TASK, team, key=KEY)
    logs = collect(TASK, team, 50, key=KEY)
    assert drawn["return"] == pytest.approx(evaluate(TASK, team, 3, key=KEY).returns[0], rel=1e-6)
    for number, agent in enumerate(TASK.agents):
        path = np.array(drawn["agents"])[:, number]
        np.testing.assert_allclose(path, logs[agent].next_observations[:, :2], atol=1e-4)
    first = logs["agent_0"].next_observations[0]
    np.testing.assert_allclose(drawn["landmarks"], first[2:6].reshape(2, 2) + first[:2], atol=2e-4)


def test_a_shorter_horizon_is_honoured() -> None:
    short = dataclasses.replace(TASK, horizon=7)
    logs = collect_random(short, 20, seed=0)["agent_1"]
    assert list(np.flatnonzero(logs.timeouts)) == [6, 13, 19]


def test_random_play_of_discrete_actions() -> None:
    policy = RandomPolicy(Spec(3, 4, discrete=True))
    act = jax.jit(lambda keys: jax.vmap(lambda key: policy(jnp.zeros(3), key=key))(keys))
    actions = act(jax.random.split(KEY, 2000))
    counts = np.bincount(np.asarray(actions), minlength=4)
    assert len(counts) == 4
    np.testing.assert_allclose(counts / 2000, 0.25, atol=0.04)
