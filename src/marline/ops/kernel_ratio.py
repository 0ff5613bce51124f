"""Ratios of what came after alike steps, today and in the logs, by kernels on both sides; for few dimensions.

Drawing a logged row when its outcome is near one of today replays P_logs(o) P_today(o). Dividing by the logged side
gives P_today(o) again, which is what these weights do. How wide kernels are, how far the estimate of today's law is
drawn towards that of the logs, and whether there is a difference at all, is decided by how well whole episodes of today
are foretold by the others.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from marline.ops.pooled_ratio import LEAST, Pooled, pooled_law, pooled_ratio, visits_of

LEAST_GAIN = 1e-4  # nats per row; what is below may be rounding
NUM_ERRORS = 2.0  # standard errors above 0 that a gain must be to be believed


class Distances(NamedTuple):
    """Squared distances of n rows to m references: of what was seen and done, and of what came of it."""

    given: Float[Array, "n m"]
    outcome: Float[Array, "n m"]


class Choice(NamedTuple):
    """What foretells today's rows best.

    Attributes:
        given: bandwidth of what was seen and done.
        outcome: bandwidth of what came of it.
        strength: kappa, how many of today's rows the law of the logs counts for.
        gain: nats per row of today by which held-out rows are likelier than by the logs alone, of which as many more
            rows are looked at, at their best bandwidths and strength.
        error: standard error of the gain, over episodes.
    """

    given: Float[Array, ""]
    outcome: Float[Array, ""]
    strength: Float[Array, ""]
    gain: Float[Array, ""]
    error: Float[Array, ""]

    @property
    def is_believed(self) -> Bool[Array, ""]:
        """Whether today differs from the logs as far as one can tell."""
        return self.gain > LEAST_GAIN + NUM_ERRORS * self.error


def squared_distances(first: Float[Array, "n d"], second: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Euclidean, of every row to every row."""
    # accelerators would multiply in fewer bits, and the difference of two large numbers is taken here
    product = jnp.matmul(first, second.T, precision=jax.lax.Precision.HIGHEST)
    sizes = jnp.sum(jnp.square(first), axis=1)[:, None] + jnp.sum(jnp.square(second), axis=1)[None, :]
    return jnp.maximum(sizes - 2.0 * product, 0.0)


def kernel(squared: Float[Array, "n m"], bandwidth: Float[Array, ""] | float) -> Float[Array, "n m"]:
    """exp(-d^2 / (2 h^2)): 1 for the same."""
    return jnp.exp(-0.5 * squared / jnp.square(bandwidth))


def shrunk_law(
    given: Float[Array, "n m"],
    outcome: Float[Array, "n m"],
    prior: Float[Array, " n"],
    strength: Float[Array, ""] | float,
) -> Float[Array, " n"]:
    """Density of each row's outcome given what was seen and done, drawn towards a prior where few rows are alike.

    (sum_j G_ij O_ij + strength prior_i) / (sum_j G_ij + strength), where G and O are kernels; in units of the kernel's
    highest value.

    Args:
        given: G; 0 for references that do not count.
        outcome: O.
        prior: what the density is where nothing alike was seen.
        strength: how many rows the prior counts for.
    """
    both = jnp.sum(given * outcome, axis=1)
    return (both + strength * prior) / (jnp.sum(given, axis=1) + strength)


def law_of_logs(
    logs: Distances, counts: Bool[Array, " m"], given: Float[Array, ""] | float, outcome: Float[Array, ""] | float
) -> Float[Array, " n"]:
    """p_i: density of each row's outcome by the logs, drawn towards its density whatever was done, as by one row.

    Args:
        logs: distances to the references among logged rows.
        counts: which of them count.
        given, outcome: bandwidths.
    """
    outcomes = kernel(logs.outcome, outcome) * counts[None, :]
    marginal = jnp.sum(outcomes, axis=1) / jnp.maximum(jnp.sum(counts), 1)
    law = shrunk_law(kernel(logs.given, given) * counts[None, :], outcomes, marginal, 1.0)
    return jnp.maximum(law, LEAST)


