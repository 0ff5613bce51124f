"""Logs on disk: a folder with one HDF5 file per agent in D4RL's layout, and `dataset.json` that vouches for them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from marline.data import layout
from marline.data.channels import Bound, Channels, ranged
from marline.data.clipping import Reach
from marline.data.files import publish_directory, to_json
from marline.data.hdf5 import ArrayWriter, member_names, open_file, read_arrays
from marline.data.manifest import (
    FileRecord,
    Manifest,
    num_threads,
    read_sealed,
    record_file,
    require_file_name,
    start_verification,
    write_sealed,
)
from marline.data.migrations import DATASET
from marline.display.notebook import html_table
from marline.errors import ConfigError, CorruptionError, DataError, MarlineError, require
from marline.inputs.arguments import checked, checked_arguments
from marline.types import REWARD_SCOPES, AgentID, RewardScope, Spec, Transition

MANIFEST = "dataset.json"
_WITHOUT_CHANNELS = 1  # what a version reads that knows no scales, and would forget one


@dataclasses.dataclass(frozen=True, eq=False)
@checked
class Dataset:
    """One agent's logs: row t of every column belongs to the same step, n rows in all.

    Building one checks nothing: `from_arrays` converts what users have, `check.check` tells what is
    wrong. Actions lie in [-1, 1] when continuous; `channels` has the scale that they are logged on in the field.

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
        timestamps: [n] float64, when each step was taken, in any unit; grows within an episode.
        source: the file it came from, for messages.
        notes: what was changed on the way in, for the user to read.
        channels: names, units and ranges of the columns, as far as they are known.
        reward_scope: "per-agent" if each agent of the team has a reward of its own, "shared" if they have one
            together; None where nobody said.
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
    timestamps: np.ndarray | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    channels: Channels = Channels()
    reward_scope: RewardScope | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def num_episodes(self) -> int:
        """Episodes that came to an end, terminal or cut."""
        return int(np.count_nonzero(self.terminals | self.timeouts))

    def columns(self) -> layout.Columns:
        """The arrays by D4RL's key; masks and time stamps only if there are any."""
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

    def _repr_html_(self) -> str:
        """For notebooks: how much there is, and what it is about."""
        acts = f"{self.spec.action_size} {'choices' if self.spec.discrete else 'actions'}"
        ends = int(np.count_nonzero(self.terminals)), int(np.count_nonzero(self.timeouts))
        rows = [
            ("transitions", f"{len(self):,}"),
            ("sees", f"{self.spec.observation_size} numbers"),
            ("acts by", acts + (f" in {self.channels.scale()}" if self.channels.has_scale else "")),
            ("episodes", f"{ends[0]:,} ended for good, {ends[1]:,} cut"),
            ("reward of a step", f"{float(np.mean(self.rewards)):.4g}" if len(self) else "none"),
        ]
        return html_table(
            self.source or "logs of an agent", ("", ""), [*rows, *(("note", note) for note in self.notes)]
        )

    def field_actions(self) -> np.ndarray:
        """The actions on the field's scale, in float64 where that is not [-1, 1]."""
        return self.actions if self.spec.discrete else self.channels.to_field(self.actions)

    def clipped(self) -> Dataset:
        """The same logs with continuous actions cut to their range.

        Raises:
            DataError: they are whole numbers, or mostly beyond it, and so are on another scale.
        """
        if self.spec.discrete:
            return self
        unclippable = Reach.of(self.actions).unclippable(self.channels)
        if unclippable is not None:
            raise DataError(
                f"{self.source or 'the logs'}: there are actions beyond their range, which were not clipped: "
                f"{unclippable}"
            )
        return dataclasses.replace(self, actions=np.clip(self.actions, -1.0, 1.0))


