"""Cooperative Navigation: its reward by hand, its view, and what known teams earn."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.optimize import linear_sum_assignment

from marline.envs import CooperativeNavigation, make_task
from marline.envs.cooperative_navigation import State
from marline.errors import ConfigError
from marline.types import Spec

EPISODES = 4000


def test_discrete_moves_and_those_that_walls_forbid() -> None:
    task = CooperativeNavigation(2, discrete=True)
    assert task.specs["agent_0"] == Spec(8, 5, discrete=True)
    state = State(jnp.array([[0.95, 0.0], [-0.5, -1.0]]), jnp.array([[0.0, 0.0], [0.0, 0.0]]))

    @jax.jit
    def look_and_step(state: State) -> tuple[Mapping[str, Array], State]:
        actions = {"agent_0": jnp.int32(2), "agent_1": jnp.int32(3)}
        return task.action_masks(state), task.step(state, actions, key=jax.random.key(0))[0]

    masks, after = look_and_step(state)
    np.testing.assert_array_equal(masks["agent_0"], [True, False, True, True, True])  # not to the right
    np.testing.assert_array_equal(masks["agent_1"], [True, True, True, True, False])  # not down
    np.testing.assert_allclose(after.positions, [[0.85, 0.0], [-0.5, -0.9]], atol=1e-6)
    assert CooperativeNavigation(2).action_masks(state) == {}


def returns(num_agents: int, choose) -> np.ndarray:
    """Returns of a team whose joint action is `choose(state, key)`, `[agents, 2]` in units of the world."""
    task = CooperativeNavigation(num_agents)

    def episode(key: Array, goals: Array) -> Array:
        state = task.reset(key=key)

        def step(state: State, time: Array) -> tuple[State, Array]:
            moves = choose(state, jax.random.fold_in(key, time), goals) / task.max_speed
            actions = {agent: moves[i] for i, agent in enumerate(task.agents)}
            state, reward, terminated = task.step(state, actions, key=key)
            return state, reward

        return jnp.sum(jax.lax.scan(step, state, jnp.arange(task.horizon))[1])

    keys = jax.random.split(jax.random.key(0), EPISODES)
    goals = assignment(resets(task, keys)) if choose is assigned else np.zeros((EPISODES, num_agents, 2), np.float32)
    return np.asarray(jax.jit(jax.vmap(episode))(keys, goals))


@functools.partial(jax.jit, static_argnums=0)
def resets(task: CooperativeNavigation, keys: Array) -> State:
    return jax.vmap(lambda key: task.reset(key=key))(keys)


def assignment(starts: State) -> Array:
    """Landmarks in the order of the agents that an optimal assignment sends there."""
    places, landmarks = np.asarray(starts.positions), np.asarray(starts.landmarks)
    steps = np.abs(places[:, :, None] - landmarks[:, None]).max(axis=-1)
    return jnp.array([landmarks[i][linear_sum_assignment(cost)[1]] for i, cost in enumerate(steps)])


def immobile(state: State, key: Array, goals: Array) -> Array:
    return jnp.zeros_like(state.positions)


def at_random(state: State, key: Array, goals: Array) -> Array:
    return jax.random.uniform(key, state.positions.shape, minval=-0.1, maxval=0.1)


def to_the_nearest(state: State, key: Array, goals: Array) -> Array:
    offset = state.landmarks[None] - state.positions[:, None]
    nearest = jnp.argmin(jnp.sum(offset**2, axis=-1), axis=1)
    return jnp.clip(offset[jnp.arange(len(nearest)), nearest], -0.1, 0.1)


def assigned(state: State, key: Array, goals: Array) -> Array:
    return jnp.clip(goals - state.positions, -0.1, 0.1)


@pytest.mark.parametrize(
    ("num_agents", "choose", "expected", "tolerance"),
    [
        (4, at_random, -112, 2.5),
        (4, immobile, -113, 2.5),
        (4, to_the_nearest, -56, 2.5),
        (4, assigned, -8.7, 0.7),
        pytest.param(6, at_random, -138, 3.0, marks=pytest.mark.slow),
        pytest.param(6, to_the_nearest, -73, 3.0, marks=pytest.mark.slow),
    ],
)
def test_known_teams_earn_what_they_must(num_agents: int, choose, expected: float, tolerance: float) -> None:
    assert abs(returns(num_agents, choose).mean() - expected) < tolerance


def test_reward_by_hand() -> None:
    state = State(jnp.array([[0.0, 0.0], [1.0, 1.0]]), jnp.array([[0.0, 0.3], [1.0, 0.6]]))
    assert float(jax.jit(CooperativeNavigation(2).reward)(state)) == pytest.approx(-0.7, abs=1e-6)


def test_every_agent_can_tell_the_reward_from_what_it_sees() -> None:
    task = CooperativeNavigation(3)

    @jax.jit
    def rewards() -> tuple[dict[str, Array], Array]:
        before, after = (task.reset(key=jax.random.key(seed)) for seed in range(2))
        seen, then = task.observe(before), task.observe(after)
        told = {agent: task.reward_of(seen[agent], jnp.zeros(2), then[agent]) for agent in task.agents}
        return told, task.reward(after)

    told, reward = rewards()
    for agent in task.agents:
        np.testing.assert_allclose(told[agent], reward, rtol=1e-5)


def test_agents_move_by_a_tenth_and_stop_at_the_walls() -> None:
    task = CooperativeNavigation(2)
    state = State(jnp.array([[0.0, 0.0], [0.95, -1.0]]), jnp.array([[0.0, 0.0], [0.0, 0.0]]))
    actions = {"agent_0": jnp.array([1.0, -0.5]), "agent_1": jnp.array([7.0, -1.0])}
    state, reward, terminated = jax.jit(task.step)(state, actions, key=jax.random.key(0))
    assert np.allclose(state.positions, [[0.1, -0.05], [1.0, -1.0]])
    assert not bool(terminated)
    assert float(reward) == pytest.approx(-2 * np.hypot(0.1, 0.05), abs=1e-6)


def test_what_an_agent_sees_by_hand() -> None:
    task = CooperativeNavigation(3)
    places = jnp.array([[0.1, 0.2], [-0.3, 0.4], [0.5, -0.6]])
    landmarks = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    seen = jax.jit(task.observe)(State(places, landmarks))
    expected = [-0.3, 0.4, 0.3, -0.4, 1.3, -0.4, 0.3, 0.6, 0.4, -0.2, 0.8, -1.0]
    assert np.allclose(seen["agent_1"], expected)
    assert {agent: spec.observation_size for agent, spec in task.specs.items()} == dict.fromkeys(task.agents, 12)


def test_the_catalogue_names_the_nearest() -> None:
    assert make_task("cooperative-navigation-8").specs["agent_7"].observation_size == 32
    with pytest.raises(ConfigError, match="did you mean 'cooperative-navigation-2'"):
        make_task("cooperative-navigation2")
