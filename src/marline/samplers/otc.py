"""Online transition correction (Jiang & Lu 2023): prefer rows that match what the last deployment saw."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require, require_name
from marline.inputs.arguments import checked
from marline.nn.batched_cond import batched_cond
from marline.ops.histogram import histogram
from marline.ops.matching import NO_SLOT, absolute_difference, best_match, best_match_scalar, nearest_distances
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
from marline.samplers.distances import DISTANCES, Distance, EmbeddingDistance, Features
from marline.types import Critic, Metrics

DRAWS = {"iid": draw, "stratified": draw_stratified, "without-replacement": draw_without_replacement}
MATCH_BLOCK = 500  # candidates matched at a time when the mean distance is estimated


class _Matched(NamedTuple):
    """How far each candidate is from its best match, and whether that is itself."""

    distances: Float[Array, " n"]
    is_self: Bool[Array, " n"]


class Accepted(NamedTuple):
    """Rows kept by rank, and what there is to tell of the candidates they were kept from."""

    rows: Int[Array, " n"]
    mean_distance: Float[Array, ""]
    median_distance: Float[Array, ""]
    self_matches: Float[Array, ""]  # share of the rows kept that are their own match


class Plan(NamedTuple):
    """What updates draw from until the next refresh."""

    accepted: Accepted
    floors: Float[Array, ""]
    num_updates: Int[Array, ""]  # since the deployment


class State(NamedTuple):
    """What the distance froze, the exponents, and the mean distance that adaptation is relative to.

    That is the first deployment's, or the previous one's where `relative_to` says so; checkpoints call it the first.
    """

    distance: Any
    alpha_raw: Float[Array, ""]
    alpha: Float[Array, ""]
    first_mean_distance: Float[Array, ""]
    deployment: Int[Array, ""]
    plan: Plan | None = None


@dataclasses.dataclass(frozen=True)
@checked
class OTC:
    """Draws candidates uniformly, ranks them by their transition distance, and keeps a few by rank.

    The paper does so at each update. `match="refresh"` does it now and then, for several groups of
    candidates at once, keeps as many rows of each group as it has, and lets the updates until the
    next refresh draw from those uniformly. At a refresh a row has the same chance as in the paper;
    afterwards distances are out of date, and rows are drawn more often than if there were more groups.

    The more references there are, the nearer is the best match. So the mean distance that adapts the
    exponent is taken to the same number of them at every deployment: as many as an update matches with,
    but no more than half of the first deployment's rows. A later one with fewer rows than that cannot
    be compared with it, and leaves the exponent as it is.

    Attributes:
        distance: "value" (d_q, common mean), "value-literal" (d_q, separate means), "value-paper" (d_q, the
            formula as it stands), "embedding" (d_e), "two-stage", or a `Distance` of your own.
        alpha: exponent alpha^0 of the rank; 0 is uniform sampling.
        adaptive: scale the exponent with the mean distance (Eq. 4), or keep it fixed.
        alpha_bounds: the adaptive exponent is clipped to these for sampling; None leaves it as it is.
        relative_to: "first" is Eq. 4 with its ratios multiplied out, from mean distances that can be compared.
            "previous" is Eq. 4 as it is written: the exponent of the deployment before times the ratio of this one's
            mean distance to that one's, each to all rows of its D^k. A ratio that is not finite leaves the exponent.
        exclude_self: never match a row with itself.
        num_candidates: rows of B^k per update, drawn with replacement.
        num_references: rows of D^k per update, drawn without replacement; all if there are fewer.
        batch_size: rows kept per update.
        draw: how rows are kept: "iid" (with replacement), "stratified" or "without-replacement".
        num_estimate: rows of B^k whose mean distance to rows of D^k adapts the exponent.
        match: "minibatch" matches candidates at each update, "refresh" every `refresh_every` updates.
        refresh_every: updates from one refresh to the next; the first follows a deployment at once.
        num_groups: groups of `num_candidates` that a refresh matches.
    """

    distance: Distance[Any] | str = "value"
    alpha: float = 1.0
    adaptive: bool = True
    alpha_bounds: tuple[float, float] | None = (0.1, 4.0)
    relative_to: Literal["first", "previous"] = "first"
    exclude_self: bool = False
    num_candidates: int = 512
    num_references: int = 2000
    batch_size: int = 128
    draw: Literal["iid", "stratified", "without-replacement"] = "iid"
    num_estimate: int = 10_000
    match: Literal["minibatch", "refresh"] = "minibatch"
    refresh_every: int = 1000
    num_groups: int = 128

    def __post_init__(self) -> None:
        if isinstance(self.distance, str):
            require_name(self.distance, DISTANCES, "distance")
        require_name(self.draw, DRAWS, "draw")
        require(
            0 <= self.alpha < math.inf,
            f"alpha is {self.alpha}, but the exponent of the rank must be finite and at least 0, which is uniform",
        )
        low, high = self.alpha_bounds or (0.0, 0.0)
        require(0 <= low <= high < math.inf, f"alpha_bounds are {self.alpha_bounds}, but need 0 <= low <= high < inf")
        require_name(self.relative_to, ("first", "previous"), "deployment that Eq. 4 is relative to")
        require_name(self.match, ("minibatch", "refresh"), "way to match")
        counts = ("num_candidates", "num_references", "batch_size", "num_estimate", "refresh_every", "num_groups")
        for name in counts:
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be at least 1")
        require(
            self.draw != "without-replacement" or self.batch_size <= self.num_candidates,
            f"batch_size is {self.batch_size}, but there are only {self.num_candidates} candidates to draw from "
            "without replacement; raise num_candidates or use another draw",
        )
        require(
            self.match == "minibatch" or self.draw == "iid",
            f'draw is {self.draw!r}, but between refreshes rows are drawn with replacement; use "iid"',
        )

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fit the distance on B^0; the exponent starts at `alpha`."""
        alpha = jnp.float32(self.alpha)
        state = State(self._distance.init(experience, key=key), alpha, alpha, jnp.float32(0.0), jnp.int32(0))
        if self.match == "minibatch":
            return state
        nothing = jnp.float32(0.0)
        rows = jnp.zeros(self.num_groups * self.num_candidates, jnp.int32)
        return state._replace(plan=Plan(Accepted(rows, nothing, nothing, nothing), nothing, jnp.int32(0)))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Take in D^k, estimate the mean distance, and adapt the exponent (Eq. 4) from the second deployment on."""
        memory, metrics = self._distance.begin_deployment(state.distance, experience)
        state = state._replace(distance=memory)
        mean_distance, counts = self._estimate_distances(state, experience, critic, key=key)
        earlier = jnp.where(state.deployment == 0, mean_distance, state.first_mean_distance)
        raw, used = state.alpha_raw, state.alpha
        if self.adaptive and self.alpha > 0:
            raw = self._adapted(raw, mean_distance, earlier, experience)
            used = raw if self.alpha_bounds is None else jnp.clip(raw, *self.alpha_bounds)
        earlier = mean_distance if self.relative_to == "previous" else earlier
        plan = state.plan and state.plan._replace(num_updates=jnp.int32(0))
        state = State(memory, raw, used, earlier, state.deployment + 1, plan)
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
        if state.plan is not None:
            return self._sample_planned(state, state.plan, experience, critic, key=key)
        candidate_key, reference_key, match_key, rank_key, draw_key, value_key = jax.random.split(key, 6)
        candidates = rows_with_replacement(0, experience.size, self.num_candidates, key=candidate_key)
        references = self._references(experience, self.num_references, key=reference_key)
        first, second, floors = self._distance.features(
            state.distance, experience, critic, candidates, references, key=value_key
        )
        matched = self._match(first, second, candidates, references, key=match_key)
        accepted = self._accept(
            candidates, matched, state, self.batch_size, self.draw, rank_key=rank_key, draw_key=draw_key
        )
        return accepted.rows, state, _measured(accepted, floors)

    def _sample_planned(
        self, state: State, plan: Plan, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        refresh_key, draw_key = jax.random.split(key)
        is_due = plan.num_updates % self.refresh_every == 0
        context = (state._replace(plan=None), experience, critic, refresh_key)
        plan = batched_cond(is_due, self._refresh, plan, *context)  # the count stays that of all who are stacked
        drawn = rows_with_replacement(0, plan.accepted.rows.shape[0], self.batch_size, key=draw_key)
        state = state._replace(plan=plan._replace(num_updates=plan.num_updates + 1))
        return plan.accepted.rows[drawn], state, _measured(plan.accepted, plan.floors)

    def _refresh(
        self, plan: Plan, state: State, experience: Experience, critic: Critic | None, key: PRNGKeyArray
    ) -> Plan:
        """What `sample` does at one update, for every group, with the same references; as many rows kept as matched."""
        candidate_key, reference_key, group_key, value_key = jax.random.split(key, 4)
        num_groups, num = self.num_groups, self.num_candidates
        candidates = rows_with_replacement(0, experience.size, num_groups * num, key=candidate_key)
        references = self._references(experience, self.num_references, key=reference_key)
        first, second, floors = self._distance.features(
            state.distance, experience, critic, candidates, references, key=value_key
        )

        def accept(group: tuple[Features, Array, PRNGKeyArray]) -> Accepted:
            features, rows, key = group
            match_key, rank_key, draw_key = jax.random.split(key, 3)
            matched = self._match(features, second, rows, references, key=match_key)
            return self._accept(rows, matched, state, num, "stratified", rank_key=rank_key, draw_key=draw_key)

        groups = jax.tree.map(lambda x: x.reshape(num_groups, num, *x.shape[1:]), (first, candidates))
        accepted = jax.lax.map(accept, (*groups, jax.random.split(group_key, num_groups)))
        means = Accepted(*(jnp.mean(leaf) for leaf in accepted))
        return plan._replace(accepted=means._replace(rows=accepted.rows.reshape(-1)), floors=floors)

    def _accept(
        self,
        candidates: Int[Array, " n"],
        matched: _Matched,
        state: State,
        num: int,
        how: str,
        *,
        rank_key: PRNGKeyArray,
        draw_key: PRNGKeyArray,
    ) -> Accepted:
        """Eq. (3): `num` of the candidates, drawn by the rank of their distances."""
        order = rank_order(matched.distances, key=rank_key)
        probabilities = rank_probabilities(self.num_candidates, state.alpha)
        drawn = order[DRAWS[how](probabilities, num, key=draw_key)]
        return Accepted(
            candidates[drawn],
            mean_distance=jnp.mean(matched.distances),
            median_distance=matched.distances[order[self.num_candidates // 2]],
            self_matches=jnp.mean(matched.is_self[drawn]),
        )

    @property
    def prefers_rows(self) -> bool:
        return self.alpha > 0

    def spelled_out(self, hidden: tuple[int, ...]) -> OTC:
        """The same with all options of its distance; an embedding of the catalogue gets networks of these widths."""
        distance = self._distance
        if hidden and distance == DISTANCES["embedding"]:
            distance = EmbeddingDistance(hidden=hidden)
        return dataclasses.replace(self, distance=distance)

    def by_name(self) -> OTC:
        """The same; a distance that is as the catalogue has it by its name there."""
        names = [name for name, preset in DISTANCES.items() if preset == self.distance]
        return dataclasses.replace(self, distance=names[0]) if names else self

    @property
    def _distance(self) -> Distance[Any]:
        return DISTANCES[self.distance] if isinstance(self.distance, str) else self.distance

    def _adapted(
        self,
        raw: Float[Array, ""],
        mean_distance: Float[Array, ""],
        earlier: Float[Array, ""],
        experience: Experience,
    ) -> Float[Array, ""]:
        """The exponent by Eq. (4), before it is clipped."""
        if self.relative_to == "previous":
            scaled = raw * (mean_distance / earlier)
            return jnp.where(jnp.isfinite(scaled), scaled, raw)
        is_comparable = experience.num_online >= self._num_compared(experience)
        return jnp.where(is_comparable, adapted_alpha(self.alpha, mean_distance, earlier), raw)

    def _references(
        self, experience: Experience, num: int, *, key: PRNGKeyArray, distinct: Int[Array, ""] | None = None
    ) -> Int[Array, " m"]:
        num = min(num, experience.max_online)
        return rows_without_replacement(experience.online_start, experience.size, num, key=key, distinct=distinct)

    def _num_compared(self, experience: Experience) -> Int[Array, ""]:
        """Rows of D^k that mean distances are taken to: the same number at every deployment."""
        return jnp.minimum(self.num_references, (experience.num_first_online + 1) // 2)

    def _match(
        self,
        first: Features,
        second: Features,
        candidates: Int[Array, " n"],
        references: Int[Array, " m"],
        *,
        key: PRNGKeyArray,
    ) -> _Matched:
        """Eq. (1): the best match of every candidate, and how far what is compared is from it."""
        excluded = _own_slot(candidates, references) if self.exclude_self else None
        if first.next_state is None:
            distances = nearest_distances(first.state_action, second.state_action, excluded=excluded)
            # an online row at distance 0 is its own match, or has a twin
            is_self = (distances == 0.0) & (candidates >= jnp.min(references)) & (not self.exclude_self)
            return _Matched(distances, is_self)
        if first.state_action.shape[1] == 1:
            queries, online = first.state_action[:, 0], second.state_action[:, 0]
            matches = best_match_scalar(queries, online, key=key, excluded=excluded)
        else:
            matches = best_match(first.state_action, second.state_action, key=key, excluded=excluded)
        distances = jnp.sum(absolute_difference(first.compared, second.compared[matches]), axis=1)
        return _Matched(distances, references[matches] == candidates)

    def _estimate_distances(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Int[Array, " bins"]]:
        """Distances of rows of B^k to their matches in D^k: their mean Dbar_k, and their histogram."""
        candidate_key, reference_key, match_key, value_key = jax.random.split(key, 4)
        block = min(MATCH_BLOCK, self.num_estimate)
        num_blocks = self.num_estimate // block
        candidates = rows_with_replacement(0, experience.size, num_blocks * block, key=candidate_key)
        if self.relative_to == "previous":
            references = self._references(experience, experience.max_online, key=reference_key)
        else:
            most, num = -(-experience.max_online // 2), self._num_compared(experience)
            references = self._references(experience, min(self.num_references, most), key=reference_key, distinct=num)
        first, second, _ = self._distance.features(
            state.distance, experience, critic, candidates, references, key=value_key
        )

        def of_block(block: tuple[Features, Array, PRNGKeyArray]) -> tuple[Float[Array, ""], Int[Array, " bins"]]:
            features, rows, key = block
            distances = self._match(features, second, rows, references, key=key).distances
            return jnp.mean(distances), histogram(distances)

        blocks = jax.tree.map(lambda x: x.reshape(num_blocks, block, *x.shape[1:]), (first, candidates))
        means, counts = jax.lax.map(of_block, (*blocks, jax.random.split(match_key, num_blocks)))
        return jnp.mean(means), jnp.sum(counts, axis=0)


def _measured(accepted: Accepted, floors: Float[Array, ""]) -> Metrics:
    return {
        "floors": floors,
        "mean_distance": accepted.mean_distance,
        "median_distance": accepted.median_distance,
        "self_matches": accepted.self_matches,
    }


def _own_slot(candidates: Int[Array, " n"], references: Int[Array, " m"]) -> Int[Array, " n"]:
    """Where each candidate itself stands among the references, or -1."""
    order = jnp.argsort(references)
    place = jnp.searchsorted(references[order], candidates)
    slot = order[jnp.clip(place, 0, references.shape[0] - 1)]
    return jnp.where(references[slot] == candidates, slot, NO_SLOT)