@checked_arguments
def from_arrays(
    agent: AgentID,
    arrays: Mapping[str, Any],
    *,
    spec: Spec | None = None,
    source: str = "",
    low: Bound | None = None,
    high: Bound | None = None,
    channels: Channels | None = None,
    reward_scope: RewardScope | None = None,
) -> Dataset:
    """Logs from arrays under D4RL's keys; other keys are left alone.

    Args:
        agent: for messages.
        arrays: `observations`, `actions`, `rewards`, `terminals` and, if known, `timeouts`,
            `next_observations`, `action_masks`, `next_action_masks`, `timestamps`. Of any numeric type;
            what the conversion to float32 changes is in `notes`. Without `next_observations` the next row is
            taken, see `layout.rows_to_transitions`.
        spec: sizes; inferred from the shapes if not given, integer actions [n] being discrete.
        source: the file they came from, for messages.
        low, high: the range of the actions in `arrays`, one bound for all numbers of an action or one for each:
            what becomes -1 and 1, and what policies answer in. [-1, 1] if not given.
        channels: names and units too, and the range where `low` and `high` are not given.
        reward_scope: whose the rewards are, see `Dataset`.

    Raises:
        DataError: a key is missing, or a column is no array of numbers, misshapen or of another length.
        ConfigError: the range is none.

    Example:
        >>> columns = {"observations": [[0.2], [0.4], [0.5]], "actions": [[5], [60], [30]], "rewards": [-3, -1, 0]}
        >>> valve = marline.from_arrays("valve", {**columns, "terminals": [0, 0, 1]}, low=5, high=60)
        >>> valve.spec
        Spec(observation_size=1, action_size=1, discrete=False)
        >>> valve.actions[:2].tolist()
        [[-1.0], [1.0]]
    """
    where = layout.logs_of(agent, source)
    notes: list[str] = []
    channels = channels or Channels()
    require((low is None) == (high is None), f"{where}: only one of low and high is given; give both")
    if "actions" in arrays and (channels.action_low is not None or low is not None):
        actions = layout.numbers(where, "actions", arrays["actions"])
        if low is not None and high is not None:
            channels = ranged(low, high, actions.shape[-1] if actions.ndim > 1 else 1).or_else(channels)
        arrays = {**arrays, "actions": on_unit_scale(where, actions, channels)}
    columns, spec = layout.convert(where, arrays, spec, notes)
    channels.require_fit(where, spec)
    if "next_observations" not in columns:
        before = len(columns["rewards"])
        columns = layout.rows_to_transitions(columns)
        dropped = before - len(columns["rewards"])
        notes.append(layout.rows_were_completed(where, dropped))
    return Dataset(
        **columns, spec=spec, source=source, notes=tuple(notes), channels=channels, reward_scope=reward_scope
    )


def on_unit_scale(where: str, actions: np.ndarray, channels: Channels) -> np.ndarray:
    """Actions that came on the field's scale, [n, act], in [-1, 1]; a range says that a single column is a number."""
    if channels.action_low is None:
        return actions
    actions = actions[:, None] if actions.ndim == 1 else actions
    if not channels.has_scale:
        return actions if actions.dtype.kind == "f" else actions.astype(np.float32)
    try:
        return channels.from_field(actions)
    except ConfigError as error:
        raise DataError(f"{where}: {error}") from None


@checked_arguments
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
    with writing(directory, provenance or {}, replace=replace, num_bytes=num_bytes) as writer:
        writer.reward_scope = common_reward_scope(datasets)
        for agent, dataset in datasets.items():
            writer.append(agent, dataset.spec, dataset.columns())
            writer.describe(agent, dataset.channels)
            writer.finish(agent)


@contextlib.contextmanager
def writing(
    directory: Path | str,
    provenance: Mapping[str, object],
    *,
    replace: bool = False,
    num_bytes: int | None = None,
) -> Iterator[Writer]:
    """Write a dataset folder block by block; it appears as a whole when the context ends, or not at all.

    Args:
        directory, provenance, replace: as of `save`; `provenance` is read at the end.
        num_bytes: size of the logs where known; checked against the free space before the start.

    Raises:
        DataError, ConfigError, StorageError: as of `save`.
    """
    replaces = (MANIFEST, "*.h5") if replace else ()
    with (
        publish_directory(Path(directory), replaces=replaces, num_bytes=num_bytes) as folder,
        ThreadPoolExecutor(num_threads()) as pool,
        contextlib.closing(Writer(folder, pool)) as writer,
    ):
        yield writer
        agents, files = writer.result()
        schema = DATASET.newest if any("channels" in agent for agent in agents) else _WITHOUT_CHANNELS
        team = {"rewards": writer.reward_scope} if writer.reward_scope else {}
        told = {"agents": agents, **team, "provenance": dict(provenance)}
        write_sealed(folder / MANIFEST, DATASET.kind, schema, told, files)


