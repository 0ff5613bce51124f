"""A share of fresh rows that each agent finds for itself: the smallest that its TD errors ask for."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from marline.data.experience import Experience
from marline.data.normalization import Normalizer
from marline.errors import require
from marline.inputs.arguments import checked
from marline.nn.cvae import one_hot_action
from marline.nn.mlp import MLP
from marline.nn.train_state import TrainState
from marline.ops.law_ratio import ClusteredMean, clustered_mean
from marline.ops.row_draws import rows_with_replacement
from marline.ops.share_choice import smallest_share_that_does
from marline.ops.value_targets import next_values
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.folds import NUM_FOLDS, Folds, deal_out
from marline.samplers.fresh_share import fresh_plan, fresh_rows
from marline.samplers.weighted_offline import natural_share
from marline.types import Critic, Metrics, Spec, Transition

NUM_MEASURED = 1024  # offline rows, of which the size of a TD error is told


class State(NamedTuple):
    """The share that was found, and the units of (s, a), frozen at B^0."""

    share: Float[Array, ""]
    inputs: Normalizer


@dataclasses.dataclass(frozen=True)
@checked
class AdaptiveShare:
    """Like `FreshShare`, with a share that is found anew at each deployment, from the agent's own rows and critic.

    Fresh rows are few, and narrow; the only reason to replay them more often than others is that they tell the critic
    something which the offline rows do not. Whether they do is a question of held-out data: for each of some shares, a
    small network learns the critic's TD errors r + gamma V(s') - Q(s, a) of a mixture of fresh and offline rows, and is
    judged by how well it foretells those of episodes of the current deployment that it has not seen. The smallest share
    wins that is within one standard error, over episodes, of the best (the rule of Breiman et al. 1984 for the simplest
    model that will do). Where the critic errs by nothing but noise, or offline rows tell as much, it is the share that
    uniform replay has; where fresh rows lie where the logs have never been, or contradict them, it is a large one.

    Attributes:
        shares: that are tried beside that of uniform replay, which is also the least.
        gamma: of the algorithm.
        hidden: widths of the hidden layers of the networks.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        error_batch_size: fresh rows, and offline rows, per training step.
        num_updates: training steps per deployment.
        batch_size: rows per update.
    """

    shares: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75)
    gamma: float = 0.99
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    error_batch_size: int = 128
    num_updates: int = 1000
    batch_size: int = 128
    prefers_rows: ClassVar[bool] = False
    draws_by_plan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        shares = self.shares
        require(
            len(shares) > 0 and all(0 < share <= 1 for share in shares) and list(shares) == sorted(set(shares)),
            f"shares are {shares}, but need one or more numbers in (0, 1], each larger than the one before",
        )
        require(0 <= self.gamma <= 1, f"gamma is {self.gamma}, but must lie in [0, 1]")
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        decay = self.weight_decay
        require(0 <= decay < math.inf, f"weight_decay is {decay}, but must be finite and at least 0, which is none")
        for name in ("error_batch_size", "num_updates", "batch_size"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be at least 1")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """No fresh rows yet."""
        return State(jnp.float32(0.0), Normalizer.fit(_state_action(experience.offline(), experience.spec)))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Find the share; an algorithm without values gets that of uniform replay."""
        natural = natural_share(experience)
        if critic is None:
            return state._replace(share=natural), {"fresh_share": natural}
        shares = jnp.maximum(jnp.concatenate([natural[None], jnp.array(self.shares)]), natural)
        folds = deal_out(experience)
        errors, means = self._held_out_errors(state, experience, critic, folds, shares, key=key)
        count = folds.is_logged.astype(jnp.float32)

        def excess(number: Int[Array, ""], best: Int[Array, ""]) -> ClusteredMean:
            return clustered_mean(errors[number] - errors[best], count, folds.cluster)

        chosen = smallest_share_that_does(means, excess)
        share = shares[chosen]
        return state._replace(share=share), {
            "fresh_share": share,
            "td_error_by_share": means,
            "fresh_share_best": shares[jnp.argmin(means)],
        }

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch."""
        return fresh_rows(experience, state.share, self.batch_size, key=key), state, {}

    def plan(self, state: State, experience: Experience) -> DrawPlan:
        return fresh_plan(experience, state.share, self.batch_size)

    def _held_out_errors(
        self,
        state: State,
        experience: Experience,
        critic: Critic,
        folds: Folds,
        shares: Float[Array, " shares"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "shares n"], Float[Array, " shares"]]:
        """Squared errors on each row of the deployment by the networks that did not see it, and their means."""
        create_key, train_key, judge_key = jax.random.split(key, 3)
        in_size, num = state.inputs.mean.size, self.error_batch_size
        network = MLP.create(in_size, 1, self.hidden, key=create_key)
        # all from the same weights: they differ in what they learn from alone
        networks = jax.tree.map(lambda leaf: jnp.stack([jnp.stack([leaf] * len(shares))] * NUM_FOLDS), network)
        unit = self._unit(state, experience, critic, judge_key)

        def loss(network: MLP, share: Float[Array, ""], inputs: Array, targets: Array) -> Float[Array, ""]:
            missed = jnp.square(jax.vmap(network)(inputs)[:, 0] - targets)
            fresh, offline = jnp.mean(missed[:num]), jnp.mean(missed[num:])
            return share * fresh + (1.0 - share) * offline

        def step(learners: TrainState[MLP], key: Key[Array, ""]) -> tuple[TrainState[MLP], None]:
            def of_fold(
                networks: MLP, learned: Int[Array, " n"], num_learned: Int[Array, ""], key: PRNGKeyArray
            ) -> MLP:
                row_key, noise_key = jax.random.split(key)
                rows = _rows(experience, learned, num_learned, num, key=row_key)
                inputs, targets = self._errors(state, experience, critic, rows, key=noise_key)
                return jax.vmap(jax.grad(loss), (0, 0, None, None))(networks, shares, inputs, targets / unit)

            keys = jax.random.split(key, NUM_FOLDS)
            return learners.step(
                jax.vmap(of_fold)(learners.model, folds.learned, folds.num_learned, keys), self._optimizer
            ), None

        keys = jax.random.split(train_key, self.num_updates)
        learners, _ = jax.lax.scan(step, TrainState.create(networks, self._optimizer), keys)
        rows = experience.online_start + jnp.arange(experience.max_online)
        inputs, targets = self._errors(state, experience, critic, rows, key=judge_key)
        said = jax.vmap(jax.vmap(lambda network: jax.vmap(network)(inputs)[:, 0]))(learners.model)
        of_fold = jnp.take_along_axis(said, folds.fold[None, None, :], axis=0)[0]
        missed = jnp.where(folds.is_logged[None, :], jnp.square(of_fold - targets[None, :] / unit), 0.0)
        return missed, jnp.sum(missed, axis=1) / jnp.maximum(jnp.sum(folds.is_logged), 1)

    def _unit(self, state: State, experience: Experience, critic: Critic, key: PRNGKeyArray) -> Float[Array, ""]:
        """Typical size of a TD error offline."""
        row_key, noise_key = jax.random.split(key)
        rows = rows_with_replacement(0, experience.num_offline, NUM_MEASURED, key=row_key)
        _, errors = self._errors(state, experience, critic, rows, key=noise_key)
        return jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(errors))), 1e-6)

    def _errors(
        self, state: State, experience: Experience, critic: Critic, rows: Int[Array, " n"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "n sa"], Float[Array, " n"]]:
        """(s, a), standardised, and r + gamma V(s') - Q(s, a)."""
        batch = experience[rows]
        target = batch.reward + self.gamma * next_values(critic, batch, key=key)
        error = target - jax.vmap(critic.q)(batch.observation, batch.action)
        return state.inputs(_state_action(batch, experience.spec)), error

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adamw(self.learning_rate, weight_decay=self.weight_decay)


def _state_action(batch: Transition, spec: Spec) -> Float[Array, "n sa"]:
    return jnp.concatenate([batch.observation, one_hot_action(batch.action, spec)], axis=-1)


def _rows(
    experience: Experience, learned: Int[Array, " n"], num_learned: Int[Array, ""], num: int, *, key: PRNGKeyArray
) -> Int[Array, " both"]:
    """`num` online rows that may be learned from, of all deployments alike, then as many offline rows."""
    online_key, offline_key = jax.random.split(key)
    first = experience.num_offline
    num_earlier = experience.online_start - first
    place = rows_with_replacement(0, num_earlier + num_learned, num, key=online_key)
    now = experience.online_start + learned[jnp.maximum(place - num_earlier, 0)]
    online = jnp.where(place < num_earlier, first + place, now)
    return jnp.concatenate([online, rows_with_replacement(0, first, num, key=offline_key)])
