"""What logs tell of a policy before it goes out, in worlds where the truth is known."""

from __future__ import annotations

import re

import numpy as np
import pytest

from marline.statistics.fitted_q_evaluation import OffPolicyEstimate, Seen, Steps, compare_policies
from marline.types import Spec


def foretold(
    deployed: float, new: float, *, discount: float, reach: float = 1.0, growth: float = 0.0
) -> OffPolicyEstimate:
    """The reward is the action; the next state is random, whatever is done, or `growth` times the one before."""
    random = np.random.default_rng(0)
    num, width = 3000, 2

    def always(action: float, rows: int) -> np.ndarray:
        return np.full((rows, 1), action, np.float32)

    action = random.uniform(-reach, reach, (num, 1)).astype(np.float32)
    observation = random.normal(size=(num, width)).astype(np.float32)
    steps = Steps(
        observation,
        action,
        action[:, 0],
        np.full(num, discount, np.float32),
        growth * observation if growth else random.normal(size=(num, width)).astype(np.float32),
        always(deployed, num),
        always(new, num),
    )
    seen = Seen(random.normal(size=(200, width)), np.arange(200) % 10 == 0, always(deployed, 200), always(new, 200))
    return compare_policies(steps, seen, Spec(width, 1), gamma=0.9)


def test_the_value_of_a_better_action_is_found() -> None:
    """Q(s, a) = a at once, and a / (1 - 0.9) where it goes on for ever."""
    once = foretold(-0.5, 0.5, discount=0.0)
    assert once.value_difference == pytest.approx(1.0, abs=0.05)
    assert once.low <= once.value_difference <= once.high
    assert once.deviation == pytest.approx(1.0)
    forever = foretold(-0.5, 0.5, discount=1.0)
    assert forever.value_difference == pytest.approx(10.0, rel=0.05)
    assert foretold(0.5, -0.5, discount=1.0).value_difference == pytest.approx(-10.0, rel=0.05)
    same = foretold(0.3, 0.3, discount=1.0)
    assert same.value_difference == same.low == same.high == same.deviation == 0.0
    assert once.no_value == forever.no_value == same.no_value == ""


def test_what_does_not_settle_is_no_estimate() -> None:
    """What is linear in a state that doubles is 0.9 times twice as large after a regression, and curves grow faster."""
    found = foretold(-0.5, 0.5, discount=1.0, growth=2.0)
    assert np.isnan([found.value_difference, found.low, found.high]).all()
    told = re.search("of the deployed policy does not settle .* multiply its errors by ([0-9.]+)", found.no_value)
    assert told and float(told[1]) >= 1.8
    assert found.deviation == 1.0, "the rest is told"
    assert foretold(-0.5, 0.5, discount=1.0, growth=0.5).no_value == ""
    unchanged = foretold(0.5, 0.5, discount=1.0, growth=2.0)
    assert unchanged.value_difference == 0.0 and unchanged.no_value == "", "whatever it is worth"


def test_values_beyond_what_rewards_allow_are_no_estimate() -> None:
    """Rewards of at most 0.2 come to at most 0.2 / (1 - 0.9) = 2; the fit, carried on to actions of 0.26, says more."""
    found = foretold(0.1, 0.26, discount=1.0, reach=0.2)
    assert np.isnan(found.value_difference)
    assert re.fullmatch("[0-9]+ % of the fitted values of the new policy are beyond -2 to 2, .*", found.no_value)
    assert foretold(0.1, 0.15, discount=1.0, reach=0.2).value_difference == pytest.approx(0.5, rel=0.1)


def test_actions_that_the_logs_do_not_hold_are_unfamiliar() -> None:
    found = foretold(0.1, 0.9, discount=0.0, reach=0.2)
    assert found.unfamiliar == 1.0
    assert found.unfamiliar_deployed < 0.15


def test_choices_are_compared_as_choices() -> None:
    random = np.random.default_rng(1)
    num = 400
    observation = random.normal(size=(num, 2)).astype(np.float32)
    action = random.integers(0, 3, num)
    steps = Steps(
        observation,
        action,
        (action == 2).astype(np.float32),
        np.zeros(num, np.float32),
        observation,
        np.zeros(num, np.int64),
        np.full(num, 2),
    )
    other = np.where(np.arange(num) < num // 4, 2, 0)
    seen = Seen(observation, np.ones(num, bool), np.zeros(num, np.int64), other)
    found = compare_policies(steps, seen, Spec(2, 3, discrete=True), gamma=0.9)
    assert found.deviation == 0.25
    assert found.value_difference == pytest.approx(0.25, abs=0.05)
