"""Readers of other people's logs: one file per format, behind `open_log`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from marline.data.channels import Channels
from marline.data.formats.flat import hdf5_blocks, npz_blocks
from marline.data.formats.log import Block, Log
from marline.data.formats.minari import METADATA, is_minari, minari_blocks
from marline.data.formats.optional import require_package
from marline.data.formats.recorded import of_minari, of_tables, on_field_scale, spec_of_minari, specs_of_tables
from marline.data.formats.vault import is_vault, vault_blocks
from marline.data.layout import by_number
from marline.errors import ConfigError, DataError, require
from marline.types import AgentID

Reader = Callable[[Path, AgentID | None, list[str]], Iterator[Block]]
_TABLES = (".parquet", ".csv", ".jsonl", ".ndjson")
_FLAT: dict[str, Reader] = {".h5": hdf5_blocks, ".hdf5": hdf5_blocks, ".npz": npz_blocks}
_KNOWN = "D4RL's HDF5 or NPZ, a Minari folder, a Parquet, CSV or JSONL table, an OG-MARL vault, or a folder of them"


def open_log(source: Path | str, columns: Mapping[str, str] | None = None) -> Log:
    """Logs in whatever format they are, told by names and by what lies in a folder.

    Args:
        source: a file or a folder; a folder may hold a file, table or Minari dataset per agent.
        columns: of tables: names or patterns by key, where they are not the usual ones.

    Raises:
        DataError: there is no such thing, or it is in no format that is read.
        ConfigError: the format needs a package that is not installed, or has no columns to map.
    """
    path = Path(source).resolve()
    log = _open_folder(path, columns or {}) if path.is_dir() else _open_file(path, columns or {})
    require(not columns or log.kind == "table", f"{source} is no table with columns to map; leave out --column")
    return log


def _open_file(path: Path, columns: Mapping[str, str]) -> Log:
    if not path.exists():
        raise DataError(f"{path} does not exist; give {_KNOWN}")
    if path.suffix in _FLAT:
        log = _each(f"flat {path.suffix[1:]}", _FLAT[path.suffix], path, {None: path})
        return on_field_scale(log, path.parent, path.stem) if path.suffix == ".h5" else log
    if path.suffix in _TABLES:
        return _tables(path, [path], columns)
    raise DataError(f"{path} is in no format that is read; give {_KNOWN}")


def _open_folder(path: Path, columns: Mapping[str, str]) -> Log:
    if is_vault(path):
        return Log(path, "vault", functools.partial(vault_blocks, path), ordered_agents=True)
    if is_minari(path):
        return _each("minari", minari_blocks, path, {None: path}, {None: of_minari(path, METADATA)})
    members = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=lambda p: by_number(p.name))
    vaults = [p.name for p in members if is_vault(p)]
    if vaults:
        raise DataError(f"{path} holds vaults; choose one of {', '.join(vaults[:10])} in it")
    datasets = {_without_version(p.name): p for p in members if is_minari(p)}
    if datasets:
        recorded = {agent: of_minari(folder, METADATA) for agent, folder in datasets.items()}
        specs = {agent: spec for agent, folder in datasets.items() if (spec := spec_of_minari(folder, METADATA))}
        log = _each("minari", minari_blocks, path, {**datasets}, {**recorded})
        return dataclasses.replace(log, specs={**specs})
    tables = [p for p in members if p.suffix in _TABLES]
    flat = [p for p in members if p.suffix in _FLAT]
    if len({p.suffix for p in (*tables, *flat)}) > 1:
        raise DataError(f"{path} holds files of several formats; leave those of one of them there")
    if tables:
        return _tables(path, tables, columns)
    if flat:
        log = _each(f"flat {flat[0].suffix[1:]}", _FLAT[flat[0].suffix], path, {p.stem: p for p in flat})
        return on_field_scale(log, path)
    raise DataError(f"{path} holds nothing that is read; give {_KNOWN}")


def _tables(path: Path, files: Sequence[Path], columns: Mapping[str, str]) -> Log:
    require_package("pyarrow", "tables", "data")
    from marline.data.formats.tables import table_blocks

    notes: list[str] = []
    found: dict[AgentID | None, dict[str, list[str]]] = {}
    recorded = of_tables(files)
    channels = dict(recorded)

    def blocks() -> Iterator[Block]:
        for block in table_blocks(files, columns, notes, found):
            for agent, sources in found.items():
                channels[agent] = recorded.get(agent, Channels()).or_else(_named(sources, columns, str(path), notes))
            yield block

    return Log(path, "table", blocks, notes=notes, columns=found, channels=channels, specs=specs_of_tables(files))


def _named(sources: Mapping[str, Sequence[str]], columns: Mapping[str, str], where: str, notes: list[str]) -> Channels:
    """Names of entries: those of the columns that the user named; `notes` is told where they cannot be names."""
    named = Channels()
    for key, field in (("observations", "observation_names"), ("actions", "action_names")):
        if key in columns and sources.get(key):
            try:
                named = dataclasses.replace(named, **{field: sources[key]})
            except ConfigError as error:
                note = f"{where}: the columns of the {key} give them no names: {error}"
                notes += [note] if note not in notes else []
    return named


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
