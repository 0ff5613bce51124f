"""BREMEN (Matsushima et al. 2021, 2006.03647): clone the data, then small policy steps inside a learned model."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import ConfigError, require
from marline.inputs.arguments import checked
from marline.nn.actors import GaussianActor, MeanPolicy
from marline.nn.batched_cond import batched_cond
from marline.nn.dynamics import DynamicsEnsemble, DynamicsScales
from marline.nn.mlp import MLP
from marline.nn.train_state import TrainState
from marline.ops.gaussian import log_density
from marline.ops.row_draws import rows_with_replacement, rows_without_replacement
from marline.ops.trust_region import (
    baseline_features,
    gaussian_fisher_product,
    generalized_advantages,
    inner,
    line_search,
    mean_gaussian_kl,
    natural_step,
    ridge_fit,
    surrogate_loss,
)
from marline.types import KnownReward, Metrics, Transition

MIN_LOG_STD = -5.0
RIDGE = 1e-5  # of the linear baseline
MARGIN = 0.1  # imagined states may leave the range of B^0 by this share of it


class World(NamedTuple):
    """What imagination takes from B^0, and keeps."""

    scales: DynamicsScales
    starts: Float[Array, "starts obs"]
    low: Float[Array, " obs"]
    high: Float[Array, " obs"]


class Iteration(NamedTuple):
    """What the last policy step was like; zeros before the first."""

    imagined_return: Float[Array, ""]
    policy_kl: Float[Array, ""]
    accepted: Float[Array, ""]


class State(NamedTuple):
    """One learner."""

    ensemble: TrainState[DynamicsEnsemble]
    actor: TrainState[GaussianActor]
    baseline: Float[Array, " features"]
    world: World
    iteration: Iteration
    num_updates: Int[Array, ""]


class Rollouts(NamedTuple):
    """Imagined steps; the state after the last one is `end`."""

    observation: Float[Array, "time rollouts obs"]
    action: Float[Array, "time rollouts act"]
    reward: Float[Array, "time rollouts"]
    end: Float[Array, "rollouts obs"]


@dataclasses.dataclass(frozen=True)
@checked
class BREMEN:
    """Behaviour cloning, then trust region steps on rollouts of an ensemble of dynamics models.

    The paper keeps the policy near the data without any penalty: the policy starts as a clone of
    the data and moves by few small steps. It is for one agent that sees the whole state; here an
    agent models (s, a) -> s' with its own action a alone, and the others' are part of the noise,
    of which deterministic members predict the mean. We also depart from it in these:

    - An update is one step of the models. Every member takes one Adam step on a resample, drawn
      with replacement, of the batch that the sampler drew. Nothing is held out and nothing stops
      early: the length of training is the number of updates, as for every algorithm here.
    - In the first `cloning_updates` updates the policy is cloned, by one Adam step each; after
      them comes one policy step after every `model_updates_per_policy_update` updates. So 100,000
      offline updates hold 200 policy steps and 2,000 updates on a deployment 25. The policy of
      one deployment is improved in the next, not cloned anew.
    - Imagination starts from observations of B^0 alone, kept when the learner was made, so that
      what the sampler prefers changes the models' rows and nothing else. (While cloning goes on,
      the batch is the cloned one, too.)
    - Imagined states stay within the range of B^0, widened by a tenth of it on either side. They
      never terminate, and the baseline values the state at which a rollout is cut; it sees
      standardised observations.
    - A policy step is refused if its KL is beyond 1.5 `max_kl`.

    It learns no values, so nothing that compares values can choose its rows.

    Attributes:
        hidden: widths of the hidden layers of models and policy.
        model_learning_rate: of Adam, for the models.
        actor_learning_rate: of Adam, for cloning.
        gamma: discount of future rewards.
        num_members: models in the ensemble; one of them, drawn for each imagined step, makes it.
        cloning_updates: how many updates, counted from the first, also clone the data.
        model_updates_per_policy_update: updates per policy step, once cloning is over.
        num_rollouts: imagined rollouts per policy step.
        horizon: steps per rollout.
        num_starts: observations of B^0 kept as starts; all if there are fewer.
        known_reward: gives the reward of an imagined step; None lets the models learn it.
        initial_std: of the policy, in every action dimension; it is learned in (e^-5, 1).
        max_kl: size of the trust region; 0 never moves the clone.
        gae_lambda: decay of the trace of advantages.
        damping: added to the diagonal of the Fisher matrix.
        conjugate_gradient_iterations: per policy step.
        num_halvings: of the policy step, until it is accepted or given up.
    """

    hidden: tuple[int, ...] = (256, 256)
    model_learning_rate: float = 5e-4
    actor_learning_rate: float = 1e-4
    gamma: float = 0.99
    num_members: int = 5
    cloning_updates: int = 84_000
    model_updates_per_policy_update: int = 80
    num_rollouts: int = 200
    horizon: int = 25
    num_starts: int = 8192
    known_reward: KnownReward | None = None
    initial_std: float = 0.3
    max_kl: float = 0.05
    gae_lambda: float = 0.95
    damping: float = 0.1
    conjugate_gradient_iterations: int = 10
    num_halvings: int = 10

    def __post_init__(self) -> None:
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        for name in ("model_learning_rate", "actor_learning_rate", "damping"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"{name} is {value}, but must be positive and finite")
        require(0 <= self.gamma <= 1, f"gamma is {self.gamma}, but a discount lies in [0, 1]")
        require(0 <= self.gae_lambda <= 1, f"gae_lambda is {self.gae_lambda}, but the decay of a trace lies in [0, 1]")
        for name in (
            "num_members",
            "model_updates_per_policy_update",
            "num_rollouts",
            "horizon",
            "num_starts",
            "conjugate_gradient_iterations",
        ):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("cloning_updates", "num_halvings"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}, but cannot be negative")
        std = self.initial_std
        require(
            MIN_LOG_STD < math.log(std) < 0 if std > 0 else False,
            f"initial_std is {std}, but the standard deviation of the policy lies between e^{MIN_LOG_STD:.0f} and 1",
        )
        require(0 <= self.max_kl < math.inf, f"max_kl is {self.max_kl}, but must be finite and at least 0")

    @property
    def least_offline_updates(self) -> int:
        """It clones for so long before it improves anything."""
        return self.cloning_updates

    def informed_by(self, task: object) -> BREMEN:
        """The same, told the reward of the task where that can be computed from what an agent sees."""
        return dataclasses.replace(self, known_reward=task) if isinstance(task, KnownReward) else self

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """Fresh networks, and what imagination takes from B^0: units, range and start states."""
        spec = experience.spec
        if spec.discrete:
            raise ConfigError('BREMEN needs continuous actions; this agent\'s are discrete. Choose "cql".')
        ensemble_key, actor_key, start_key = jax.random.split(key, 3)
        learn_reward = self.known_reward is None
        offline = experience.offline()
        ensemble = DynamicsEnsemble.create(
            spec, self.num_members, self.hidden, learn_reward=learn_reward, key=ensemble_key
        )
        num_starts = min(self.num_starts, experience.num_offline)
        rows = rows_without_replacement(0, experience.num_offline, num_starts, key=start_key)
        seen = jnp.stack([offline.observation, offline.next_observation])
        low, high = jnp.min(seen, axis=(0, 1)), jnp.max(seen, axis=(0, 1))
        margin = MARGIN * (high - low)
        return State(
            ensemble=TrainState.create(ensemble, self._model_optimizer),
            actor=TrainState.create(
                GaussianActor(
                    MLP.create(spec.observation_size, spec.action_size, self.hidden, key=actor_key),
                    jnp.full(spec.action_size, _free_log_std(math.log(self.initial_std)), jnp.float32),
                    _bounded_log_std,
                ),
                self._actor_optimizer,
            ),
            baseline=jnp.zeros(2 * spec.observation_size + 4),
            world=World(
                scales=DynamicsScales.fit(offline, learn_reward=learn_reward),
                starts=offline.observation[rows],
                low=low - margin,
                high=high + margin,
            ),
            iteration=Iteration(*(jnp.float32(0.0) for _ in Iteration._fields)),
            num_updates=jnp.int32(0),
        )

    def update(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> tuple[State, Metrics]:
        """One step of every model; with it one of cloning or, now and then after that, one of the policy."""
        resample_key, policy_key = jax.random.split(key)
        model_loss, gradient = jax.value_and_grad(self.model_loss)(
            state.ensemble.model, state.world.scales, batch, key=resample_key
        )
        ensemble = state.ensemble.step(gradient, self._model_optimizer)
        number = state.num_updates + 1

        actor, baseline, iteration = state.actor, state.baseline, state.iteration
        cloning_loss = self.cloning_loss(actor.model, batch)
        actor = batched_cond(number <= self.cloning_updates, self._cloning_step, actor, batch)
        imagining = (number > self.cloning_updates) & (
            (number - self.cloning_updates) % self.model_updates_per_policy_update == 0
        )
        model, baseline, iteration = batched_cond(
            imagining, self._policy_step, (actor.model, baseline, iteration), ensemble.model, state.world, policy_key
        )
        state = state._replace(
            ensemble=ensemble,
            actor=TrainState(model, actor.opt_state),
            baseline=baseline,
            iteration=iteration,
            num_updates=number,
        )
        return state, {"model_loss": model_loss / self.num_members, "cloning_loss": cloning_loss, **iteration._asdict()}

    def model_loss(
        self, ensemble: DynamicsEnsemble, scales: DynamicsScales, batch: Transition, *, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """Sum over members of the mean squared error of the standardised outcome, each on its own resample."""
        num_rows = batch.reward.shape[0]
        rows = rows_with_replacement(0, num_rows, self.num_members * num_rows, key=key)
        rows = rows.reshape(self.num_members, num_rows)
        inputs, labels = scales.inputs(batch.observation, batch.action), scales.labels(batch)
        return jnp.sum(ensemble.losses(inputs[rows], labels[rows], scales.known(batch)[rows]))

    def cloning_loss(self, actor: GaussianActor, batch: Transition) -> Float[Array, ""]:
        """Mean squared distance of the mean action to the logged one; the standard deviation has no part in it."""
        return jnp.mean(jnp.square(jax.vmap(actor.mode)(batch.observation) - batch.action))

    def imagine(self, actor: GaussianActor, ensemble: DynamicsEnsemble, world: World, *, key: PRNGKeyArray) -> Rollouts:
        """Roll the policy out in the models: from each step to the next a member drawn for all rollouts together."""
        start_key, roll_key = jax.random.split(key)
        rows = rows_with_replacement(0, world.starts.shape[0], self.num_rollouts, key=start_key)

        def step(observation: Array, key: PRNGKeyArray) -> tuple[Array, tuple[Array, Array, Array]]:
            member_key, noise_key = jax.random.split(key)
            network = ensemble.member(jax.random.randint(member_key, (), 0, self.num_members))
            mean = jax.vmap(actor.mode)(observation)
            action = mean + jnp.exp(actor.log_std)[None, :] * jax.random.normal(noise_key, mean.shape)
            following, reward = jax.vmap(functools.partial(self._predict, network, world))(observation, action)
            return following, (observation, action, reward)

        end, steps = jax.lax.scan(step, world.starts[rows], jax.random.split(roll_key, self.horizon))
        return Rollouts(*steps, end)

    def advantages(
        self, baseline: Float[Array, " features"], scales: DynamicsScales, rollouts: Rollouts
    ) -> tuple[Float[Array, "time rollouts"], Float[Array, " features"]]:
        """Advantages under the baseline, and the baseline fitted anew to lambda-returns, for next time."""
        observation = jnp.concatenate([rollouts.observation, rollouts.end[None]])
        features = jax.vmap(jax.vmap(baseline_features, in_axes=(0, None)))(
            scales.observation(observation), jnp.arange(self.horizon + 1)
        )
        values = features @ baseline

        def one_rollout(rewards: Array, values: Array) -> tuple[Array, Array]:
            return generalized_advantages(rewards, values[:-1], values[-1], self.gamma, self.gae_lambda)

        advantages, returns = jax.vmap(one_rollout, in_axes=1, out_axes=1)(rollouts.reward, values)
        fitted = ridge_fit(features[:-1].reshape(-1, features.shape[-1]), returns.ravel(), RIDGE)
        return advantages, fitted

    def improve(
        self,
        actor: GaussianActor,
        observation: Float[Array, "batch obs"],
        action: Float[Array, "batch act"],
        advantages: Float[Array, " batch"],
    ) -> tuple[GaussianActor, Float[Array, ""], Bool[Array, ""]]:
        """One trust region step: the policy, its KL to the old one, and whether it moved."""

        def distribution(actor: GaussianActor) -> tuple[Array, Array]:
            return jax.vmap(actor.mode)(observation), actor.log_std

        old = distribution(actor)
        old_log_density = jax.vmap(log_density, in_axes=(0, 0, None))(action, *old)

        def loss(actor: GaussianActor) -> Array:
            return surrogate_loss(*distribution(actor), action, old_log_density, advantages)

        old_loss, gradient = jax.value_and_grad(loss)(actor)
        step = natural_step(
            gaussian_fisher_product(distribution, actor),
            gradient,
            damping=self.damping,
            max_kl=self.max_kl,
            num_iterations=self.conjugate_gradient_iterations,
        )

        def moved(fraction: Array) -> GaussianActor:
            return jax.tree.map(lambda leaf, change: leaf + fraction * change, actor, step)

        def evaluate(fraction: Array) -> tuple[Array, Array]:
            new = moved(fraction)
            return old_loss - loss(new), mean_gaussian_kl(*old, *distribution(new))

        fraction, kl, accepted = line_search(
            evaluate, -inner(gradient, step), max_kl=self.max_kl, num_halvings=self.num_halvings
        )
        # 0 times a step that is not finite is not 0
        new = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), moved(fraction), actor)
        return new, kl, accepted

    def policy(self, state: State) -> MeanPolicy:
        return MeanPolicy(state.actor.model)

    def critic(self, state: State) -> None:
        """No values are learned."""
        return None

    def _cloning_step(self, actor: TrainState[GaussianActor], batch: Transition) -> TrainState[GaussianActor]:
        return actor.step(jax.grad(self.cloning_loss)(actor.model, batch), self._actor_optimizer)

    def _policy_step(
        self,
        learned: tuple[GaussianActor, Array, Iteration],
        ensemble: DynamicsEnsemble,
        world: World,
        key: PRNGKeyArray,
    ) -> tuple[GaussianActor, Array, Iteration]:
        actor, baseline, _ = learned
        rollouts = self.imagine(actor, ensemble, world, key=key)
        advantages, baseline = self.advantages(baseline, world.scales, rollouts)
        advantages = (advantages - jnp.mean(advantages)) / (jnp.std(advantages) + 1e-8)
        observation, action = (x.reshape(-1, x.shape[-1]) for x in (rollouts.observation, rollouts.action))
        actor, kl, accepted = self.improve(actor, observation, action, advantages.ravel())
        imagined_return = jnp.mean(jnp.sum(rollouts.reward, axis=0))
        return actor, baseline, Iteration(imagined_return, kl, accepted.astype(jnp.float32))

    def _predict(
        self, network: MLP, world: World, observation: Float[Array, " obs"], action: Float[Array, " act"]
    ) -> tuple[Float[Array, " obs"], Float[Array, ""]]:
        """One imagined step; like every world, it takes actions clipped to [-1, 1]."""
        action = jnp.clip(action, -1.0, 1.0)
        following, reward = world.scales.predict(network, observation, action)
        following = jnp.clip(following, world.low, world.high)
        if self.known_reward is not None:
            reward = self.known_reward.reward_of(observation, action, following)
        assert reward is not None  # the models learn what is not known
        return following, reward

    @property
    def _model_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.model_learning_rate)

    @property
    def _actor_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.actor_learning_rate)


def _bounded_log_std(free: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-5 sigmoid(l), in (-5, 0): a natural step cannot leave it, nor get stuck at a bound."""
    return MIN_LOG_STD * jax.nn.sigmoid(free)


def _free_log_std(log_std: float) -> float:
    """The inverse of `_bounded_log_std`."""
    return -math.log(MIN_LOG_STD / log_std - 1.0)
