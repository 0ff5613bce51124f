"""Readers of other people's logs: one file per format, behind `open_log`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from marline.data.channels import Channels
from marline.data.formats.flat import hdf5_blocks, npz_blocks
from marline.data.formats.found import Found
from marline.data.formats.log import Block, Log
from marline.data.formats.minari import METADATA, is_minari, minari_blocks
from marline.data.formats.optional import require_package
from marline.data.formats.recorded import (
    of_minari,
    of_tables,
    on_field_scale,
    reward_scope_of_minari,
    reward_scope_of_tables,
    spec_of_minari,
    specs_of_tables,
)
from marline.data.formats.table_names import table_kind
from marline.data.formats.vault import is_vault, vault_blocks
from marline.data.layout import by_number
from marline.data.mapping import ImportMapping
from marline.errors import DataError, require
from marline.types import AgentID, Spec

Reader = Callable[[Path, AgentID | None, list[str]], Iterator[Block]]
_FLAT: dict[str, Reader] = {".h5": hdf5_blocks, ".hdf5": hdf5_blocks, ".npz": npz_blocks}
_KNOWN = "D4RL's HDF5 or NPZ, a Minari folder, a Parquet, CSV or JSONL table, an OG-MARL vault, or a folder of them"


def open_log(source: Path | str, mapping: ImportMapping | Mapping[str, str] | None = None) -> Log:
    """Logs in whatever format they are, told by names and by what lies in a folder.

    Args:
        source: a file or a folder; a folder may hold a file, table or Minari dataset per agent.
        mapping: what is said of the log; or, of a table, names or patterns by key, where they are not the usual ones.

    Raises:
        DataError: there is no such thing, or it is in no format that is read.
        ConfigError: the format needs a package that is not installed, or has no columns to map.
    """
    if not isinstance(mapping, ImportMapping):
        mapping = ImportMapping(columns={key: (pattern,) for key, pattern in (mapping or {}).items()})
    path = Path(source).resolve()
    log = _open_folder(path, mapping) if path.is_dir() else _open_file(path, mapping)
    require(
        log.kind == "table" or not mapping.is_about_tables,
        f"{source} is no table with columns to map; leave out --column, and of a mapping all but agents",
    )
    return dataclasses.replace(log, mapping={} if mapping == ImportMapping() else mapping.to_document())


def tables_in(source: Path | str) -> list[Path]:
    """The tables that a file or folder is; none if it is something else, or nothing."""
    path = Path(source).resolve()
    if not path.is_dir():
        return [path] if path.exists() and table_kind(path) else []
    if is_vault(path) or is_minari(path):
        return []
    members = [p for p in path.iterdir() if not p.name.startswith(".")]
    if any(is_vault(p) or is_minari(p) or p.suffix.lower() in _FLAT for p in members):
        return []
    return sorted((p for p in members if table_kind(p)), key=lambda p: by_number(p.name))


def _open_file(path: Path, mapping: ImportMapping) -> Log:
    if not path.exists():
        raise DataError(f"{path} does not exist; give {_KNOWN}")
    kind = path.suffix.lower()
    if kind in _FLAT:
        log = _each(f"flat {kind[1:]}", _FLAT[kind], path, {None: path})
        return on_field_scale(log, path.parent, path.stem) if kind == ".h5" else log
    if table_kind(path):
        return _tables(path, [path], mapping)
    raise DataError(f"{path} is in no format that is read; give {_KNOWN}")


def _open_folder(path: Path, mapping: ImportMapping) -> Log:
    if is_vault(path):
        return Log(path, "vault", functools.partial(vault_blocks, path), ordered_agents=True)
    if is_minari(path):
        log = _each("minari", minari_blocks, path, {None: path}, {None: of_minari(path, METADATA)})
        return dataclasses.replace(log, reward_scope=reward_scope_of_minari([path], METADATA))
    members = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=lambda p: by_number(p.name))
    vaults = [p.name for p in members if is_vault(p)]
    if vaults:
        raise DataError(f"{path} holds vaults; choose one of {', '.join(vaults[:10])} in it")
    datasets = {_without_version(p.name): p for p in members if is_minari(p)}
    if datasets:
        recorded = {agent: of_minari(folder, METADATA) for agent, folder in datasets.items()}
        specs = {agent: spec for agent, folder in datasets.items() if (spec := spec_of_minari(folder, METADATA))}
        log = _each("minari", minari_blocks, path, {**datasets}, {**recorded})
        scope = reward_scope_of_minari(datasets.values(), METADATA)
        return dataclasses.replace(log, specs={**specs}, reward_scope=scope)
    tables = [p for p in members if table_kind(p)]
    flat = [p for p in members if p.suffix.lower() in _FLAT]
    if len({table_kind(p) or p.suffix.lower() for p in (*tables, *flat)}) > 1:
        raise DataError(f"{path} holds files of several formats; leave those of one of them there")
    if tables:
        return _tables(path, tables, mapping)
    if flat:
        kind = flat[0].suffix.lower()
        log = _each(f"flat {kind[1:]}", _FLAT[kind], path, {p.stem: p for p in flat})
        return on_field_scale(log, path)
    raise DataError(f"{path} holds nothing that is read; give {_KNOWN}")


def _tables(path: Path, files: Sequence[Path], mapping: ImportMapping) -> Log:
    require_package("pyarrow", "tables", "data")
    from marline.data.formats.tables import table_blocks

    found = Found()
    recorded, sizes = of_tables(files), specs_of_tables(files)
    channels, specs = dict(recorded), dict(sizes)

    def blocks() -> Iterator[Block]:
        for block in table_blocks(files, mapping, found):
            agent = block.agent
            channels[agent] = recorded.get(agent, Channels()).or_else(found.channels(agent, mapping, str(path)))
            if agent in found.choices:
                width = block.columns["observations"].shape[-1]
                specs[agent] = Spec(width, len(found.choices[agent]), discrete=True)
            yield block

    return Log(
        path,
        "table",
        blocks,
        notes=found.notes,
        columns=found.columns,
        channels=channels,
        specs=specs,
        policies=found.policies,
        reward_scope=reward_scope_of_tables(files),
    )


def _each(
    kind: str,
    read: Reader,
    source: Path,
    files: Mapping[AgentID | None, Path],
    channels: dict[AgentID | None, Channels] | None = None,
) -> Log:
    """A file or folder for each agent, or one of all of them, under None."""
    notes: list[str] = []

    def blocks() -> Iterator[Block]:
        for agent, file in files.items():
            yield from read(file, agent, notes)

    return Log(source, kind, blocks, notes=notes, channels=channels or {})


def _without_version(name: str) -> str:
    stem, dash_v, version = name.rpartition("-v")
    return stem if dash_v and version.isdigit() else name


__all__ = ["Block", "Log", "open_log"]
