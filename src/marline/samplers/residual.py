"""Offline rows ranked by how well a model of today foretells them, whatever the logs' own law."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.experience import Experience
from marline.errors import require
from marline.inputs.arguments import checked
from marline.nn.outcome_law import OutcomeLaw
from marline.ops.known_rows import neutral_where_unknown
from marline.ops.prioritization import rank_order
from marline.samplers.dynamics_ratio import WEIGHT_BLOCK, DynamicsRatio, State, standardised


@dataclasses.dataclass(frozen=True)
@checked
class Residual:
    """Weights rank^-alpha, rank 1 for the row whose outcome is nearest to the mean that today's law gives it.

    The distance is mean |y - E_today[y | s, a]| over members and over the standardised numbers of y = (s' - s, r). It
    asks whether a row could be of today, and does not divide by how often the logs would have it anyway: rows of which
    everybody foretells the outcome are preferred, changed or not. Rows whose s' is not known weigh as much as the mean.

    Attributes:
        alpha: exponent of the rank; weights are tempered afterwards as `DynamicsRatio` tempers its own.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.alpha < math.inf, f"alpha is {self.alpha}, but must be finite and at least 0, which is none")

    def log_weights(
        self, gate: DynamicsRatio, state: State, members: OutcomeLaw, experience: Experience, *, key: PRNGKeyArray
    ) -> Float[Array, " offline"]:
        """Of all offline rows; nothing is drawn."""
        num = experience.num_offline

        def of_row(row: Int[Array, ""]) -> Float[Array, ""]:
            inputs, outcome, _ = standardised(state.scales, experience[row], experience.spec)
            means, _ = jax.vmap(lambda law: law(inputs))(members)
            return jnp.mean(jnp.abs(means - outcome[None, :]))

        is_known = experience.offline().next_is_known
        missed = jax.lax.map(of_row, jnp.arange(num), batch_size=min(WEIGHT_BLOCK, num))
        order = rank_order(jnp.where(is_known, missed, jnp.inf))
        by_rank = -self.alpha * jnp.log(jnp.arange(1, num + 1, dtype=jnp.float32))
        return neutral_where_unknown(jnp.zeros(num).at[order].set(by_rank), is_known)
