"""Worlds in JAX: what is misshapen is told before anything is compiled, wrong values with episode and step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, PRNGKeyArray

from marline.envs import CooperativeNavigation, DriftingNavigation, PredatorPrey
from marline.envs.checked_worlds import require_world
from marline.errors import ConfigError
from marline.rollouts.collection import collect_random
from marline.types import Spec


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """Makes anything hashable."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Clock:
    """Counts its steps, of which the third is terminal. What is named is another: always, or at a moment if a float."""

    wrong: str = ""
    value: Any = None
    moment: int = 2
    agents: tuple[str, ...] = ("a",)
    specs: Mapping[str, Spec] = dataclasses.field(
        default_factory=lambda: {"a": Spec(2, 3, discrete=True)}, compare=False, hash=False
    )
    horizon: int = 5
    description: str = "counts"

    def of(self, name: str, time: Array, value: Any) -> Any:
        if name != self.wrong:
            return value
        if isinstance(self.value, Held):
            return self.value.value
        return jnp.where(time == self.moment, self.value, value) if isinstance(self.value, float) else self.value

    def reset(self, *, key: PRNGKeyArray) -> Any:
        return jnp.int32(0)

    def step(self, state: Any, actions: Mapping[str, Array], *, key: PRNGKeyArray) -> Any:
        after = state + 1
        reward = self.of("reward", after, after.astype(jnp.float32))
        return self.of("state", after, after), reward, self.of("terminated", after, after == 3)

    def observe(self, state: Any) -> Any:
        seen = jnp.stack([state.astype(jnp.float32), self.of("number", state, jnp.float32(0))])
        return self.of("observations", state, {"a": seen})

    def action_masks(self, state: Any) -> Any:
        nothing = self.wrong == "nothing" and state == self.moment
        return self.of("masks", state, {"a": (jnp.arange(3) != state % 3) & jnp.logical_not(nothing)})

    def drawing(self, state: Any) -> Any:
        return self.of("drawing", state, {"agents": jnp.zeros((1, 2))})


@pytest.mark.parametrize(
    ("wrong", "value", "told"),
    [
        ("observations", "vector", r"observe\(\) returned ndarray; return a dict by agent"),
        ("observations", "ghost", r"observe\(\) has agent 'ghost'"),
        ("observations", "none", "agent 'a': its observation is missing"),
        ("number", None, r"observe\(\) failed with .*test_checked_worlds.py:\d+\)"),
        ("masks", "additive", r"agent 'a': its action mask is float32\[3\]; return bool\[3\]"),
        ("masks", "short", r"its action mask is bool\[2\]; return bool\[3\]"),
        ("reward", "vector", r"the reward is float32\[1\]; return float32\[\]"),
        ("reward", None, r"the reward is NoneType None; return float32\[\]"),
        ("terminated", 0, r"terminated is int32\[\]; return bool\[\]"),
        ("state", "vector", r"step\(\) returns another sort of state than reset\(\)"),
        ("drawing", "solid", r"drawing\(\) has agents of shape \(1, 3\); give \[n, 2\]"),
    ],
)
def test_misshapen_worlds(wrong: str, value: Any, told: str) -> None:
    shown = {
        "ghost": {"a": np.zeros(2, np.float32), "ghost": np.zeros(2, np.float32)},
        "none": {},
        "additive": {"a": np.array([0, -np.inf, 0], np.float32)},
        "short": {"a": np.ones(2, bool)},
        "vector": np.zeros(1, np.float32),
        "solid": {"agents": np.zeros((1, 3))},
    }
    task = Clock(wrong, Held(shown[value]) if isinstance(value, str) else value)
    with pytest.raises(ConfigError, match=f"^task Clock: .*{told}"):
        require_world(task, "Clock")


def test_the_worlds_that_come_with_the_library_are_sound() -> None:
    for task in (
        CooperativeNavigation(2),
        CooperativeNavigation(2, discrete=True),
        PredatorPrey(),
        DriftingNavigation(),
    ):
        require_world(task, "it")


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (Clock("number", float("nan")), "episode 0, step 2: agent 'a': its observation holds nan; return finite ones"),
        (Clock("number", float("inf"), moment=0), "episode 0, reset: agent 'a': its observation holds inf"),
        (Clock("number", 2e18, moment=3), "episode 0, step 3: agent 'a': its observation holds 2e\\+18"),
        (Clock("reward", float("-inf"), moment=1), "episode 0, step 1: agent 'a': its reward holds -inf"),
        (Clock("nothing", moment=1), "episode 0, step 1: agent 'a': its action mask allows nothing"),
    ],
)
def test_values_that_cannot_be_learned_from(task: Clock, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^task Clock, {told}"):
        collect_random(task, 6, seed=0)


def test_after_the_end_anything_goes() -> None:
    """Worlds are stepped on beyond a termination, and a mask of nothing there is one of everything."""
    logs = collect_random(Clock("number", float("nan"), moment=4), 6, seed=0)["a"]
    np.testing.assert_array_equal(logs.observations[:, 0], [0, 1, 2] * 2)
    logs = collect_random(Clock("nothing", moment=3), 6, seed=0)["a"]
    assert logs.next_action_masks is not None and logs.terminals.tolist() == [False, False, True] * 2
    np.testing.assert_array_equal(logs.next_action_masks[2], [True] * 3)
    np.testing.assert_array_equal(logs.next_action_masks[1], [True, True, False])
