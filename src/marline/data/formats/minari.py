"""Minari datasets (Farama Foundation), HDF5 or Arrow: their files, read by ourselves.

`minari.load_dataset` builds spaces and environments that the metadata name. Here metadata are only
asked for the format; shapes come from the arrays, and no environment is ever made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from marline.data.files import open_regular
from marline.data.formats.log import Block, gathered
from marline.data.formats.optional import require_package
from marline.data.hdf5 import is_group, member_names, open_array, open_arrays, open_file, open_group
from marline.data.layout import Columns, by_number, require_keys, require_one_length
from marline.errors import DataError
from marline.types import AgentID

METADATA = Path("data", "metadata.json")
_EPISODE = re.compile(r"episode_([0-9]{1,18})")
_KEYS = {"rewards": "rewards", "terminations": "terminals", "truncations": "timeouts"}
_MASK = "action_mask"
_LARGEST = 1 << 24  # bytes of metadata
Space = np.ndarray | dict[str, np.ndarray]  # an array, or by name those of a Dict space


def is_minari(folder: Path) -> bool:
    """Whether a folder is one Minari dataset."""
    return (folder / METADATA).is_file()


def minari_blocks(folder: Path, agent: AgentID | None, notes: list[str]) -> Iterator[Block]:
    """The rows of one dataset: of `agent`, of all agents together, or of those in its Dict spaces.

    `notes` is told of episodes and steps that the metadata promise and that are not there.
    """
    with open_regular(folder / METADATA) as file:
        try:
            metadata = json.loads(file.read(_LARGEST))
            kind = metadata.get("data_format", "hdf5")
        except (ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"{folder / METADATA} is not Minari's metadata; download the dataset again") from error
    if kind == "hdf5":
        episodes = _from_hdf5(folder / "data" / "main_data.hdf5", agent)
    elif kind == "arrow":
        episodes = _from_arrow(folder / "data", agent)
    else:
        raise DataError(f"{folder} is stored as {str(kind)[:40]!r}; only Minari's hdf5 and arrow are read")
    return gathered(_counted(folder, episodes, metadata, notes))


def _counted(
    folder: Path, episodes: Iterable[list[Block]], metadata: Mapping[str, Any], notes: list[str]
) -> Iterator[Block]:
    """The blocks of all episodes; what is found is compared with what is promised."""
    found = {"episodes": 0, "steps": 0}
    num_unended = 0
    for blocks in episodes:
        columns = blocks[0].columns
        found["episodes"] += 1
        found["steps"] += len(columns["rewards"])
        if not columns["terminals"][-1:].any() and not columns["timeouts"][-1:].any():
            num_unended += 1
            for block in blocks:  # or the next episode would seem to go on with it
                block.columns["timeouts"] = np.append(block.columns["timeouts"][:-1], True)
        yield from blocks
    if num_unended:
        notes.append(f"{folder}: {num_unended} episodes end neither terminated nor truncated; they count as cut there")
    for what, number in found.items():
        promised = metadata.get(f"total_{what}")
        if isinstance(promised, int | float) and promised != number:
            notes.append(
                f"{folder} holds {number:,} {what}, but its metadata promise {promised:,}; "
                "if you did not leave some out, download or export it again"
            )


def _from_hdf5(path: Path, agent: AgentID | None) -> Iterator[list[Block]]:
    with open_file(path) as file:
        for name in _in_order(member_names(file, most=2**62), _EPISODE, path):
            episode = open_group(file, name, path)
            where = f"{path}, {name}"
            flat = open_arrays(episode, list(_KEYS), (), path)
            columns = {_KEYS[key]: np.asarray(array[()]) for key, array in flat.items()}
            columns |= _masks(episode, path, len(columns["rewards"]))
            parts = {key: _read_space(episode, key, path) for key in ("observations", "actions")}
            yield _transitions(where, agent, columns, **parts)


def _masks(episode: h5py.Group, path: Path, num_steps: int) -> Columns:
    """Masks of one agent's choices, where `infos` have them."""
    if not episode.id.links.exists(b"infos"):
        return {}
    infos = open_group(episode, "infos", path)
    if not infos.id.links.exists(_MASK.encode()) or is_group(infos, _MASK):
        return {}
    mask = np.asarray(open_array(infos, _MASK, path)[()])
    if len(mask) != num_steps + 1:
        raise DataError(f"{path}: {_MASK} has {len(mask)} rows for {num_steps} steps; export it for N + 1 observations")
    return {"action_masks": mask[:-1], "next_action_masks": mask[1:]}


