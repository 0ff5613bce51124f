"""What OTC draws, put together from its equations, in worlds small enough to know the answer."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marline.ops.matching import best_match, best_match_scalar
from marline.ops.prioritization import draw, rank_order, rank_probabilities
from marline.ops.transition_correction import kl_divergence

NUM_CANDIDATES, NUM_REFERENCES, BATCH_SIZE = 512, 2000, 128
ALPHAS = (0.5, 1.0, 2.0)


def kept_rows(matches: jax.Array, next_state: jax.Array, next_online: jax.Array, key: jax.Array) -> jax.Array:
    """Rows of one batch for each exponent, ranked by the L1 distance of next states."""
    rank_key, draw_key = jax.random.split(key)
    distances = jnp.sum(jnp.abs(next_state - next_online[matches]), axis=1)
    order = rank_order(distances, key=rank_key)
    laws = [rank_probabilities(NUM_CANDIDATES, alpha) for alpha in ALPHAS]
    return jnp.stack([order[draw(law, BATCH_SIZE, key=draw_key)] for law in laws])


def estimate(trial: Callable[[jax.Array], jax.Array], num: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of independent trials, and four standard errors of it."""
    results = np.asarray(jax.jit(lambda keys: jax.lax.map(trial, keys))(jax.random.split(jax.random.key(0), num)), "f8")
    return results.mean(axis=0), 4 * results.std(axis=0) / np.sqrt(num)


def two_outcomes(offline: float, online: float, matching: str) -> Callable[[jax.Array], jax.Array]:
    """Share of outcome A in a batch, in a world of one state-action pair."""

    def trial(key: jax.Array) -> jax.Array:
        offline_key, online_key, match_key, keep_key = jax.random.split(key, 4)
        outcome = jax.random.bernoulli(offline_key, offline, (NUM_CANDIDATES, 1)).astype(jnp.float32)
        reference = jax.random.bernoulli(online_key, online, (NUM_REFERENCES, 1)).astype(jnp.float32)
        if matching == "state-action":
            matches = best_match_scalar(jnp.zeros(NUM_CANDIDATES), jnp.zeros(NUM_REFERENCES), key=match_key)
        else:  # one embedding of state, action and next state is both matched and compared
            matches = best_match(outcome, reference, key=match_key)
        kept = kept_rows(matches, outcome, reference, keep_key)
        return jnp.mean(outcome[kept, 0], axis=1)

    return trial


def large_sample_share(offline: float, online: float, alpha: float) -> float:
    """Share of A if the nearest candidates, those whose match had their outcome, are exactly as many as expected."""
    near = offline * online + (1 - offline) * (1 - online)
    cumulative = np.concatenate([[0.0], np.cumsum(np.asarray(rank_probabilities(NUM_CANDIDATES, alpha)))])
    mass = np.interp(near * NUM_CANDIDATES, np.arange(NUM_CANDIDATES + 1), cumulative)
    return mass * offline * online / near + (1 - mass) * offline * (1 - online) / (1 - near)


@pytest.mark.parametrize(
    ("offline", "online", "alpha", "share", "divergence"),
    [
        (0.5, 0.9, 0.5, 0.658161, 0.158734),
        (0.5, 0.9, 1.0, 0.818765, 0.025675),
        (0.5, 0.9, 2.0, 0.899052, 4.97e-6),
        (0.7, 0.7, 1.0, 0.817307, 0.040339),
    ],
)
def test_two_outcomes_in_the_limit_of_large_samples(
    offline: float, online: float, alpha: float, share: float, divergence: float
) -> None:
    limit = large_sample_share(offline, online, alpha)
    np.testing.assert_allclose(limit, share, atol=2e-5)
    laws = (jnp.array([p, 1 - p]) for p in (online, limit))
    np.testing.assert_allclose(kl_divergence(*laws), divergence, rtol=2e-3, atol=2e-7)
    if offline == 0.5:
        before = kl_divergence(jnp.array([0.9, 0.1]), jnp.array([0.5, 0.5]))
        np.testing.assert_allclose(before, 0.368064, rtol=1e-5)


def test_two_outcomes_are_drawn_towards_the_online_law() -> None:
    share, error = estimate(two_outcomes(0.5, 0.9, "state-action"), 2000)
    limits = [large_sample_share(0.5, 0.9, alpha) for alpha in ALPHAS]
    # in finite samples the number of near candidates varies, which costs about .001
    np.testing.assert_array_less(np.abs(share - limits), error + 1e-3)
    np.testing.assert_allclose(share[1], 0.8179, atol=0.001 + error[1])


