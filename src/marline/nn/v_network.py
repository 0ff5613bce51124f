"""State value networks."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from marline.nn.mlp import MLP
from marline.types import Spec


class VNetwork(eqx.Module):
    """V(s)."""

    mlp: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> VNetwork:
        return VNetwork(MLP.create(spec.observation_size, 1, hidden, key=key))

    def __call__(self, observation: Float[Array, " obs"]) -> Float[Array, ""]:
        return self.mlp(observation)[0]
