"""The offline logs of a run: given or played once, and kept in its directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marline.configuration.run_config import RunConfig
from marline.data import dataset
from marline.data.dataset import Dataset
from marline.envs import make_task
from marline.errors import CorruptionError
from marline.rollouts.collection import collect_random
from marline.runs.layout import RunDirectory, decisive_sha256
from marline.types import AgentID


def prepare_data(folder: Path, config: RunConfig) -> dict[AgentID, Dataset]:
    """The offline logs: those in the run directory, or random play of the task, made once."""
    run = RunDirectory(folder)
    if run.data_list.exists():
        return dataset.load(run.data)
    if config.task is None or config.dataset_size is None:
        raise CorruptionError(
            f"{run.data} is missing, and these logs cannot be made again: put them back, or repeat the command "
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
    run = RunDirectory(folder)
    if not run.data_list.exists():
        provenance = {"task": config.task, "policy": "uniform random", "seed": config.data_seed}
        dataset.save(run.data, logs, provenance | _source(run))


def keep_data(
    folder: Path, logs: Mapping[AgentID, Dataset], source: str, mapping: Mapping[str, Any] | None = None
) -> None:
    """Copy given offline logs into the run directory, where their hashes are kept; done once.

    With them goes what was said of the tables that they came from, so that later logs are read alike.
    """
    run = RunDirectory(folder)
    if not run.data_list.exists():
        told = {"source": source, **({"mapping": dict(mapping)} if mapping else {})}
        dataset.save(run.data, logs, told | _source(run))


def _source(run: RunDirectory) -> dict[str, str]:
    """For which configuration the offline logs are there."""
    return {"run.json": decisive_sha256(run.configuration)} if run.configuration.exists() else {}