class Writer:
    """Takes the rows of each agent of a dataset folder; see `writing`.

    Attributes:
        reward_scope: whose the rewards are, see `Dataset`; may be set until the end.
    """

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.reward_scope: RewardScope | None = None
        self._folder, self._pool = folder, pool
        self._open: dict[AgentID, ArrayWriter] = {}
        self._records: dict[str, Future[FileRecord]] = {}
        self._agents: dict[AgentID, tuple[Spec, int]] = {}
        self._channels: dict[AgentID, Channels] = {}

    def append(self, agent: AgentID, spec: Spec, columns: layout.Columns) -> None:
        """Add rows to an agent's file.

        Args:
            agent: becomes the name of the file.
            spec: of all rows so far: the number of discrete actions may grow as more of them are seen.
            columns: of the types and shapes of `layout.require_shapes`, with the same keys each time.
        """
        if agent not in self._agents:
            _require_distinct(agent, self._agents)
            self._open[agent] = ArrayWriter(self._folder / f"{agent}.h5")
        self._open[agent].append(columns)
        self._agents[agent] = spec, self.num_rows(agent) + len(columns["rewards"])

    def num_rows(self, agent: AgentID) -> int:
        """Rows that an agent has so far."""
        return self._agents[agent][1] if agent in self._agents else 0

    def describe(self, agent: AgentID, channels: Channels) -> None:
        """Say what an agent's columns are; its actions are appended in [-1, 1] all the same."""
        self._channels[agent] = channels

    def arrange(self, agents: Iterable[AgentID]) -> None:
        """List the agents in this order; it is that of their first rows otherwise."""
        self._agents = {agent: self._agents[agent] for agent in agents}

    def finish(self, agent: AgentID) -> None:
        """Close an agent's file and begin to hash it: HDF5 works on one file at a time, hashing goes on beside it."""
        self._open.pop(agent).close()
        file = self._folder / f"{agent}.h5"
        self._records[file.name] = self._pool.submit(record_file, file)

    def result(self) -> tuple[list[dict[str, object]], dict[str, FileRecord]]:
        """What `dataset.json` says of agents and files; finishes those that are left."""
        for agent in list(self._open):
            self.finish(agent)
        agents: list[dict[str, object]] = []
        for agent, (spec, num_rows) in self._agents.items():
            channels = self._channels.get(agent, Channels())
            channels.require_fit(layout.logs_of(agent), spec)
            entry = {"name": agent, "num_transitions": num_rows, "spec": dataclasses.asdict(spec)}
            agents.append({**entry, "channels": channels.to_json()} if channels.to_json() else entry)
        return agents, {f"{agent}.h5": self._records[f"{agent}.h5"].result() for agent in self._agents}

    def close(self) -> None:
        """Let go of what an error left open."""
        for file in self._open.values():
            with contextlib.suppress(OSError):
                file.close()
        self._open = {}


@checked_arguments
def load(
    directory: Path | str,
    *,
    specs: Mapping[AgentID, Spec] | None = None,
    channels: Mapping[AgentID, Channels] | None = None,
) -> dict[AgentID, Dataset]:
    """Read a folder that `save` wrote, or one of plain `<agent>.h5` or `<agent>.hdf5` files in D4RL's layout.

    Args:
        directory: the folder.
        specs: sizes by agent for plain files; inferred from the shapes where not given.
        channels: by agent for plain files, whose actions are on that scale; in [-1, 1] where not given.

    Returns:
        Logs by agent, in the order they were saved in, or by name (`a_2` before `a_10`).

    Raises:
        CorruptionError: a file is altered, truncated or missing.
        DataError: a file is not what it should be; see `from_arrays` and `hdf5.read_arrays`.
    """
    datasets: dict[AgentID, Dataset] = {}
    for agent, dataset in load_each(directory, specs=specs, channels=channels).items():
        if isinstance(dataset, MarlineError):
            raise dataset
        datasets[agent] = dataset
    return datasets


