"""Offline rows by how much likelier their outcome is today."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from readable_rows import CRITIC

from marline.configuration.selection import select_samplers
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.envs import ContinuousSwap, MatrixGame, Swap
from marline.envs.scripted import Choosing, Moving
from marline.errors import ConfigError
from marline.ops.weighted_rows import row_probabilities
from marline.rollouts.collection import collect
from marline.samplers import Shuffled, TwoSided
from marline.samplers.two_sided import State
from marline.testing import check_sampler
from marline.types import Metrics, Policy

KEY = jax.random.key(0)
SMALL = TwoSided(num_references=400, batch_size=8)


def begun(log: Dataset, today: Dataset, sampler: TwoSided = SMALL, room: int = 0) -> tuple[State, Metrics, Experience]:
    experience = Experience.create(
        log.transition(),
        log.spec,
        num_deployments=2,
        rows_per_deployment=len(today) + room,
        ends=log.terminals | log.timeouts,
    ).merge(today.transition(), 1, ends=today.terminals | today.timeouts)
    return *begin(sampler, experience), experience


@functools.partial(jax.jit, static_argnums=0)
def begin(sampler: TwoSided, experience: Experience) -> tuple[State, dict[str, jax.Array]]:
    state, metrics = sampler.begin_deployment(sampler.init(experience, key=KEY), experience, CRITIC, key=KEY)
    return state, dict(metrics)


probabilities = jax.jit(row_probabilities)


def weights(state: State) -> np.ndarray:
    """In units of their mean."""
    return np.asarray(probabilities(state.table)) * len(state.table.keep)


def past_and_today(
    world: MatrixGame | Swap | ContinuousSwap, team: str, partner: Policy, num_rows: int, num_today: int
) -> tuple[Mapping[str, Dataset], Mapping[str, Dataset]]:
    past = world.conventions()[team]
    logs = collect(world, past, num_rows, key=KEY)
    return logs, collect(world, {**past, "agent_1": partner}, num_today, key=jax.random.key(1))


def test_rows_of_the_matrix_game_weigh_what_the_partners_choice_is_worth() -> None:
    today_one = Choosing(lambda observation: jnp.array([0.1, 0.9]), 2)
    logs, today = past_and_today(MatrixGame(), "rare", today_one, 3000, 300)
    state, metrics, _ = begun(logs["agent_0"], today["agent_0"])
    assert metrics["change_nats"] > 1
    chose_one, weight = logs["agent_1"].actions == 1, weights(state)
    # truth: 9 and 1/9, in units of a mean of 1
    assert weight[chose_one].mean() == pytest.approx(9, rel=0.2)
    assert weight[~chose_one].mean() == pytest.approx(1 / 9, rel=0.5)


@pytest.mark.slow
def test_rows_whose_step_was_turned_around_weigh_more_when_all_steps_are() -> None:
    turning = Choosing(lambda observation: jnp.int32(0), 2)
    logs, today = past_and_today(Swap(), "plain", turning, 4000, 400)
    state, metrics, _ = begun(logs["agent_0"], today["agent_0"])
    assert metrics["change_nats"] > 0.3
    own, is_plain, weight = logs["agent_0"].actions, logs["agent_1"].actions == 1, weights(state)
    steps = own != 1
    assert weight[steps & ~is_plain].mean() > 8 * weight[steps & is_plain].mean()


@pytest.mark.slow
def test_the_sign_of_a_gain_is_seen() -> None:
    negative = Moving(lambda observation: -jnp.ones(1), 1)
    logs, today = past_and_today(ContinuousSwap(), "plain", negative, 4000, 400)
    state, metrics, _ = begun(logs["agent_0"], today["agent_0"])
    assert metrics["change_nats"] > 0.3
    is_plain, weight = logs["agent_1"].actions[:, 0] > 0, weights(state)
    assert weight[~is_plain].mean() > 5 * weight[is_plain].mean()


@pytest.mark.slow
def test_where_nothing_changed_rows_are_not_told_apart() -> None:
    world = Swap()
    logs, today = past_and_today(world, "plain", world.conventions()["plain"]["agent_1"], 4000, 400)
    state, metrics, _ = begun(logs["agent_0"], today["agent_0"])
    assert abs(metrics["change_nats"]) < 3 * metrics["change_se"] and not metrics["gate_open"]
    np.testing.assert_allclose(weights(state), 1, rtol=1e-4)


@pytest.mark.slow
def test_room_for_more_rows_and_rows_to_come_change_nothing() -> None:
    turning = Choosing(lambda observation: jnp.int32(0), 2)
    logs, today = past_and_today(Swap(), "plain", turning, 500, 100)
    all_rows = TwoSided(num_references=1000, batch_size=8)
    tight, loose = (begun(logs["agent_0"], today["agent_0"], all_rows, room)[0] for room in (0, 37))
    one, other = weights(tight), weights(loose)
    # which rows of the logs are compared with differs by the draw, and so does what is chosen, a little
    assert np.corrcoef(np.log(one), np.log(other))[0, 1] > 0.9


@pytest.mark.slow
def test_rows_of_which_nobody_knows_what_came_after_weigh_as_any() -> None:
    turning = Choosing(lambda observation: jnp.int32(0), 2)
    logs, today = past_and_today(Swap(), "plain", turning, 1000, 200)
    rows = logs["agent_0"]
    unknown = np.arange(1000) % 10 == 9
    terminal = rows.transition()._replace(
        discount=jnp.asarray(~unknown, jnp.float32),
        next_observation=jnp.where(unknown[:, None], rows.observations, rows.next_observations),
    )
    experience = Experience.create(terminal, rows.spec, num_deployments=1, rows_per_deployment=200)
    experience = experience.merge(
        today["agent_0"].transition(), 1, ends=today["agent_0"].terminals | today["agent_0"].timeouts
    )
    state, metrics = begin(SMALL, experience)
    assert metrics["change_nats"] > 0.1
    found = weights(state)
    np.testing.assert_allclose(found[unknown], found[unknown][0], rtol=1e-4)
    assert np.ptp(found[~unknown]) > 1


def test_names() -> None:
    selection = select_samplers(["two-sided", "shuffled(two-sided)"])
    assert selection.samplers == {"two-sided": TwoSided(), "shuffled-two-sided": Shuffled(TwoSided())}


@pytest.mark.slow
def test_it_keeps_the_rules_of_samplers() -> None:
    check_sampler(SMALL)
    check_sampler(Shuffled(SMALL))


@pytest.mark.parametrize(
    "options",
    [
        {"online_share": -1.0},
        {"num_references": 0},
        {"bandwidths": ()},
        {"strengths": (0.0,)},
        {"max_weight": 0.5},
        {"batch_size": 0},
    ],
)
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=name):
        TwoSided(**options)  # pyright: ignore[reportArgumentType]


WORLD = Swap(cost=3.0)
PAST = WORLD.conventions()["plain"]
POOLED = TwoSided(num_references=400, batch_size=8, pooled=True)


@pytest.mark.parametrize("pooled", [pytest.param(False, marks=pytest.mark.slow), True])
def test_what_was_not_done_today_is_worth_what_it_is_to_all(pooled: bool) -> None:
    """agent_1 turns steps around now, which it is spared a cost for, and agent_0 steps on in all places but one."""
    today = {
        "agent_0": Choosing(lambda observation: jnp.where(observation[0] > 0.9, 1, 2), 3),
        "agent_1": Choosing(lambda observation: jnp.int32(0), 2),
    }
    logs, fresh = (collect(WORLD, team, size, key=KEY) for team, size in ((PAST, 3000), (today, 200)))
    rows = logs["agent_0"]
    is_plain, was_not_done = logs["agent_1"].actions == 1, rows.actions == 0
    state, metrics, _ = begun(rows, fresh["agent_0"], dataclasses.replace(POOLED, pooled=pooled))
    assert metrics["gate_open"] == 1
    weight = weights(state)[was_not_done]
    share = (weight * is_plain[was_not_done]).sum() / weight.sum()
    if pooled:
        assert share < 0.25 and metrics["pooled"] == 1
    else:
        assert share > 0.7


def test_where_nothing_changed_pooling_changes_nothing() -> None:
    logs, fresh = (collect(WORLD, PAST, size, key=jax.random.key(size))["agent_0"] for size in (3000, 200))
    state, metrics, _ = begun(logs, fresh, POOLED)
    assert metrics["gate_open"] == 0
    np.testing.assert_allclose(weights(state), 1.0, rtol=1e-5)
