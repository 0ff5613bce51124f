"""Random streams of the world's, not of any agent's: the same under every sampler."""

from __future__ import annotations

import zlib

import jax
from jaxtyping import PRNGKeyArray

from marline.configuration.run_config import RunConfig


def world_key(seed: int, purpose: str) -> PRNGKeyArray:
    """The stream of a seed for one purpose, such as "collection"."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def evaluation_key(config: RunConfig, seed: int) -> PRNGKeyArray:
    """Decides the episodes in which the teams of a seed are evaluated."""
    return world_key(seed if config.evaluation_seed is None else config.evaluation_seed, "evaluation")