def load_each(
    directory: Path | str,
    *,
    specs: Mapping[AgentID, Spec] | None = None,
    channels: Mapping[AgentID, Channels] | None = None,
) -> dict[AgentID, Dataset | MarlineError]:
    """`load`, but where an agent's file cannot be read, why not: what is wrong with others is still to be found."""
    directory = Path(directory)
    _require_folder(directory)
    datasets: dict[AgentID, Dataset | MarlineError] = {}
    if os.path.lexists(directory / MANIFEST):
        manifest = describe(directory)
        scope = _reward_scope(manifest)
        with ThreadPoolExecutor(num_threads()) as pool:
            checks = start_verification(directory, manifest, manifest["files"], pool)
            for listed in _listed_agents(directory, manifest):
                try:
                    checks[f"{listed.agent}.h5"].result()
                    its = _load_saved(directory / f"{listed.agent}.h5", listed)
                    datasets[listed.agent] = dataclasses.replace(its, reward_scope=scope)
                except MarlineError as error:
                    datasets[listed.agent] = error
        return datasets
    for agent, file in _plain_files(directory).items():
        try:
            datasets[agent] = _load_plain(agent, file, (specs or {}).get(agent), (channels or {}).get(agent))
        except MarlineError as error:
            datasets[agent] = error
    return datasets


def _require_folder(directory: Path) -> None:
    if not directory.is_dir():
        what = "is no folder" if os.path.lexists(directory) else "does not exist"
        raise DataError(f"{directory} {what}; give the folder that holds one <agent>.h5 file per agent")


def agents_of(directory: Path | str) -> list[AgentID]:
    """Whose logs a folder holds, in the order of `load`; none of them is read."""
    directory = Path(directory)
    _require_folder(directory)
    if os.path.lexists(directory / MANIFEST):
        return [listed.agent for listed in _listed_agents(directory, describe(directory))]
    return list(_plain_files(directory))


def describe(directory: Path | str) -> Manifest:
    """What `dataset.json` says: `agents` (name, spec, num_transitions, channels), `provenance`, `files` (sha256, size).

    Also `rewards`, where it was said whose they are: "per-agent" or "shared".

    Raises:
        CorruptionError: it is missing or altered.
        DataError: it belongs to something else.
        NewerError: a newer marline wrote it.
    """
    return read_sealed(Path(directory) / MANIFEST, DATASET)


def outline(directory: Path | str) -> dict[AgentID, tuple[Spec, int]]:
    """Spec and number of rows of every agent in a folder that `save` wrote; no logs are read.

    Raises:
        CorruptionError, DataError: see `describe`.
    """
    listed = _listed_agents(Path(directory), describe(directory))
    return {agent: (spec, num_rows) for agent, spec, num_rows, _ in listed}


def mapping_of(directory: Path | str) -> dict[str, Any] | None:
    """What was said of the tables that the logs in a folder came from, as plain values; None if nothing was."""
    if not os.path.lexists(Path(directory) / MANIFEST):
        return None
    mapping = describe(directory).get("provenance", {}).get("mapping")
    return mapping if isinstance(mapping, dict) else None


def common_reward_scope(datasets: Mapping[AgentID, Dataset]) -> RewardScope | None:
    """Whose the rewards of a team are; None where nobody said, or not the same of all agents."""
    every: list[RewardScope | None] = [dataset.reward_scope for dataset in datasets.values()]
    return every[0] if all(scope == every[0] for scope in every) else None


def reward_scope_of(directory: Path | str) -> RewardScope | None:
    """Whose the rewards of the logs in a folder are, see `Dataset`; None where nobody said, or it is no such folder."""
    return _reward_scope(describe(directory)) if os.path.lexists(Path(directory) / MANIFEST) else None


def _reward_scope(manifest: Manifest) -> RewardScope | None:
    found = manifest.get("rewards")
    return next((scope for scope in REWARD_SCOPES if scope == found), None)


