"""CQL(H) for continuous actions (Kumar et al. 2020, 2006.04779): soft actor-critic with a conservative critic."""

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
from marline.nn.actors import MeanPolicy, SquashedGaussianActor
from marline.nn.q_networks import TwinQ
from marline.nn.train_state import TrainState, copy, polyak
from marline.ops.conservative import sampled_conservative_gap, uniform_log_density
from marline.ops.value_targets import one_step_target, twin_minimum
from marline.types import ActionMask, Metrics, Transition


class State(NamedTuple):
    """One learner."""

    actor: TrainState[SquashedGaussianActor]
    critic: TrainState[TwinQ]
    target_critic: TwinQ
    log_temperature: TrainState[Float[Array, ""]]


class SampledActions(NamedTuple):
    """Actions to be pushed down, of one state or of many, and the log density that each was drawn from."""

    action: Float[Array, "*batch n act"]
    log_density: Float[Array, "*batch n"]


class Critic(eqx.Module):
    """min(Q1, Q2)(s, a), and V(s) as its mean over actions of the policy."""

    networks: TwinQ
    actor: SquashedGaussianActor
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
        return jnp.mean(jax.vmap(lambda noise: self.q(observation, self.actor.sample(observation, noise)[0]))(noise))


@dataclasses.dataclass(frozen=True)
@checked
class ContinuousCQL:
    """Soft actor-critic whose critics are pushed down on sampled actions and up on logged ones.

    The temperature follows a target entropy of minus the number of action dimensions; the weight
    of the conservative term is fixed, and the backup holds no entropy.

    Attributes:
        hidden: widths of the hidden layers of actor and critics.
        actor_learning_rate: of Adam, for the actor and the temperature.
        critic_learning_rate: of Adam.
        gamma: discount of future rewards.
        alpha_cql: weight of the conservative term; 0 is plain soft actor-critic.
        num_action_samples: uniform actions per state, and as many of the policy at s and at s'.
        max_backup: whether the target takes the best of `num_action_samples` actions rather than one.
        target_step_size: share of the online critics that enters the targets.
        num_value_samples: actions over which V(s) is a mean, for samplers; training does not use it.
    """

    hidden: tuple[int, ...] = (256, 256)
    actor_learning_rate: float = 1e-4
    critic_learning_rate: float = 1e-4
    gamma: float = 0.99
    alpha_cql: float = 5.0
    num_action_samples: int = 10
    max_backup: bool = False
    target_step_size: float = 0.005
    num_value_samples: int = 10

    def __post_init__(self) -> None:
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        for name in ("actor_learning_rate", "critic_learning_rate"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be positive")
        require(0 <= self.gamma <= 1, f"gamma is {self.gamma}, but a discount lies in [0, 1]")
        alpha = self.alpha_cql
        require(alpha >= 0, f"alpha_cql is {alpha}, but cannot be negative; 0 is plain soft actor-critic")
        for name in ("num_action_samples", "num_value_samples"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, but must be at least 1")
        step = self.target_step_size
        require(0 < step <= 1, f"target_step_size is {step}, but must lie in (0, 1]")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fresh networks, and a temperature of 1."""
        spec = experience.spec
        if spec.discrete:
            raise ConfigError('continuous CQL is for continuous actions; this agent\'s are discrete. Choose "cql".')
        actor_key, critic_key = jax.random.split(key)
        actor = SquashedGaussianActor.create(spec, self.hidden, key=actor_key)
        critic = TwinQ.create(spec, self.hidden, key=critic_key)
        return State(
            actor=TrainState.create(actor, self._actor_optimizer),
            critic=TrainState.create(critic, self._critic_optimizer),
            target_critic=copy(critic),
            log_temperature=TrainState.create(jnp.zeros(()), self._actor_optimizer),
        )

    def update(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> tuple[State, Metrics]:
        """One step of the temperature, the actor, the critics and the targets, each on what the last one left."""
        num_rows, action_size = batch.action.shape
        num_backup = self.num_action_samples if self.max_backup else 1
        normal_key, uniform_key = jax.random.split(key)
        # all noise in one draw, for small ones cost as much as a small product
        noise = jax.random.normal(normal_key, (num_rows, 1 + num_backup + 2 * self.num_action_samples, action_size))
        actor_noise, next_noise, pushed_noise = jnp.split(noise, [1, 1 + num_backup], axis=1)
        temperature_loss, gradient = jax.value_and_grad(self.temperature_loss)(
            state.log_temperature.model, state.actor.model, batch, actor_noise[:, 0]
        )
        state = state._replace(log_temperature=state.log_temperature.step(gradient, self._actor_optimizer))

        temperature = jnp.exp(state.log_temperature.model)
        actor_loss, gradient = jax.value_and_grad(self.actor_loss)(
            state.actor.model, state.critic.model, temperature, batch, actor_noise[:, 0]
        )
        state = state._replace(actor=state.actor.step(gradient, self._actor_optimizer))

        target = self.target(state, batch, next_noise)
        sampled = self.sampled_actions(state.actor.model, batch, pushed_noise, key=uniform_key)
        (critic_loss, (mean_q, gap)), gradient = jax.value_and_grad(self.critic_loss, has_aux=True)(
            state.critic.model, batch, target, sampled
        )
        critic = state.critic.step(gradient, self._critic_optimizer)
        state = state._replace(
            critic=critic, target_critic=polyak(critic.model, state.target_critic, self.target_step_size)
        )
        return state, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "temperature_loss": temperature_loss,
            "mean_q": mean_q,
            "conservative_gap": gap,
            "temperature": temperature,
        }

    def temperature_loss(
        self,
        log_temperature: Float[Array, ""],
        actor: SquashedGaussianActor,
        batch: Transition,
        noise: Float[Array, "batch act"],
    ) -> Float[Array, ""]:
        """-log(temperature) * mean (log pi(a~|s) - d): it rises while the entropy is below -d."""
        _, log_density = jax.vmap(actor.sample)(batch.observation, noise)
        return -log_temperature * jnp.mean(log_density - actor.action_size)

    def actor_loss(
        self,
        actor: SquashedGaussianActor,
        critic: TwinQ,
        temperature: Float[Array, ""],
        batch: Transition,
        noise: Float[Array, "batch act"],
    ) -> Float[Array, ""]:
        """mean temperature * log pi(a~|s) - min(Q1, Q2)(s, a~), one a~ ~ pi(.|s) per row (1801.01290, Eq. 12)."""
        action, log_density = jax.vmap(actor.sample)(batch.observation, noise)
        q_values = twin_minimum(*jax.vmap(critic)(batch.observation, action))
        return jnp.mean(temperature * log_density - q_values)

    def target(self, state: State, batch: Transition, noise: Float[Array, "batch k act"]) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminated) max_j min(Q1', Q2')(s', a'_j), a'_j ~ pi(.|s'); no entropy term.

        One action per row, or several with `max_backup`: the maximum of the minima, for the lower
        estimate is the value of one action, and the choice is among actions.
        """
        action, _ = _sample_many(state.actor.model, batch.next_observation, noise)
        next_value = twin_minimum(*jax.vmap(state.target_critic.of_many)(batch.next_observation, action))
        return one_step_target(batch.reward, batch.discount, jnp.max(next_value, axis=1), self.gamma)

    def sampled_actions(
        self,
        actor: SquashedGaussianActor,
        batch: Transition,
        noise: Float[Array, "batch normals act"],
        *,
        key: PRNGKeyArray,
    ) -> SampledActions:
        """n uniform actions for each row, n of the policy at s and n of the policy at s'.

        As in the authors' code all of them are put to the critics at s: those of s' only widen
        the cover of actions. `noise` is of the policy's actions, those at s first; the key is consumed by
        the uniform ones.
        """
        current_noise, next_noise = jnp.split(noise, 2, axis=1)
        uniform = jax.random.uniform(key, current_noise.shape, minval=-1.0, maxval=1.0)
        current, log_density = _sample_many(actor, batch.observation, current_noise)
        following, next_log_density = _sample_many(actor, batch.next_observation, next_noise)
        uniform_density = jnp.full_like(log_density, uniform_log_density(actor.action_size))
        return SampledActions(
            jnp.concatenate([uniform, current, following], axis=1),
            jnp.concatenate([uniform_density, log_density, next_log_density], axis=1),
        )

    def critic_loss(
        self, critic: TwinQ, batch: Transition, target: Float[Array, " batch"], sampled: SampledActions
    ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, ""]]]:
        """Sum over both critics of mean squared error and alpha times mean gap; also mean Q1, and its mean gap."""
        actions = jnp.concatenate([batch.action[:, None], sampled.action], axis=1)
        q_values = jax.vmap(critic.of_many)(batch.observation, actions)
        gaps = [jnp.mean(jax.vmap(sampled_conservative_gap)(q[:, 1:], sampled.log_density, q[:, 0])) for q in q_values]
        errors = [jnp.mean(jnp.square(q[:, 0] - target)) for q in q_values]
        loss = errors[0] + errors[1] + self.alpha_cql * (gaps[0] + gaps[1])
        return loss, (jnp.mean(q_values[0][:, 0]), gaps[0])

    def policy(self, state: State) -> MeanPolicy:
        return MeanPolicy(state.actor.model)

    def critic(self, state: State) -> Critic:
        return Critic(state.critic.model, state.actor.model, self.num_value_samples, self.gamma)

    @property
    def _actor_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.actor_learning_rate)

    @property
    def _critic_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.critic_learning_rate)


def _sample_many(
    actor: SquashedGaussianActor, observations: Float[Array, "batch obs"], noise: Float[Array, "batch n act"]
) -> tuple[Float[Array, "batch n act"], Float[Array, "batch n"]]:
    """Several actions in each state, and their log densities."""
    return jax.vmap(jax.vmap(actor.sample, in_axes=(None, 0)))(observations, noise)