def two_sided_weights(
    logs: Distances,
    today: Distances,
    counts_of_logs: Bool[Array, " m"],
    counts_of_today: Bool[Array, " k"],
    by: Choice,
    pooled: Pooled | None = None,
) -> Float[Array, " n"]:
    """w_i = (sum_today G_ij O_ij + kappa q_i) / ((sum_today G_ij + kappa) p_i); 1 where no gain is believed.

    q_i is p_i, or what it is by all of today's rows. Where nothing that was done tells rows apart, G is 1 and this is
    (sum_today K_ij + kappa p_i) / ((k + kappa) p_i).
    """
    law = law_of_logs(logs, counts_of_logs, by.given, by.outcome)
    given = kernel(today.given, by.given) * counts_of_today[None, :]
    outcome = kernel(today.outcome, by.outcome)
    prior = law
    if pooled is not None:
        alike = kernel(logs.given, by.given) * counts_of_logs[None, :]
        counts = jnp.broadcast_to(counts_of_today, given.shape).astype(jnp.float32)
        ratio = pooled_ratio(kernel(logs.outcome, by.outcome), outcome, counts, pooled.visits, by.strength)
        prior = pooled_law(law, ratio, alike, pooled)
    of_today = shrunk_law(given, outcome, prior, by.strength)
    return jnp.where(by.is_believed, of_today / law, 1.0)


def pool(
    logs: Distances,
    among_logs: Float[Array, "m m"],
    today: Distances,
    counts_of_logs: Bool[Array, " m"],
    counts_of_today: Bool[Array, " k"],
    episodes: Int[Array, " k"],
    by: Choice,
    *,
    strengths: tuple[float, ...],
) -> tuple[Choice, Pooled]:
    """What all of today's rows say, if that foretells held-out episodes better than the law of the logs does.

    Args:
        logs: distances of today's rows to references among logged rows.
        among_logs: squared distances of outcomes among these references.
        today: distances among today's rows.
        counts_of_logs: which references among logged rows count.
        counts_of_today: which of today's rows do.
        episodes: of which episode each of today's rows is.
        by: what foretells best without.
        strengths: tried.

    Returns:
        The choice, with another strength if it is better to pool, and what all rows say.
    """
    given, same = kernel(logs.given, by.given), kernel(today.outcome, by.outcome)
    to_logs, references = kernel(logs.outcome, by.outcome), kernel(among_logs, by.outcome)
    visits = visits_of(given, counts_of_logs, counts_of_today)
    held_out = counts_of_today[None, :] & (episodes[:, None] != episodes[None, :])
    alike = kernel(today.given, by.given) * held_out
    law = law_of_logs(logs, counts_of_logs, by.given, by.outcome)
    num_rows = jnp.maximum(jnp.sum(counts_of_today), 1)

    def likelihood(prior: Float[Array, " k"], strength: Float[Array, ""] | float) -> Float[Array, ""]:
        found = jnp.log(jnp.maximum(shrunk_law(alike, same, prior, strength), LEAST))
        return jnp.sum(jnp.where(counts_of_today, found, 0.0)) / num_rows

    def judged(strength: Float[Array, ""]) -> tuple[Float[Array, " m"], Float[Array, ""]]:
        """Ratios of the references, and how likely today's rows are by them."""
        counts = jnp.broadcast_to(counts_of_today, to_logs.T.shape).astype(jnp.float32)
        ratios = pooled_ratio(references, to_logs.T, counts, visits, strength)
        ratio = pooled_ratio(to_logs, same, held_out.astype(jnp.float32), visits, strength)
        prior = pooled_law(law, ratio, given * counts_of_logs[None, :], Pooled(visits, ratios, jnp.bool_(True)))
        return ratios, likelihood(prior, strength)

    tried = jnp.array(strengths)
    ratios, found = jax.lax.map(judged, tried)  # in turn: one is compiled for all
    best = jnp.argmax(found)
    is_better = found[best] > likelihood(law, by.strength)
    strength = jnp.where(is_better, tried[best], by.strength)
    return by._replace(strength=strength), Pooled(visits, ratios[best], is_better)


