"""How well today's TD errors can be foretold from rows that are drawn in some way: what that way is worth."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from marline.data.experience import Experience
from marline.data.normalization import Normalizer
from marline.nn.cvae import state_action
from marline.nn.mlp import MLP
from marline.nn.train_state import TrainState
from marline.ops.row_draws import rows_with_replacement
from marline.ops.value_targets import next_values
from marline.samplers.folds import NUM_FOLDS, Folds
from marline.types import Critic

NUM_DRAWN = 16_384  # offline rows that a network learns from, at most as many as there are
BLOCK = 1024  # rows of which TD errors are computed at a time


class Mixtures(NamedTuple):
    """Ways of drawing rows.

    Attributes:
        fresh: the share of online rows in each.
        offline: numbers of offline rows, as they are drawn in each way, or in all if there is one line.
    """

    fresh: Float[Array, " ways"]
    offline: Int[Array, "lines drawn"]


class HeldOut(NamedTuple):
    """How far off networks are that learned from each mixture, on episodes that they did not learn from.

    Attributes:
        missed: squared errors on each row of the current deployment, in units of the TD errors of offline rows.
        means: their means.
    """

    missed: Float[Array, "ways n"]
    means: Float[Array, " ways"]


class Errors(NamedTuple):
    """(s, a), standardised, and the TD errors r + gamma V(s') - Q(s, a)."""

    inputs: Float[Array, "n sa"]
    errors: Float[Array, " n"]


@dataclasses.dataclass(frozen=True)
class Regression:
    """Learns TD errors from rows drawn in several ways, by a small network for each.

    Attributes:
        hidden: widths of the hidden layers.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        batch_size: online rows, and offline rows, per training step.
        num_updates: training steps.
    """

    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 128
    num_updates: int = 1000

    def held_out(
        self,
        inputs: Normalizer,
        experience: Experience,
        critic: Critic,
        folds: Folds,
        ways: Mixtures,
        *,
        key: PRNGKeyArray,
    ) -> HeldOut:
        """Judge ways of drawing rows.

        The networks begin alike, and see the same online rows in the same order: they differ in which offline rows they
        see, and in what these count for.

        Args:
            inputs: of (s, a).
            experience: the agent's rows.
            critic: whose errors they are.
            folds: of the current deployment.
            ways: of drawing rows; TD errors are in units of those of the rows of the first line.
            key: consumed.
        """
        create_key, train_key, error_key = jax.random.split(key, 3)
        first, num = experience.num_offline, self.batch_size
        # computed once: V(s') of some critics takes many actions
        errors_of = functools.partial(self._errors, inputs, experience, critic)
        offline_key, online_key = jax.random.split(error_key)
        offline = jax.vmap(lambda rows: errors_of(rows, key=offline_key))(ways.offline)
        online = errors_of(jnp.arange(first, experience.capacity), key=online_key)
        unit = jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(offline.errors[0]))), 1e-6)
        network = MLP.create(inputs.mean.size, 1, self.hidden, key=create_key)
        networks = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (NUM_FOLDS, ways.fresh.shape[0], *leaf.shape)), network
        )
        optimizer = optax.adamw(self.learning_rate, weight_decay=self.weight_decay)

        def missed(network: MLP, rows: Errors) -> Float[Array, " n"]:
            return jnp.square(jax.vmap(network)(rows.inputs)[:, 0] - rows.errors / unit)

        def loss(network: MLP, fresh: Float[Array, ""], now: Errors, then: Errors) -> Float[Array, ""]:
            return fresh * jnp.mean(missed(network, now)) + (1.0 - fresh) * jnp.mean(missed(network, then))

        def step(learners: TrainState[MLP], key: Key[Array, ""]) -> tuple[TrainState[MLP], None]:
            def of_fold(
                networks: MLP, learned: Int[Array, " n"], num_learned: Int[Array, ""], key: PRNGKeyArray
            ) -> MLP:
                now_key, then_key = jax.random.split(key)
                now = _online_places(experience, learned, num_learned, num, key=now_key)
                then = rows_with_replacement(0, ways.offline.shape[1], num, key=then_key)
                rows = jax.tree.map(lambda leaf: leaf[now], online), jax.tree.map(lambda leaf: leaf[:, then], offline)
                if ways.offline.shape[0] == 1:  # shared, and not repeated
                    now, then = rows[0], jax.tree.map(lambda leaf: leaf[0], rows[1])
                    return jax.vmap(jax.grad(loss), (0, 0, None, None))(networks, ways.fresh, now, then)
                return jax.vmap(jax.grad(loss), (0, 0, None, 0))(networks, ways.fresh, *rows)

            gradients = jax.vmap(of_fold)(
                learners.model, folds.learned, folds.num_learned, jax.random.split(key, NUM_FOLDS)
            )
            return learners.step(gradients, optimizer), None

        keys = jax.random.split(train_key, self.num_updates)
        learners, _ = jax.lax.scan(step, TrainState.create(networks, optimizer), keys)
        place = experience.online_start - first + jnp.arange(experience.max_online)
        today = jax.tree.map(lambda leaf: leaf[place], online)
        by_fold = jax.vmap(jax.vmap(missed, (0, None)), (0, None))(learners.model, today)
        by_others = jnp.take_along_axis(by_fold, folds.fold[None, None, :], axis=0)[0]
        by_others = jnp.where(folds.is_logged[None, :], by_others, 0.0)
        return HeldOut(by_others, jnp.sum(by_others, axis=1) / jnp.maximum(jnp.sum(folds.is_logged), 1))

    def _errors(
        self, inputs: Normalizer, experience: Experience, critic: Critic, rows: Int[Array, " n"], *, key: PRNGKeyArray
    ) -> Errors:
        """Of each row; V(s') by noise of its own."""

        def of_row(row: Int[Array, ""]) -> Errors:
            batch = experience[row[None]]
            values = next_values(critic, batch, key=jax.random.fold_in(key, row))
            errors = batch.reward + critic.gamma * values - jax.vmap(critic.q)(batch.observation, batch.action)
            return Errors(inputs(state_action(batch, experience.spec))[0], errors[0])

        return jax.lax.map(of_row, rows, batch_size=min(BLOCK, rows.shape[0]))


def _online_places(
    experience: Experience, learned: Int[Array, " n"], num_learned: Int[Array, ""], num: int, *, key: PRNGKeyArray
) -> Int[Array, " num"]:
    """Online rows that may be learned from, of all deployments alike, counted from the first of them."""
    num_earlier = experience.online_start - experience.num_offline
    place = rows_with_replacement(0, num_earlier + num_learned, num, key=key)
    return jnp.where(place < num_earlier, place, num_earlier + learned[jnp.maximum(place - num_earlier, 0)])
