"""TD3+BC (Fujimoto & Gu 2021, 2106.06860): TD3 whose actor also imitates the data."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.data.normalization import Normalizer
from marline.errors import ConfigError, require
from marline.inputs.arguments import checked
from marline.nn.actors import DeterministicActor
from marline.nn.batched_cond import batched_cond
from marline.nn.q_networks import QNetwork, TwinQ
from marline.nn.train_state import TrainState, copy, polyak
from marline.ops.policy_losses import td3_bc_loss
from marline.ops.value_targets import one_step_target, smoothed_action, twin_minimum
from marline.types import ActionMask, Metrics, Transition


class State(NamedTuple):
    """One learner. Observations are stored raw and standardised when a batch arrives."""

    actor: TrainState[DeterministicActor]
    critic: TrainState[TwinQ]
    target_actor: DeterministicActor
    target_critic: TwinQ
    normalizer: Normalizer
    num_updates: Int[Array, ""]


class Policy(eqx.Module):
    """pi(s), without noise."""

    actor: DeterministicActor
    normalizer: Normalizer

    def __call__(
        self,
        observation: Float[Array, " obs"],
        *,
        key: PRNGKeyArray,
        action_mask: ActionMask | None = None,
    ) -> Float[Array, " act"]:
        return self.actor(self.normalizer(observation))


class Critic(eqx.Module):
    """Q1(s, a), and V(s) = Q1(s, pi(s)): exact, for the policy is deterministic."""

    network: QNetwork
    actor: DeterministicActor
    normalizer: Normalizer
    gamma: float = eqx.field(static=True)

    def q(self, observation: Float[Array, " obs"], action: Float[Array, " act"]) -> Float[Array, ""]:
        return self.network(self.normalizer(observation), action)

    def v(
        self,
        observation: Float[Array, " obs"],
        *,
        key: PRNGKeyArray,
        action_mask: ActionMask | None = None,
    ) -> Float[Array, ""]:
        observation = self.normalizer(observation)
        return self.network(observation, self.actor(observation))


@dataclasses.dataclass(frozen=True)
@checked
class TD3BC:
    """TD3 with a behaviour-cloning term; deterministic, for continuous actions.

    Attributes:
        hidden: widths of the hidden layers of actor and critics.
        learning_rate: of Adam, for actor and critics.
        gamma: discount of future rewards.
        alpha_bc: weight of the value term against cloning; 0 is plain cloning.
        target_noise: standard deviation of the noise on target actions.
        noise_clip: bound on that noise.
        policy_delay: critic updates per update of the actor and of both targets.
        target_step_size: share of the online networks that enters the targets.
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    gamma: float = 0.99
    alpha_bc: float = 2.5
    target_noise: float = 0.2
    noise_clip: float = 0.5
    policy_delay: int = 2
    target_step_size: float = 0.005

    def __post_init__(self) -> None:
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        require(0 <= self.gamma <= 1, f"gamma is {self.gamma}, but a discount lies in [0, 1]")
        require(self.alpha_bc >= 0, f"alpha_bc is {self.alpha_bc}, but cannot be negative; 0 is plain cloning")
        require(self.target_noise >= 0, f"target_noise is {self.target_noise}, but cannot be negative")
        require(self.noise_clip >= 0, f"noise_clip is {self.noise_clip}, but cannot be negative")
        require(self.policy_delay >= 1, f"policy_delay is {self.policy_delay}, but must be at least 1")
        step = self.target_step_size
        require(0 < step <= 1, f"target_step_size is {step}, but must lie in (0, 1]")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fresh networks, and the normalizer of B^0."""
        spec = experience.spec
        if spec.discrete:
            raise ConfigError('TD3+BC needs continuous actions; this agent\'s are discrete. Choose "cql" instead.')
        actor_key, critic_key = jax.random.split(key)
        actor = DeterministicActor.create(spec, self.hidden, key=actor_key)
        critic = TwinQ.create(spec, self.hidden, key=critic_key)
        return State(
            actor=TrainState.create(actor, self._optimizer),
            critic=TrainState.create(critic, self._optimizer),
            target_actor=copy(actor),
            target_critic=copy(critic),
            normalizer=Normalizer.fit(experience.offline().observation),
            num_updates=jnp.int32(0),
        )

    def update(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> tuple[State, Metrics]:
        """One critic update and, every `policy_delay`-th time, one of the actor and the targets."""
        batch = batch._replace(
            observation=state.normalizer(batch.observation),
            next_observation=state.normalizer(batch.next_observation),
        )
        target = self.target(state, batch, key=key)
        (critic_loss, mean_q), gradient = jax.value_and_grad(self.critic_loss, has_aux=True)(
            state.critic.model, batch, target
        )
        state = state._replace(critic=state.critic.step(gradient, self._optimizer), num_updates=state.num_updates + 1)
        state = batched_cond(state.num_updates % self.policy_delay == 0, self._delayed_update, state, batch)
        return state, {"critic_loss": critic_loss, "mean_q": mean_q}

    def target(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminated) min(Q1', Q2')(s', clip(pi'(s') + noise)); observations standardised."""
        action = jax.vmap(state.target_actor)(batch.next_observation)
        noise = self.target_noise * jax.random.normal(key, action.shape)
        action = smoothed_action(action, noise, self.noise_clip)
        next_value = twin_minimum(*jax.vmap(state.target_critic)(batch.next_observation, action))
        return one_step_target(batch.reward, batch.discount, next_value, self.gamma)

    def critic_loss(
        self, critic: TwinQ, batch: Transition, target: Float[Array, " batch"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Sum of both critics' mean squared errors, and the mean of Q1 on the batch."""
        first, second = jax.vmap(critic)(batch.observation, batch.action)
        loss = jnp.mean(jnp.square(first - target)) + jnp.mean(jnp.square(second - target))
        return loss, jnp.mean(first)

    def actor_loss(self, actor: DeterministicActor, critic: TwinQ, batch: Transition) -> Float[Array, ""]:
        """Ascend Q1, stay near the data."""
        action = jax.vmap(actor)(batch.observation)
        q_values = jax.vmap(critic.first)(batch.observation, action)
        return td3_bc_loss(q_values, action, batch.action, self.alpha_bc)

    def policy(self, state: State) -> Policy:
        return Policy(state.actor.model, state.normalizer)

    def critic(self, state: State) -> Critic:
        return Critic(state.critic.model.first, state.actor.model, state.normalizer, self.gamma)

    def _delayed_update(self, state: State, batch: Transition) -> State:
        gradient = jax.grad(self.actor_loss)(state.actor.model, state.critic.model, batch)
        actor = state.actor.step(gradient, self._optimizer)
        return state._replace(
            actor=actor,
            target_actor=polyak(actor.model, state.target_actor, self.target_step_size),
            target_critic=polyak(state.critic.model, state.target_critic, self.target_step_size),
        )

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)
