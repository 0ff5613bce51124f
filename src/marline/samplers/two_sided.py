"""Offline rows weighted by how much likelier their outcome is today than in the logs, by kernels on both sides."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.data.normalization import Normalizer
from marline.errors import require
from marline.inputs.arguments import checked
from marline.nn.batched_cond import batched_cond
from marline.nn.cvae import state_action
from marline.ops.episodes import episode_numbers
from marline.ops.kernel_ratio import Choice, Distances, choose, pool, squared_distances, two_sided_weights
from marline.ops.pooled_ratio import Pooled
from marline.ops.prioritization import effective_sample_size
from marline.ops.row_draws import rows_without_replacement
from marline.ops.weighted_rows import AliasTable, alias_table, row_probabilities, uniform_table
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.powers import require_powers, useful_power
from marline.samplers.weighted_offline import require_online_share, sample_weighted, weighted_plan
from marline.types import Critic, Metrics, Transition


class State(NamedTuple):
    """What offline rows are drawn by, and standardisers frozen at B^0."""

    table: AliasTable
    given: Normalizer
    outcome: Normalizer


class References(NamedTuple):
    """Standardised rows of one side, and which of them count."""

    given: Float[Array, "m sa"]
    outcome: Float[Array, "m so"]
    counts: Bool[Array, " m"]

    def distances(self, given: Float[Array, "n sa"], outcome: Float[Array, "n so"]) -> Distances:
        return Distances(squared_distances(given, self.given), squared_distances(outcome, self.outcome))


class Judged(NamedTuple):
    """What a deployment says of the law of what follows.

    Attributes:
        choice: bandwidths, and whether today's law surely is another one.
        pooled: how much likelier outcomes are over all of today's rows, or None if nobody asks.
        logs, today: what either law is made of.
        metrics: how sure, and by how much another.
    """

    choice: Choice
    pooled: Pooled | None
    logs: References
    today: References
    metrics: dict[str, Array]


@dataclasses.dataclass(frozen=True)
@checked
class TwoSided:
    """Offline rows are drawn in proportion to an estimate of P_today(s' - s, r | s, a) / P_logs(s' - s, r | s, a).

    Both laws are sums of Gaussian kernels over references, of D^k and of B^0; today's is drawn towards that of the logs
    where few rows of today are alike. Bandwidths, and how strongly it is drawn there, are those by which every episode
    of D^k is foretold best by its others; where these do not foretell it better than as many more rows of the logs do,
    by two standard errors, nothing has changed as far as one can tell, and all rows weigh the same. So they do where
    D^k is a single episode.

    Where today has no row that is alike, rows weigh 1. If today's partners are worth something whatever one does, what
    one does today then looks better, or worse, than all else. With `pooled` such rows are instead as much likelier as
    their outcomes are over all of today's rows, if that foretells held-out episodes better.

    Kernels need few dimensions: up to about six of s, a and s' - s together. Beyond, weights stay near 1. Everything is
    standardised by B^0. Rows whose s' is not known count nowhere, and weigh 1. Where something changed it costs
    2 * num_references kernels per offline row and deployment, and nothing per update.

    Attributes:
        online_share: of the rows of a batch that are online, or None for their share in all rows, as in uniform replay.
        num_references: rows of either side, at most; others are left out at random.
        bandwidths: tried, in standard deviations, for (s, a) and for (s' - s, r) each.
        strengths: tried, in rows: what the law of the logs counts for.
        max_weight: of a row, in units of a row that is as likely today as in the logs.
        compare_rewards: whether r is part of the outcome.
        pooled: whether outcomes may count for what was not done today.
        powers: of the weights, of which held-out TD errors pick one or none, see `samplers.powers`; if there is no
            power, weights are taken as they are.
        batch_size: rows per update.
    """

    online_share: float | None = None
    num_references: int = 2000
    bandwidths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    strengths: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0)
    max_weight: float = 20.0
    compare_rewards: bool = True
    pooled: bool = False
    powers: tuple[float, ...] = ()
    batch_size: int = 128
    prefers_rows: ClassVar[bool] = True
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_online_share(self.online_share)
        for name in ("num_references", "batch_size"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("bandwidths", "strengths"):
            values = getattr(self, name)
            require(
                len(values) > 0 and all(0 < value < math.inf for value in values),
                f"{name} are {values}, but need one or more numbers, positive and finite",
            )
        require_powers(self.powers)
        require(1 <= self.max_weight < math.inf, f"max_weight is {self.max_weight}, but must be finite and at least 1")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """All offline rows alike, and the standardisers of B^0."""
        offline = experience.offline()
        known = offline.next_is_known
        return State(
            table=uniform_table(experience.num_offline),
            given=Normalizer.fit(state_action(offline, experience.spec)),
            outcome=Normalizer.fit(self._outcome(offline), known),
        )

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Weigh all offline rows by D^k."""
        judged = self.judge(state, experience, key=key)
        table, metrics = self.table(state, experience, judged, judged.choice.is_believed, critic, key=key)
        worth = effective_sample_size(row_probabilities(table))
        return state._replace(table=table), {**judged.metrics, **metrics, "effective_sample_size": worth}

    def judge(self, state: State, experience: Experience, *, key: PRNGKeyArray) -> Judged:
        """Ask whether today's law is another one than that of the logs."""
        logs_key, order_key, online_key = jax.random.split(key, 3)
        num_offline, num_today = experience.num_offline, experience.num_online
        num_online = min(self.num_references, experience.max_online)
        # of what is to be compared with today's rows, none should be a reference already
        num_logs = min(self.num_references, max(num_offline - num_online, (num_offline + 1) // 2))
        drawn = rows_without_replacement(0, num_offline, num_logs + num_online, key=logs_key)
        of_logs, more_of_logs = jnp.split(jax.random.permutation(order_key, drawn), [num_logs])
        of_today = rows_without_replacement(experience.online_start, experience.size, num_online, key=online_key)
        logs = self._references(state, experience, of_logs, jnp.ones(num_logs, bool))
        more_logs = self._references(state, experience, more_of_logs, jnp.ones(num_online, bool))
        # with fewer rows than there is room for, the last repeat the first
        today = self._references(state, experience, of_today, jnp.arange(num_online) < num_today)
        episodes = episode_numbers(experience.ends())[of_today]
        choice = choose(
            logs.distances(today.given, today.outcome),
            more_logs.distances(today.given, today.outcome),
            today.distances(today.given, today.outcome),
            logs.counts,
            today.counts,
            episodes,
            today.outcome.shape[1],
            bandwidths=self.bandwidths,
            strengths=self.strengths,
        )
        pooled = None
        if self.pooled:
            choice, pooled = pool(
                logs.distances(today.given, today.outcome),
                squared_distances(logs.outcome, logs.outcome),
                today.distances(today.given, today.outcome),
                logs.counts,
                today.counts,
                episodes,
                choice,
                strengths=self.strengths,
            )
        metrics = {
            "change_nats": choice.gain,
            "change_se": choice.error,
            "gate_open": choice.is_believed.astype(jnp.float32),
            "bandwidth_given": choice.given,
            "bandwidth_outcome": choice.outcome,
            "strength": choice.strength,
            **({"pooled": pooled.is_used.astype(jnp.float32)} if pooled is not None else {}),
        }
        return Judged(choice, pooled, logs, today, metrics)

    def table(
        self,
        state: State,
        experience: Experience,
        judged: Judged,
        is_due: Bool[Array, ""],
        critic: Critic | None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[AliasTable, Metrics]:
        """What offline rows are drawn by; while it is not due all are alike, and none is weighed."""
        alike = jnp.ones(experience.num_offline)
        weights = batched_cond(is_due, self._weights, alike, state, experience, judged)
        if critic is None or not self.powers:
            return alias_table(weights), {}
        log_weights = jnp.log(jnp.maximum(weights, LEAST_WEIGHT))
        power, metrics = useful_power(log_weights, is_due, experience, critic, self.powers, key=key)
        return alias_table(jnp.exp(power * log_weights)), metrics

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch; before the first deployment, a uniform one."""
        return sample_weighted(state.table, experience, self.batch_size, self.online_share, key=key), state, {}

    def plan(self, state: State, experience: Experience) -> DrawPlan:
        return weighted_plan(state.table, experience, self.online_share)

    def _weights(
        self, alike: Float[Array, " offline"], state: State, experience: Experience, judged: Judged
    ) -> Float[Array, " offline"]:
        """Of all offline rows, a few at a time."""
        choice, pooled, logs, today, _ = judged

        def weight(row: Int[Array, ""]) -> Float[Array, ""]:
            its = self._references(state, experience, row[None], jnp.ones(1, bool))
            weights = two_sided_weights(
                logs.distances(its.given, its.outcome),
                today.distances(its.given, its.outcome),
                logs.counts,
                today.counts,
                choice,
                pooled,
            )
            return jnp.where(its.counts, jnp.minimum(weights, self.max_weight), 1.0)[0]

        return jax.lax.map(weight, jnp.arange(alike.shape[0]), batch_size=BLOCK)

    def _references(
        self, state: State, experience: Experience, rows: Int[Array, " m"], counts: Bool[Array, " m"]
    ) -> References:
        batch = experience[rows]
        given, outcome = state.given(state_action(batch, experience.spec)), state.outcome(self._outcome(batch))
        return References(given, outcome, counts & batch.next_is_known)

    def _outcome(self, batch: Transition) -> Float[Array, "n so"]:
        change = batch.next_observation - batch.observation
        return jnp.concatenate([change, batch.reward[:, None]], axis=1) if self.compare_rewards else change


BLOCK = 1024  # rows weighed at a time
LEAST_WEIGHT = 1e-6  # of a row, where logarithms are taken
