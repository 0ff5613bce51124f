"""The contrastive score of IGDF (Wen et al. 2024, 2405.06192): rows whose s' fits (s, a) as today's do."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.inputs.arguments import checked
from marline.nn.cvae import one_hot_action
from marline.nn.mlp import MLP
from marline.nn.outcome_law import OutcomeLaw
from marline.nn.train_state import TrainState
from marline.ops.contrastive import cosine, info_nce
from marline.ops.known_rows import mean_of_known, neutral_where_unknown
from marline.ops.row_draws import rows_with_replacement
from marline.samplers.dynamics_ratio import WEIGHT_BLOCK, DynamicsRatio, State

LEFT_OUT = -20.0  # log weight of a row that is filtered out


class Encoders(NamedTuple):
    """phi(s, a) and psi(s'), whose product is large where they belong together today."""

    state_action: MLP
    next_state: MLP


@dataclasses.dataclass(frozen=True)
@checked
class Contrastive:
    """Keeps the offline rows of highest score, and weighs them by exp(strength * score).

    The score is the cosine of phi(s, a) and psi(s'), two networks that are trained by InfoNCE: for (s, a) of a row of
    today, its own s' is to be told from next observations of offline rows. It estimates the mutual information of
    (s, a) and s' today; the law of the logs is not divided by, and rewards are not looked at.

    In the paper half of each batch is of the source, a share of which is kept, and errors of the critic are weighted;
    here the whole of the offline rows is filtered once a deployment, and weights say how often rows are drawn. Rows
    whose s' is not known are not learned from, and weigh as much as the mean.

    Attributes:
        keep: share of the offline rows that is kept, xi.
        strength: of the score in the weight, alpha.
        size: numbers of an encoding.
        encoder_hidden: widths of the hidden layers of both encoders.
        encoder_rate: learning rate of Adam.
        encoder_batch_size: rows of today per training step, each told from one less of the logs'.
        encoder_updates: training steps per deployment.
    """

    keep: float = 0.5
    strength: float = 1.0
    size: int = 64
    encoder_hidden: tuple[int, ...] = (256, 256)
    encoder_rate: float = 3e-4
    encoder_batch_size: int = 128
    encoder_updates: int = 7000

    def __post_init__(self) -> None:
        require(0 < self.keep <= 1, f"keep is {self.keep}, but must lie in (0, 1]")
        require(math.isfinite(self.strength), f"strength is {self.strength}, but must be finite")
        for name in ("size", "encoder_updates"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be at least 1")
        size, hidden = self.encoder_batch_size, self.encoder_hidden
        require(size > 1, f"encoder_batch_size is {size}, but must be at least 2: a row, and one to tell it from")
        require(all(width >= 1 for width in hidden), f"encoder_hidden is {hidden}; every layer needs at least 1 unit")
        require(self.encoder_rate > 0, f"encoder_rate is {self.encoder_rate}, but must be positive")

    def log_weights(
        self, gate: DynamicsRatio, state: State, members: OutcomeLaw, experience: Experience, *, key: PRNGKeyArray
    ) -> Float[Array, " offline"]:
        """Of all offline rows; the key starts and trains the encoders."""
        num = experience.num_offline
        encoders = self._trained(state, experience, key=key)

        def of_row(row: Int[Array, ""]) -> Float[Array, ""]:
            state_action, after, _ = self._inputs(state, experience, row)
            return cosine(encoders.state_action(state_action), encoders.next_state(after))

        is_known = experience.offline().next_is_known
        scores = jax.lax.map(of_row, jnp.arange(num), batch_size=min(WEIGHT_BLOCK, num))
        least = jnp.quantile(jnp.where(is_known, scores, -1.0), 1.0 - self.keep)
        return neutral_where_unknown(jnp.where(scores >= least, self.strength * scores, LEFT_OUT), is_known)

    def _trained(self, state: State, experience: Experience, *, key: PRNGKeyArray) -> Encoders:
        first_key, second_key, train_key = jax.random.split(key, 3)
        seen = state.scales.observation.mean.size
        does = state.scales.action.mean.size
        encoders = Encoders(
            MLP.create(seen + does, self.size, self.encoder_hidden, key=first_key),
            MLP.create(seen, self.size, self.encoder_hidden, key=second_key),
        )
        optimizer, num = optax.adam(self.encoder_rate), self.encoder_batch_size

        def step(learner: TrainState[Encoders], key: PRNGKeyArray) -> tuple[TrainState[Encoders], None]:
            today_key, logs_key = jax.random.split(key)
            today = rows_with_replacement(experience.online_start, experience.size, num, key=today_key)
            others = rows_with_replacement(0, experience.num_offline, num - 1, key=logs_key)
            gradient = jax.grad(self.loss)(learner.model, state, experience, today, others)
            return learner.step(gradient, optimizer), None

        keys = jax.random.split(train_key, self.encoder_updates)
        learner, _ = jax.lax.scan(step, TrainState.create(encoders, optimizer), keys)
        return learner.model

    def loss(
        self,
        encoders: Encoders,
        state: State,
        experience: Experience,
        today: Int[Array, " n"],
        others: Int[Array, " m"],
    ) -> Float[Array, ""]:
        """InfoNCE of rows of today against next observations of offline rows, over those whose s' is known."""
        state_action, after, is_known = self._inputs(state, experience, today)
        _, of_others, is_other = self._inputs(state, experience, others)
        losses = info_nce(
            jax.vmap(encoders.state_action)(state_action),
            jax.vmap(encoders.next_state)(after),
            jax.vmap(encoders.next_state)(of_others),
            is_other,
        )
        return mean_of_known(losses, is_known)

    def _inputs(self, state: State, experience: Experience, rows: Int[Array, "*n"]) -> tuple[Array, Array, Array]:
        """(s, a) and s', standardised by B^0, and whether s' is known."""
        batch, scales = experience[rows], state.scales
        state_action = scales.inputs(batch.observation, one_hot_action(batch.action, experience.spec))
        return state_action, scales.observation(batch.next_observation), batch.next_is_known
