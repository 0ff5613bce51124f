"""The ratio of laws by networks or by kernels, whichever foretells today's held-out episodes better."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.inputs.arguments import checked
from marline.nn.batched_cond import batched_cond
from marline.ops.prioritization import effective_sample_size
from marline.ops.weighted_rows import AliasTable, row_probabilities
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.dynamics_ratio import DynamicsRatio
from marline.samplers.powers import POWERS
from marline.samplers.two_sided import TwoSided
from marline.samplers.weighted_offline import sample_weighted, weighted_plan
from marline.types import Critic, Metrics

PURPOSE = zlib.crc32(b"kernels")  # sets the stream of the kernels apart from that of the networks


class State(NamedTuple):
    """Memory of both, and the table of the one that was picked."""

    learned: Any
    kernels: Any
    table: AliasTable


@dataclasses.dataclass(frozen=True)
@checked
class BestRatio:
    """Draws offline rows as `DynamicsRatio` or `TwoSided` does; at each deployment the one that gains more nats.

    Both say by how much their law of today beats their law of the logs, given as much more to learn from, in nats per
    row of today's episodes that it was not made of. Kernels need few dimensions, and take outcomes of any shape;
    networks take many, and call outcomes Gaussian. Where neither finds a change, and where weights do not help to
    foretell today's TD errors, rows are those of uniform replay.

    Attributes:
        learned: by networks; its `batch_size` and `online_share` are used.
        kernels: by kernels, which also ask all of today's rows at once.
    """

    learned: DynamicsRatio = DynamicsRatio(powers=POWERS)
    kernels: TwoSided = TwoSided(pooled=True, powers=POWERS)
    prefers_rows: ClassVar[bool] = True
    draws_by_plan: ClassVar[bool] = True

    @property
    def batch_size(self) -> int:
        return self.learned.batch_size

    @property
    def online_share(self) -> float | None:
        """Of the rows of a batch, those that are online; None is their share in all rows."""
        return self.learned.online_share

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """What each of them keeps of B^0; until a deployment begins, rows are drawn uniformly."""
        learned = self.learned.init(experience, key=key)
        return State(learned, self.kernels.init(experience, key=jax.random.fold_in(key, PURPOSE)), learned.table)

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Ask both, and take the weights of the one that gains more, if either does."""
        learned = self.learned.judge(state.learned, experience, key=key)
        kernel_key = jax.random.fold_in(key, PURPOSE)
        kernels = self.kernels.judge(state.kernels, experience, key=kernel_key)
        is_open, corrects = learned.is_open, kernels.choice.is_believed
        picks_kernels = corrects & (~is_open | (kernels.choice.gain > learned.metrics["gain_nats"]))
        picks_learned = is_open & ~picks_kernels
        # of the one that is not picked no row is weighed
        uniform = jnp.zeros(experience.num_offline)
        context = state.learned, learned.members, experience
        log_weights = batched_cond(picks_learned, self.learned.log_ratios, uniform, *context)
        by_networks, of_networks = self.learned.weighed(log_weights, picks_learned, experience, critic, key=key)
        by_kernels, of_kernels = self.kernels.table(
            state.kernels, experience, kernels, picks_kernels, critic, key=kernel_key
        )
        table = jax.tree.map(lambda one, other: jnp.where(picks_kernels, one, other), by_kernels, by_networks)
        told = [name for name in of_kernels if name in of_networks]
        return state._replace(table=table), {
            **learned.metrics,
            "gate_open": (is_open | corrects).astype(jnp.float32),
            "kernel_gain_nats": kernels.choice.gain,
            "kernel_gain_se": kernels.choice.error,
            **{name: jnp.where(picks_kernels, of_kernels[name], of_networks[name]) for name in told},
            "picked_kernels": picks_kernels.astype(jnp.float32),
            "effective_share": effective_sample_size(row_probabilities(table)) / experience.num_offline,
        }

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch."""
        rows = sample_weighted(state.table, experience, self.batch_size, self.online_share, key=key)
        return rows, state, {}

    def plan(self, state: State, experience: Experience) -> DrawPlan:
        return weighted_plan(state.table, experience, self.online_share)
