"""Samplers that tell drawn rows anew: who learns from what, and what stays as it was."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from readable_rows import SPEC

from marline.agent import AgentState, tune
from marline.cohort import programs
from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.population import map_learners, stacked
from marline.samplers import Shuffled, Uniform, batch_of, draws_by_plan, rewrites
from marline.trial import require_sampler
from marline.types import Transition

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Paid(Uniform):
    """A step pays the number of its row, and as much noise as the memory says."""

    def init(self, experience: Experience, *, key: Any) -> Any:
        return jnp.float32(0.0)

    def begin_deployment(self, state: Any, experience: Experience, critic: Any, *, key: Any) -> Any:
        return state + 1.0, {}

    def sample(self, state: Any, experience: Experience, critic: Any, *, key: Any) -> Any:
        return super().sample((), experience, critic, key=key)[0], state, {}

    def rewrite(self, state: Any, rows: Any, batch: Transition, experience: Experience, *, key: Any) -> Transition:
        return batch._replace(reward=rows + state * jax.random.normal(key))


@dataclasses.dataclass(frozen=True)
class Paying:
    """Learns nothing, and tells what it is paid."""

    gamma: float = 0.99

    def init(self, experience: Experience, *, key: Any) -> Any:
        return ()

    def update(self, state: Any, batch: Transition, *, key: Any) -> Any:
        return state, {"paid": jnp.mean(batch.reward)}

    def policy(self, state: Any) -> Any:
        raise NotImplementedError

    def critic(self, state: Any) -> None:
        return None


@pytest.fixture(scope="module")
def experience() -> Experience:
    zeros = jnp.zeros((30, 2))
    rows = Transition(zeros, jnp.zeros((30, 1)), jnp.zeros(30), jnp.ones(30), zeros)
    return Experience.create(rows, SPEC, num_deployments=1, rows_per_deployment=5)


def test_updates_learn_from_what_the_sampler_tells_and_rows_stay_those_that_were_drawn(experience: Experience) -> None:
    algorithm = Paying()
    state = AgentState((), jnp.float32(0.0), experience)
    arguments: dict[str, Any] = {"algorithm": algorithm, "sampler": Paid(batch_size=8), "num_updates": 3}
    states = {0: state, 1: state.with_memory(jnp.float32(1.0))}
    keys = {who: jax.random.fold_in(KEY, who) for who in states}
    zero = jnp.int32(0)
    first = dict.fromkeys(states, zero)
    with stacked(False):
        alone = map_learners(tune, states, keys, keys, first, static=arguments)
    with stacked(True):
        together = map_learners(tune, states, keys, keys, first, static=arguments)
    bare, plain = state.with_memory(()), Uniform(batch_size=8)
    uniform = tune(bare, keys[0], keys[0], zero, algorithm=algorithm, sampler=plain, num_updates=3)
    np.testing.assert_array_equal(alone[0].rows, uniform.rows)
    np.testing.assert_allclose(alone[0].metrics["paid"], np.mean(alone[0].rows, axis=1), rtol=1e-6)
    assert not np.allclose(alone[1].metrics["paid"], np.mean(alone[1].rows, axis=1))
    assert not np.asarray(uniform.metrics["paid"]).any()
    for who in states:
        np.testing.assert_array_equal(together[who].rows, alone[who].rows)
        np.testing.assert_allclose(together[who].metrics["paid"], alone[who].metrics["paid"], rtol=1e-5)


def test_of_who_does_not_rewrite_a_batch_is_the_rows(experience: Experience) -> None:
    rows = jnp.array([3, 3, 7])
    found = functools.partial(batch_of, rows=rows, experience=experience, key=KEY)
    assert not rewrites(Uniform()) and rewrites(Paid())
    np.testing.assert_array_equal(found(Uniform(), ()).reward, experience[rows].reward)
    np.testing.assert_array_equal(found(Paid(), jnp.float32(0.0)).reward, rows)


def test_no_plan_and_no_shuffled_control_stands_for_it() -> None:
    assert Paid.draws_by_plan and not draws_by_plan(Paid())
    with pytest.raises(ConfigError, match=r"which rewrites rows.* let it say prefers_rows = False"):
        Shuffled(Paid())
    samplers = {"paid": Paid(), "uniform": Uniform(), "other": Uniform("offline")}
    assert programs(samplers)["paid"] == Paid() and programs(samplers)["uniform"] == programs(samplers)["other"]


def test_a_reply_of_another_form_is_refused_before_anything_is_written(experience: Experience) -> None:
    @dataclasses.dataclass(frozen=True)
    class Cut(Paid):
        def rewrite(self, state: Any, rows: Any, batch: Any, experience: Any, *, key: Any) -> Any:
            return batch._replace(reward=batch.reward[1:])

    with pytest.raises(ConfigError, match=r"Cut.rewrite makes"):
        require_sampler(Cut(), lambda learner: None, (), experience, KEY)
