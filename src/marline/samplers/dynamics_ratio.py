"""Correction by the ratio of two learned laws: how likely what a logged row tells is today, against what it was."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.inputs.arguments import checked
from marline.nn.batched_cond import batched_cond
from marline.nn.cvae import one_hot_action
from marline.nn.dynamics import DynamicsScales
from marline.nn.mlp import MLP
from marline.nn.outcome_law import Member, OutcomeLaw
from marline.nn.train_state import TrainState
from marline.ops.density_ratio import classification_loss
from marline.ops.known_rows import mean_of_known
from marline.ops.law_ratio import (
    agreed_log_ratio,
    clustered_mean,
    effective_share,
    majority_of_logs,
    p_value_of_gain,
    tempering_exponent,
)
from marline.ops.row_draws import rows_with_replacement
from marline.ops.weighted_rows import AliasTable, alias_table, uniform_table
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.folds import NUM_FOLDS, Folds, deal_out, is_of_fold
from marline.samplers.powers import require_powers, useful_power
from marline.samplers.weighted_offline import require_online_share, sample_weighted, weighted_plan
from marline.types import Critic, Metrics, Spec, Transition

LAWS = TODAY, LOGS = 0, 1  # P_today, and P_logs trained on for as long: what more steps alone would do
HELD_OUT_EVERY = 10  # each tenth logged row tells for how long the law of the logs is trained
NUM_HELD_OUT = 4096  # of these, at most, at each check
ROW_LIMIT = 10.0  # nats by which a single row may speak for or against a change
WEIGHT_BLOCK = 4096  # logged rows that are weighed at a time


class Fresh(NamedTuple):
    """The rows of the current deployment, and which of them may be learned from by whom.

    Attributes:
        inputs, outcomes: standardised.
        is_known: whether a row was logged, and its s' too.
        folds: the members are judged on one each, and learn from the other.
    """

    inputs: Float[Array, "n in"]
    outcomes: Float[Array, "n out"]
    is_known: Bool[Array, " n"]
    folds: Folds


class Kept(NamedTuple):
    """The best of each law so far; how good it is on one fold is told by the rows of the other.

    Attributes:
        laws: P_today and P_logs trained on, [laws, folds].
        held_out: log density of each row of the deployment, by members that did not learn from it.
        curve: the highest mean of these, of each fold.
        num_updates: training steps after which each was kept.
    """

    laws: OutcomeLaw
    held_out: Float[Array, "laws n"]
    curve: Float[Array, "laws folds"]
    num_updates: Float[Array, "laws folds"]


class Learners(NamedTuple):
    """What is trained when a deployment begins: the members, [folds], and P_logs."""

    members: TrainState[Member]
    logs_law: TrainState[OutcomeLaw]


class Tuned(NamedTuple):
    """What came out of a deployment.

    Attributes:
        kept: the laws, and what they say of held-out rows.
        log_presence: ln p_today(s, a) - ln p_logs(s, a) of each row, by the member that did not learn from it.
        curve: held-out log density per row under P_today at each check.
    """

    kept: Kept
    log_presence: Float[Array, " n"]
    curve: Float[Array, " checks"]


class Judged(NamedTuple):
    """What a deployment says of the law of what follows.

    Attributes:
        members: P_today, stacked.
        logs: P_logs, trained on for as long, as each fold's rows would have it; stacked.
        is_open: whether it surely is another law than that of the logs, where the logs have been.
        metrics: how sure, and how much another.
    """

    members: OutcomeLaw
    logs: OutcomeLaw
    is_open: Bool[Array, ""]
    metrics: dict[str, Array]


class State(NamedTuple):
    """The law of the logs with its units, both frozen at B^0, and the table that offline rows are drawn by."""

    scales: DynamicsScales
    logs_law: OutcomeLaw
    table: AliasTable


@dataclasses.dataclass(frozen=True)
@checked
class DynamicsRatio:
    """Draws offline rows in proportion to P_today(y | s, a) / P_logs(y | s, a), with y = (s' - s, r).

    P_logs is fitted to B^0 once. When a deployment begins, P_today is trained on online rows from where P_logs ended,
    by two members that learn from one half of the deployment's episodes each; the other half tells for how long, and
    whether anything changed: offline rows are weighted only if P_today is surely better on today's held-out episodes,
    where the logs have been, too, than P_logs trained for as long on the logs. Else the very rows are drawn that
    uniform replay draws.

    A row's log ratio is the one nearest to 0 that both members give. Online rows are never weighted, and drawn at a
    share of their own. Rows whose s' is not known weigh 1 and are not learned from. See docs/correction.md.

    Attributes:
        batch_size: rows per update.
        online_share: probability that a drawn row is online, or None for the share that online rows have in all rows.
        clip: largest log ratio, up or down, in nats.
        least_effective_share: as what part of the offline rows, equally likely, the weighted ones must at least be as
            diverse; weights are raised to a power below 1 until they are.
        confidence: with which it must be shown, at each deployment, that the law has changed; 0 corrects always.
        powers: of the tempered weights, of which held-out TD errors pick one or none, see `samplers.powers`; if there
            is no power, they are taken as they are.
        learn_reward: whether r is part of y.
        hidden: widths of the hidden layers of every law.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        law_batch_size: rows per training step.
        offline_updates: training steps of P_logs.
        num_updates: training steps per deployment.
        check_every: steps, of the latter, after which members are judged.
    """

    batch_size: int = 128
    online_share: float | None = None
    clip: float = 3.0
    least_effective_share: float = 0.05
    confidence: float = 0.99
    powers: tuple[float, ...] = ()
    learn_reward: bool = True
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    law_batch_size: int = 256
    offline_updates: int = 20_000
    num_updates: int = 2000
    check_every: int = 100
    prefers_rows: ClassVar[bool] = True
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "offline_updates", "num_updates", "check_every"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be at least 1")
        require(
            self.law_batch_size > 1,
            f"law_batch_size is {self.law_batch_size}, but must be at least 2: half of it is of the current deployment",
        )
        require_online_share(self.online_share)
        require(0 <= self.clip < math.inf, f"clip is {self.clip}, but must be finite and at least 0, which is uniform")
        share = self.least_effective_share
        require(0 <= share < 1, f"least_effective_share is {share}, but must lie in [0, 1); 0 tempers nothing")
        require(0 <= self.confidence < 1, f"confidence is {self.confidence}, but must lie in [0, 1); 0 corrects always")
        require_powers(self.powers)
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        decay = self.weight_decay
        require(0 <= decay < math.inf, f"weight_decay is {decay}, but must be finite and at least 0, which is none")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fit P_logs to B^0; until a deployment begins, rows are drawn uniformly."""
        create_key, fit_key = jax.random.split(key)
        scales = DynamicsScales.fit(_numeric(experience.offline(), experience.spec), learn_reward=self.learn_reward)
        in_size = scales.observation.mean.size + scales.action.mean.size
        law = OutcomeLaw.create(in_size, scales.outcome.mean.size, self.hidden, key=create_key)
        law = self._fit_logs(law, scales, experience, key=fit_key)
        return State(scales, law, uniform_table(experience.num_offline))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Learn today's law, ask whether it is another one, and weigh the offline rows if it is."""
        judged = self.judge(state, experience, key=key)
        uniform = jnp.zeros(experience.num_offline)
        log_weights = batched_cond(judged.is_open, self.log_ratios, uniform, state, judged.members, experience)
        table, worth = self.weighed(log_weights, judged.is_open, experience, critic, key=key)
        clipped = jnp.mean((jnp.abs(log_weights) >= self.clip) & judged.is_open)
        return state._replace(table=table), {**judged.metrics, **worth, "clipped": clipped}

    def judge(self, state: State, experience: Experience, *, key: PRNGKeyArray) -> Judged:
        """Learn today's law, and ask whether it is another one than that of the logs."""
        fresh = _fresh(state.scales, experience)
        start = jax.vmap(state.logs_law.log_density)(fresh.inputs, fresh.outcomes)
        tuned = self._fine_tune(state, experience, fresh, start, key=key)
        today, logs = tuned.kept.held_out
        row_gain = jnp.clip(today - logs, -ROW_LIMIT, ROW_LIMIT)
        # where the logs have hardly been, P_logs is beaten whether or not anything changed: such rows do not count
        overlap = majority_of_logs(tuned.log_presence, experience.num_offline, experience.num_online)
        is_counted = fresh.is_known.astype(jnp.float32)
        gain = clustered_mean(row_gain, is_counted, fresh.folds.cluster)
        change = clustered_mean(row_gain, is_counted * overlap, fresh.folds.cluster)
        p_value = p_value_of_gain(change)
        is_open = p_value <= 1.0 - self.confidence
        metrics = {
            "gain_nats": gain.mean,
            "gain_se": gain.standard_error,
            "change_nats": change.mean,
            "change_se": change.standard_error,
            "change_p_value": p_value,
            "gate_open": is_open.astype(jnp.float32),
            "gate_clusters": change.num_clusters,
            "overlap": mean_of_known(overlap, fresh.is_known),
            "held_out_start": mean_of_known(start, fresh.is_known),
            "held_out_kept": mean_of_known(today, fresh.is_known),
            "held_out_end": tuned.curve[-1],
            "kept_updates": jnp.mean(tuned.kept.num_updates[TODAY]),
        }
        members = jax.tree.map(lambda leaf: leaf[TODAY], tuned.kept.laws)
        of_logs = jax.tree.map(lambda leaf: leaf[LOGS], tuned.kept.laws)
        return Judged(members, of_logs, is_open, metrics)

    def weighed(
        self,
        log_weights: Float[Array, " offline"],
        is_open: Bool[Array, ""],
        experience: Experience,
        critic: Critic | None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[AliasTable, Metrics]:
        """What offline rows are drawn by: tempered weights or, while the gate is shut, all alike.

        Args:
            log_weights: of all offline rows, finite; 0 while the gate is shut.
            is_open: the gate.
            experience: the agent's rows.
            critic: tells how far weights are worth it.
            key: that of the deployment.
        """
        exponent = tempering_exponent(log_weights, self.least_effective_share)
        power, metrics = useful_power(exponent * log_weights, is_open, experience, critic, self.powers, key=key)
        exponent = exponent * power
        table = alias_table(jnp.exp(exponent * (log_weights - jnp.max(log_weights))))
        table = jax.tree.map(
            lambda weighted, alike: jnp.where(is_open, weighted, alike), table, uniform_table(log_weights.shape[0])
        )
        return table, {**metrics, "effective_share": effective_share(log_weights, exponent), "temper": exponent}

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch."""
        return sample_weighted(state.table, experience, self.batch_size, self.online_share, key=key), state, {}

    def plan(self, state: State, experience: Experience) -> DrawPlan:
        return weighted_plan(state.table, experience, self.online_share)

    def log_ratio(self, logs_law: OutcomeLaw, members: OutcomeLaw, inputs: Array, outcome: Array) -> Float[Array, ""]:
        """ln P_today(y | s, a) - ln P_logs(y | s, a) of one row, as far as the members agree, clipped.

        Args:
            logs_law: P_logs.
            members: P_today, stacked.
            inputs: (s, a), standardised.
            outcome: y, standardised.
        """
        today = jax.vmap(lambda law: law.log_density(inputs, outcome))(members)
        return jnp.clip(agreed_log_ratio(today - logs_law.log_density(inputs, outcome)), -self.clip, self.clip)

    def log_ratios(
        self, uniform: Float[Array, " offline"], state: State, members: OutcomeLaw, experience: Experience
    ) -> Float[Array, " offline"]:
        """The log ratio of every offline row; that of a row whose s' is not known is 0, as in `uniform`."""

        def of_row(row: Int[Array, ""]) -> Float[Array, ""]:
            inputs, outcome, is_known = standardised(state.scales, experience[row], experience.spec)
            return jnp.where(is_known, self.log_ratio(state.logs_law, members, inputs, outcome), 0.0)

        return jax.lax.map(of_row, jnp.arange(uniform.shape[0]), batch_size=min(WEIGHT_BLOCK, uniform.shape[0]))

    def _fit_logs(
        self, law: OutcomeLaw, scales: DynamicsScales, experience: Experience, *, key: PRNGKeyArray
    ) -> OutcomeLaw:
        """P_logs: of what it was at each of twenty checks, the best on rows that it does not learn from."""
        num_rows = experience.num_offline
        num_held_out = num_rows // HELD_OUT_EVERY

        def step(learner: TrainState[OutcomeLaw], key: PRNGKeyArray) -> tuple[TrainState[OutcomeLaw], None]:
            place = rows_with_replacement(0, num_rows - num_held_out, self.law_batch_size, key=key)
            rows = place + place // (HELD_OUT_EVERY - 1)
            gradient = jax.grad(self.surprise)(learner.model, scales, experience, rows)
            return learner.step(gradient, self._optimizer), None

        def stretch(
            carry: tuple[TrainState[OutcomeLaw], OutcomeLaw, Array], keys: Key[Array, " steps"]
        ) -> tuple[tuple[TrainState[OutcomeLaw], OutcomeLaw, Array], None]:
            learner, best, lowest = carry
            learner, _ = jax.lax.scan(step, learner, keys)
            if not num_held_out:  # nothing to judge by: the last
                return (learner, learner.model, lowest), None
            now = self.surprise(learner.model, scales, experience, held_out)
            best = jax.tree.map(lambda new, old: jnp.where(now < lowest, new, old), learner.model, best)
            return (learner, best, jnp.minimum(now, lowest)), None

        chosen = jnp.linspace(0, max(num_held_out - 1, 0), min(max(num_held_out, 1), NUM_HELD_OUT)).astype(jnp.int32)
        held_out = jnp.minimum(HELD_OUT_EVERY * chosen + HELD_OUT_EVERY - 1, num_rows - 1)
        carry = TrainState.create(law, self._optimizer), law, jnp.float32(jnp.inf)
        (_, best, _), _ = jax.lax.scan(
            stretch, carry, _in_stretches(key, self.offline_updates, self.offline_updates // 20)
        )
        return best

    def _fine_tune(
        self,
        state: State,
        experience: Experience,
        fresh: Fresh,
        start: Float[Array, " n"],
        *,
        key: PRNGKeyArray,
    ) -> Tuned:
        """Two members of today's law, and P_logs on offline rows for as long, all from P_logs on.

        Where to stop is read off the *other* member's curve: a member's own held-out rows, which decide whether
        anything changed, had no say in which of its versions is looked at.
        """
        create_key, train_key = jax.random.split(key)
        laws = jax.tree.map(lambda leaf: jnp.stack([leaf] * NUM_FOLDS), state.logs_law)
        presence = jax.vmap(lambda key: MLP.create(fresh.inputs.shape[1], 1, self.hidden, key=key))(
            jax.random.split(create_key, NUM_FOLDS)
        )

        def step(learners: Learners, key: PRNGKeyArray) -> tuple[Learners, None]:
            members, logs_law = learners
            online, offline = self._training_rows(experience, fresh, key=key)
            gradient = jax.vmap(jax.grad(self.loss), (0, None, None, 0, 0))(
                members.model, state.scales, experience, online, offline
            )
            of_logs = jax.grad(self.surprise)(logs_law.model, state.scales, experience, offline.ravel())
            return Learners(members.step(gradient, self._optimizer), logs_law.step(of_logs, self._optimizer)), None

        def out_of_fold(values: Float[Array, "folds n"]) -> Float[Array, " n"]:
            return jnp.take_along_axis(values, fresh.folds.fold[None, :], axis=0)[0]

        def fold_means(held_out: Float[Array, " n"]) -> Float[Array, " folds"]:
            in_fold = fresh.is_known[None, :] & is_of_fold(fresh.folds.fold)
            return jax.vmap(mean_of_known, (None, 0))(held_out, in_fold)

        def densities(law: OutcomeLaw) -> Float[Array, " n"]:
            return jax.vmap(law.log_density)(fresh.inputs, fresh.outcomes)

        def both(today: OutcomeLaw, logs: OutcomeLaw) -> OutcomeLaw:
            return jax.tree.map(lambda a, b: jnp.stack([a, jnp.broadcast_to(b, a.shape)]), today, logs)

        def stretch(
            carry: tuple[Learners, Kept], keys: Key[Array, " steps"]
        ) -> tuple[tuple[Learners, Kept], Float[Array, ""]]:
            learners, kept = carry
            learners, _ = jax.lax.scan(step, learners, keys)
            laws, logs_law = learners.members.model.law, learners.logs_law.model
            held_out = jnp.stack([out_of_fold(jax.vmap(densities)(laws)), densities(logs_law)])
            curve = jax.vmap(fold_means)(held_out)
            is_better = (curve > kept.curve)[:, ::-1]  # as the other fold tells
            count = jax.tree.leaves(learners.members.opt_state)[0]

            def choose(new: Array, old: Array) -> Array:
                return jnp.where(is_better.reshape(*is_better.shape, *(1,) * (new.ndim - 2)), new, old)

            kept = Kept(
                jax.tree.map(choose, both(laws, logs_law), kept.laws),
                jnp.where(is_better[:, fresh.folds.fold], held_out, kept.held_out),
                jnp.maximum(curve, kept.curve),
                jnp.where(is_better, count.astype(jnp.float32), kept.num_updates),
            )
            return (learners, kept), mean_of_known(held_out[TODAY], fresh.is_known)

        learners = Learners(
            TrainState.create(Member(laws, presence), self._optimizer),
            TrainState.create(state.logs_law, self._optimizer),
        )
        curve = jnp.stack([fold_means(start)] * len(LAWS))
        kept = Kept(both(laws, state.logs_law), jnp.stack([start] * len(LAWS)), curve, jnp.zeros_like(curve))
        keys = _in_stretches(train_key, self.num_updates, self.check_every)
        (learners, kept), curve = jax.lax.scan(stretch, (learners, kept), keys)
        presence = learners.members.model.presence
        presence = jax.vmap(lambda network: jax.vmap(network)(fresh.inputs)[:, 0])(presence)
        return Tuned(kept, out_of_fold(presence), curve)

    def loss(
        self,
        member: Member,
        scales: DynamicsScales,
        experience: Experience,
        online: Int[Array, " online"],
        offline: Int[Array, " offline"],
    ) -> Float[Array, ""]:
        """Negative log likelihood of online rows, and the classifier's loss on their first half and offline rows."""
        rows = jnp.concatenate([offline, online[: online.shape[0] // 2]])
        inputs, _, _ = standardised(scales, experience[rows], experience.spec)
        logits = jax.vmap(member.presence)(inputs)[:, 0]
        return self.surprise(member.law, scales, experience, online) + classification_loss(
            logits[: offline.shape[0]], logits[offline.shape[0] :]
        )

    def surprise(
        self, law: OutcomeLaw, scales: DynamicsScales, experience: Experience, rows: Int[Array, " n"]
    ) -> Float[Array, ""]:
        """Negative log likelihood per row, of those whose s' is known."""
        inputs, outcomes, is_known = standardised(scales, experience[rows], experience.spec)
        return -mean_of_known(jax.vmap(law.log_density)(inputs, outcomes), is_known)

    def _training_rows(
        self, experience: Experience, fresh: Fresh, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, "folds online"], Int[Array, "folds offline"]]:
        """For each member online rows, the first half of them of the current deployment; and offline rows."""

        def of_member(
            learned: Int[Array, " n"], num_learned: Int[Array, ""], key: PRNGKeyArray
        ) -> tuple[Int[Array, " online"], Int[Array, " offline"]]:
            current_key, any_key, offline_key = jax.random.split(key, 3)
            half, first = self.law_batch_size // 2, experience.num_offline
            current = rows_with_replacement(0, num_learned, half, key=current_key)
            num_earlier = experience.online_start - first
            any_of_them = rows_with_replacement(0, num_earlier + num_learned, self.law_batch_size - half, key=any_key)
            place = learned[jnp.concatenate([current, jnp.maximum(any_of_them - num_earlier, 0)])]
            is_earlier = jnp.concatenate([jnp.zeros(half, bool), any_of_them < num_earlier])
            earlier = first + jnp.concatenate([jnp.zeros(half, jnp.int32), any_of_them])
            online = jnp.where(is_earlier, earlier, experience.online_start + place)
            return online, rows_with_replacement(0, first, half, key=offline_key)

        return jax.vmap(of_member)(fresh.folds.learned, fresh.folds.num_learned, jax.random.split(key, NUM_FOLDS))

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adamw(self.learning_rate, weight_decay=self.weight_decay)


def _numeric(rows: Transition, spec: Spec) -> Transition:
    return rows._replace(action=one_hot_action(rows.action, spec))


def standardised(
    scales: DynamicsScales, rows: Transition, spec: Spec
) -> tuple[Float[Array, "*n in"], Float[Array, "*n out"], Bool[Array, "*n"]]:
    """(s, a), y, and whether s' is known; y of other rows is finite, and says nothing."""
    rows = _numeric(rows, spec)
    return scales.inputs(rows.observation, rows.action), scales.labels(rows), rows.next_is_known


def _fresh(scales: DynamicsScales, experience: Experience) -> Fresh:
    """The current deployment, its episodes dealt out to the members in turn."""
    folds = deal_out(experience)
    rows = experience[experience.online_start + jnp.arange(experience.max_online)]
    inputs, outcomes, is_known = standardised(scales, rows, experience.spec)
    return Fresh(
        jnp.where(folds.is_logged[:, None], inputs, 0.0),
        jnp.where(folds.is_logged[:, None], outcomes, 0.0),
        folds.is_logged & is_known,
        folds,
    )


def _in_stretches(key: PRNGKeyArray, num_updates: int, length: int) -> Key[Array, "stretches steps"]:
    """Keys of training steps, [stretches, steps], as many steps as asked for or a few more."""
    length = max(1, min(length, num_updates))
    num = -(-num_updates // length)
    return jax.random.split(key, (num, length))
