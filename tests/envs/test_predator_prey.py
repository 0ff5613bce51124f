"""Predator-Prey: the prey's rule and the reward by hand, and what known teams earn."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.envs import PredatorPrey
from marline.envs.predator_prey import State
from marline.policy import RandomPolicy
from marline.rollouts.collection import evaluate

TASK = PredatorPrey()
STILL = dict.fromkeys(TASK.agents, jnp.array([0.0, 0.0]))


@functools.partial(jax.jit, static_argnums=0)
def step(task: PredatorPrey, state: State, actions: dict[str, Array]) -> tuple[State, Array, Array]:
    return task.step(state, actions, key=jax.random.key(0))


def after(predators: list[list[float]], prey: list[float], task: PredatorPrey = TASK) -> tuple[State, float]:
    """One step in which no predator moves."""
    state, reward, terminated = step(task, State(jnp.array(predators), jnp.array(prey)), STILL)
    assert not bool(terminated)
    return state, float(reward)


FAR = [-1.0, -1.0]


@pytest.mark.parametrize(
    ("predators", "prey", "expected"),
    [
        ([[0.0, 0.0], [0.9, 0.9], FAR], [0.3, 0.4], [0.3 + 0.15 * 0.6, 0.4 + 0.15 * 0.8]),  # from the nearest
        ([[0.5, 0.0], [-0.5, 0.0], FAR], [0.0, 0.0], [-0.15, 0.0]),  # of equals, the first
        ([[0.2, 0.2], FAR, FAR], [0.2, 0.2], [0.2, 0.2]),  # there is no way from its own place
        ([[0.5, 0.0], FAR, FAR], [0.95, 0.0], [1.0, 0.0]),  # up to the wall
    ],
)
def test_where_the_prey_runs(predators: list[list[float]], prey: list[float], expected: list[float]) -> None:
    state, _ = after(predators, prey)
    np.testing.assert_allclose(state.prey, expected, atol=1e-6)


def test_the_prey_flees_from_where_predators_were() -> None:
    state = State(jnp.array([[0.0, 0.0], FAR, FAR]), jnp.array([0.1, 0.0]))
    actions = {**STILL, "agent_0": jnp.array([2.0, 0.5])}  # clipped to a speed of 0.1
    state, _, _ = step(TASK, state, actions)
    np.testing.assert_allclose(np.asarray(state.predators)[0], [0.1, 0.05], atol=1e-6)
    np.testing.assert_allclose(state.prey, [0.25, 0.0], atol=1e-6)


def test_the_reward_by_hand() -> None:
    cornered = [[0.95, 1.0], [1.0, 0.92], [0.0, 0.0]]
    assert after(cornered, [1.0, 1.0])[1] == 1.0
    assert after(cornered, [1.0, 1.0], PredatorPrey(reward_each=True))[1] == 2.0
    assert after([[0.5, 0.5], FAR, FAR], [1.0, 1.0])[1] == 0.0


@pytest.mark.parametrize("task", [TASK, PredatorPrey(reward_each=True)])
def test_every_predator_can_tell_the_reward_from_what_it_sees(task: PredatorPrey) -> None:
    cornered = State(jnp.array([[0.95, 1.0], [1.0, 0.92], [0.0, 0.0]]), jnp.array([1.0, 1.0]))

    @jax.jit
    def rewards(state: State) -> tuple[Array, list[Array]]:
        told = [task.reward_of(seen, jnp.zeros(2), seen) for seen in task.observe(state).values()]
        return task.reward(state.predators - state.prey[None, :]), told

    for state in (cornered, jax.jit(task.reset)(key=jax.random.key(0))):
        expected, told = rewards(state)
        for reward in told:
            np.testing.assert_array_equal(reward, expected)


def test_what_a_predator_sees_by_hand() -> None:
    seen = jax.jit(TASK.observe)(State(jnp.array([[0.1, 0.2], [-0.3, 0.4], [0.5, -0.6]]), jnp.array([0.0, 0.5])))
    np.testing.assert_allclose(seen["agent_1"], [-0.3, 0.4, 0.3, 0.1, 0.4, -0.2, 0.8, -1.0], atol=1e-6)


class Greedy(RandomPolicy):
    """Straight to the prey."""

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return jnp.clip(observation[2:4] / 0.1, -1.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "reward_each", "expected", "tolerance"),
    [(RandomPolicy, False, 0.03, 0.03), (Greedy, False, 35.8, 1.5), (Greedy, True, 101.8, 5.0)],
)
def test_known_teams_earn_what_they_must(kind, reward_each: bool, expected: float, tolerance: float) -> None:
    task = PredatorPrey(reward_each=reward_each)
    team = {agent: kind(spec) for agent, spec in task.specs.items()}
    assert abs(evaluate(task, team, 1000, key=jax.random.key(0)).returns.mean() - expected) < tolerance
