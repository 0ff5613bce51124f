"""MABCQ in our reading (Jiang & Lu 2021, 2108.01832): BCQ whose critics weigh transitions by how they may change.

Of the paper its abstract, the beginning of its introduction and its description in the OTC paper could
be read, and none of its formulas, so that those here are ours: see `ops/transition_normalization.py`, and
docs/algorithms.md for what each of them reads into the text.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from marline.algorithms import bcq
from marline.algorithms.bcq import BCQ
from marline.data.experience import Experience
from marline.errors import require
from marline.inputs.arguments import checked
from marline.nn.cvae import ConditionalVAE
from marline.nn.train_state import TrainState
from marline.ops.known_rows import mean_of_known
from marline.ops.transition_normalization import normalizing_weight, optimistic_deviation, transition_weights
from marline.ops.value_targets import soft_clipped_value
from marline.ops.variational import gaussian_evidence, gaussian_kl
from marline.types import Metrics, Transition


class State(NamedTuple):
    """BCQ's learner, and a model of the action given both states."""

    base: bcq.State
    inverse: TrainState[ConditionalVAE]


@dataclasses.dataclass(frozen=True)
@checked
class MABCQ:
    """BCQ with its critic loss weighted by value deviation and transition normalisation; our reading.

    Attributes:
        base: the BCQ that is weighted.
        optimism: how far the weight by value deviation may be from 1; 0 turns it off.
        normalize_transitions: whether to weigh by transition normalisation.
        decoder_std: of the Gaussian around a decoded action, in both densities.
    """

    default_updates: ClassVar[int] = BCQ.default_updates

    base: BCQ = BCQ()
    optimism: float = 0.5
    normalize_transitions: bool = True
    decoder_std: float = 0.1

    def __post_init__(self) -> None:
        require(0 <= self.optimism < 1, f"optimism is {self.optimism}, but must lie in [0, 1); 0 turns it off")
        require(self.decoder_std > 0, f"decoder_std is {self.decoder_std}, but must be positive")

    @property
    def gamma(self) -> float:
        return self.base.gamma

    @property
    def hidden(self) -> tuple[int, ...]:
        return self.base.hidden

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fresh networks."""
        spec = experience.spec
        base_key, inverse_key = jax.random.split(key)
        base = self.base.init(experience, key=base_key)
        hidden = self.base.vae_hidden or self.base.hidden
        inverse = ConditionalVAE.create(
            2 * spec.observation_size, spec.action_size, 2 * spec.action_size, hidden, key=inverse_key
        )
        return State(base, TrainState.create(inverse, self._optimizer))

    def update(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> tuple[State, Metrics]:
        """One step of the inverse model, then one of BCQ with weighted critics."""
        inverse_key, weight_key, base_key = jax.random.split(key, 3)
        inverse_loss, gradient = jax.value_and_grad(self.inverse_loss)(state.inverse.model, batch, key=inverse_key)
        state = state._replace(inverse=state.inverse.step(gradient, self._optimizer))
        weight = self.weight(state, batch, key=weight_key)
        base, metrics = self.base.update(state.base, batch, key=base_key, weight=weight)
        spread = {"least_weight": jnp.min(weight), "greatest_weight": jnp.max(weight)}
        return State(base, state.inverse), {**metrics, **spread, "inverse_loss": inverse_loss}

    def inverse_loss(self, model: ConditionalVAE, batch: Transition, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """As BCQ's autoencoder, but given s and s', of rows whose s' is known."""
        noise = jax.random.normal(key, (batch.action.shape[0], 2 * batch.action.shape[1]))
        output, mean, log_std = jax.vmap(model.reconstruct)(_both_states(batch), batch.action, noise)
        reconstruction = jnp.mean(jnp.square(jnp.tanh(output) - batch.action), axis=1)
        divergence = jnp.mean(gaussian_kl(mean, log_std), axis=1)
        return mean_of_known(reconstruction + self.base.kl_weight * divergence, batch.next_is_known)

    def weight(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """lambda_vd * lambda_tn, with mean 1; lambda_tn is 1 where s' is not known."""
        value_key, density_key, inverse_key = jax.random.split(key, 3)
        target_critic = state.base.target_critic
        candidates = self.base.target_candidates(state.base, batch.next_observation, key=value_key)
        next_value = batch.discount * soft_clipped_value(*candidates, self.base.minimum_weight)
        q_value = jnp.minimum(*jax.vmap(target_critic)(batch.observation, batch.action))
        expected = (q_value - batch.reward) / max(self.gamma, 1e-6)  # what the critic expects to follow
        floor = jnp.maximum(0.1 * jnp.std(next_value), 1e-6)
        deviation = optimistic_deviation(next_value, expected, self.optimism, floor=floor)
        if not self.normalize_transitions:
            return transition_weights(deviation, jnp.ones_like(deviation))
        density = self._log_density(state.base.vae.model, batch.observation, batch.action, key=density_key)
        given_next = self._log_density(state.inverse.model, _both_states(batch), batch.action, key=inverse_key)
        normalization = normalizing_weight(density, given_next, batch.action.shape[1])
        return transition_weights(deviation, jnp.where(batch.next_is_known, normalization, 1.0))

    def policy(self, state: State) -> bcq.Policy:
        return self.base.policy(state.base)

    def critic(self, state: State) -> bcq.Critic:
        return self.base.critic(state.base)

    def _log_density(
        self,
        model: ConditionalVAE,
        condition: Float[Array, "batch c"],
        action: Float[Array, "batch act"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " batch"]:
        noise = jax.random.normal(key, (action.shape[0], 2 * action.shape[1]))
        output, mean, log_std = jax.vmap(model.reconstruct)(condition, action, noise)
        return gaussian_evidence(jnp.tanh(output), action, self.decoder_std, mean, log_std)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.base.vae_learning_rate)


def _both_states(batch: Transition) -> Float[Array, "batch c"]:
    return jnp.concatenate([batch.observation, batch.next_observation], axis=-1)
