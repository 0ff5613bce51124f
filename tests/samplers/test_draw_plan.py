"""Draws as data: a plan gives the very rows of the sampler that it was made of, whatever else is in its form."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from readable_rows import SPEC, random_rows

from marline.data.experience import Experience
from marline.samplers import (
    OTC,
    FreshShare,
    OnlineMatched,
    Oracle,
    ReturnWeighted,
    Shuffled,
    TwoSided,
    Uniform,
    WithReturns,
    draws_by_plan,
)
from marline.samplers.draw_plan import ONE, ByPlan, DrawPlan, completed, draw_by_plan, plan_of_windows

SIZE = 24  # no power of two: shares of it are rounded
WEIGHTS = np.arange(60, dtype=np.float32)
SAMPLERS: dict[str, Any] = {
    "merged": Uniform(batch_size=SIZE),
    "offline": Uniform("offline", batch_size=SIZE),
    "online": Uniform("online", batch_size=SIZE),
    "fresh": FreshShare(0.3, batch_size=SIZE),
    "matched": OnlineMatched(batch_size=SIZE),
    "weighted": Oracle(batch_size=SIZE),
    "weighted at a share": Oracle(0.4, batch_size=SIZE),
    "by return": ReturnWeighted(batch_size=SIZE),
    "by return and ratio": WithReturns(TwoSided(num_references=40, batch_size=SIZE)),
    "shuffled": Shuffled(Oracle(0.4, batch_size=SIZE)),
    "shuffled twice": Shuffled(Shuffled(Oracle(batch_size=SIZE))),
}


@pytest.fixture(scope="module")
def stages() -> list[Experience]:
    """Before any deployment, after one, and after another that brought fewer rows than were planned."""
    start = Experience.create(random_rows(60, 0), SPEC, num_deployments=3, rows_per_deployment=20)
    first = start.merge(random_rows(20, 1), 1)
    return [start, first, first.merge(random_rows(13, 2), 2)]


@functools.partial(jax.jit, static_argnums=0)
def memory_of(sampler: Any, experience: Experience) -> Any:
    state = sampler.init(experience, key=jax.random.key(1))
    if isinstance(sampler, OnlineMatched):
        state = sampler.prescribe(state, 1, jnp.array([0.5, 0.0, 0.5]))
        return sampler.prescribe(state, 2, jnp.array([0.2, 0.3, 0.5]))
    return sampler.prescribe(state, jnp.asarray(WEIGHTS)) if isinstance(sampler, Oracle) else state


@functools.partial(jax.jit, static_argnums=0)
def begin(sampler: Any, state: Any, experience: Experience, key: Array) -> Any:
    return sampler.begin_deployment(state, experience, None, key=key)[0]


@functools.partial(jax.jit, static_argnums=0)
def draw(sampler: Any, state: Any, experience: Experience, key: Array) -> tuple[Array, Array, Array, DrawPlan]:
    """By the sampler, by its plan, and by its plan in the form of all others, which is told, too."""
    rows, after, metrics = sampler.sample(state, experience, None, key=key)
    assert metrics == {} and after is not None
    plan = sampler.plan(state, experience)
    whole = completed(plan, experience, table=True, stand_in=True)
    return rows, draw_by_plan(plan, SIZE, key=key), draw_by_plan(whole, SIZE, key=key), whole


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_plan_draws_the_very_rows(name: str, stages: list[Experience]) -> None:
    sampler = SAMPLERS[name]
    assert draws_by_plan(sampler)
    state = memory_of(sampler, stages[0])
    for number, experience in enumerate(stages):
        if number:
            state = begin(sampler, state, experience, jax.random.key(number))
        for step in range(3):
            rows, by_plan, by_whole, _ = draw(sampler, state, experience, jax.random.key(100 * number + step))
            np.testing.assert_array_equal(by_plan, rows)
            np.testing.assert_array_equal(by_whole, rows)


def test_one_program_draws_for_all_of_them(stages: list[Experience]) -> None:
    experience, keys = stages[1], jax.random.split(jax.random.key(7), len(SAMPLERS))
    plans, alone = [], []
    for sampler, key in zip(SAMPLERS.values(), keys, strict=True):
        state = begin(sampler, memory_of(sampler, stages[0]), experience, jax.random.key(1))
        rows, _, _, plan = draw(sampler, state, experience, key)
        alone.append(rows)
        plans.append(plan)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *plans)
    by_plan = ByPlan(SIZE)
    each = jax.vmap(lambda plan, key: by_plan.sample(plan, experience, None, key=key)[0])
    np.testing.assert_array_equal(jax.jit(each)(stacked, keys), np.stack(alone))


def test_windows_are_counted_from_the_first_row() -> None:

    @jax.jit
    def planned(key: Array) -> tuple[DrawPlan, Array]:
        plan = plan_of_windows(ONE, (5, 9, 1.0))
        return plan, draw_by_plan(plan, 200, key=key)

    plan, drawn = planned(jax.random.key(0))
    np.testing.assert_array_equal(plan.start, [5, 0, 0])
    np.testing.assert_array_equal(plan.stop, [9, 0, 0])
    assert set(np.asarray(drawn).tolist()) == {5, 6, 7, 8}


def test_who_looks_at_the_critic_or_draws_otherwise_has_no_plan() -> None:
    @dataclasses.dataclass(frozen=True)
    class Otherwise(Uniform):
        def sample(self, state: Any, experience: Any, critic: Any, *, key: Any) -> Any:
            return jnp.arange(self.batch_size), state, {}

    for sampler in (OTC(), Shuffled(OTC()), Otherwise()):
        assert not draws_by_plan(sampler)