@pytest.mark.slow
def test_two_outcomes_are_over_corrected_where_the_laws_agree() -> None:
    share, error = estimate(two_outcomes(0.7, 0.7, "state-action"), 2000)
    np.testing.assert_allclose(share[1], 0.8164, atol=0.001 + error[1])
    assert share[1] > 0.7 + 0.1


@pytest.mark.slow
def test_single_embedding_cannot_tell_two_known_outcomes_apart() -> None:
    share, error = estimate(two_outcomes(0.5, 0.9, "everything"), 200)
    np.testing.assert_array_less(np.abs(share - 0.5), error)


def shifted_gaussians(size: int) -> Callable[[jax.Array], jax.Array]:
    """Mean of the first coordinate in a batch; it is 0 offline and 1 online, and the others do not differ."""

    def trial(key: jax.Array) -> jax.Array:
        offline_key, online_key, match_key, keep_key = jax.random.split(key, 4)
        offline = jax.random.normal(offline_key, (NUM_CANDIDATES, size))
        online = jax.random.normal(online_key, (NUM_REFERENCES, size)).at[:, 0].add(1.0)
        if size == 1:
            matches = best_match_scalar(offline[:, 0], online[:, 0], key=match_key)
        else:
            matches = best_match(offline, online, key=match_key)
        kept = kept_rows(matches, offline, online, keep_key)
        return jnp.mean(offline[kept[ALPHAS.index(1.0)], 0])

    return trial


@pytest.mark.slow
@pytest.mark.parametrize(("size", "mean", "tolerance", "num"), [(1, 0.401, 0.01, 2000), (10, 0.345, 0.04, 200)])
def test_nearest_neighbours_move_a_gaussian_towards_the_online_one(
    size: int, mean: float, tolerance: float, num: int
) -> None:
    drawn, error = estimate(shifted_gaussians(size), num)
    np.testing.assert_array_less(np.abs(drawn - mean), tolerance + error)


PAYOFF = np.array([[2.0, 0.0], [1.0, 3.0]])  # by own action, then by the partner's


def action_values(partner: np.ndarray) -> np.ndarray:
    """Expected payoff of each own action, where `partner[a]` is the chance that the partner plays 1 beside it."""
    return PAYOFF[:, 0] * (1 - partner) + PAYOFF[:, 1] * partner


@pytest.mark.slow
def test_greedy_action_turns_once_the_partner_has_changed() -> None:
    num_offline, num_online = 100_000, 1000
    merged = (0.1 * num_offline + 0.9 * num_online) / (num_offline + num_online)

    def trial(key: jax.Array) -> jax.Array:
        candidate_key, online_key, match_key, keep_key = jax.random.split(key, 4)

        def joint_actions(key: jax.Array, num: int, partner: float) -> tuple[jax.Array, jax.Array]:
            own_key, partner_key = jax.random.split(key)
            own = jax.random.bernoulli(own_key, 0.5, (num,)).astype(jnp.float32)
            return own, jax.random.bernoulli(partner_key, partner, (num,)).astype(jnp.float32)

        own, partner = joint_actions(candidate_key, NUM_CANDIDATES, merged)
        own_online, partner_online = joint_actions(online_key, num_online, 0.9)
        matches = best_match_scalar(own, own_online, key=match_key)
        kept = kept_rows(matches, partner[:, None], partner_online[:, None], keep_key)
        played = jnp.stack([1 - own, own])[:, kept]  # [own action, exponent, row]
        return jnp.stack([jnp.mean(played, axis=2), jnp.mean(played * partner[kept][None], axis=2)])

    (played, both), _ = estimate(trial, 2000)
    partner = both / played

    np.testing.assert_allclose(action_values(np.full(2, 0.1)), [1.8, 1.2])
    np.testing.assert_allclose(action_values(np.full(2, 0.9)), [0.2, 2.8])
    np.testing.assert_allclose(action_values(np.full(2, merged)), [1.78, 1.21], atol=0.01)  # uniform: still action 0
    for index, (alpha, greedy) in enumerate(zip(ALPHAS, (0, 1, 1), strict=True)):
        np.testing.assert_allclose(partner[:, index], large_sample_share(merged, 0.9, alpha), atol=0.02)
        assert action_values(partner[:, index]).argmax() == greedy
