"""Parts of the user's own that fail or reply in another form: a sentence before anything is computed."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from marline import tuning
from marline.algorithms import TD3BC
from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.samplers import OTC, Shuffled, Uniform
from marline.trial import is_theirs
from marline.types import Spec

SPEC = Spec(3, 2)


@dataclasses.dataclass(frozen=True)
class Mine:
    """Replies as it is told to; None stands for what is right."""

    kind: str = ""

    def init(self, experience: Experience, *, key: Any) -> Any:
        return jnp.float32(0.0)

    def begin_deployment(self, state: Any, experience: Experience, critic: Any, *, key: Any) -> Any:
        return {"begun": None, "named": (state, {3: 1.0}), "words": (state, {"x": "much"})}.get(
            self.kind, (state, {"counts": jnp.zeros(3)})
        )

    def sample(self, state: Any, experience: Experience, critic: Any, *, key: Any) -> Any:
        rows = jnp.zeros(4, jnp.int32)
        if self.kind == "raises":
            raise KeyError("gripper")
        if self.kind == "branches" and state > 0:
            return rows, state, {}
        return {
            "two": (rows, state),
            "wide": (rows[:, None], state, {}),
            "floats": (rows * 0.5, state, {}),
            "none": (rows[:0], state, {}),
            "grows": (rows, (state, state), {}),
            "turns": (rows, jnp.int32(0), {}),
            "vector": (rows, state, {"x": rows}),
            "beyond": (rows + 10**6, state, {}),
            "before": (rows - 1, state, {}),
            "after": (rows + experience.size - jax.random.randint(key, (4,), 0, 9), state, {}),
            "far": (rows + 1000, state, {}) if experience.capacity > 2000 else None,
        }.get(self.kind, (rows, state, {}))


@dataclasses.dataclass(frozen=True)
class Near:
    def init(self, experience: Experience, *, key: Any) -> Any:
        return ()

    def begin_deployment(self, state: Any, experience: Experience) -> Any:
        return state, {}

    def features(
        self, state: Any, experience: Experience, critic: Any, candidates: Any, references: Any, *, key: Any
    ) -> Any:
        return None


@dataclasses.dataclass(frozen=True)
class Learns(TD3BC):
    kind: str = ""

    def update(self, state: Any, batch: Any, *, key: Any) -> Any:
        if self.kind == "raises":
            raise KeyError("gripper")
        return state if self.kind == "one" else (state, {"loss": "low"} if self.kind == "words" else {})

    def policy(self, state: Any) -> Any:
        def wide(observation: Any, *, key: Any, action_mask: Any = None) -> Any:
            return jnp.zeros(SPEC.action_size + 1)

        return {"policy": None, "wide": wide, "blind": lambda: None}.get(self.kind, super().policy(state))


def check_compatible(algorithm: Any, sampler: Any) -> None:
    outline = Experience.outline(SPEC, num_offline=20, num_deployments=1, rows_per_deployment=5)
    tuning.check_compatible(algorithm, {"mine": sampler}, {"a": outline})


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("raises", r"Mine.sample\(\) failed with KeyError: 'gripper' \(.*test_trial.py:\d+\)"),
        ("branches", r"Mine.sample\(\) failed with TracerBoolConversionError"),
        ("begun", r"Mine.begin_deployment returns None, but must return \(memory, metrics\)"),
        ("named", r"begin_deployment returns as metrics .* a dict of numbers by name"),
        ("words", r"metric 'x' 'much', but must return numbers"),
        ("two", r"Mine.sample returns .*, but must return \(rows, memory, metrics\)"),
        ("wide", r"Mine.sample returns as rows .* int32\[batch\]"),
        ("floats", r"Mine.sample returns as rows .* int32\[batch\]"),
        ("none", r"Mine.sample returns as rows .* int32\[batch\]"),
        ("grows", r"Mine.sample makes \(float32\[\], float32\[\]\) of float32\[\]; state must keep its form"),
        ("turns", r"Mine.sample makes int32\[\] of float32\[\]"),
        ("vector", r"metric 'x' .*, but must return one number"),
    ],
)
def test_a_sampler_that_replies_in_another_form_is_told(kind: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"mine with TD3BC: .*{told}"):
        check_compatible(TD3BC(hidden=(4,)), Mine(kind))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("raises", r"Learns.update\(\) failed with KeyError: 'gripper'"),
        ("one", r"Learns.update returns .*, but must return \(learner, metrics\)"),
        ("words", "Learns.update returns as metric 'loss' 'low'"),
        ("policy", "Learns.policy returns None, but must return a function"),
        ("wide", r"the policy of Learns gives float32\[3\] for one observation; let it give float32\[2\]"),
        ("blind", r"the policy of Learns\(\) failed with TypeError"),
    ],
)
def test_an_algorithm_that_replies_in_another_form_is_told(kind: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_compatible(Learns(hidden=(4,), kind=kind), Uniform(batch_size=4))


def test_a_distance_that_replies_in_another_form_is_told() -> None:
    with pytest.raises(ConfigError, match="mine with TD3BC: OTC with Near cannot be computed: TypeError"):
        check_compatible(TD3BC(hidden=(4,)), OTC(distance=Near(), batch_size=4))


def test_what_is_right_passes_and_whose_it_is_is_known() -> None:
    check_compatible(TD3BC(hidden=(4,)), Mine())
    assert is_theirs(Mine()) and is_theirs(Shuffled(Mine())) and is_theirs(OTC(distance=Near()))
    assert not is_theirs(TD3BC()) and not is_theirs(OTC()) and not is_theirs(Shuffled(OTC()))


@pytest.mark.parametrize(("kind", "row"), [("beyond", "1000000"), pytest.param("before", "-1", marks=pytest.mark.slow)])
def test_rows_that_are_not_there_are_refused_and_not_replaced(kind: str, row: str) -> None:
    outline = Experience.outline(SPEC, num_offline=20, num_deployments=1, rows_per_deployment=5)
    experience = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), outline)
    experience = dataclasses.replace(experience, size=jnp.int32(20))
    team = tuning.init_samplers(tuning.init_team_on({"arm": experience}, TD3BC(hidden=(4,)), seeds=(3,)), Mine(kind))
    told = f"Mine.sample drew row {row} for agent 'arm' under seed 3, who has rows 0 to 19"
    with pytest.raises(ConfigError, match=told):
        tuning.tune_on(team, 1, TD3BC(hidden=(4,)), Mine(kind), num_updates=1)


@pytest.mark.parametrize(("kind", "row"), [("before", "-1"), ("after", "25"), ("", ""), ("far", "")])
def test_rows_that_are_not_there_are_found_in_a_trial(kind: str, row: str) -> None:
    outline = Experience.outline(SPEC, num_offline=20, num_deployments=1, rows_per_deployment=5)
    if kind == "far":  # which asks for more rows than a trial has, and fails there
        outline = Experience.outline(SPEC, num_offline=2000, num_deployments=1, rows_per_deployment=5)
    check = functools.partial(tuning.require_rows_that_are_there, TD3BC(hidden=(4,)), {"mine": Mine(kind)})
    if not row:
        return check({"a": outline})
    with pytest.raises(ConfigError, match=rf"mine with TD3BC: Mine.sample drew row {row} .* rows 0 to 24; draw from 0"):
        check({"a": outline})
