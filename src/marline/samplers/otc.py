"""Online transition correction (Jiang & Lu 2023): prefer rows that match what the last deployment saw."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require, require_name
from marline.ops.histogram import histogram
from marline.ops.matching import NO_SLOT, absolute_difference, best_match, best_match_scalar
from marline.ops.prioritization import (
    adapted_alpha,
    draw,
    draw_stratified,
    draw_without_replacement,
    effective_sample_size,
    rank_order,
    rank_probabilities,
)
from marline.ops.row_draws import rows_with_replacement, rows_without_replacement
from marline.samplers.distances import DISTANCES, Distance, Features
from marline.types import Critic, Metrics

DRAWS = {"iid": draw, "stratified": draw_stratified, "without-replacement": draw_without_replacement}
MATCH_BLOCK = 500  # candidates matched at a time when the mean distance is estimated


class State(NamedTuple):
    """What the distance froze, the exponents, and the mean distance that adaptation is relative to."""

    distance: Any
    alpha_raw: Float[Array, ""]
    alpha: Float[Array, ""]
    first_mean_distance: Float[Array, ""]
    deployment: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class OTC:
    """Draws candidates uniformly, ranks them by their transition distance, and keeps a few by rank.

    Attributes:
        distance: "value" (d_q, common mean), "value-literal" (d_q, separate means), "embedding"
            (d_e), "two-stage", or a `Distance` of your own.
        alpha: exponent alpha^0 of the rank; 0 is uniform sampling.
        adaptive: scale the exponent with the mean distance (Eq. 4), or keep it fixed.
        alpha_bounds: the adaptive exponent is clipped to these for sampling.
        exclude_self: never match a row with itself.
        num_candidates: rows of B^k per update, drawn with replacement.
        num_references: rows of D^k per update, drawn without replacement; all if there are fewer.
        batch_size: rows kept per update.
        draw: how rows are kept: "iid" (with replacement), "stratified" or "without-replacement".
        num_estimate: rows of B^k whose mean distance to all of D^k adapts the exponent.
    """

    distance: Distance[Any] | str = "value"
    alpha: float = 1.0
    adaptive: bool = True
    alpha_bounds: tuple[float, float] = (0.1, 4.0)
    exclude_self: bool = False
    num_candidates: int = 512
    num_references: int = 2000
    batch_size: int = 128
    draw: Literal["iid", "stratified", "without-replacement"] = "iid"
    num_estimate: int = 10_000

    def __post_init__(self) -> None:
        if isinstance(self.distance, str):
            require_name(self.distance, DISTANCES, "distance")
        require_name(self.draw, DRAWS, "draw")
        require(
            0 <= self.alpha < math.inf,
            f"alpha is {self.alpha}, but the exponent of the rank must be finite and at least 0, which is uniform",
        )
        low, high = self.alpha_bounds
        require(0 <= low <= high < math.inf, f"alpha_bounds are {self.alpha_bounds}, but need 0 <= low <= high < inf")
        for name in ("num_candidates", "num_references", "batch_size", "num_estimate"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be at least 1")
        require(
            self.draw != "without-replacement" or self.batch_size <= self.num_candidates,
            f"batch_size is {self.batch_size}, but there are only {self.num_candidates} candidates to draw from "
            "without replacement; raise num_candidates or use another draw",
        )

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fit the distance on B^0; the exponent starts at `alpha`."""
        alpha = jnp.float32(self.alpha)
        return State(self._distance.init(experience, key=key), alpha, alpha, jnp.float32(0.0), jnp.int32(0))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Take in D^k, estimate the mean distance, and adapt the exponent (Eq. 4) from the second deployment on."""
        memory, metrics = self._distance.begin_deployment(state.distance, experience)
        state = state._replace(distance=memory)
        mean_distance, counts = self._estimate_distances(state, experience, critic, key=key)
        first = jnp.where(state.deployment == 0, mean_distance, state.first_mean_distance)
        raw, used = state.alpha_raw, state.alpha
        if self.adaptive and self.alpha > 0:
            raw = adapted_alpha(self.alpha, mean_distance, first)
            used = jnp.clip(raw, *self.alpha_bounds)
        state = State(memory, raw, used, first, state.deployment + 1)
        probabilities = rank_probabilities(self.num_candidates, used)
        return state, {
            **metrics,
            "alpha_raw": raw,
            "alpha": used,
            "estimated_distance": mean_distance,
            "distance_histogram": counts,
            "effective_sample_size": effective_sample_size(probabilities),
        }

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch: Eq. (1) for every candidate, then Eq. (3)."""
        candidate_key, reference_key, match_key, rank_key, draw_key, value_key = jax.random.split(key, 6)
        candidates = rows_with_replacement(0, experience.size, self.num_candidates, key=candidate_key)
        references = self._references(experience, self.num_references, key=reference_key)
        first, second, metrics = self._distance.features(
            state.distance, experience, critic, candidates, references, key=value_key
        )
        matches = self._match(first, second, candidates, references, key=match_key)
        distances = _next_state_distances(first, second, matches)
        order = rank_order(distances, key=rank_key)
        probabilities = rank_probabilities(self.num_candidates, state.alpha)
        drawn = order[DRAWS[self.draw](probabilities, self.batch_size, key=draw_key)]
        rows = candidates[drawn]
        return (
            rows,
            state,
            {
                **metrics,
                "mean_distance": jnp.mean(distances),
                "median_distance": distances[order[self.num_candidates // 2]],
                "self_matches": jnp.mean(references[matches[drawn]] == rows),
            },
        )

    @property
    def _distance(self) -> Distance[Any]:
        return DISTANCES[self.distance] if isinstance(self.distance, str) else self.distance

    def _references(self, experience: Experience, num: int, *, key: PRNGKeyArray) -> Int[Array, " m"]:
        num = min(num, experience.max_online)
        return rows_without_replacement(experience.online_start, experience.size, num, key=key)

    def _match(
        self,
        first: Features,
        second: Features,
        candidates: Int[Array, " n"],
        references: Int[Array, " m"],
        *,
        key: PRNGKeyArray,
    ) -> Int[Array, " n"]:
        excluded = _own_slot(candidates, references) if self.exclude_self else None
        if first.state_action.shape[1] == 1:
            queries, online = first.state_action[:, 0], second.state_action[:, 0]
            return best_match_scalar(queries, online, key=key, excluded=excluded)
        return best_match(first.state_action, second.state_action, key=key, excluded=excluded)

    def _estimate_distances(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, " bins"]]:
        """Distances of rows of B^k to their match in all of D^k: their mean Dbar_k, and their histogram."""
        candidate_key, reference_key, match_key, value_key = jax.random.split(key, 4)
        block = min(MATCH_BLOCK, self.num_estimate)
        num_blocks = self.num_estimate // block
        candidates = rows_with_replacement(0, experience.size, num_blocks * block, key=candidate_key)
        references = self._references(experience, experience.max_online, key=reference_key)
        first, second, _ = self._distance.features(
            state.distance, experience, critic, candidates, references, key=value_key
        )

        def of_block(block: tuple[Features, Array, PRNGKeyArray]) -> tuple[Float[Array, ""], Int[Array, " bins"]]:
            features, rows, key = block
            distances = _next_state_distances(
                features, second, self._match(features, second, rows, references, key=key)
            )
            return jnp.mean(distances), histogram(distances)

        blocks = jax.tree.map(lambda x: x.reshape(num_blocks, block, *x.shape[1:]), (first, candidates))
        means, counts = jax.lax.map(of_block, (*blocks, jax.random.split(match_key, num_blocks)))
        return jnp.mean(means), jnp.sum(counts, axis=0)


def _next_state_distances(first: Features, second: Features, matches: Int[Array, " n"]) -> Float[Array, " n"]:
    """L1 distance of what is compared, from each row to its match."""
    return jnp.sum(absolute_difference(first.next_state, second.next_state[matches]), axis=1)


def _own_slot(candidates: Int[Array, " n"], references: Int[Array, " m"]) -> Int[Array, " n"]:
    """Where each candidate itself stands among the references, or -1."""
    order = jnp.argsort(references)
    place = jnp.searchsorted(references[order], candidates)
    slot = order[jnp.clip(place, 0, references.shape[0] - 1)]
    return jnp.where(references[slot] == candidates, slot, NO_SLOT)