def _read_space(episode: h5py.Group, key: str, path: Path) -> Space:
    if not episode.id.links.exists(key.encode()):
        require_keys(member_names(episode), [key], str(path))
    if is_group(episode, key):
        group = open_group(episode, key, path)
        return {name: np.asarray(open_array(group, name, path)[()]) for name in member_names(group)}
    return np.asarray(open_array(episode, key, path)[()])


def _from_arrow(folder: Path, agent: AgentID | None) -> Iterator[list[Block]]:
    require_package("pyarrow", "Minari's Arrow files", "data")
    from marline.data.formats.arrow import read_arrow_file

    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    for name in _in_order(names, re.compile(r"([0-9]{1,18})"), folder):
        for path in sorted((folder / name).glob("*.arrow")):
            spaces = read_arrow_file(path, ["observations", "actions", *_KEYS])
            # there is an observation more than steps, so every other column ends in a row of padding
            columns = {_KEYS[key]: np.asarray(spaces[key])[:-1] for key in _KEYS}
            actions = spaces["actions"]
            cut = {key: part[:-1] for key, part in actions.items()} if isinstance(actions, dict) else actions[:-1]
            yield _transitions(str(path), agent, columns, spaces["observations"], cut)


def _transitions(
    where: str,
    agent: AgentID | None,
    columns: Columns,
    observations: Space,
    actions: Space,
) -> list[Block]:
    """An episode's N + 1 observations and N of all else, as rows of each agent."""
    num_steps = len(columns["rewards"])
    if num_steps == 0:
        raise DataError(f"{where} has no steps; leave it out of the export")
    require_one_length(where, {key: len(column) for key, column in columns.items()})
    if isinstance(observations, np.ndarray) and isinstance(actions, np.ndarray):
        return [Block(agent, columns | _pairs(where, observations, actions, num_steps))]
    if not isinstance(observations, dict) or not isinstance(actions, dict):
        is_dict = "observations" if isinstance(observations, dict) else "actions"
        parts = observations if isinstance(observations, dict) else actions
        assert isinstance(parts, dict)
        raise DataError(
            f"{where}: {is_dict} are a Dict of {', '.join(name[:40] for name in [*parts][:12])} and the "
            f"{'actions' if is_dict == 'observations' else 'observations'} an array; if these are parts of one "
            f"agent's {is_dict}, export them as one flat array, and if they are agents, export both as a Dict"
        )
    if observations.keys() != actions.keys():
        names = ", ".join(sorted(name[:40] for name in observations.keys() ^ actions.keys()))
        raise DataError(f"{where}: {names} are among observations or actions only; export both for every agent")
    return [
        Block(name, columns | _pairs(f"{where}, {name[:40]!r}", its, actions[name], num_steps))
        for name, its in sorted(observations.items(), key=lambda item: by_number(item[0]))
    ]


def _pairs(where: str, observations: np.ndarray, actions: np.ndarray, num_steps: int) -> Columns:
    if observations.ndim != 2:
        fix = "flatten each of them"
        if observations.ndim == 1:
            fix = "write a category as a one-hot row, a number as a row of one"
        raise DataError(f"{where}: observations have shape {list(observations.shape)} instead of [n, size]; {fix}")
    if len(observations) != num_steps + 1 or len(actions) != num_steps:
        raise DataError(
            f"{where}: {len(observations)} observations and {len(actions)} actions of {num_steps} steps; "
            "an episode of N steps has N + 1 observations and N actions: export it again"
        )
    return {"observations": observations[:-1], "next_observations": observations[1:], "actions": actions}


def _in_order(names: list[str], pattern: re.Pattern[str], where: Path) -> list[str]:
    numbered = [(int(match[1]), name) for name in names if (match := pattern.fullmatch(name))]
    if not numbered:
        raise DataError(f"{where} holds no episodes; download it again")
    return [name for _, name in sorted(numbered)]
