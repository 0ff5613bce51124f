"""What comes back from the field, read: the episodes that `run_policy.py` writes, or logs in any other format.

Reading checks each agent's rows by themselves. Whether they are the logs that the campaign waits for is for
`Campaign.ingest` to tell.
"""

from __future__ import annotations

import dataclasses
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from marline.data import dataset
from marline.data.bundle_names import CONTRACT, POLICY
from marline.data.channels import Channels
from marline.data.check import require_sound_rows
from marline.data.dataset import Dataset, from_arrays
from marline.data.decentralize import import_log
from marline.data.files import open_regular
from marline.data.formats import Log, open_log, tables_in
from marline.data.formats.flat import DAMAGED_ARCHIVE, npz_blocks
from marline.data.formats.log import joined
from marline.data.layout import by_number, first_row, logs_of, require_keys
from marline.data.manifest import read_sealed, require_intact
from marline.data.mapping import AgentMapping, ImportMapping, from_document
from marline.data.migrations import BUNDLE
from marline.data.notes import grouped
from marline.display.shell import command
from marline.errors import CorruptionError, DataError
from marline.types import AgentID, Spec

Arrays = Mapping[str, Any]
Logs = Mapping[AgentID, Dataset | Arrays]

STAMPS = ("agent", "deployment", "policy_sha256")
CHANNELS = "channels"  # a stamp that is there only where something is known of the columns
_LARGEST_STAMP, _LARGEST_CHANNELS = 4096, 1 << 22  # bytes; the latter hold names of thousands of columns
_LARGEST_EPISODE = 1 << 30  # bytes, unpacked: a small file may claim to be any size


class Stamp(NamedTuple):
    """What a bundle writes into every log.

    Attributes:
        agent: whose logs they are.
        deployment: when they were logged.
        policy_sha256: of the `policy.onnx` that acted.
        channels: names, units and ranges of the columns; nothing where the log does not tell.
    """

    agent: AgentID
    deployment: int
    policy_sha256: str
    channels: Channels = Channels()


@dataclasses.dataclass(frozen=True, eq=False)
class Received:
    """Logs that were read.

    Attributes:
        logs: by agent.
        stamps: of the agents whose logs carry one.
        notes: what was odd or changed, one sentence each.
        source: where they came from.
        mapping: what was said of the tables that they came from, as plain values; None if nothing was.
    """

    logs: Mapping[AgentID, Dataset]
    stamps: Mapping[AgentID, Stamp]
    notes: tuple[str, ...]
    source: str
    mapping: Mapping[str, Any] | None = None


def as_datasets(logs: Logs, channels: Mapping[AgentID, Channels]) -> dict[AgentID, Dataset]:
    """What a caller or its robots give as logs: by agent a Dataset, or arrays on the scale of `channels`."""
    found = {}
    for agent, log in logs.items():
        if not isinstance(log, Dataset | Mapping):
            told = f"{type(log).__name__} {log!r:.60}; give a Dataset, or a dict of arrays"
            raise DataError(f"{logs_of(agent)} are {told}")
        found[agent] = log if isinstance(log, Dataset) else from_arrays(agent, log, channels=channels.get(agent))
    return found


def read_logs(
    source: Path | str,
    specs: Mapping[AgentID, Spec] | None = None,
    *,
    channels: Mapping[AgentID, Channels] | None = None,
    clip_actions: bool = False,
    mapping: Mapping[str, Any] | None = None,
    deployment: int = 0,
) -> Received:
    """Read logs of some or all agents of a team.

    Args:
        source: what bundles wrote (a folder of episodes, or a folder of those), a dataset folder, or anything that
            `marline data import` reads.
        specs: the team, in its order; found from the logs if None.
        channels: names, units and ranges by agent, of logs that do not tell: anything but what bundles wrote and
            dataset folders, which are on the scale that they say.
        clip_actions: cut continuous actions to their range instead of refusing others.
        mapping: what was said of the tables that the offline logs came from: others are read alike.
        deployment: which rows are of, that name the policy which acted.

    Raises:
        DataError: the logs break a rule; the message names agent, file and row.
        CorruptionError: a file is truncated or altered.
    """
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path} does not exist; give the folder with the logs, a file or folder per agent")
    folders = _bundle_folders(path)
    if folders:
        return _from_bundles(path, folders, specs, channels or {})
    if path.is_dir() and any(
        file.suffix in (".h5", ".hdf5") or file.name == dataset.MANIFEST for file in path.iterdir()
    ):
        logs = dataset.load(path, specs=specs, channels=channels)
        if clip_actions:
            logs = {agent: log.clipped() for agent, log in logs.items()}
        return Received(logs, {}, (), str(path), dataset.mapping_of(path))
    return _imported(path, specs, channels, mapping, deployment, clip_actions=clip_actions)


def _bundle_folders(path: Path) -> list[Path]:
    """The folders at or in `path` that hold stamped episodes."""
    if not path.is_dir():
        return []
    candidates = [path, *sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.is_symlink())]
    return [folder for folder in candidates if any(_is_stamped(file) for file in _episodes(folder))]


