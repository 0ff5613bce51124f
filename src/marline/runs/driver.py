"""What every durable training does, of a study or of a campaign."""

from __future__ import annotations

import time
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from marline import plugins, tuning
from marline.configuration.run_config import OFFLINE, RunConfig
from marline.data import dataset
from marline.data.checkpoints import tree_sha256
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.data.files import atomic_json, json_sha256
from marline.data.plain import require_plain_run
from marline.data.provenance import record_start
from marline.data.scratch import is_scratch
from marline.display.shell import command
from marline.envs import Drifting, Task, make_task
from marline.errors import ConfigError, CorruptionError
from marline.rollouts.collection import collect, collect_in_turns, collect_random, evaluate, trace
from marline.rollouts.rollout import Policies
from marline.runs.history import TRAJECTORIES, History, Record
from marline.runs.integrity import require_belonging
from marline.runs.layout import decisive_sha256
from marline.runtime import release_memory
from marline.samplers import OnlineMatched, Sampler, trains
from marline.tuning import LearnerID, Team
from marline.types import AgentID, Policy

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
