"""Terms of variational autoencoders with diagonal Gaussian posteriors."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_kl(mean: Float[Array, "*shape"], log_std: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """KL(N(mean, std^2) || N(0, 1)) per dimension (Kingma & Welling 2013, appendix B)."""
    return -0.5 * (1.0 + 2.0 * log_std - jnp.square(mean) - jnp.exp(2.0 * log_std))


def active_units(means: Float[Array, "n z"], threshold: float = 0.01) -> Array:
    """Latent dimensions that carry information: those whose posterior mean varies by more than `threshold`."""
    return jnp.sum(jnp.var(means, axis=0) > threshold)


def gaussian_evidence(
    decoded: Float[Array, "n d"],
    value: Float[Array, "n d"],
    decoder_std: float,
    mean: Float[Array, "n z"],
    log_std: Float[Array, "n z"],
) -> Float[Array, " n"]:
    """One-sample lower bound of log p(value), with a Gaussian decoder: log N(value; decoded, std^2) - KL.

    Constants that depend on `d` and `decoder_std` alone are left out.
    """
    error = jnp.sum(jnp.square(value - decoded), axis=-1)
    return -0.5 * error / decoder_std**2 - jnp.sum(gaussian_kl(mean, log_std), axis=-1)
