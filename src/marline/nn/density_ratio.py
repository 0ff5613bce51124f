"""Networks that tell rows of a deployment from rows of the logs."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.nn.mlp import MLP
from marline.types import Spec


class DensityRatio(eqx.Module):
    """w(s, a) >= 0, an estimate of p_online / p_offline (Lee et al. 2021, 2107.00591)."""

    mlp: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> DensityRatio:
        mlp = MLP.create(spec.observation_size + spec.action_size, 1, hidden, key=key)
        # starts near 1, since a rectifier that is closed on every row never learns
        return DensityRatio(eqx.tree_at(lambda mlp: mlp.layers[-1].bias, mlp, jnp.ones(1)))

    def __call__(self, observation: Float[Array, " obs"], action: Float[Array, " act"]) -> Float[Array, ""]:
        """The ratio; discrete actions come one-hot."""
        return jax.nn.relu(self.mlp(jnp.concatenate([observation, action]))[0])


class DynamicsClassifier(eqx.Module):
    """Logits of "online" given (s, a) and given (s, a, s') (Eysenbach et al. 2020, 2006.13916).

    The second logit is the first plus what s' adds, as in the authors' code: their difference, the
    log ratio of the dynamics, is then one network's output, not a difference of two large ones.
    """

    state_action: MLP
    transition: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> DynamicsClassifier:
        first_key, second_key = jax.random.split(key)
        size = spec.observation_size + spec.action_size
        return DynamicsClassifier(
            MLP.create(size, 1, hidden, key=first_key),
            MLP.create(size + spec.observation_size, 1, hidden, key=second_key),
        )

    def __call__(
        self, state_action: Float[Array, " sa"], transition: Float[Array, " sas"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Both logits, given (s, a) and given (s, a, s')."""
        prior = self.state_action(state_action)[0]
        return prior, prior + self.transition(transition)[0]
