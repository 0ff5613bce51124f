"""A world that never changes, in which what is best pays rarely."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.envs import RarePayoff
from marline.envs.ring import law_of_moves, place_of, short_way
from marline.envs.scripted import Choosing
from marline.rollouts.collection import collect_random, evaluate
from marline.testing import check_task

WORLD = RarePayoff()


def value_of(reward: np.ndarray, horizon: int) -> float:
    """Mean return of the best that can be done where reaching a place pays what it pays on average."""
    law, values = law_of_moves(len(reward), WORLD.slip), np.zeros(len(reward))
    for _ in range(horizon):
        values = (law @ (reward + values)).max(axis=1)
    return float(values.mean())


def test_it_keeps_the_rules_of_tasks() -> None:
    check_task(WORLD)


def test_what_is_reached_is_what_is_paid() -> None:
    log = collect_random(WORLD, 8000, seed=0)["agent_0"]
    place = np.asarray(place_of(jnp.asarray(log.next_observations), WORLD.num_places))
    assert set(np.unique(log.rewards[place == 4])) == {0.0, 10.0}
    assert np.mean(log.rewards[place == 4] > 0) == pytest.approx(0.05, abs=0.03)
    np.testing.assert_array_equal(log.rewards[place != 4], np.where(place[place != 4] == 0, np.float32(0.2), 0.0))


def test_the_rare_payoff_is_worth_more_and_is_what_the_best_team_goes_for() -> None:
    sure, rare = (np.where(np.arange(8) == place, paid, 0.0) for place, paid in ((0, 0.2), (4, 10 * 0.05)))
    best = value_of(sure + rare, WORLD.horizon)
    assert best > value_of(rare, WORLD.horizon) > 2 * value_of(sure, WORLD.horizon)
    rule = lambda observation: short_way(place_of(observation, 8), 4, 8)  # noqa: E731
    found = evaluate(WORLD, {"agent_0": Choosing(rule, 3)}, 4000, key=jax.random.key(0)).returns
    assert best - 1 < found.mean() < best + 4 * found.std() / np.sqrt(len(found))
