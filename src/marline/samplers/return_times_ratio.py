"""Both weights at once: rows of good episodes that tell of what follows today."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.data.experience import Experience
from marline.inputs.arguments import checked
from marline.nn.outcome_law import OutcomeLaw
from marline.samplers.dynamics_ratio import DynamicsRatio, State
from marline.samplers.return_weighted import ReturnWeighted, require_weights


@dataclasses.dataclass(frozen=True)
@checked
class ReturnTimesRatio:
    """The product of the weights of `return-weighted` and of `dynamics-ratio`, see both.

    Returns tell which episodes went well, the ratio which of their rows tell of today. They are not the same: in logs
    of teams of equal skill and different conventions returns tell nothing of whom one plays with.

    Attributes:
        scale, bound: of the weight by return, see `ReturnWeighted`; a scale of 0 leaves the ratio alone.
    """

    scale: float = 1.5
    bound: float = 3.0

    def __post_init__(self) -> None:
        require_weights(self.scale, self.bound)

    def log_weights(
        self, gate: DynamicsRatio, state: State, members: OutcomeLaw, experience: Experience, *, key: PRNGKeyArray
    ) -> Float[Array, " offline"]:
        """Of all offline rows; nothing is drawn."""
        by_return = ReturnWeighted(self.scale, self.bound).log_weights(
            experience.offline().reward, experience.offline_ends
        )
        return by_return + gate.log_ratios(jnp.zeros(experience.num_offline), state, members, experience)
