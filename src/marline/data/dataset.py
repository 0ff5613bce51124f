"""Logs on disk: a folder with one HDF5 file per agent in D4RL's layout, and `dataset.json` that vouches for them."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from marline.data import layout
from marline.data.files import publish_directory
from marline.data.hdf5 import read_arrays, write_arrays
from marline.data.manifest import (
    Manifest,
    num_threads,
    read_sealed,
    record_file,
    require_file_name,
    start_verification,
    write_sealed,
)
from marline.errors import CorruptionError, DataError
from marline.types import AgentID, Spec, Transition

MANIFEST = "dataset.json"
KIND = "marline dataset"
SCHEMA = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """One agent's logs: row t of every column belongs to the same step, n rows in all.

    Building one checks nothing: `from_arrays` converts what users have, `check.check` tells what is
    wrong. Actions lie in [-1, 1] when continuous.

    Attributes:
        observations: [n, obs] float32.
        actions: [n, act] float32, or [n] int64 when the spec is discrete.
        rewards: [n] float32.
        terminals: [n] bool, whether the episode ended for good; no value follows.
        timeouts: [n] bool, whether the episode was cut while it could have gone on.
        next_observations: [n, obs] float32.
        spec: sizes of observation and action.
        action_masks: [n, act] bool, the allowed actions, when discrete; all of them if None.
        next_action_masks: the same for the next observation.
        source: the file it came from, for messages.
        notes: what was changed on the way in, for the user to read.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    next_observations: np.ndarray
    spec: Spec
    action_masks: np.ndarray | None = None
    next_action_masks: np.ndarray | None = None
    source: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def num_episodes(self) -> int:
        """Episodes that came to an end, terminal or cut."""
        return int(np.count_nonzero(self.terminals | self.timeouts))

    def columns(self) -> layout.Columns:
        """The arrays by D4RL's key; masks only if there are any."""
        columns = {key: getattr(self, key) for key in (*layout.REQUIRED, *layout.OPTIONAL)}
        return {key: column for key, column in columns.items() if column is not None}

    def transition(self) -> Transition:
        """All rows as one transition with NumPy leaves; `discount` is 1 - terminals."""
        masks: list[np.ndarray | None] = [self.action_masks, self.next_action_masks]
        if self.spec.discrete:
            everything = np.broadcast_to(np.True_, (len(self), self.spec.action_size))
            masks = [everything if mask is None else mask for mask in masks]
        leaves: dict[str, Any] = {
            "observation": self.observations,
            "action": self.actions,
            "reward": self.rewards,
            "discount": 1.0 - self.terminals.astype(np.float32),
            "next_observation": self.next_observations,
            "action_mask": masks[0],
            "next_action_mask": masks[1],
        }
        return Transition(**leaves)

    def clipped(self) -> Dataset:
        """The same logs with continuous actions cut to [-1, 1]."""
        return self if self.spec.discrete else dataclasses.replace(self, actions=np.clip(self.actions, -1.0, 1.0))


