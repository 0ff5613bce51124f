"""Small worlds that can be solved: their laws are those that are played, and what is best in them is known."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline.data.dataset import Dataset
from marline.envs import Conventional, Finite, MatrixGame, Meet, Pass, Swap, World, make_task
from marline.envs.finite import best_response, law_of_partner, occupancy, team_return, true_ratio
from marline.envs.scripted import Choosing
from marline.errors import ConfigError
from marline.policy import one_of_teams
from marline.rollouts.collection import collect, collect_random, evaluate
from marline.testing import check_task

KEY = jax.random.key(0)
WORLDS = (MatrixGame(), Swap(), Pass(), Meet())


def by_name(world: World) -> str:
    return type(world).__name__


def probabilities(world: World, policy: Choosing, agent: int) -> np.ndarray:
    """Of each choice `[S, choices]` in each state."""
    assert isinstance(world, Finite)
    seen = jnp.asarray(world.observations_of(agent))
    return np.asarray(jax.jit(jax.vmap(policy.probabilities))(seen), np.float64)


def tables(world: World, team: str) -> list[np.ndarray]:
    assert isinstance(world, Conventional)
    members = world.conventions()[team]
    return [probabilities(world, members[agent], i) for i, agent in enumerate(world.agents)]  # pyright: ignore[reportArgumentType]


def teams() -> list[tuple[World, str]]:
    return [(world, team) for world in WORLDS for team in world.conventions()]


@pytest.mark.parametrize(
    "world",
    [its if its == Swap() else pytest.param(its, marks=pytest.mark.slow) for its in WORLDS],
    ids=by_name,
)
def test_they_keep_the_rules_of_tasks(world: World) -> None:
    check_task(world)
    points = world.drawing(world.reset(key=KEY))
    assert all(np.abs(its).max() <= 1 for its in points.values())


@pytest.mark.parametrize("world", WORLDS, ids=by_name)
def test_states_and_observations_are_each_other(world: World) -> None:
    assert isinstance(world, Finite)
    num = len(world.model().start)
    for agent in range(2):
        seen = world.observations_of(agent)
        assert seen.shape == (num, world.specs[world.agents[agent]].observation_size)
        np.testing.assert_array_equal(world.states_of(seen, agent), np.arange(num))


@pytest.mark.parametrize(
    "world",
    [pytest.param(its, marks=pytest.mark.slow) if its == Meet() else its for its in WORLDS],
    ids=by_name,
)
def test_the_model_is_what_is_played(world: World) -> None:
    assert isinstance(world, Finite)
    model = world.model()
    ends = np.isclose(model.transition.sum(axis=-1), 0)
    assert np.all(np.isclose(model.transition.sum(axis=-1), 1) | ends)
    logs = collect_random(world, 40_000, seed=3)
    first, second = (logs[agent] for agent in world.agents)
    states = [world.states_of(log.observations, i) for i, log in enumerate((first, second))]
    np.testing.assert_array_equal(states[0], states[1])  # rows of all agents' logs are of the same steps
    np.testing.assert_array_equal(first.rewards, second.rewards)
    place = states[0], first.actions, second.actions
    shape = model.reward.shape
    visits, paid = np.zeros(shape), np.zeros(shape)
    np.add.at(visits, place, 1)
    np.add.at(paid, place, first.rewards)
    assert np.abs(paid - visits * model.reward).max() < 6 * np.sqrt(visits.max())  # rewards differ by 3 at most
    assert abs(np.sum(paid - visits * model.reward)) < 2 * np.sqrt(40_000)
    if not ends.all():
        reached = np.zeros(model.transition.shape)
        np.add.at(reached, (*place, world.states_of(first.next_observations, 0)), 1)
        assert not reached[model.transition == 0].any()
        mean = visits[..., None] * model.transition
        variance = mean * (1 - model.transition)
        errors = ((reached - mean) / np.sqrt(np.maximum(variance, 1)))[variance > 5]
        assert 0.6 < np.mean(np.square(errors)) < 1.4 and np.abs(errors).max() < 5


@pytest.mark.parametrize(("world", "team"), teams())
@pytest.mark.slow
def test_returns_of_past_teams_are_those_computed(world: World, team: str) -> None:
    assert isinstance(world, Finite) and isinstance(world, Conventional)
    exact = team_return(world.model(), *tables(world, team))
    found = evaluate(world, world.conventions()[team], 2000, key=KEY).returns
    assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(len(found))


@pytest.mark.parametrize("world", [Pass(), Meet(), Meet(num_places=8, num_points=4)])
@pytest.mark.slow
def test_past_teams_of_other_conventions_earn_the_same(world: World) -> None:
    assert isinstance(world, Finite) and isinstance(world, Conventional)
    returns = [team_return(world.model(), *tables(world, team)) for team in world.conventions()]
    assert len(returns) > 1
    np.testing.assert_allclose(returns, returns[0], rtol=1e-5)
    everyone_at_random = [np.full((len(world.model().start), 3), 1 / 3)] * 2
    assert returns[0] > team_return(world.model(), *everyone_at_random) + 1


def test_what_is_best_beside_the_past_partner_is_bad_beside_todays() -> None:
    """In the matrix game and where steps are swapped, what agent_1 learns from the logs changes agent_0's world."""
    for world, worst, best in ((MatrixGame(), 0.5, 1.0), (Swap(), 2.0, 15.0)):
        model = world.model()
        past = tables(world, "rare" if isinstance(world, MatrixGame) else "plain")
        _, choices = best_response(model, past[0], agent=1)
        assert (choices == (1 if isinstance(world, MatrixGame) else 0)).all()  # of agent_1: what is paid at once
        today = np.eye(2)[choices[0]]
        for own in range(model.reward.shape[1]):  # and whatever agent_0 does, so that nobody goes around in a circle
            always = np.tile(np.eye(model.reward.shape[1])[own], (len(model.start), 1))
            assert (best_response(model, always, agent=1)[1] == choices).all()
        _, learned = best_response(model, past[1])
        number = {True: 2, False: 3}[isinstance(world, MatrixGame)]
        assert team_return(model, np.eye(number)[learned[0]], today) <= worst
        assert best_response(model, today)[0] >= best
        corrected = np.eye(number)[best_response(model, today)[1][0]]
        assert team_return(model, corrected, today) >= best


