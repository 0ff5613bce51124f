"""Dataset folders in the formats of others: Minari datasets, and Parquet tables.

Both are written so that other readers open them, and `formats` reads the same rows back.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from marline.data.dataset import Dataset, common_reward_scope
from marline.data.files import publish_directory
from marline.data.formats.optional import require_package
from marline.data.formats.recorded import RECORD, SCOPE, SIZES
from marline.data.layout import logs_of
from marline.errors import DataError
from marline.types import AgentID

_MINARI_NAME = re.compile(r"[-_\w]+")


def export_minari(datasets: Mapping[AgentID, Dataset], directory: Path) -> None:
    """Write a Minari dataset per agent, `<agent>-v0`, into a new folder.

    With that folder at `<root>/<namespace>` and `MINARI_DATASETS_PATH=<root>`, Minari loads
    `<namespace>/<agent>-v0`. Masks of discrete actions go to `infos/action_mask`. Where a row's next
    observation is not that of the row after it, an episode has to end, as truncated. Actions are written on
    the field's scale, which the action space and the metadata's key "marline" tell; "marline.rewards" tells whose
    the rewards are, if that is known.

    Raises:
        DataError: an agent has no rows, or a name that Minari does not take.
        ConfigError: the folder exists already.
        StorageError: the disk is full or the folder may not be written.
    """
    for agent in datasets:
        if not _MINARI_NAME.fullmatch(agent):
            raise DataError(f"agent {agent!r} cannot name a Minari dataset; use letters, digits, '_' and '-'")
    _require_rows(datasets)
    scope = common_reward_scope(datasets)
    with publish_directory(directory) as folder:
        for agent, dataset in datasets.items():
            data = folder / f"{agent}-v0" / "data"
            data.mkdir(parents=True)
            num_episodes = _write_episodes(data / "main_data.hdf5", dataset)
            spec = dataset.spec
            action_space = (
                {"type": "Discrete", "dtype": "int64", "start": 0, "n": spec.action_size}
                if spec.discrete
                else _box(*dataset.channels.bounds(spec.action_size), dataset.field_actions().dtype)
            )
            unbounded = np.full(spec.observation_size, np.inf)
            metadata = {
                "dataset_id": f"{directory.name}/{agent}-v0",
                "total_episodes": num_episodes,
                "total_steps": len(dataset),
                "data_format": "hdf5",
                "observation_space": json.dumps(_box(-unbounded, unbounded, np.dtype(np.float32))),
                "action_space": json.dumps(action_space),
                "minari_version": "0.5.3",
                **({RECORD: {agent: dataset.channels.to_json()}} if dataset.channels.to_json() else {}),
                SIZES: {agent: dataclasses.asdict(spec)},
                **({SCOPE: scope} if scope else {}),
            }
            (data / "metadata.json").write_text(json.dumps(metadata))


def export_parquet(datasets: Mapping[AgentID, Dataset], directory: Path) -> None:
    """Write a table per agent, `<agent>.parquet`, into a new folder.

    Columns are `agent, episode, step, obs_0, ..., action_0, ..., reward, terminated, truncated, next_obs_0, ...`;
    choices are a column `action`; `mask_0, ..., next_mask_0, ..., timestamp` where there are any. Actions are written
    on the field's scale, which the metadata's key "marline" tells; "marline.rewards" tells whose the rewards are, if
    that is known.

    Raises:
        DataError: an agent has no rows.
        ConfigError: pyarrow is not installed, or the folder exists already.
        StorageError: the disk is full or the folder may not be written.
    """
    arrow = require_package("pyarrow", "Parquet tables", "data")
    parquet = require_package("pyarrow.parquet", "Parquet tables", "data")
    _require_rows(datasets)
    scope = common_reward_scope(datasets)
    with publish_directory(directory) as folder:
        for agent, dataset in datasets.items():
            channels = dataset.channels.to_json()
            metadata = {SIZES: json.dumps({agent: dataclasses.asdict(dataset.spec)})}
            metadata |= {RECORD: json.dumps({agent: channels})} if channels else {}
            metadata |= {SCOPE: scope} if scope else {}
            table = arrow.table(_table(agent, dataset), metadata=metadata)
            parquet.write_table(table, folder / f"{agent}.parquet")


EXPORTS: dict[str, Callable[[Mapping[AgentID, Dataset], Path], None]] = {
    "minari": export_minari,
    "parquet": export_parquet,
}


def _write_episodes(path: Path, dataset: Dataset) -> int:
    """The rows in Minari's layout: a group per episode, with an observation more than steps."""
    ends, actions = dataset.terminals | dataset.timeouts, dataset.field_actions()
    jumps = np.append((dataset.next_observations[:-1] != dataset.observations[1:]).any(axis=1), True)
    stops = np.flatnonzero(ends | jumps) + 1
    with h5py.File(path, "w", track_order=True) as file:
        for number, (start, stop) in enumerate(zip(np.append(0, stops[:-1]), stops, strict=True)):
            episode = file.create_group(f"episode_{number}")
            episode.attrs.update({"id": number, "total_steps": stop - start})
            rows, last = slice(start, stop), slice(stop - 1, stop)
            truncations = dataset.timeouts[rows].copy()
            truncations[-1] |= not dataset.terminals[stop - 1]
            episode["observations"] = np.concatenate([dataset.observations[rows], dataset.next_observations[last]])
            episode["actions"] = actions[rows]
            episode["rewards"] = dataset.rewards[rows].astype(np.float64)  # Minari's type
            episode["terminations"] = dataset.terminals[rows]
            episode["truncations"] = truncations
            infos = episode.create_group("infos")
            if dataset.action_masks is not None and dataset.next_action_masks is not None:
                infos["action_mask"] = np.concatenate([dataset.action_masks[rows], dataset.next_action_masks[last]])
    return len(stops)


def _box(low: np.ndarray, high: np.ndarray, dtype: np.dtype) -> dict[str, Any]:
    return {"type": "Box", "dtype": str(dtype), "shape": [len(low)], "low": low.tolist(), "high": high.tolist()}


def _table(agent: AgentID, dataset: Dataset) -> dict[str, Any]:
    ends = dataset.terminals | dataset.timeouts
    episode = np.cumsum(ends) - ends
    first = np.flatnonzero(np.append(True, ends[:-1]))
    table: dict[str, Any] = {
        "agent": [agent] * len(dataset),
        "episode": episode,
        "step": np.arange(len(dataset)) - first[episode],
        **_numbered("obs", dataset.observations),
        **({"action": dataset.actions} if dataset.spec.discrete else _numbered("action", dataset.field_actions())),
        "reward": dataset.rewards,
        "terminated": dataset.terminals,
        "truncated": dataset.timeouts,
        **_numbered("next_obs", dataset.next_observations),
    }
    if dataset.action_masks is not None and dataset.next_action_masks is not None:
        table |= _numbered("mask", dataset.action_masks) | _numbered("next_mask", dataset.next_action_masks)
    if dataset.timestamps is not None:
        table["timestamp"] = dataset.timestamps
    return table


def _numbered(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}_{column}": np.ascontiguousarray(array[:, column]) for column in range(array.shape[1])}


def _require_rows(datasets: Mapping[AgentID, Dataset]) -> None:
    for agent, dataset in datasets.items():
        if len(dataset) == 0:
            raise DataError(f"{logs_of(agent, dataset.source)} hold no rows; leave the agent out")