def from_arrays(agent: AgentID, arrays: Mapping[str, Any], *, spec: Spec | None = None, source: str = "") -> Dataset:
    """Logs from arrays under D4RL's keys; other keys are left alone.

    Args:
        agent: for messages.
        arrays: `observations`, `actions`, `rewards`, `terminals` and, if known, `timeouts`,
            `next_observations`, `action_masks`, `next_action_masks`. Of any numeric type; what the
            conversion to float32 changes is in `notes`. Without `next_observations` the next row is
            taken, see `layout.rows_to_transitions`.
        spec: sizes; inferred from the shapes if not given, integer actions [n] being discrete.
        source: the file they came from, for messages.

    Raises:
        DataError: a key is missing, or a column is no array of numbers, misshapen or of another length.
    """
    where = layout.logs_of(agent, source)
    layout.require_keys(arrays, layout.REQUIRED, where)
    notes: list[str] = []
    columns = {key: arrays[key] for key in (*layout.REQUIRED, *layout.OPTIONAL) if key in arrays}
    columns = {key: layout.numbers(where, key, column) for key, column in columns.items()}
    spec = spec or layout.infer_spec(where, columns)
    if "timeouts" not in columns:
        columns["timeouts"] = np.zeros(columns["terminals"].shape, np.bool_)
        notes.append(f"{where}: no timeouts key, so no episode counts as cut by a time limit")
    for key, column in columns.items():
        if key == "actions" and spec.discrete:
            columns[key] = layout.choices(where, column)
        elif key in ("observations", "actions", "rewards", "next_observations"):
            columns[key] = layout.real(where, key, column, notes)
        else:
            columns[key] = layout.flags(where, key, column)
    layout.require_shapes(where, columns, spec)
    if "next_observations" not in columns:
        before = len(columns["rewards"])
        columns = layout.rows_to_transitions(columns)
        dropped = before - len(columns["rewards"])
        notes.append(
            f"{where}: no next_observations, so the next row was taken and rows without one dropped ({dropped})"
        )
    return Dataset(**columns, spec=spec, source=source, notes=tuple(notes))


def save(
    directory: Path | str,
    datasets: Mapping[AgentID, Dataset],
    provenance: Mapping[str, object] | None = None,
    *,
    replace: bool = False,
) -> None:
    """Write a dataset folder, which appears as a whole or not at all.

    Args:
        directory: the folder; missing parents are made.
        datasets: logs by agent, whose names become file names; their order is kept.
        provenance: where the logs come from; anything with a JSON form.
        replace: whether a dataset that is there already is replaced, in one step.

    Raises:
        DataError: an agent's name cannot name a file, or its logs are empty or misshapen.
        ConfigError: the folder exists and may not be replaced, or `provenance` has no JSON form.
        StorageError: the disk is full or the folder may not be written.
    """
    _require_saveable(datasets)
    num_bytes = sum(column.nbytes for dataset in datasets.values() for column in dataset.columns().values())
    agents = [
        {"name": agent, "num_transitions": len(dataset), "spec": dataclasses.asdict(dataset.spec)}
        for agent, dataset in datasets.items()
    ]
    replaces = (MANIFEST, "*.h5") if replace else ()
    with (
        publish_directory(Path(directory), replaces=replaces, num_bytes=num_bytes) as folder,
        ThreadPoolExecutor(num_threads()) as pool,
    ):
        records = {}
        for agent, dataset in datasets.items():  # HDF5 works on one file at a time; hashing goes on beside it
            file = folder / f"{agent}.h5"
            write_arrays(file, dataset.columns())
            records[file.name] = pool.submit(record_file, file)
        files = {name: record.result() for name, record in records.items()}
        entries = {"agents": agents, "provenance": dict(provenance or {})}
        write_sealed(folder / MANIFEST, KIND, SCHEMA, entries, files)


