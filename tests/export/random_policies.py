"""Policies with random parameters, and rows that they may have seen."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marline.algorithms import ALGORITHMS, BCQ, MABCQ
from marline.data.experience import Experience
from marline.export.bundle import Experienced
from marline.inputs.options import with_options
from marline.types import Spec

CONTINUOUS, DISCRETE = Spec(5, 2), Spec(5, 4, discrete=True)
SMALL = BCQ(hidden=(6,), vae_hidden=(7,), num_policy_candidates=3)


def algorithm_of(name: str) -> Any:
    if name == "bcq":
        return SMALL
    return MABCQ(SMALL) if name == "mabcq" else with_options(ALGORITHMS[name](), {"hidden": (6, 7)}, name)


def policy_of(name: str, spec: Spec, seed: int = 0) -> Any:
    """A policy with random parameters; nothing is compiled for it."""
    algorithm, random = algorithm_of(name), np.random.default_rng(seed)
    outline = Experience.outline(spec, num_offline=8, num_deployments=1, rows_per_deployment=1)

    def create(experience: Experience, key: Any) -> Any:
        return algorithm.policy(algorithm.init(experience, key=key))

    shapes = jax.eval_shape(create, outline, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), shapes)


def seen(spec: Spec, num_rows: int = 40) -> Experienced:
    random = np.random.default_rng(1)
    observations = random.normal(size=(num_rows, spec.observation_size)).astype(np.float32)
    masks = random.random((num_rows, spec.action_size)) < 0.6
    masks[:, -1] = True
    low, high = observations.min(axis=0), observations.max(axis=0)
    return Experienced(observations, masks if spec.discrete else None, low, high)
