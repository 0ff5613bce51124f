"""SAC (Haarnoja et al. 2018, 1812.05905): learns online; here it is whose logs others learn from."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from marline.errors import ConfigError, require
from marline.inputs.arguments import checked
from marline.nn.actors import SquashedGaussianActor
from marline.nn.q_networks import TwinQ
from marline.nn.train_state import TrainState, copy, polyak
from marline.ops.value_targets import one_step_target, twin_minimum
from marline.types import ActionMask, Metrics, Spec, Transition


class State(NamedTuple):
    """One learner."""

    actor: TrainState[SquashedGaussianActor]
    critic: TrainState[TwinQ]
    target_critic: TwinQ
    log_temperature: TrainState[Float[Array, ""]]


class Policy(eqx.Module):
    """A draw from pi(.|s): its entropy is what explores."""

    actor: SquashedGaussianActor

    def __call__(
        self,
        observation: Float[Array, " obs"],
        *,
        key: PRNGKeyArray,
        action_mask: ActionMask | None = None,
    ) -> Float[Array, " act"]:
        action, _ = self.actor.sample(observation, jax.random.normal(key, (self.actor.action_size,)))
        return action


@dataclasses.dataclass(frozen=True)
@checked
class SAC:
    """Soft actor-critic with a learned temperature, for continuous actions.

    The temperature follows a target entropy of minus the number of action dimensions.

    Attributes:
        hidden: widths of the hidden layers of actor and critics.
        learning_rate: of Adam, for actor, critics and temperature.
        gamma: discount of future rewards.
        target_step_size: share of the online critics that enters the targets.
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    gamma: float = 0.99
    target_step_size: float = 0.005

    def __post_init__(self) -> None:
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        require(0 <= self.gamma <= 1, f"gamma is {self.gamma}, but a discount lies in [0, 1]")
        step = self.target_step_size
        require(0 < step <= 1, f"target_step_size is {step}, but must lie in (0, 1]")

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> State:
        """Fresh networks, and a temperature of 1."""
        if spec.discrete:
            raise ConfigError("SAC needs continuous actions; this agent's are discrete")
        actor_key, critic_key = jax.random.split(key)
        actor = SquashedGaussianActor.create(spec, self.hidden, key=actor_key)
        critic = TwinQ.create(spec, self.hidden, key=critic_key)
        return State(
            actor=TrainState.create(actor, self._optimizer),
            critic=TrainState.create(critic, self._optimizer),
            target_critic=copy(critic),
            log_temperature=TrainState.create(jnp.zeros(()), self._optimizer),
        )

    def update(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> tuple[State, Metrics]:
        """One step of the critics, the actor, the temperature and the targets, each on what the last one left."""
        target_key, actor_key = jax.random.split(key)
        target = self.target(state, batch, jax.random.normal(target_key, batch.action.shape))
        (critic_loss, mean_q), gradient = jax.value_and_grad(self.critic_loss, has_aux=True)(
            state.critic.model, batch, target
        )
        critic = state.critic.step(gradient, self._optimizer)

        temperature = jnp.exp(state.log_temperature.model)
        noise = jax.random.normal(actor_key, batch.action.shape)
        (actor_loss, mean_log_density), gradient = jax.value_and_grad(self.actor_loss, has_aux=True)(
            state.actor.model, critic.model, temperature, batch, noise
        )
        actor = state.actor.step(gradient, self._optimizer)

        gradient = jax.grad(self.temperature_loss)(state.log_temperature.model, mean_log_density, batch.action.shape[1])
        state = State(
            actor=actor,
            critic=critic,
            target_critic=polyak(critic.model, state.target_critic, self.target_step_size),
            log_temperature=state.log_temperature.step(gradient, self._optimizer),
        )
        return state, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "mean_q": mean_q,
            "entropy": -mean_log_density,
            "temperature": temperature,
        }

    def target(self, state: State, batch: Transition, noise: Float[Array, "batch act"]) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminated) (min(Q1', Q2')(s', a') - temperature * log pi(a'|s')), one a' per row."""
        action, log_density = jax.vmap(state.actor.model.sample)(batch.next_observation, noise)
        next_value = twin_minimum(*jax.vmap(state.target_critic)(batch.next_observation, action))
        soft_value = next_value - jnp.exp(state.log_temperature.model) * log_density
        return one_step_target(batch.reward, batch.discount, soft_value, self.gamma)

    def critic_loss(
        self, critic: TwinQ, batch: Transition, target: Float[Array, " batch"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Sum of both critics' mean squared errors, halved, and the mean of Q1 on the batch."""
        first, second = jax.vmap(critic)(batch.observation, batch.action)
        loss = 0.5 * (jnp.mean(jnp.square(first - target)) + jnp.mean(jnp.square(second - target)))
        return loss, jnp.mean(first)

    def actor_loss(
        self,
        actor: SquashedGaussianActor,
        critic: TwinQ,
        temperature: Float[Array, ""],
        batch: Transition,
        noise: Float[Array, "batch act"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """mean temperature * log pi(a~|s) - min(Q1, Q2)(s, a~), one a~ per row; also the mean of log pi(a~|s)."""
        action, log_density = jax.vmap(actor.sample)(batch.observation, noise)
        q_values = twin_minimum(*jax.vmap(critic)(batch.observation, action))
        return jnp.mean(temperature * log_density - q_values), jnp.mean(log_density)

    def temperature_loss(
        self, log_temperature: Float[Array, ""], mean_log_density: Float[Array, ""], action_size: int
    ) -> Float[Array, ""]:
        """-log(temperature) * (mean log pi(a~|s) - d): it rises while the entropy is below -d."""
        return -log_temperature * (mean_log_density - action_size)

    def policy(self, state: State) -> Policy:
        return Policy(state.actor.model)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)
