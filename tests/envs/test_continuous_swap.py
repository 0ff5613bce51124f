"""The partner decides the sign of the walker's gain."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from marline.envs import ContinuousSwap
from marline.rollouts.collection import collect, evaluate
from marline.testing import check_task

WORLD = ContinuousSwap()
KEY = jax.random.key(0)


class Homing(NamedTuple):
    """Straight to the origin if the sign is that of the gain, else away from it."""

    sign: Array

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return jnp.clip(-self.sign * observation / 0.2, -1.0, 1.0)


class Constant(NamedTuple):
    action: Array

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return self.action


def test_it_keeps_the_rules_of_tasks() -> None:
    check_task(WORLD)


def test_the_sign_of_the_partners_action_is_that_of_the_gain() -> None:
    logs = collect(WORLD, WORLD.conventions()["plain"], 4000, key=KEY)
    walker, partner = logs["agent_0"], logs["agent_1"]
    is_plain = partner.actions[:, 0] > 0
    assert abs(is_plain.mean() - 0.85) < 0.02
    inside = np.abs(walker.next_observations).max(axis=1) < 1
    gain = np.where(is_plain, 0.2, -0.2)[:, None] * walker.actions
    assert np.abs(walker.next_observations - walker.observations - gain)[inside].max() < 5 * 0.02
    np.testing.assert_allclose(
        walker.rewards, -np.linalg.norm(walker.next_observations, axis=1) - 1.5 * is_plain, atol=1e-5
    )


def test_what_is_best_beside_the_past_partner_is_worst_beside_todays() -> None:
    def returns(sign: float, partner: float) -> float:
        team = {"agent_0": Homing(jnp.float32(sign)), "agent_1": Constant(jnp.array([partner]))}
        return float(evaluate(WORLD, team, 300, key=KEY).returns.mean())

    plain, misled, corrected = returns(1, 1.0), returns(1, -1.0), returns(-1, -1.0)
    assert corrected > -4 and abs(plain + 30 - corrected) < 0.5  # 20 steps cost 30
    assert misled < corrected - 15
    assert misled > plain  # so agent_1 is better off than by turning back
