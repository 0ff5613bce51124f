"""What every durable training does, of a study or of a campaign."""

from __future__ import annotations

import zlib
from typing import Any

import jax
from jaxtyping import PRNGKeyArray, PyTree

from marline import tuning
from marline.configuration.run_config import RunConfig
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.runtime import release_memory
from marline.samplers import Sampler
from marline.types import AgentID

OFFLINE_CHECKPOINT = 10_000  # updates between two checkpoints of the offline phase


def place_data(config: RunConfig, data: dict[AgentID, Dataset]) -> dict[AgentID, Experience]:
    """The offline logs on the device. `data` is emptied: a second copy of large logs is most of what a run takes."""
    experiences: dict[AgentID, Experience] = {}
    for agent in list(data):
        experiences |= tuning.to_device(
            {agent: data.pop(agent)},
            config.algorithm,
            num_deployments=config.deployments,
            rows_per_deployment=config.rows_per_deployment,
        )
        release_memory()
    return experiences


def world_key(seed: int, purpose: str) -> PRNGKeyArray:
    """A stream of the world's, not of any agent's: the same under every sampler."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def evaluation_key(config: RunConfig, seed: int) -> PRNGKeyArray:
    """Decides the episodes in which the teams of a seed are evaluated."""
    return world_key(seed if config.evaluation_seed is None else config.evaluation_seed, "evaluation")


def memory_template(experience: Experience, sampler: Sampler[Any]) -> PyTree:
    """Shapes of a sampler's memory, without the work of fitting it."""
    return jax.eval_shape(lambda experience, key: sampler.init(experience, key=key), experience, jax.random.key(0))
