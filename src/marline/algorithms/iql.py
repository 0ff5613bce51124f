"""Implicit Q-learning (Kostrikov et al. 2021, 2110.06169): values from logged actions alone."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import ConfigError, require
from marline.inputs.arguments import checked
from marline.nn.actors import GaussianActor, MeanPolicy
from marline.nn.q_networks import TwinQ
from marline.nn.train_state import TrainState, copy, polyak
from marline.nn.v_network import VNetwork
from marline.ops.gaussian import clamped_log_std
from marline.ops.policy_losses import clipped_exponential_weights, effective_rows, weighted_cloning_loss
from marline.ops.value_losses import expectile_loss
from marline.ops.value_targets import one_step_target, twin_minimum
from marline.types import ActionMask, Metrics, Transition


class State(NamedTuple):
    """One learner."""

    actor: TrainState[GaussianActor]
    critic: TrainState[TwinQ]
    value: TrainState[VNetwork]
    target_critic: TwinQ


class Critic(eqx.Module):
    """min(Q1, Q2)(s, a) and the network V(s): an expectile over logged actions, not the policy's mean."""

    networks: TwinQ
    value: VNetwork
    gamma: float = eqx.field(static=True)

    def q(self, observation: Float[Array, " obs"], action: Float[Array, " act"]) -> Float[Array, ""]:
        return twin_minimum(*self.networks(observation, action))

    def v(
        self,
        observation: Float[Array, " obs"],
        *,
        key: PRNGKeyArray,
        action_mask: ActionMask | None = None,
    ) -> Float[Array, ""]:
        return self.value(observation)


@dataclasses.dataclass(frozen=True)
@checked
class IQL:
    """Expectile regression of V, and a policy that clones weighted by advantage; for continuous actions.

    The authors let the actor's learning rate fall to 0 over the offline run. Here it stays, because
    tuning goes on for as many deployments as there will be.

    Attributes:
        hidden: widths of the hidden layers of actor, critics and value network.
        learning_rate: of Adam, for all of them.
        gamma: discount of future rewards.
        expectile: tau; 0.5 evaluates the behaviour in the logs, towards 1 the best action in them.
        inverse_temperature: beta, by which advantages are multiplied; 0 is plain cloning.
        max_weight: cap of the weights exp(beta A).
        target_step_size: share of the online critics that enters the targets.
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    gamma: float = 0.99
    expectile: float = 0.7
    inverse_temperature: float = 3.0
    max_weight: float = 100.0
    target_step_size: float = 0.005

    def __post_init__(self) -> None:
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        require(0 <= self.gamma <= 1, f"gamma is {self.gamma}, but a discount lies in [0, 1]")
        require(0 < self.expectile < 1, f"expectile is {self.expectile}, but must lie in (0, 1)")
        beta = self.inverse_temperature
        require(beta >= 0, f"inverse_temperature is {beta}, but cannot be negative; 0 is plain cloning")
        require(self.max_weight > 0, f"max_weight is {self.max_weight}, but must be positive")
        step = self.target_step_size
        require(0 < step <= 1, f"target_step_size is {step}, but must lie in (0, 1]")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fresh networks."""
        spec = experience.spec
        if spec.discrete:
            raise ConfigError('IQL needs continuous actions; this agent\'s are discrete. Choose "cql" instead.')
        actor_key, critic_key, value_key = jax.random.split(key, 3)
        critic = TwinQ.create(spec, self.hidden, key=critic_key)
        return State(
            actor=TrainState.create(
                GaussianActor.create(spec, self.hidden, clamped_log_std, key=actor_key), self._optimizer
            ),
            critic=TrainState.create(critic, self._optimizer),
            value=TrainState.create(VNetwork.create(spec, self.hidden, key=value_key), self._optimizer),
            target_critic=copy(critic),
        )

    def update(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> tuple[State, Metrics]:
        """One update of every network. All losses see V as it was; no loss sees an action that was not logged."""
        q_values = twin_minimum(*jax.vmap(state.target_critic)(batch.observation, batch.action))
        advantage = q_values - jax.vmap(state.value.model)(batch.observation)
        target = self.target(state, batch)
        value_loss, value_gradient = jax.value_and_grad(self.value_loss)(state.value.model, batch, q_values)
        (critic_loss, mean_q), critic_gradient = jax.value_and_grad(self.critic_loss, has_aux=True)(
            state.critic.model, batch, target
        )
        weights = clipped_exponential_weights(self.inverse_temperature * advantage, self.max_weight)
        actor_loss, actor_gradient = jax.value_and_grad(self.actor_loss)(state.actor.model, batch, weights)

        critic = state.critic.step(critic_gradient, self._optimizer)
        state = State(
            actor=state.actor.step(actor_gradient, self._optimizer),
            critic=critic,
            value=state.value.step(value_gradient, self._optimizer),
            target_critic=polyak(critic.model, state.target_critic, self.target_step_size),
        )
        return state, {
            "critic_loss": critic_loss,
            "value_loss": value_loss,
            "actor_loss": actor_loss,
            "mean_q": mean_q,
            "effective_rows": effective_rows(weights),
        }

    def value_loss(self, value: VNetwork, batch: Transition, q_values: Float[Array, " batch"]) -> Float[Array, ""]:
        """mean |tau - 1(u < 0)| u^2 with u = min(Q1', Q2')(s, a) - V(s) (2110.06169, Eq. 5)."""
        return jnp.mean(expectile_loss(q_values - jax.vmap(value)(batch.observation), self.expectile))

    def target(self, state: State, batch: Transition) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminated) V(s')."""
        next_value = jax.vmap(state.value.model)(batch.next_observation)
        return one_step_target(batch.reward, batch.discount, next_value, self.gamma)

    def critic_loss(
        self, critic: TwinQ, batch: Transition, target: Float[Array, " batch"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Mean of both critics' mean squared errors (Eq. 6), and the mean of Q1 on the batch."""
        first, second = jax.vmap(critic)(batch.observation, batch.action)
        loss = 0.5 * (jnp.mean(jnp.square(first - target)) + jnp.mean(jnp.square(second - target)))
        return loss, jnp.mean(first)

    def actor_loss(self, actor: GaussianActor, batch: Transition, weights: Float[Array, " batch"]) -> Float[Array, ""]:
        """-mean min(exp(beta u), max_weight) log pi(a|s) (Eq. 7)."""
        return weighted_cloning_loss(jax.vmap(actor.log_density)(batch.observation, batch.action), weights)

    def policy(self, state: State) -> MeanPolicy:
        return MeanPolicy(state.actor.model)

    def critic(self, state: State) -> Critic:
        return Critic(state.critic.model, state.value.model, self.gamma)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)
