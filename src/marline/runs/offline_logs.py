"""The offline logs of a run: given or played once, and kept in its directory."""

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



def prepare_data(folder: Path, config: RunConfig) -> dict[AgentID, Dataset]:
    """The offline logs: those in the run directory, or random play of the task, made once."""
    if (folder / "data" / "dataset.json").exists():
        return dataset.load(folder / "data")
    if config.task is None or config.dataset_size is None:
        raise CorruptionError(
            f"{folder / 'data'} is missing, and these logs cannot be made again: put them back, or repeat the command "
            "that started the run, with the same logs"
        )
    logs = random_play(config)
    keep_play(folder, config, logs)
    return logs


def random_play(config: RunConfig) -> dict[AgentID, Dataset]:
    """The offline logs of a study that was given none."""
    assert config.task is not None and config.dataset_size is not None
    return collect_random(make_task(config.task), config.dataset_size, seed=config.data_seed)


def keep_play(folder: Path, config: RunConfig, logs: Mapping[AgentID, Dataset]) -> None:
    """Put `random_play` into the run directory; done once."""
    if not (folder / "data" / "dataset.json").exists():
        provenance = {"task": config.task, "policy": "uniform random", "seed": config.data_seed}
        dataset.save(folder / "data", logs, provenance | _source(folder))


def keep_data(folder: Path, logs: Mapping[AgentID, Dataset], source: str) -> None:
    """Copy given offline logs into the run directory, where their hashes are kept; done once."""
    if not (folder / "data" / "dataset.json").exists():
        dataset.save(folder / "data", logs, {"source": source, **_source(folder)})


def _source(folder: Path) -> dict[str, str]:
    """For which configuration the offline logs are there."""
    path = folder / "run.json"
    return {"run.json": decisive_sha256(path)} if path.exists() else {}
