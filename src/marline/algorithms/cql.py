"""CQL (Kumar et al. 2020, 2006.04779) for discrete actions: double Q-learning that keeps unseen actions low."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.data.forced_tails import end_where_choice_ends
from marline.errors import ConfigError, require, require_name
from marline.inputs.arguments import checked
from marline.nn.q_networks import DiscreteQNetwork
from marline.nn.train_state import TrainState, copy, polyak
from marline.ops.conservative import conservative_gap, masked_argmax, masked_max
from marline.ops.value_targets import one_step_target
from marline.types import ActionMask, Metrics, Transition


class State(NamedTuple):
    """One learner. There is no actor: the policy is the best action allowed."""

    network: TrainState[DiscreteQNetwork]
    target_network: DiscreteQNetwork
    num_updates: Int[Array, ""]


class Policy(eqx.Module):
    """argmax_a Q(s, a) over the actions allowed; ties go to the lowest number."""

    network: DiscreteQNetwork

    def __call__(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Int[Array, ""]:
        return masked_argmax(self.network(observation), action_mask)


class Critic(eqx.Module):
    """Q(s, a), and V(s), its maximum over the actions allowed: exact, for the policy is greedy."""

    network: DiscreteQNetwork
    gamma: float = eqx.field(static=True)

    def q(self, observation: Float[Array, " obs"], action: Int[Array, ""]) -> Float[Array, ""]:
        return self.network(observation)[action]

    def v(
        self, observation: Float[Array, " obs"], *, key: PRNGKeyArray, action_mask: ActionMask | None = None
    ) -> Float[Array, ""]:
        return masked_max(self.network(observation), action_mask)


@dataclasses.dataclass(frozen=True)
@checked
class CQL:
    """Conservative Q-learning, CQL(H), for discrete actions of which some may be forbidden.

    Attributes:
        hidden: widths of the hidden layers.
        learning_rate: of Adam.
        gamma: discount of future rewards.
        alpha_cql: weight of the conservative term; 0 is plain double Q-learning.
        target_period: updates between two moves of the target network.
        target_step_size: share of the online network that then enters it; 1 copies it. With a
            period of 1 and a share of 0.005 the target follows slowly instead.
        forced_tails: what to do with the rows at the end of an episode in which the agent has one
            action left, as after its death in StarCraft: "monte-carlo" ends the episode for this
            agent where its choice ends, paying what follows at once, unless a time limit cut it;
            "keep" learns from them all.
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 1e-4
    gamma: float = 0.99
    alpha_cql: float = 1.0
    target_period: int = 200
    target_step_size: float = 1.0
    forced_tails: Literal["monte-carlo", "keep"] = "monte-carlo"

    def __post_init__(self) -> None:
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        require(0 <= self.gamma <= 1, f"gamma is {self.gamma}, but a discount lies in [0, 1]")
        require(self.alpha_cql >= 0, f"alpha_cql is {self.alpha_cql}, but cannot be negative; 0 is plain Q-learning")
        require(self.target_period >= 1, f"target_period is {self.target_period}, but must be at least 1")
        step = self.target_step_size
        require(0 < step <= 1, f"target_step_size is {step}, but must lie in (0, 1]")
        require_name(self.forced_tails, ("monte-carlo", "keep"), "treatment of forced tails")

    def prepare(self, logs: Dataset) -> Dataset:
        """The logs that are learned from: see `forced_tails`."""
        return logs if self.forced_tails == "keep" else end_where_choice_ends(logs, self.gamma)

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """A fresh network."""
        if not experience.spec.discrete:
            raise ConfigError("CQL needs discrete actions; this agent's are continuous. Use cql-continuous.")
        network = DiscreteQNetwork.create(experience.spec, self.hidden, key=key)
        return State(TrainState.create(network, self._optimizer), copy(network), jnp.int32(0))

    def update(self, state: State, batch: Transition, *, key: PRNGKeyArray) -> tuple[State, Metrics]:
        """One step on the batch; every `target_period`-th time the target moves."""
        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.network.model, batch, self.target(state, batch))
        network = state.network.step(gradient, self._optimizer)
        num_updates = state.num_updates + 1
        moves = num_updates % self.target_period == 0
        moved = polyak(network.model, state.target_network, self.target_step_size)
        target_network = jax.tree.map(lambda new, old: jnp.where(moves, new, old), moved, state.target_network)
        return State(network, target_network, num_updates), metrics

    def target(self, state: State, batch: Transition) -> Float[Array, " batch"]:
        """y = r + gamma (1 - terminated) Q'(s', argmax_a Q(s', a)) over the actions allowed at s'."""
        online = jax.vmap(state.network.model)(batch.next_observation)
        best = jax.vmap(masked_argmax)(online, batch.next_action_mask)
        slow = jax.vmap(state.target_network)(batch.next_observation)
        next_value = jnp.take_along_axis(slow, best[:, None], axis=1)[:, 0]
        return one_step_target(batch.reward, batch.discount, next_value, self.gamma)

    def loss(
        self, network: DiscreteQNetwork, batch: Transition, target: Float[Array, " batch"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """mean 1/2 (Q(s, a) - y)^2 + alpha mean [ log sum_b exp Q(s, b) - Q(s, a) ] (Eq. 4)."""
        q_values = jax.vmap(network)(batch.observation)
        chosen = jnp.take_along_axis(q_values, batch.action[:, None], axis=1)[:, 0]
        bellman = 0.5 * jnp.mean(jnp.square(chosen - target))
        gap = jnp.mean(jax.vmap(conservative_gap)(q_values, batch.action, batch.action_mask))
        loss = bellman + self.alpha_cql * gap
        return loss, {"critic_loss": loss, "bellman_loss": bellman, "conservative_gap": gap, "mean_q": jnp.mean(chosen)}

    def policy(self, state: State) -> Policy:
        return Policy(state.network.model)

    def critic(self, state: State) -> Critic:
        return Critic(state.network.model, self.gamma)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)
