"""d_q where V samples actions: one draw of noise for all rows of a comparison, so no row differs from itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from readable_rows import CRITIC, joined, random_rows

from marline.algorithms import AWAC, BCQ, IQL, MABCQ, Algorithm, ContinuousCQL
from marline.data.experience import Experience
from marline.samplers import OTC, ValueDistance, distances

KEY = jax.random.key(0)
NUM_OFFLINE, NUM_ONLINE = 9, 30
SMALL: dict[str, Any] = {"hidden": (8,)}
LEARNERS: dict[str, Algorithm[Any]] = {
    "bcq": BCQ(**SMALL, num_value_candidates=3),
    "bcq, the best": BCQ(**SMALL, num_value_candidates=3, value="max"),
    "mabcq": MABCQ(BCQ(**SMALL, num_value_candidates=3)),
    "awac": AWAC(**SMALL, num_value_samples=3),
    "cql-continuous": ContinuousCQL(**SMALL, num_value_samples=3),
    "iql": IQL(**SMALL),
}


@functools.cache
def experience() -> Experience:
    return joined(random_rows(NUM_OFFLINE, 0), random_rows(NUM_ONLINE, 1))


@functools.cache
def critic_of(name: str) -> Any:
    algorithm = LEARNERS[name]
    return jax.jit(lambda rows: algorithm.critic(algorithm.init(rows, key=KEY)))(experience())


def features(critic: Any, candidates: np.ndarray, references: np.ndarray, jit: Callable[..., Any]) -> tuple[Any, Any]:
    def both(critic: Any, experience: Experience) -> tuple[Any, Any]:
        first, second, _ = ValueDistance().features(
            (), experience, critic, jnp.asarray(candidates), jnp.asarray(references), key=KEY
        )
        return first, second

    return jit(both)(critic, experience())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("bcq, the best", "cql-continuous") else ())
        for name in LEARNERS
    ],
)
def test_a_row_differs_from_itself_nowhere(
    name: str, jit_for_users: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its place, on either side, and in any block; V still tells different rows apart."""
    rng = np.random.default_rng(0)
    candidates, references = rng.integers(NUM_OFFLINE + NUM_ONLINE, size=77), rng.permutation(NUM_ONLINE) + NUM_OFFLINE
    monkeypatch.setattr(distances, "VALUED_AT_ONCE", 32)
    first, second = features(critic_of(name), candidates, references, jit_for_users)
    for feature in ("state_action", "next_state"):
        values = np.concatenate([np.asarray(getattr(side, feature))[:, 0] for side in (first, second)])
        rows = np.concatenate([candidates, references])
        distinct = {row: set(values[rows == row].tolist()) for row in set(rows.tolist())}
        assert all(len(of_row) == 1 for of_row in distinct.values())
        assert len(set().union(*distinct.values())) > 20


@pytest.mark.slow
@pytest.mark.parametrize(("name", "match"), [("bcq", "minibatch"), ("awac", "refresh")])
def test_most_candidates_are_their_own_match_at_distance_0(name: str, match: Any) -> None:
    """30 of 39 rows are online, and all of these are references."""
    sampler = OTC(num_candidates=33, batch_size=8, num_estimate=33, match=match, num_groups=2)

    rows = experience()

    def measure(critic: Any, key: Array) -> dict[str, Array]:
        state = sampler.init(rows, key=key)
        state, _ = sampler.begin_deployment(state, rows, critic, key=key)
        return dict(sampler.sample(state, rows, critic, key=key)[2])

    measured = jax.jit(jax.vmap(measure, (None, 0)))(critic_of(name), jax.random.split(KEY, 5))
    metrics = jax.device_get(measured)
    assert not metrics["median_distance"].any()
    assert metrics["mean_distance"].all()  # the others are at some distance
    assert metrics["self_matches"].min() > 0.5


def test_noise_is_another_at_each_comparison() -> None:
    critic, logs = critic_of("bcq"), experience()

    @jax.jit
    def compared(key: Array) -> Array:
        rows = jnp.arange(NUM_OFFLINE)
        return ValueDistance().features((), logs, critic, rows, rows + NUM_OFFLINE, key=key)[0].compared

    assert np.all(np.asarray(compared(jax.random.key(1))) != np.asarray(compared(jax.random.key(2))))


def test_how_many_rows_are_compared_does_not_scale_distances() -> None:
    """Candidates and references count for half of the mean each: an update compares 512 with 2000 rows, an
    estimate 10,000 with as many."""
    candidates, references = np.arange(NUM_OFFLINE), np.arange(NUM_ONLINE) + NUM_OFFLINE
    once = features(CRITIC, candidates, references, jax.jit)
    tiled = features(CRITIC, np.tile(candidates, 50), references, jax.jit)
    np.testing.assert_allclose(np.asarray(tiled[0].compared)[:NUM_OFFLINE], once[0].compared, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tiled[1].compared, once[1].compared, rtol=1e-5, atol=1e-6)
