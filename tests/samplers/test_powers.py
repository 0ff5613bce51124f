"""Offline rows are weighted as far as that helps to foretell today's TD errors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from readable_rows import CRITIC, joined, rows

from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.ops.law_ratio import ClusteredMean
from marline.samplers import DynamicsRatio, TwoSided
from marline.samplers.powers import best_power, useful_power
from marline.samplers.td_errors import Regression

KEY = jax.random.key(0)
POWERS = (0.5, 1.0)


def test_a_power_must_be_better_than_none_by_two_standard_errors() -> None:
    powers, means = jnp.array([0.0, 0.5, 1.0]), jnp.array([1.0, 0.8, 0.7])

    def gains(*errors: float) -> ClusteredMean:
        return ClusteredMean(1.0 - means, jnp.array([0.0, *errors]), jnp.full(3, 10))

    assert [float(x) for x in best_power(powers, means, gains(0.09, 0.14))] == [1.0, 2]  # .2 > 2 * .09, .3 > 2 * .14
    assert [float(x) for x in best_power(powers, means, gains(0.09, 0.16))] == [0.5, 1]  # .3 < 2 * .16
    assert [float(x) for x in best_power(powers, means, gains(0.11, 0.16))] == [0.0, 0]
    # one that is worse is none, however sure that is
    worse = ClusteredMean(jnp.array([0.0, -0.2, -0.3]), jnp.zeros(3), jnp.full(3, 10))
    assert float(best_power(powers, 2.0 - means, worse)[0]) == 0.0


@jax.jit
def found_power(log_weights: Any, is_due: Any, experience: Experience) -> Any:
    small = Regression(hidden=(16,), learning_rate=1e-2, batch_size=64, num_updates=300)
    return useful_power(log_weights, is_due, experience, CRITIC, POWERS, key=KEY, regression=small)


def world() -> Experience:
    """The critic errs by 2 in every other row of the logs, by nothing in the others, and by 2 in all of today's."""
    rng = np.random.default_rng(0)

    def its(errors: Any) -> Any:
        q = rng.normal(size=len(errors))
        noise = 0.3 * rng.normal(size=len(errors))
        return rows(q, (q + errors + noise) / 0.99, action=rng.uniform(-1, 1, len(errors)))

    return joined(its(2.0 * (np.arange(600) % 2)), its(np.full(100, 2.0)))


@pytest.mark.parametrize(
    ("log_weights", "power"),
    [
        (np.where(np.arange(600) % 2, 0.0, -3.0), 1.0),  # those that are as today's
        (np.where(np.arange(600) % 2, -3.0, 0.0), 0.0),  # the others
        # for nothing that matters
        pytest.param(np.where(np.arange(600) < 300, 0.0, -3.0), 0.0, marks=pytest.mark.slow),
    ],
)
def test_weights_are_used_where_they_help(log_weights: Any, power: float) -> None:
    found, told = found_power(jnp.array(log_weights, jnp.float32), jnp.array(True), world())
    assert float(found) == float(told["power"]) == power
    none, half, whole = np.asarray(told["td_error_by_power"])
    if power:
        # half of the rows err by 2: foretold at 1 + .1, which is a tenth of fresh rows, and with weights at nearly 2
        assert whole < half < none and float(told["td_gain"]) > 4 * float(told["td_gain_se"])


def test_nothing_is_judged_unless_it_is_due() -> None:
    weights = jnp.zeros(600)
    power, told = found_power(weights, jnp.array(False), world())
    assert float(power) == 0.0 and not np.asarray(told["td_error_by_power"]).any()
    for critic, powers in ((None, POWERS), (CRITIC, ())):
        power, told = useful_power(weights, jnp.array(True), world(), critic, powers, key=KEY)
        assert float(power) == 1.0 and told == {}


@pytest.mark.parametrize("sampler", [DynamicsRatio, TwoSided])
@pytest.mark.parametrize("powers", [(0.0, 1.0), (1.0, 0.5), (0.5, 0.5)])
def test_powers_that_are_none_are_refused(sampler: Any, powers: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="each larger than the one before"):
        sampler(powers=powers)