def load(directory: Path | str, *, specs: Mapping[AgentID, Spec] | None = None) -> dict[AgentID, Dataset]:
    """Read a folder that `save` wrote, or one of plain `<agent>.h5` or `<agent>.hdf5` files in D4RL's layout.

    Args:
        directory: the folder.
        specs: sizes by agent for plain files; inferred from the shapes where not given.

    Returns:
        Logs by agent, in the order they were saved in, or by name (`a_2` before `a_10`).

    Raises:
        CorruptionError: a file is altered, truncated or missing.
        DataError: a file is not what it should be; see `from_arrays` and `hdf5.read_arrays`.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory} is no folder; give the folder that holds one <agent>.h5 file per agent")
    if os.path.lexists(directory / MANIFEST):
        return _load_saved(directory, describe(directory))
    datasets = {}
    for agent, file in _plain_files(directory).items():
        arrays = read_arrays(file, layout.REQUIRED, layout.OPTIONAL)
        dataset = from_arrays(agent, arrays, spec=(specs or {}).get(agent), source=str(file))
        note = f"{layout.logs_of(agent, str(file))}: no {MANIFEST} vouches for the file, so damage may go unnoticed"
        datasets[agent] = dataclasses.replace(dataset, notes=(*dataset.notes, note))
    return datasets


def describe(directory: Path | str) -> Manifest:
    """What `dataset.json` says: `agents` (name, spec, num_transitions), `provenance`, `files` (sha256, size).

    Raises:
        CorruptionError: it is missing or altered.
        DataError: a newer marline wrote it, or it belongs to something else.
    """
    return read_sealed(Path(directory) / MANIFEST, KIND, SCHEMA)


def outline(directory: Path | str) -> dict[AgentID, tuple[Spec, int]]:
    """Spec and number of rows of every agent in a folder that `save` wrote; no logs are read.

    Raises:
        CorruptionError, DataError: see `describe`.
    """
    listed = _listed_agents(Path(directory), describe(directory))
    return {agent: (spec, num_transitions) for agent, spec, num_transitions in listed}


def _load_saved(directory: Path, manifest: Manifest) -> dict[AgentID, Dataset]:
    datasets = {}
    with ThreadPoolExecutor(num_threads()) as pool:
        checks = start_verification(directory, manifest, manifest["files"], pool)
        for agent, spec, num_transitions in _listed_agents(directory, manifest):
            file = directory / f"{agent}.h5"
            checks[file.name].result()
            arrays = read_arrays(file, layout.REQUIRED, layout.OPTIONAL)
            dataset = from_arrays(agent, arrays, spec=spec, source=str(file))
            if len(dataset) != num_transitions:
                raise CorruptionError(f"{file} has {len(dataset)} rows, not the {num_transitions} of {MANIFEST}")
            datasets[agent] = dataset
    return datasets


def _listed_agents(directory: Path, manifest: Manifest) -> list[tuple[AgentID, Spec, int]]:
    """Name, spec and number of rows of every agent; each has a file in the list."""
    try:
        agents = [(a["name"], Spec(**a["spec"]), a["num_transitions"]) for a in manifest["agents"]]
        complete = {f"{name}.h5" for name, _, _ in agents} == set(manifest["files"])
    except (KeyError, TypeError):
        complete = False
        agents = []
    if not complete:
        raise CorruptionError(f"{directory / MANIFEST} does not list one file per agent; write the dataset anew")
    return agents


def _plain_files(directory: Path) -> dict[AgentID, Path]:
    """The HDF5 files of a folder by agent, numbers in names counted as numbers."""
    files: dict[AgentID, Path] = {}
    for file in directory.iterdir():
        if file.suffix not in (".h5", ".hdf5") or file.name.startswith("."):
            continue
        require_file_name(file.stem, f"{directory}: agent", DataError)
        if file.stem in files:
            raise DataError(f"{directory} holds agent {file.stem!r} twice, as .h5 and .hdf5; remove one")
        files[file.stem] = file
    if not files:
        raise DataError(f"{directory} holds no .h5 or .hdf5 file; export one <agent>.h5 per agent in D4RL's layout")
    return dict(sorted(files.items(), key=lambda item: _by_number(item[0])))


def _by_number(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def _require_saveable(datasets: Mapping[AgentID, Dataset]) -> None:
    if not datasets:
        raise DataError("there are no logs to save; give those of at least one agent")
    folded: dict[str, AgentID] = {}
    for agent, dataset in datasets.items():
        require_file_name(agent, "agent", DataError)
        other = folded.setdefault(agent.lower(), agent)
        if other != agent:
            raise DataError(
                f"agents {other!r} and {agent!r} differ only in case, and so may not be two files; rename one"
            )
        where = layout.logs_of(agent, dataset.source)
        layout.require_shapes(where, dataset.columns(), dataset.spec)
        if len(dataset) == 0:
            raise DataError(f"{where} hold no rows; leave the agent out or export its logs again")