def channels_of(directory: Path | str) -> dict[AgentID, Channels]:
    """Names, units and ranges of every agent in a folder that `save` wrote; no logs are read."""
    return {listed.agent: listed.channels for listed in _listed_agents(Path(directory), describe(directory))}


def digest(datasets: Mapping[AgentID, Dataset]) -> str:
    """SHA-256 of the rows of a team and of what its columns are, the same whatever files they came from."""
    whole = hashlib.sha256()
    for agent, dataset in datasets.items():
        whole.update(f"{agent} {dataset.spec}".encode())
        if dataset.channels != Channels():  # without any, the hash is that of versions that knew none
            whole.update(to_json(dataset.channels.to_json()).encode())
        for key, column in dataset.columns().items():
            whole.update(key.encode())
            whole.update(np.ascontiguousarray(column).data)
    return whole.hexdigest()


class _Listed(NamedTuple):
    """What `dataset.json` says of an agent."""

    agent: AgentID
    spec: Spec
    num_rows: int
    channels: Channels


def _load_saved(file: Path, listed: _Listed) -> Dataset:
    arrays = read_arrays(file, layout.REQUIRED, layout.OPTIONAL)
    dataset = from_arrays(listed.agent, arrays, spec=listed.spec, source=str(file))
    if len(dataset) != listed.num_rows:
        raise CorruptionError(f"{file} has {len(dataset)} rows, not the {listed.num_rows} of {MANIFEST}")
    return dataclasses.replace(dataset, channels=listed.channels)  # a folder of ours holds actions in [-1, 1]


def _load_plain(agent: AgentID, file: Path, spec: Spec | None, channels: Channels | None) -> Dataset:
    arrays = read_arrays(file, layout.REQUIRED, layout.OPTIONAL)
    dataset = from_arrays(agent, arrays, spec=spec, source=str(file), channels=channels)
    where = layout.logs_of(agent, str(file))
    with open_file(file) as opened:
        left_out = layout.near_misses(where, member_names(opened))
    note = f"{where}: no {MANIFEST} vouches for the file, so damage may go unnoticed"
    return dataclasses.replace(dataset, notes=(*dataset.notes, *left_out, note))


def _listed_agents(directory: Path, manifest: Manifest) -> list[_Listed]:
    """What is said of every agent; each has a file in the list."""
    try:
        agents = [
            _Listed(a["name"], Spec(**a["spec"]), a["num_transitions"], _channels(directory, a))
            for a in manifest["agents"]
        ]
        complete = {f"{listed.agent}.h5" for listed in agents} == set(manifest["files"])
    except (KeyError, TypeError, AttributeError):
        complete = False
        agents = []
    if not complete:
        raise CorruptionError(f"{directory / MANIFEST} does not list one file per agent; write the dataset anew")
    return agents


def _channels(directory: Path, entry: Mapping[str, Any]) -> Channels:
    where = f"{directory / MANIFEST}: agent {str(entry['name'])[:40]!r}"
    channels = Channels.from_json(entry.get("channels", {}), where)
    channels.require_fit(where, Spec(**entry["spec"]))
    return channels


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
    return dict(sorted(files.items(), key=lambda item: layout.by_number(item[0])))


def _require_saveable(datasets: Mapping[AgentID, Dataset]) -> None:
    if not datasets:
        raise DataError("there are no logs to save; give those of at least one agent")
    for agent, dataset in datasets.items():
        require_file_name(agent, "agent", DataError)
        where = layout.logs_of(agent, dataset.source)
        layout.require_shapes(where, dataset.columns(), dataset.spec)
        dataset.channels.require_fit(where, dataset.spec)
        if len(dataset) == 0:
            raise DataError(f"{where} hold no rows; leave the agent out or export its logs again")


def _require_distinct(agent: AgentID, others: Iterable[AgentID]) -> None:
    require_file_name(agent, "agent", DataError)
    for other in others:
        if other.lower() == agent.lower():
            raise DataError(
                f"agents {other!r} and {agent!r} differ only in case, and so may not be two files; rename one"
            )
