"""AWAC (Nair et al. 2020, 2006.09359): clone the logged actions, those of high advantage the most."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import ConfigError, require, require_name
from marline.inputs.arguments import checked
from marline.nn.actors import GaussianActor, MeanPolicy
from marline.nn.q_networks import TwinQ
from marline.nn.train_state import TrainState, copy, polyak
from marline.ops.gaussian import sigmoid_log_std
from marline.ops.policy_losses import (
    clipped_exponential_weights,
    effective_rows,
    softmax_weights,
    weighted_cloning_loss,
)
from marline.ops.value_targets import one_step_target, twin_minimum
from marline.types import ActionMask, Metrics, Transition


class State(NamedTuple):
    """One learner."""

    actor: TrainState[GaussianActor]
    critic: TrainState[TwinQ]
    target_critic: TwinQ


class Critic(eqx.Module):
    """min(Q1, Q2)(s, a), and V(s) as its mean over actions of the policy."""

    networks: TwinQ
    actor: GaussianActor
    num_value_samples: int = eqx.field(static=True)
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
        noise = jax.random.normal(key, (self.num_value_samples, self.actor.action_size))
        return jnp.mean(jax.vmap(lambda noise: self.q(observation, self.actor.sample(observation, noise)))(noise))


@dataclasses.dataclass(frozen=True)
@checked
class AWAC:
    """Advantage-weighted actor-critic, for continuous actions.

    The policy is a Gaussian whose density is not squashed; its samples are clipped to [-1, 1]
    before a critic sees them.

    Attributes:
        hidden: widths of the hidden layers of actor and critics.
        actor_learning_rate: of Adam.
        critic_learning_rate: of Adam.
        gamma: discount of future rewards.
        temperature: lambda, by which advantages are divided; small values trust the critic more.
        weighting: "exp-clip" weighs a row by exp(A / lambda) up to `max_weight`, "softmax" by its
            share of the batch, which is nearly one-hot where advantages are much larger than lambda.
        max_weight: cap of the weights under "exp-clip".
        weight_decay: L2 penalty of the actor's parameters, added to their gradient.
        target_step_size: share of the online critics that enters the targets.
        num_value_samples: actions over which V(s) is a mean, for samplers; training does not use it.
    """

    hidden: tuple[int, ...] = (256, 256)
    actor_learning_rate: float = 1e-4
    critic_learning_rate: float = 5e-4
    gamma: float = 0.99
    temperature: float = 1 / 3
    weighting: Literal["exp-clip", "softmax"] = "exp-clip"
    max_weight: float = 100.0
    weight_decay: float = 1e-4
    target_step_size: float = 0.005
    num_value_samples: int = 10

    def __post_init__(self) -> None:
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        for name in ("actor_learning_rate", "critic_learning_rate", "temperature", "max_weight"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be positive")
        require(0 <= self.gamma <= 1, f"gamma is {self.gamma}, but a discount lies in [0, 1]")
        require_name(self.weighting, ("exp-clip", "softmax"), "weighting")
        require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}, but cannot be negative")
        step = self.target_step_size
        require(0 < step <= 1, f"target_step_size is {step}, but must lie in (0, 1]")
        samples = self.num_value_samples
        require(samples >= 1, f"num_value_samples is {samples}, but a mean needs at least 1")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fresh networks."""
        spec = experience.spec
        if spec.discrete:
            raise ConfigError('AWAC needs continuous actions; this agent\'s are discrete. Choose "cql" instead.')
        actor_key, critic_key = jax.random.split(key)
        actor = GaussianActor.create(spec, self.hidden, sigmoid_log_std, key=actor_key)
        critic = TwinQ.create(spec, self.hidden, key=critic_key)
        return State(
            actor=TrainState.create(actor, self._actor_optimizer),
            critic=TrainState.create(critic, self._critic_optimizer),
            target_critic=copy(critic),
        )

    def update(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> tuple[State, Metrics]:
        """One update of the critics, then of the actor against them, then of the targets."""
        next_noise, baseline_noise = jax.random.normal(key, (2, *batch.action.shape))
        target = self.target(state, batch, next_noise)
        (critic_loss, mean_q), gradient = jax.value_and_grad(self.critic_loss, has_aux=True)(
            state.critic.model, batch, target
        )
        critic = state.critic.step(gradient, self._critic_optimizer)

        advantage = self.advantage(state.actor.model, critic.model, batch, baseline_noise)
        weights = self.weights(advantage)
        actor_loss, gradient = jax.value_and_grad(self.actor_loss)(state.actor.model, batch, weights)
        state = State(
            actor=state.actor.step(gradient, self._actor_optimizer),
            critic=critic,
            target_critic=polyak(critic.model, state.target_critic, self.target_step_size),
        )
        return state, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "mean_q": mean_q,
            "effective_rows": effective_rows(weights),
        }

    def target(self, state: State, batch: Transition, noise: Float[Array, "batch act"]) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminated) min(Q1', Q2')(s', a'), one a' ~ pi(.|s') per row; no entropy term."""
        action = jax.vmap(state.actor.model.sample)(batch.next_observation, noise)
        next_value = twin_minimum(*jax.vmap(state.target_critic)(batch.next_observation, action))
        return one_step_target(batch.reward, batch.discount, next_value, self.gamma)

    def critic_loss(
        self, critic: TwinQ, batch: Transition, target: Float[Array, " batch"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Sum of both critics' mean squared errors, and the mean of Q1 on the batch."""
        first, second = jax.vmap(critic)(batch.observation, batch.action)
        loss = jnp.mean(jnp.square(first - target)) + jnp.mean(jnp.square(second - target))
        return loss, jnp.mean(first)

    def advantage(
        self, actor: GaussianActor, critic: TwinQ, batch: Transition, noise: Float[Array, "batch act"]
    ) -> Float[Array, " batch"]:
        """A(s, a) = Q(s, a) - Q(s, a~), one a~ ~ pi(.|s) per row, Q = min(Q1, Q2)."""
        baseline_action = jax.vmap(actor.sample)(batch.observation, noise)
        actions = jnp.stack([batch.action, baseline_action], axis=1)
        q_values = twin_minimum(*jax.vmap(critic.of_many)(batch.observation, actions))
        return q_values[:, 0] - q_values[:, 1]

    def weights(self, advantage: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """How much each logged action is worth imitating."""
        scaled_advantage = advantage / self.temperature
        if self.weighting == "softmax":
            return softmax_weights(scaled_advantage)
        return clipped_exponential_weights(scaled_advantage, self.max_weight)

    def actor_loss(self, actor: GaussianActor, batch: Transition, weights: Float[Array, " batch"]) -> Float[Array, ""]:
        """-mean w log pi(a|s) (2006.09359, Eq. 13)."""
        return weighted_cloning_loss(jax.vmap(actor.log_density)(batch.observation, batch.action), weights)

    def policy(self, state: State) -> MeanPolicy:
        return MeanPolicy(state.actor.model)

    def critic(self, state: State) -> Critic:
        return Critic(state.critic.model, state.actor.model, self.num_value_samples, self.gamma)

    @property
    def _actor_optimizer(self) -> optax.GradientTransformation:
        return optax.chain(optax.add_decayed_weights(self.weight_decay), optax.adam(self.actor_learning_rate))

    @property
    def _critic_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.critic_learning_rate)
