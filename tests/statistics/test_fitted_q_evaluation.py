"""What logs tell of a policy before it goes out, in worlds where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from marline.statistics.fitted_q_evaluation import OffPolicyEstimate, Seen, Steps, compare_policies
from marline.types import Spec


def foretold(deployed: float, new: float, *, discount: float, reach: float = 1.0) -> OffPolicyEstimate:
    """A world without memory: whatever is done, the next state is random, and the reward is the action."""
    random = np.random.default_rng(0)
    num, width = 3000, 2

    def always(action: float, rows: int) -> np.ndarray:
        return np.full((rows, 1), action, np.float32)

    action = random.uniform(-reach, reach, (num, 1)).astype(np.float32)
    steps = Steps(
        random.normal(size=(num, width)).astype(np.float32),
        action,
        action[:, 0],
        np.full(num, discount, np.float32),
        random.normal(size=(num, width)).astype(np.float32),
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
