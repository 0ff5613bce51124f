"""What plug-in writers are told: marline's own parts pass, and every rule that can be broken is missed where it is."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from marline.algorithms import ALGORITHMS, TD3BC
from marline.envs import CooperativeNavigation
from marline.inputs.options import option_names, with_options
from marline.samplers import OTC, SAMPLERS, Shuffled, Uniform
from marline.testing import check_algorithm, check_sampler, check_task

EXAMPLES = Path(__file__).parents[1] / "examples"
SLOW = pytest.mark.slow  # the same checks of more of our own
SMALL = {"batch_size": 8, "num_candidates": 16, "num_references": 8, "num_estimate": 32, "num_groups": 4}


def small(value: Any) -> Any:
    known = option_names(value)
    options = SMALL | {"hidden": (4,), "num_updates": 2, "cloning_updates": 2}
    return with_options(value, {name: its for name, its in options.items() if name in known}, "it")


@pytest.mark.parametrize(
    "name",
    [
        "uniform",
        *(pytest.param(name, marks=SLOW) for name in ("otc-value", "otc-two-stage", "balanced", "classifier-ratio")),
    ],
)
def test_samplers_of_our_own_pass(name: str) -> None:
    check_sampler(small(SAMPLERS[name]))


@SLOW
def test_controls_pass() -> None:
    check_sampler(Shuffled(small(OTC("value"))))


@pytest.mark.parametrize("name", ["td3-bc", pytest.param("cql", marks=SLOW)])
def test_algorithms_of_our_own_pass(name: str) -> None:
    check_algorithm(small(ALGORITHMS[name]()))


def test_tasks_of_our_own_pass() -> None:
    check_task(CooperativeNavigation(2, horizon=5))


@dataclasses.dataclass(frozen=True)
class Beyond(Uniform):
    def sample(self, state: Any, experience: Any, critic: Any, *, key: Any) -> Any:
        return jax.random.randint(key, (4,), 0, experience.capacity), state, {}


@dataclasses.dataclass(frozen=True)
class Restless(Uniform):
    def sample(self, state: Any, experience: Any, critic: Any, *, key: Any) -> Any:
        try:
            return jnp.full(4, int(experience.size) - 1), state, {}
        except jax.errors.ConcretizationTypeError:
            return jnp.zeros(4, int), state, {}


@dataclasses.dataclass(frozen=True)
class Growing(Uniform):
    def begin_deployment(self, state: Any, experience: Any, critic: Any, *, key: Any) -> Any:
        return (state, jnp.zeros(1)), {}


@dataclasses.dataclass(frozen=True)
class Ahead(Uniform):
    def sample(self, state: Any, experience: Any, critic: Any, *, key: Any) -> Any:
        return (jnp.abs(experience.online_rows[-4:, 0]) > 10).astype(int), state, {}


@dataclasses.dataclass(frozen=True)
class Floating(Uniform):
    def sample(self, state: Any, experience: Any, critic: Any, *, key: Any) -> Any:
        return jax.random.uniform(key, (4,)), state, {}


@dataclasses.dataclass(frozen=True)
class Doubled(Uniform):
    """Rewards count twice."""

    def rewrite(self, state: Any, rows: Any, batch: Any, experience: Any, *, key: Any) -> Any:
        return batch._replace(reward=2 * batch.reward)


@dataclasses.dataclass(frozen=True)
class Shortened(Uniform):
    def rewrite(self, state: Any, rows: Any, batch: Any, experience: Any, *, key: Any) -> Any:
        return batch._replace(reward=batch.reward[:-1])


@dataclasses.dataclass(frozen=True)
class Elsewhere(Uniform):
    def rewrite(self, state: Any, rows: Any, batch: Any, experience: Any, *, key: Any) -> Any:
        return batch._replace(observation=batch.next_observation)


def test_a_sampler_that_rewrites_rows_passes() -> None:
    check_sampler(Doubled(batch_size=8))


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        (Shortened(batch_size=8), "Shortened.rewrite makes"),
        (Elsewhere(batch_size=8), "Elsewhere.rewrite changes what was seen"),
        (Beyond(), "are not logged yet"),
        (Restless(), "draws other rows when compiled"),
        (Growing(), "changes the structure"),
        (Ahead(), "hold something else"),
        (Floating(), "not whole numbers"),
        (SAMPLERS["frozen"], "trains = False"),
    ],
)
def test_a_sampler_that_breaks_a_rule_is_told_which(sampler: Any, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_sampler(sampler)


@dataclasses.dataclass(frozen=True)
class Idle(TD3BC):
    def update(self, state: Any, batch: Any, *, key: Any) -> Any:
        return state, {}


@dataclasses.dataclass(frozen=True)
class Wild(TD3BC):
    def policy(self, state: Any) -> Any:
        return lambda observation, *, key, action_mask=None: 5 + jnp.zeros(2)


@dataclasses.dataclass(frozen=True)
class Shortsighted(TD3BC):
    def critic(self, state: Any) -> Any:
        return dataclasses.replace(super().critic(state), gamma=0.5)


@pytest.mark.parametrize(
    ("algorithm", "told"),
    [
        (Idle(hidden=(4,)), "changes nothing in four updates"),
        (Wild(hidden=(4,)), "not within .-1, 1."),
        (Shortsighted(hidden=(4,)), "has gamma 0.5, but Shortsighted 0.99"),
    ],
)
def test_an_algorithm_that_breaks_a_rule_is_told_which(algorithm: Any, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_algorithm(algorithm)


@dataclasses.dataclass(frozen=True)
class Lone(CooperativeNavigation):
    def observe(self, state: Any) -> Mapping[str, Any]:
        return {agent: its * jnp.nan for agent, its in super().observe(state).items()}


def test_a_task_that_breaks_a_rule_is_told_which() -> None:
    with pytest.raises(AssertionError, match="(?i)nan|finite"):
        check_task(Lone(2, horizon=5))


@pytest.mark.slow
def test_the_examples_pass() -> None:
    check_sampler(runpy.run_path(str(EXAMPLES / "custom_sampler.py"))["HalfRecent"](batch_size=4))
    check_algorithm(runpy.run_path(str(EXAMPLES / "custom_algorithm.py"))["Cloning"](hidden=(4,)))
