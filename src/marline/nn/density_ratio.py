"""Networks that tell rows of a deployment from rows of the logs."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.nn.mlp import MLP, Linear
from marline.types import Spec

LAST_WEIGHTS = 3e-3  # of the ratio's last layer, at the start


class DensityRatio(eqx.Module):
    """w(s, a) >= 0, an estimate of p_online / p_offline (Lee et al. 2021, 2107.00591)."""

    mlp: MLP

    @staticmethod
    def create(spec: Spec, hidden: Sequence[int], *, key: PRNGKeyArray) -> DensityRatio:
        """Ratios near 1, unless observations are huge: no row is preferred before there is a reason to.

        As in the authors' code: hidden weights U(-1/sqrt(fan_out), 1/sqrt(fan_out)), those of the last layer
        U(-0.003, 0.003), biases 0, and 1 at the output, since a rectifier that is closed on every row never learns.
        """
        *body, last = MLP.create(spec.observation_size + spec.action_size, 1, hidden, key=key).layers
        layers = [_rescaled(layer, layer.bias.size**-0.5, bias=0.0) for layer in body]
        return DensityRatio(MLP((*layers, _rescaled(last, LAST_WEIGHTS, bias=1.0))))

    def __call__(self, observation: Float[Array, " obs"], action: Float[Array, " act"]) -> Float[Array, ""]:
        """The ratio; discrete actions come one-hot."""
        return jax.nn.relu(self.mlp(jnp.concatenate([observation, action]))[0])


def _rescaled(layer: Linear, bound: float, *, bias: float) -> Linear:
    """A fresh layer with weights U(-bound, bound) and the same bias everywhere."""
    fan_in = layer.weight.shape[0]
    return Linear(bound * fan_in**0.5 * layer.weight, jnp.full_like(layer.bias, bias))


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
