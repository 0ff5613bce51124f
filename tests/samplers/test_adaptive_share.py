"""A share of fresh rows that the agent finds: large where they tell something, else that of uniform replay."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from readable_rows import CRITIC, joined, many, rows

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.samplers import AdaptiveShare
from marline.samplers.adaptive_share import State
from marline.testing import check_sampler

KEY = jax.random.key(0)
SAMPLER = AdaptiveShare(hidden=(16,), num_updates=200, learning_rate=1e-2, error_batch_size=64, batch_size=8)


def world(*errors: float) -> Experience:
    """Rows of which the critic's TD error is a number and noise: 900 offline, and 100 of each deployment."""

    def its(num: int, error: float, seed: int) -> Any:
        rng = np.random.default_rng(seed)
        q = rng.normal(size=num)
        return rows(q, (q + error + 0.5 * rng.normal(size=num)) / 0.99, action=rng.uniform(-1, 1, num))

    offline, *online = [its(900 if number == 0 else 100, error, number) for number, error in enumerate(errors)]
    return joined(offline, *online)


@jax.jit
def found(experience: Experience) -> tuple[State, dict[str, jax.Array]]:
    state = SAMPLER.init(experience, key=KEY)
    state, metrics = SAMPLER.begin_deployment(state, experience, CRITIC, key=KEY)
    return state, dict(metrics)


def test_fresh_rows_that_tell_nothing_new_are_drawn_as_in_uniform_replay() -> None:
    state, metrics = found(world(0.0, 0.0))
    assert float(state.share) == float(metrics["fresh_share"]) == pytest.approx(0.1)


def test_fresh_rows_that_contradict_the_logs_are_drawn_often() -> None:
    experience = world(0.0, 2.0)
    state, metrics = found(experience)
    share = float(metrics["fresh_share"])
    assert share >= 0.5
    # foretold from a mixture of which a tenth is fresh, an error of 2 is .2; in units of the noise, which is .5
    errors = np.asarray(metrics["td_error_by_share"])
    assert errors[0] == pytest.approx((1.8 / 0.5) ** 2 + 1, rel=0.15) and (np.diff(errors[2:]) < 0).all()
    drawn = many(lambda key: SAMPLER.sample(state, experience, CRITIC, key=key)[0], 2000)
    assert np.mean(drawn >= 900) == pytest.approx(share, abs=0.01)


def test_without_values_the_share_is_that_of_uniform_replay() -> None:
    experience = world(0.0, 2.0)
    state, metrics = SAMPLER.begin_deployment(SAMPLER.init(experience, key=KEY), experience, None, key=KEY)
    assert float(state.share) == float(metrics["fresh_share"]) == pytest.approx(0.1)


@pytest.mark.slow
def test_it_keeps_the_rules_of_samplers() -> None:
    check_sampler(AdaptiveShare(hidden=(4,), num_updates=2, error_batch_size=4, batch_size=8))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shares": ()}, r"shares are \(\)"),
        ({"shares": (0.5, 0.25)}, "each larger than the one before"),
        ({"shares": (0.5, 1.5)}, "numbers in"),
        ({"hidden": (0,)}, r"hidden is \(0,\)"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"num_updates": 0}, "num_updates is 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        AdaptiveShare(**options)
