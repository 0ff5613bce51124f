"""The law of what follows (s, a), as a network that gives a Gaussian with variances of its own."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marline.nn.mlp import MLP
from marline.ops.gaussian import log_density


class OutcomeLaw(eqx.Module):
    """P(y | x) = N(y; mean(x), diag(std(x)^2)) for standardised inputs and outcomes (Chua et al. 2018, 1805.12114)."""

    mlp: MLP

    @staticmethod
    def create(in_size: int, out_size: int, hidden: Sequence[int], *, key: PRNGKeyArray) -> OutcomeLaw:
        return OutcomeLaw(MLP.create(in_size, 2 * out_size, hidden, key=key))

    def __call__(self, inputs: Float[Array, " in"]) -> tuple[Float[Array, " out"], Float[Array, " out"]]:
        """Mean and log standard deviation."""
        mean, free = jnp.split(self.mlp(inputs), 2)
        return mean, bounded_log_std(free)

    def log_density(self, inputs: Float[Array, " in"], outcome: Float[Array, " out"]) -> Float[Array, ""]:
        """log P(outcome | inputs)."""
        return log_density(outcome, *self(inputs))


class Member(eqx.Module):
    """What one half of a deployment tells: a law of what follows, and where it has been.

    Attributes:
        law: P_today(y | s, a).
        presence: ln p_today(s, a) - ln p_logs(s, a), as the logit of a classifier.
    """

    law: OutcomeLaw
    presence: MLP


def bounded_log_std(free: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-3 + 4 sigmoid(l), in [-3, 1].

    Outcomes are standardised, so that e is far wider than anything that was logged. Below e^-3 a law would say of a row
    that is a twentieth of the outcomes' spread away that it cannot be.
    """
    return -3.0 + 4.0 * jax.nn.sigmoid(free)