def _episodes(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz"), key=lambda file: by_number(file.name))


def _is_stamped(file: Path) -> bool:
    try:
        with open_regular(file) as opened, zipfile.ZipFile(opened) as archive:
            return "policy_sha256.npy" in archive.namelist()
    except (zipfile.BadZipFile, CorruptionError, OSError):
        return False


def _from_bundles(
    path: Path, folders: list[Path], specs: Mapping[AgentID, Spec] | None, channels: Mapping[AgentID, Channels]
) -> Received:
    found: dict[AgentID, tuple[Path, Dataset, Stamp]] = {}
    notes: list[str] = []
    for folder in folders:
        files = _episodes(folder)
        stamps = {file: _stamp(file) for file in files}
        first = stamps[files[0]]
        for file, stamp in stamps.items():
            if stamp != first:
                what = next(key for key in (*STAMPS, CHANNELS) if getattr(stamp, key) != getattr(first, key))
                raise DataError(
                    f"{file} is stamped with {what} {_short(getattr(stamp, what))} and {files[0].name} beside it with "
                    f"{_short(getattr(first, what))}; keep the logs of one agent and deployment in a folder"
                )
        if first.agent in found:
            raise DataError(
                f"{folder} and {found[first.agent][0]} both hold logs of agent {first.agent[:40]!r}; leave one of them"
            )
        if specs is not None and first.agent not in specs:
            raise DataError(
                f"{folder} holds logs of {first.agent[:40]!r}, who is not of this team; it is {', '.join(specs)}"
            )
        if first.agent in channels:  # before the actions are read, which mean nothing on another scale
            channels[first.agent].require_agreement(logs_of(first.agent, str(files[0])), first.channels)
        numbers = {int(file.stem) for file in files if file.stem.isdigit()}
        if numbers and len(numbers) != max(numbers) + 1:
            lost = next(number for number in range(max(numbers)) if number not in numbers)
            notes.append(f"{folder}: episode {lost:06d}.npz is not there; the other agents keep theirs")
        found[first.agent] = folder, _concatenated(first, files, (specs or {}).get(first.agent)), first
        for left in sorted(folder.glob("*.partial")):
            notes.append(f"{left} was not finished when the robot stopped, and is left out")
    order = [agent for agent in specs or found if agent in found]
    logs = {agent: found[agent][1] for agent in order}
    return Received(logs, {agent: found[agent][2] for agent in order}, tuple(notes), str(path))


def _concatenated(stamp: Stamp, files: list[Path], spec: Spec | None) -> Dataset:
    """All episodes of an agent, each found whole."""
    agent, channels, episodes = stamp.agent, stamp.channels, []
    for file in files:
        arrays = joined([block.columns for block in npz_blocks(file, agent)])
        log = from_arrays(agent, arrays, spec=spec, source=str(file), channels=channels)
        require_sound_rows(logs_of(agent, str(file)), log.columns(), log.spec, channels=channels)
        _require_one_episode(agent, file, log)
        episodes.append(log)
    specs = {log.spec for log in episodes}
    if len(specs) > 1 or len({tuple(log.columns()) for log in episodes}) > 1:
        raise DataError(
            f"{files[0].parent}: the episodes of agent {agent[:40]!r} differ in their columns; log them alike"
        )
    columns: dict[str, Any] = {**joined([log.columns() for log in episodes])}
    return Dataset(**columns, spec=episodes[0].spec, source=str(files[0].parent), channels=channels)


def _require_one_episode(agent: AgentID, file: Path, log: Dataset) -> None:
    where = logs_of(agent, str(file))
    ends = np.flatnonzero(log.terminals | log.timeouts)
    if len(log) == 0 or len(ends) != 1 or ends[0] != len(log) - 1:
        raise DataError(
            f"{where}: a file is one episode, but {len(log)} rows have ends at {ends[:8].tolist()}; "
            "set terminal or timeout at the last row and nowhere else"
        )
    jumps = (log.next_observations[:-1] != log.observations[1:]).any(axis=1)
    if jumps.any():
        row = first_row(jumps)
        raise DataError(
            f"{where}: the next observation at row {row} is not the observation at row {row + 1}; "
            "steps of an episode follow each other"
        )


def _stamp(file: Path) -> Stamp:
    """The stamps of an episode; never unpickles, and reads nothing large."""
    try:
        with open_regular(file) as opened, zipfile.ZipFile(opened) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            require_keys([name.removesuffix(".npy") for name in sizes], STAMPS, str(file))
            if sum(sizes.values()) > _LARGEST_EPISODE:
                raise DataError(f"{file} unpacks to {sum(sizes.values()):,} bytes; log episodes of at most 1 GiB")
            values = {}
            for key in (*STAMPS, *([CHANNELS] if f"{CHANNELS}.npy" in sizes else [])):
                if sizes[f"{key}.npy"] > (_LARGEST_CHANNELS if key == CHANNELS else _LARGEST_STAMP):
                    raise DataError(f"{file}: the stamp {key} has {sizes[f'{key}.npy']} bytes; log with run_policy.py")
                with archive.open(f"{key}.npy") as member:
                    values[key] = np.lib.format.read_array(member, allow_pickle=False)
    except DAMAGED_ARCHIVE as error:
        raise CorruptionError(f"{file} is no NPZ file, or is cut or altered ({error}); copy it again") from error
    kinds = {"agent": "U", "deployment": "iu", "policy_sha256": "U", CHANNELS: "U"}
    for key, value in values.items():
        if value.shape or value.dtype.kind not in kinds[key]:
            raise DataError(f"{file}: the stamp {key} is {value.dtype}{list(value.shape)}; log with run_policy.py")
    channels = Channels.from_text(str(values.get(CHANNELS, "{}")), str(file))
    return Stamp(str(values["agent"]), int(values["deployment"]), str(values["policy_sha256"]), channels)


def _imported(
    path: Path,
    specs: Mapping[AgentID, Spec] | None,
    channels: Mapping[AgentID, Channels] | None,
    mapping: Mapping[str, Any] | None,
    deployment: int,
    *,
    clip_actions: bool,
) -> Received:
    """Logs in another format. They are read twice, first for whose they are: those of a deployment are few."""
    said = from_document(mapping, "the mapping of these logs") if mapping else ImportMapping()
    if not tables_in(path):  # which have columns with names
        said = ImportMapping(agents={agent: AgentMapping(spec=its.spec) for agent, its in said.agents.items()})
    log = open_log(path, said)
    for agent, known in (channels or {}).items():
        if log.channels.get(agent, Channels()) != Channels():  # an export of ours, whose metadata tell
            known.require_agreement(logs_of(agent, str(path)), log.channels[agent])
    agents = {block.agent for block in log.blocks()}
    if None in agents and specs is None:
        raise DataError(
            f"{path} holds all agents together; give each its own first: "
            f"{command('data', 'import', path, '--spec', 'FILE', '--out', 'DATA')}"
        )
    if specs is not None and None not in agents and not log.ordered_agents:
        strange = sorted(agent[:40] for agent in agents if agent is not None and agent not in specs)
        if strange:
            who = ", ".join(map(repr, strange[:10])) + (", ..." if len(strange) > 10 else "")
            raise DataError(
                f"{path} holds logs of {who}, not of this team, which is {', '.join(specs)}; are these the right logs? "
                "If agents are called otherwise in them, name them in [agents] of a mapping"
            )
        specs = {agent: spec for agent, spec in specs.items() if agent in agents}
    # where rows are of one agent, so are their columns
    split = said.split if None in agents and any(its.share.actions for its in said.agents.values()) else None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "logs"
        imported = import_log(
            log,
            target,
            specs=specs,
            split=split,
            channels=channels,
            clip_actions=clip_actions,
            reward_scope=said.rewards or None,
        )
        logs = dataset.load(target)
    logs = {agent: dataclasses.replace(rows, source=str(log.source), notes=()) for agent, rows in logs.items()}
    stamps = _named_policies(log, logs, deployment)
    return Received(logs, stamps, tuple(grouped(imported.notes)), str(path), log.mapping or None)


def _named_policies(log: Log, logs: Mapping[AgentID, Dataset], deployment: int) -> dict[AgentID, Stamp]:
    """Stamps of agents whose rows name the policy that acted."""
    stamps = {}
    for agent, rows in logs.items():
        policies = log.policies.get(agent, log.policies.get(None, {}))
        if len(policies) > 1:
            (_, (other, row), *_) = policies.items()
            raise DataError(
                f"{logs_of(agent, str(log.source))} are of several policies, {_short(other)} from row {row} on; export "
                "only the rows of one deployment"
            )
        for policy in policies:
            stamps[agent] = Stamp(agent, deployment, policy, rows.channels)
    return stamps


def stamped(received: Received, bundles: Path | str) -> Received:
    """Logs that do not tell which policy acted, with the stamps that these bundles would have written into them.

    Args:
        received: logs; those that tell it are left as they are.
        bundles: a bundle, or a folder that has one for each agent.

    Raises:
        DataError: there is no bundle of an agent.
        CorruptionError: a bundle is not what was exported.
    """
    path, stamps = Path(bundles), dict(received.stamps)
    for agent in (agent for agent in received.logs if agent not in received.stamps):
        folder = path / agent if (path / agent / CONTRACT).exists() else path
        if not (folder / CONTRACT).exists():
            raise DataError(f"{path} has no bundle of {agent[:40]!r}; give the folder that marline export wrote")
        contract = read_sealed(folder / CONTRACT, BUNDLE)
        if contract.get("agent") != agent:
            raise DataError(
                f"{folder} is the bundle of {str(contract.get('agent'))[:40]!r}, not of {agent[:40]!r}; give the "
                "folder that marline export wrote, with one of each agent"
            )
        require_intact(folder / POLICY, contract["files"][POLICY])
        stamps[agent] = Stamp(agent, contract["logs_of_deployment"], contract["policy_sha256"])
    return dataclasses.replace(received, stamps=stamps)


def _short(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else text[:12] + "...")
