"""Rivals of the dynamics ratio under its gate: other preferences among offline rows, for the same question."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from marline.data.experience import Experience
from marline.inputs.arguments import checked
from marline.nn.batched_cond import batched_cond
from marline.nn.outcome_law import OutcomeLaw
from marline.samplers import dynamics_ratio
from marline.samplers.contrastive import Contrastive
from marline.samplers.draw_plan import DrawPlan
from marline.samplers.dynamics_ratio import DynamicsRatio
from marline.samplers.residual import Residual
from marline.samplers.return_times_ratio import ReturnTimesRatio
from marline.types import Critic, Metrics

PREFERENCES = (ReturnTimesRatio, Residual, Contrastive)
PURPOSE = zlib.crc32(b"preference")  # sets the stream of the preference apart from that of the gate


class State(NamedTuple):
    """Memory of the gate, with the table that offline rows are drawn by."""

    gate: dynamics_ratio.State


@dataclasses.dataclass(frozen=True)
@checked
class Gated:
    """Draws offline rows as a preference says, where the gate of `DynamicsRatio` finds that the law changed.

    Everything but the preference is as in `DynamicsRatio`: when rows are preferred at all, as what part of the rows
    weighted ones must be as diverse, the share of online rows. So the two differ in which rows they prefer and in
    nothing else. While the gate is shut, the very rows are drawn that uniform replay draws.

    Attributes:
        prefer: which offline rows, see there.
        gate: whose test, batches and diversity are used.
    """

    prefer: ReturnTimesRatio | Residual | Contrastive = ReturnTimesRatio()
    gate: DynamicsRatio = DynamicsRatio()
    prefers_rows: ClassVar[bool] = True
    draws_by_plan: ClassVar[bool] = True

    @property
    def batch_size(self) -> int:
        return self.gate.batch_size

    def init(self, experience: Experience, *, key: PRNGKeyArray) -> State:
        """The law of the logs; until a deployment begins, rows are drawn uniformly."""
        return State(self.gate.init(experience, key=key))

    def begin_deployment(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[State, Metrics]:
        """Ask whether the law changed, and weigh the offline rows if it did."""
        judged = self.gate.judge(state.gate, experience, key=key)
        words = jax.random.key_data(jax.random.fold_in(key, PURPOSE))
        uniform = jnp.zeros(experience.num_offline)
        context = state.gate, judged.members, experience, words
        log_weights = batched_cond(judged.is_open, self._log_weights, uniform, *context)
        table, worth = self.gate.weighed(log_weights, judged.is_open, experience, critic, key=key)
        return State(state.gate._replace(table=table)), {**judged.metrics, **worth}

    def sample(
        self, state: State, experience: Experience, critic: Critic | None, *, key: PRNGKeyArray
    ) -> tuple[Int[Array, " batch"], State, Metrics]:
        """One batch."""
        rows, _, metrics = self.gate.sample(state.gate, experience, critic, key=key)
        return rows, state, metrics

    def plan(self, state: State, experience: Experience) -> DrawPlan:
        return self.gate.plan(state.gate, experience)

    def _log_weights(
        self,
        uniform: Float[Array, " offline"],
        state: dynamics_ratio.State,
        members: OutcomeLaw,
        experience: Experience,
        words: UInt32[Array, " words"],
    ) -> Float[Array, " offline"]:
        key: Any = jax.random.wrap_key_data(words)
        return self.prefer.log_weights(self.gate, state, members, experience, key=key)
