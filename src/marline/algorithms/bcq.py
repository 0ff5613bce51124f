"""BCQ (Fujimoto et al. 2019, 1812.02900): Q-learning over actions that a model of the data finds likely."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import ConfigError, require, require_name
from marline.inputs.arguments import checked
from marline.nn.cvae import ConditionalVAE
from marline.nn.perturbation import PerturbationActor
from marline.nn.q_networks import QNetwork, TwinQ
from marline.nn.train_state import TrainState, copy, polyak
from marline.ops.value_targets import one_step_target, soft_clipped_value
from marline.ops.variational import gaussian_kl
from marline.types import ActionMask, Metrics, Transition

LATENT_CLIP = 0.5  # prior samples are cut to where the decoder has seen the data; not in training


class State(NamedTuple):
    """One learner. The autoencoder has no slow copy."""

    vae: TrainState[ConditionalVAE]
    actor: TrainState[PerturbationActor]
    critic: TrainState[TwinQ]
    target_actor: PerturbationActor
    target_critic: TwinQ


class Proposal(eqx.Module):
    """Actions that the data make likely, each moved a little towards higher value."""

    vae: ConditionalVAE
    actor: PerturbationActor

    def __call__(
        self, observation: Float[Array, " obs"], num: int, *, key: PRNGKeyArray
    ) -> Float[Array, "candidates act"]:
        """xi(s, G(s, z)) for `num` z ~ N(0, 1), cut to [-0.5, 0.5]."""

        def propose(latent: Float[Array, " z"]) -> Float[Array, " act"]:
            return self.actor(observation, jnp.tanh(self.vae.decode(observation, latent)))

        return jax.vmap(propose)(prior_latents((num, 2 * self.actor.action_size), key=key))


class Policy(eqx.Module):
    """The best by Q1 of many candidates; stochastic, for the candidates are."""

    proposal: Proposal
    critic: QNetwork
    num_candidates: int = eqx.field(static=True)

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Float[Array, " act"]:
        candidates = self.proposal(observation, self.num_candidates, key=key)
        return candidates[jnp.argmax(self.critic.of_many(observation, candidates))]


class Critic(eqx.Module):
    """Q1, which ranks the candidates, and V as its mean, or its maximum, over some of them."""

    network: QNetwork
    proposal: Proposal
    num_candidates: int = eqx.field(static=True)
    reduce: str = eqx.field(static=True)
    gamma: float = eqx.field(static=True)

    def q(self, observation: Float[Array, " obs"], action: Float[Array, " act"]) -> Float[Array, ""]:
        return self.network(observation, action)

    def v(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Float[Array, ""]:
        candidates = self.proposal(observation, self.num_candidates, key=key)
        q_values = self.network.of_many(observation, candidates)
        return jnp.max(q_values) if self.reduce == "max" else jnp.mean(q_values)


@dataclasses.dataclass(frozen=True)
@checked
class BCQ:
    """Batch-constrained deep Q-learning, for continuous actions.

    Defaults are those of the OTC paper's Table 3 and, where it is silent, of the authors' code.

    Attributes:
        hidden: widths of the hidden layers of perturbation and critics.
        vae_hidden: of the autoencoder; the same as `hidden` if empty (the authors' code: 750, 750).
        actor_learning_rate: of Adam, for the perturbation.
        critic_learning_rate: of Adam, for the critics.
        vae_learning_rate: of Adam, for the autoencoder.
        gamma: discount of future rewards.
        minimum_weight: lambda, the weight of the smaller of both critics in the target.
        max_perturbation: Phi, how far an action is moved at most.
        kl_weight: of the mean KL term in the loss of the autoencoder.
        num_target_candidates: actions per next state in the target.
        num_policy_candidates: actions that the deployed policy chooses from.
        num_value_candidates: actions in the V(s) that samplers see.
        value: whether that V(s) is the "mean" of Q1 over them, or the "max", as executed.
        target_step_size: share of the online networks that enters the targets.
    """

    default_updates: ClassVar[int] = 4000

    hidden: tuple[int, ...] = (64, 64)
    vae_hidden: tuple[int, ...] = ()
    actor_learning_rate: float = 1e-4
    critic_learning_rate: float = 1e-4
    vae_learning_rate: float = 1e-3
    gamma: float = 0.99
    minimum_weight: float = 0.75
    max_perturbation: float = 0.05
    kl_weight: float = 0.5
    num_target_candidates: int = 10
    num_policy_candidates: int = 100
    num_value_candidates: int = 10
    value: Literal["mean", "max"] = "mean"
    target_step_size: float = 0.005

    def __post_init__(self) -> None:
        for name in ("hidden", "vae_hidden"):
            widths = getattr(self, name)
            require(all(width >= 1 for width in widths), f"{name} is {widths}; every layer needs at least 1 unit")
        for name in ("actor_learning_rate", "critic_learning_rate", "vae_learning_rate"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be positive")
        for name in ("num_target_candidates", "num_policy_candidates", "num_value_candidates"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, but must be at least 1")
        require(0 <= self.gamma <= 1, f"gamma is {self.gamma}, but a discount lies in [0, 1]")
        weight = self.minimum_weight
        require(0 <= weight <= 1, f"minimum_weight is {weight}, but must lie in [0, 1]; 1 is the smaller critic alone")
        require(
            self.max_perturbation >= 0,
            f"max_perturbation is {self.max_perturbation}, but cannot be negative; 0 moves no action",
        )
        require(self.kl_weight >= 0, f"kl_weight is {self.kl_weight}, but cannot be negative")
        require_name(self.value, ("mean", "max"), "value")
        step = self.target_step_size
        require(0 < step <= 1, f"target_step_size is {step}, but must lie in (0, 1]")

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fresh networks."""
        spec = experience.spec
        if spec.discrete:
            raise ConfigError("BCQ needs continuous actions; this agent's are discrete. Use cql.")
        vae_key, actor_key, critic_key = jax.random.split(key, 3)
        vae = ConditionalVAE.create(
            spec.observation_size, spec.action_size, 2 * spec.action_size, self.vae_hidden or self.hidden, key=vae_key
        )
        actor = PerturbationActor.create(spec, self.hidden, self.max_perturbation, key=actor_key)
        critic = TwinQ.create(spec, self.hidden, key=critic_key)
        return State(
            vae=TrainState.create(vae, optax.adam(self.vae_learning_rate)),
            actor=TrainState.create(actor, optax.adam(self.actor_learning_rate)),
            critic=TrainState.create(critic, optax.adam(self.critic_learning_rate)),
            target_actor=copy(actor),
            target_critic=copy(critic),
        )

    def update(
        self,
        state: State,
        batch: Transition,
        *,
        key: PRNGKeyArray,
        weight: Float[Array, " batch"] | None = None,
    ) -> tuple[State, Metrics]:
        """The autoencoder, then the critics, then the perturbation by the new critics, then the targets.

        Args:
            state: the learner.
            batch: transitions.
            key: consumed by latent samples.
            weight: of each row in the critics' loss; all 1 unless given.
        """
        vae_key, target_key, actor_key = jax.random.split(key, 3)
        vae_loss, gradient = jax.value_and_grad(self.vae_loss)(state.vae.model, batch, key=vae_key)
        state = state._replace(vae=state.vae.step(gradient, optax.adam(self.vae_learning_rate)))
        target = self.target(state, batch, key=target_key)
        (critic_loss, mean_q), gradient = jax.value_and_grad(self.critic_loss, has_aux=True)(
            state.critic.model, batch, target, weight
        )
        state = state._replace(critic=state.critic.step(gradient, optax.adam(self.critic_learning_rate)))
        gradient = jax.grad(self.actor_loss)(state.actor.model, state, batch, key=actor_key)
        state = state._replace(actor=state.actor.step(gradient, optax.adam(self.actor_learning_rate)))
        state = state._replace(
            target_actor=polyak(state.actor.model, state.target_actor, self.target_step_size),
            target_critic=polyak(state.critic.model, state.target_critic, self.target_step_size),
        )
        return state, {"critic_loss": critic_loss, "mean_q": mean_q, "vae_loss": vae_loss}

    def vae_loss(self, vae: ConditionalVAE, batch: Transition, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """mean (G(s, mu + sigma eps) - a)^2 + kl_weight * mean KL."""
        num_rows, action_size = batch.action.shape
        noise = jax.random.normal(key, (num_rows, 2 * action_size))
        output, mean, log_std = jax.vmap(vae.reconstruct)(batch.observation, batch.action, noise)
        return jnp.mean(jnp.square(jnp.tanh(output) - batch.action)) + self.kl_weight * jnp.mean(
            gaussian_kl(mean, log_std)
        )

    def target(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminated) max_j [ lambda min + (1 - lambda) max ](Q1', Q2')(s', a_j)."""
        first, second = self.target_candidates(state, batch.next_observation, key=key)
        next_value = soft_clipped_value(first, second, self.minimum_weight)
        return one_step_target(batch.reward, batch.discount, next_value, self.gamma)

    def target_candidates(
        self, state: State, observation: Float[Array, "batch obs"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "batch candidates"], Float[Array, "batch candidates"]]:
        """Q1' and Q2' of actions that the slow perturbation proposes in each state."""
        proposal = Proposal(state.vae.model, state.target_actor)

        def values(observation: Float[Array, " obs"], key: PRNGKeyArray) -> tuple[Array, Array]:
            candidates = proposal(observation, self.num_target_candidates, key=key)
            return state.target_critic.of_many(observation, candidates)

        return jax.vmap(values)(observation, jax.random.split(key, observation.shape[0]))

    def critic_loss(
        self, critic: TwinQ, batch: Transition, target: Float[Array, " batch"], weight: Float[Array, " batch"] | None
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Sum of both critics' mean squared errors, and the mean of Q1 on the batch."""
        first, second = jax.vmap(critic)(batch.observation, batch.action)
        squared = jnp.square(first - target) + jnp.square(second - target)
        return jnp.mean(squared if weight is None else weight * squared), jnp.mean(first)

    def actor_loss(
        self, actor: PerturbationActor, state: State, batch: Transition, *, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """-mean Q1(s, xi(s, G(s, z))), one z per state."""
        num_rows, action_size = batch.action.shape
        latents = prior_latents((num_rows, 2 * action_size), key=key)
        likely = jnp.tanh(jax.vmap(state.vae.model.decode)(batch.observation, latents))
        action = jax.vmap(actor)(batch.observation, likely)
        return -jnp.mean(jax.vmap(state.critic.model.first)(batch.observation, action))

    def policy(self, state: State) -> Policy:
        proposal = Proposal(state.vae.model, state.actor.model)
        return Policy(proposal, state.critic.model.first, self.num_policy_candidates)

    def critic(self, state: State) -> Critic:
        proposal = Proposal(state.vae.model, state.actor.model)
        return Critic(state.critic.model.first, proposal, self.num_value_candidates, self.value, self.gamma)


def prior_latents(shape: tuple[int, int], *, key: PRNGKeyArray) -> Float[Array, "n z"]:
    """z ~ N(0, 1), cut to [-0.5, 0.5]."""
    return jnp.clip(jax.random.normal(key, shape), -LATENT_CLIP, LATENT_CLIP)
