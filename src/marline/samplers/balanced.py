"""Balanced Replay (Lee et al. 2021, 2107.00591): prefer logged rows that look like what the agent does now."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.inputs.arguments import checked
from marline.nn.cvae import one_hot_action
from marline.nn.density_ratio import DensityRatio
from marline.nn.train_state import TrainState
from marline.ops.density_ratio import initial_online_priority, jensen_shannon_loss, tempered_priorities
from marline.ops.row_draws import rows_with_replacement
from marline.ops.sum_tree import SumTree
from marline.types import Critic, Metrics, Spec, Transition


class State(NamedTuple):
    """The ratio network, the priority of every row, and the largest priority that any row ever had."""

    network: TrainState[DensityRatio]
    tree: SumTree
    largest_priority: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
@checked
class BalancedReplay:
    """Draws rows in proportion to a learned density ratio w(s, a) between online and offline rows.

    A row's priority is renewed whenever it is drawn. Only the replay scheme of the paper is here;
    its ensemble of pessimistic critics is an algorithm. The ratio sees (s, a) alone: it is blind to
    a change of P(s' | s, a).

    Attributes:
        online_fraction: share of the drawn rows that are online right after the first deployment.
        temperature: T; priorities are the ratio to the power 1 / T.
        hidden: widths of the hidden layers of the ratio network.
        learning_rate: of Adam.
        ratio_batch_size: offline rows, and online rows, per step of the ratio network.
        batch_size: rows per update.
        priority_bounds: lowest and highest priority of a row that was drawn.
    """

    online_fraction: float = 0.75
    temperature: float = 5.0
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    ratio_batch_size: int = 256
    batch_size: int = 128
    priority_bounds: tuple[float, float] = (1e-3, 1e3)
    prefers_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        share = self.online_fraction
        require(0 < share < 1, f"online_fraction is {share}, but must lie between 0 and 1, both excluded")
        require(0 < self.temperature < math.inf, f"temperature is {self.temperature}, but must be positive and finite")
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}; every layer needs at least 1 unit")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, but must be positive")
        for name in ("ratio_batch_size", "batch_size"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be at least 1")
        low, high = self.priority_bounds
        require(
            0 < low <= high < math.inf,
            f"priority_bounds are {self.priority_bounds}, but need 0 < low <= high < inf; a row of priority 0 "
            "would never be drawn again",
        )

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """A fresh network; every offline row has priority 1."""
        network = DensityRatio.create(experience.spec, self.hidden, key=key)
        tree = SumTree.create(experience.capacity).fill(0, experience.num_offline, 1.0)
        return State(TrainState.create(network, self._optimizer), tree, jnp.float32(1.0))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """New rows get the priority that gives them `online_fraction`; later ones the largest that ever was."""
        initial = initial_online_priority(experience.num_offline, experience.num_online, self.online_fraction)
        first = experience.online_start == experience.num_offline
        priority = jnp.where(first, initial, state.largest_priority)
        tree = state.tree.fill(experience.online_start, experience.size, priority)
        largest = jnp.maximum(state.largest_priority, priority)
        effective = jnp.square(tree.total) / jnp.sum(jnp.square(tree.priorities))
        return State(state.network, tree, largest), {
            "effective_sample_size": effective,
            "online_mass": _online_mass(tree, experience),
        }

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch, whose rows get new priorities; and one step of the ratio network.

        The priorities come from the network before that step, as in the authors' code.
        """
        offline_key, online_key, row_key = jax.random.split(key, 3)
        num, first_online = self.ratio_batch_size, experience.num_offline
        offline = experience[rows_with_replacement(0, first_online, num, key=offline_key)]
        online = experience[rows_with_replacement(first_online, experience.size, num, key=online_key)]
        rows = state.tree.draw_stratified(self.batch_size, key=row_key)

        model, spec = state.network.model, experience.spec
        ratio = _ratio(model, experience[rows], spec)
        (loss, offline_ratio), gradient = jax.value_and_grad(self.loss, has_aux=True)(model, offline, online, spec)
        priorities = tempered_priorities(ratio, offline_ratio, self.temperature, self.priority_bounds)

        # without online rows there is nothing to tell apart: rows keep their priorities, and the network rests
        deployed = experience.size > first_online
        priorities = jnp.where(deployed, priorities, state.tree[rows])
        network = jax.tree.map(
            lambda new, old: jnp.where(deployed, new, old), state.network.step(gradient, self._optimizer), state.network
        )
        # of the new tree, as everything from here on: a last look at the old one would copy it
        tree = state.tree.set(rows, priorities)
        largest = jnp.maximum(state.largest_priority, jnp.max(priorities))
        return (
            rows,
            State(network, tree, largest),
            {"ratio_loss": loss, "mean_ratio": jnp.mean(ratio), "online_mass": _online_mass(tree, experience)},
        )

    def loss(
        self, network: DensityRatio, offline: Transition, online: Transition, spec: Spec
    ) -> tuple[Float[Array, ""], Float[Array, " n"]]:
        """The variational Jensen-Shannon loss, and w of the offline rows."""
        offline_ratio = _ratio(network, offline, spec)
        return jensen_shannon_loss(offline_ratio, _ratio(network, online, spec)), offline_ratio

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


def _ratio(network: DensityRatio, batch: Transition, spec: Spec) -> Float[Array, " n"]:
    """w(s, a); observations as they are logged, as in the authors' code."""
    return jax.vmap(network)(batch.observation, one_hot_action(batch.action, spec))


def _online_mass(tree: SumTree, experience: Experience) -> Float[Array, ""]:
    """Share of the priorities that online rows hold: how many of the rows drawn next will be online."""
    return 1.0 - tree.sum_before(experience.num_offline) / tree.total
