"""Offline rows by the return of their episodes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from readable_rows import CRITIC, SPEC, random_rows

from marline.configuration.selection import select_samplers
from marline.data.experience import Experience
from marline.errors import ConfigError
from marline.samplers import ReturnWeighted, Sampler, Shuffled
from marline.testing import check_sampler

KEY = jax.random.key(0)
# four episodes of returns 3, 3, 0 and 18: mean 6, standard deviation sqrt((9 + 9 + 36 + 144) / 4) = sqrt(49.5)
REWARDS = np.array([1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 9.0, 9.0], np.float32)
ENDS = np.array([False, True, True, False, False, True, False, True])
Z = (np.array([3, 3, 3, 0, 0, 0, 18, 18]) - 6) / np.sqrt(49.5)


def experience() -> Experience:
    start = Experience.create(
        random_rows(8, 0)._replace(reward=jnp.asarray(REWARDS)),
        SPEC,
        num_deployments=2,
        rows_per_deployment=4,
        ends=ENDS,
    )
    return start.merge(random_rows(2, 1), 1)


def counts(sampler: Sampler[Any], num: int = 4000) -> np.ndarray:
    @jax.jit
    def drawn(rows: Experience, keys: jax.Array) -> jax.Array:
        state = sampler.init(rows, key=KEY)
        state, _ = sampler.begin_deployment(state, rows, CRITIC, key=KEY)
        return jax.vmap(lambda key: sampler.sample(state, rows, CRITIC, key=key)[0])(keys)

    return np.bincount(np.asarray(drawn(experience(), jax.random.split(KEY, num))).ravel(), minlength=10)


def test_weights_are_those_of_the_formula() -> None:
    @jax.jit
    def weights(rewards: jax.Array, ends: jax.Array) -> list[jax.Array]:
        samplers = ReturnWeighted(), ReturnWeighted(bound=0.5)
        return [jnp.exp(sampler.log_weights(rewards, ends)) for sampler in samplers]

    whole, clipped = weights(jnp.asarray(REWARDS), jnp.asarray(ENDS))
    np.testing.assert_allclose(whole, np.exp(1.5 * Z), rtol=1e-5)
    np.testing.assert_allclose(clipped, np.exp(np.clip(1.5 * Z, -0.5, 0.5)), rtol=1e-5)


def test_offline_rows_are_drawn_by_weight_and_online_rows_at_their_natural_share() -> None:
    drawn = counts(ReturnWeighted(batch_size=8))
    assert len(drawn) == 10
    assert drawn[8:].sum() / drawn.sum() == pytest.approx(0.2, abs=0.01)
    expected = np.exp(1.5 * Z)
    expected *= drawn[:8].sum() / expected.sum()
    assert scipy.stats.chisquare(drawn[:8], expected).pvalue > 1e-3
    assert scipy.stats.chisquare(drawn[8:]).pvalue > 1e-3


def test_another_share_may_be_asked_for() -> None:
    drawn = counts(ReturnWeighted(online_share=0.6, batch_size=8))
    assert drawn[8:].sum() / drawn.sum() == pytest.approx(0.6, abs=0.01)


def test_its_control_repeats_as_often_but_other_rows() -> None:
    drawn, shuffled = counts(ReturnWeighted(batch_size=8)), counts(Shuffled(ReturnWeighted(batch_size=8)))
    np.testing.assert_array_equal(np.sort(drawn[:8]), np.sort(shuffled[:8]))
    np.testing.assert_array_equal(np.sort(drawn[8:]), np.sort(shuffled[8:]))
    assert (drawn[:8] != shuffled[:8]).any()


def test_names() -> None:
    selection = select_samplers(["return-weighted", "shuffled"])
    assert selection.samplers == {
        "return-weighted": ReturnWeighted(),
        "shuffled-return-weighted": Shuffled(ReturnWeighted()),
    }


@pytest.mark.slow
def test_it_keeps_the_rules_of_samplers() -> None:
    check_sampler(ReturnWeighted(batch_size=8))
    check_sampler(Shuffled(ReturnWeighted(batch_size=8)))


@pytest.mark.parametrize("options", [{"scale": np.inf}, {"bound": -1.0}, {"online_share": 2.0}, {"batch_size": 0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} is"):
        ReturnWeighted(**options)  # pyright: ignore[reportArgumentType]