def choose(
    logs: Distances,
    more_logs: Distances,
    today: Distances,
    counts_of_logs: Bool[Array, " m"],
    counts_of_today: Bool[Array, " k"],
    episodes: Int[Array, " k"],
    outcome_size: int,
    *,
    bandwidths: tuple[float, ...],
    strengths: tuple[float, ...],
) -> Choice:
    """Bandwidths and strength by which every episode of today is foretold best by the others.

    More rows of whatever kind foretell better, for the law of the logs is of few references itself. So what today's
    others add is compared with what as many more rows of the logs add in their place.

    Args:
        logs: distances of today's rows to references among logged rows.
        more_logs: the same to as many logged rows as there are of today, in place of each of them; all count.
        today: distances among today's rows.
        counts_of_logs: which references among logged rows count.
        counts_of_today: which of today's rows do.
        episodes: of which episode each of today's rows is.
        outcome_size: numbers of an outcome, by which densities of different bandwidths are comparable.
        bandwidths: tried for what was done and for what came of it, in all combinations.
        strengths: tried with each of them.
    """
    grid = jnp.array([(given, outcome) for given in bandwidths for outcome in bandwidths])
    is_same = (episodes[:, None] == episodes[None, :]) & counts_of_today[None, :]
    held_out = counts_of_today[None, :] & ~is_same
    num_rows = jnp.maximum(jnp.sum(counts_of_today), 1)

    def scores(bandwidth: Float[Array, " 2"]) -> Float[Array, "2 laws k"]:
        """Log likelihood of each of today's rows: by more rows of the logs and by today's, at each strength."""
        given, outcome = bandwidth
        law = law_of_logs(logs, counts_of_logs, given, outcome)

        def by_strength(others: Distances) -> Float[Array, "laws k"]:
            alike, same = kernel(others.given, given) * held_out, kernel(others.outcome, outcome)
            laws = [shrunk_law(alike, same, law, kappa) for kappa in strengths]
            return jnp.log(jnp.maximum(jnp.stack(laws), LEAST)) - outcome_size * jnp.log(outcome)

        return jnp.stack([by_strength(more_logs), by_strength(today)])

    def mean(values: Float[Array, "*n k"]) -> Float[Array, "*n"]:
        return jnp.sum(jnp.where(counts_of_today, values, 0.0), axis=-1) / num_rows

    likelihoods = jax.lax.map(scores, grid)  # in turn, for the kernels of one pair are large
    of_logs, of_today = (likelihoods[:, side].reshape(-1, len(counts_of_today)) for side in range(2))
    best_of_logs, best = jnp.argmax(mean(of_logs)), jnp.argmax(mean(of_today))
    difference = of_today[best] - of_logs[best_of_logs]
    gain = mean(difference)
    place, number = jnp.divmod(best, len(strengths))
    return Choice(
        grid[place, 0],
        grid[place, 1],
        jnp.array(strengths)[number],
        gain,
        _error_of_mean(jnp.where(counts_of_today, difference - gain, 0.0), is_same, num_rows),
    )


def _error_of_mean(
    residuals: Float[Array, " k"], is_same: Bool[Array, "k k"], num_rows: Int[Array, ""]
) -> Float[Array, ""]:
    """Standard error of a mean over rows, of which those of an episode are not independent; 0 for one episode."""
    counts = is_same.diagonal()
    num_episodes = jnp.sum(counts / jnp.maximum(jnp.sum(is_same, axis=1), 1))
    # the square of the sum of each episode's residuals, summed over episodes
    squares = jnp.maximum(residuals @ (is_same.astype(jnp.float32) @ residuals), 0.0)
    return jnp.sqrt(squares * num_episodes / jnp.maximum(num_episodes - 1.0, 1.0)) / num_rows