def test_nobody_does_better_than_the_best_response() -> None:
    world = Pass()
    model, (first, second) = world.model(), tables(world, "on")
    best, choices = best_response(model, second)
    assert best > team_return(model, first, second) + 1
    assert choices.shape == (20, 49)

    seen = jnp.asarray(world.observations_of(0))

    def first_choice(observation: Array) -> Array:  # at all times
        return jnp.asarray(choices[0])[jnp.argmin(jnp.sum(jnp.abs(seen - observation[None]), axis=1))]

    team = {"agent_0": Choosing(first_choice, 3), "agent_1": world.conventions()["on"]["agent_1"]}
    found = evaluate(world, team, 2000, key=KEY).returns
    assert found.mean() < best + 3 * found.std() / np.sqrt(2000)
    assert found.mean() > best - 1


def test_the_matrix_by_hand() -> None:
    world = MatrixGame()
    past = tables(world, "rare")
    assert best_response(world.model(), past[1])[0] == pytest.approx(0.9 * 0.3 + 0.1 * 0.5)
    assert best_response(world.model(), past[0], agent=1)[0] == pytest.approx(0.75)
    logs = collect(world, world.conventions()["rare"], 4000, key=KEY)
    assert np.mean(logs["agent_1"].actions) == pytest.approx(0.1, abs=0.02)
    assert np.mean(logs["agent_0"].actions) == pytest.approx(0.5, abs=0.03)
    log: Dataset = logs["agent_0"]
    assert log.terminals.all() and not log.observations.any()
    np.testing.assert_array_equal(log.next_observations[:, 0], 2 * logs["agent_1"].actions - 1)


def test_true_weights_by_hand() -> None:
    """The partner chose 1 in a tenth of the episodes, and chooses it in nine tenths today."""
    world = MatrixGame()
    logs = law_of_partner(world.model(), [(np.full((1, 2), 0.5), np.array([[0.9, 0.1]]))])
    np.testing.assert_allclose(logs, [[0.9, 0.1]])
    ratio = true_ratio(np.array([[0.1, 0.9]]), logs, np.zeros(3, int), np.array([0, 1, 1]))
    np.testing.assert_allclose(ratio, [1 / 9, 9, 9])
    np.testing.assert_allclose(occupancy(world.model(), np.full((1, 2), 0.5), logs), [1.0])


def test_the_partner_in_logs_of_several_teams_is_the_one_computed() -> None:
    world = Pass()
    model, teams = world.model(), [tuple(tables(world, team)) for team in world.conventions()]
    law = law_of_partner(model, teams)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(law.sum(axis=1), 1)
    logs = collect(world, one_of_teams(world.conventions()), 40_000, key=KEY)
    states = world.states_of(logs["agent_0"].observations, 0)
    counts = np.zeros(law.shape)
    np.add.at(counts, (states, logs["agent_1"].actions), 1)
    often = counts.sum(axis=1) > 400
    found = counts[often] / counts[often].sum(axis=1, keepdims=True)
    assert np.abs(found - law[often]).max() < 0.15 and np.abs(found - law[often]).mean() < 0.03
    # weights average to 1 in the logs, whatever today's partner does
    ratio = true_ratio(tables(world, "on")[1], law, states, logs["agent_1"].actions)
    assert ratio.mean() == pytest.approx(1, abs=0.05)


def test_worlds_that_cannot_be_are_refused() -> None:
    for task, told in {
        "matrix(bold=2)": "bold is 2.0, but must lie in [0, 1]",
        "matrix(rare=-0.1)": "rare is -0.1",
        "swap(plain=nan)": "plain of swap is nan",
        "swap(num_places=0)": "num_places is 0, but must be at least 2",
        "rare-payoff(chance=3)": "chance is 3.0",
        "rare-payoff(num_places=7)": "num_places is 7, but must be an even number",
        "pass(slip=2)": "slip is 2.0",
        "meet(noise=7)": "noise is 7.0",
        "continuous-swap(plain=1.5)": "plain is 1.5",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(told)):
            make_task(task)
