"""Contrastive losses and scores: which of several outcomes belongs to a step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def info_nce(
    anchors: Float[Array, "n d"],
    positives: Float[Array, "n d"],
    negatives: Float[Array, "m d"],
    is_negative: Bool[Array, " m"],
) -> Float[Array, " n"]:
    """-ln of exp(a_i . p_i) / (exp(a_i . p_i) + sum_j exp(a_i . n_j)) (van den Oord et al. 2018, 1807.03748).

    At its minimum a . p is ln of p(outcome | step) over the density of the negatives, up to a constant of the step.

    Args:
        anchors: encodings of steps.
        positives: of what followed each of them.
        negatives: of what followed others.
        is_negative: which of the negatives count.
    """
    right = jnp.sum(anchors * positives, axis=1)
    wrong = jnp.where(is_negative[None, :], anchors @ negatives.T, -jnp.inf)
    return jax.nn.logsumexp(jnp.concatenate([right[:, None], wrong], axis=1), axis=1) - right


def cosine(first: Float[Array, " d"], second: Float[Array, " d"]) -> Float[Array, ""]:
    """Cosine of the angle between two vectors; 0 where one is 0."""
    lengths = jnp.sqrt(jnp.sum(jnp.square(first)) * jnp.sum(jnp.square(second)))
    return jnp.dot(first, second) / jnp.maximum(lengths, 1e-12)
