"""Readers of other people's logs: one file per format, behind `open_log`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from marline.data.formats.flat import hdf5_blocks, npz_blocks
from marline.data.formats.log import Block, Log
from marline.data.formats.minari import METADATA, is_minari, minari_blocks
from marline.data.formats.optional import require_package
from marline.data.formats.recorded import of_minari, of_tables, on_field_scale
from marline.data.formats.vault import is_vault, vault_blocks
from marline.data.layout import by_number
from marline.errors import DataError, require
from marline.types import AgentID

Reader = Callable[[Path, AgentID | None], Iterator[Block]]
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
        log = Log(path, f"flat {path.suffix[1:]}", functools.partial(_FLAT[path.suffix], path, None))
        return on_field_scale(log, path.parent, path.stem) if path.suffix == ".h5" else log
    if path.suffix in _TABLES:
        return _tables(path, [path], columns)
    raise DataError(f"{path} is in no format that is read; give {_KNOWN}")


def _open_folder(path: Path, columns: Mapping[str, str]) -> Log:
    if is_vault(path):
        return Log(path, "vault", functools.partial(vault_blocks, path), ordered_agents=True)
    if is_minari(path):
        blocks = functools.partial(minari_blocks, path, None)
        return Log(path, "minari", blocks, channels={None: of_minari(path, METADATA)})
    members = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=lambda p: by_number(p.name))
    vaults = [p.name for p in members if is_vault(p)]
    if vaults:
        raise DataError(f"{path} holds vaults; choose one of {', '.join(vaults[:10])} in it")
    datasets = {_without_version(p.name): p for p in members if is_minari(p)}
    if datasets:
        recorded = {agent: of_minari(folder, METADATA) for agent, folder in datasets.items()}
        return Log(path, "minari", lambda: _each(minari_blocks, datasets), channels={**recorded})
    tables = [p for p in members if p.suffix in _TABLES]
    flat = [p for p in members if p.suffix in _FLAT]
    if len({p.suffix for p in (*tables, *flat)}) > 1:
        raise DataError(f"{path} holds files of several formats; leave those of one of them there")
    if tables:
        return _tables(path, tables, columns)
    if flat:
        log = Log(path, f"flat {flat[0].suffix[1:]}", lambda: _each(_FLAT[flat[0].suffix], {p.stem: p for p in flat}))
        return on_field_scale(log, path)
    raise DataError(f"{path} holds nothing that is read; give {_KNOWN}")


def _tables(path: Path, files: Sequence[Path], columns: Mapping[str, str]) -> Log:
    require_package("pyarrow", "tables", "data")
    from marline.data.formats.tables import table_blocks

    notes: list[str] = []
    return Log(path, "table", lambda: table_blocks(files, columns, notes), notes=notes, channels=of_tables(files))


def _each(read: Reader, files: Mapping[AgentID, Path]) -> Iterator[Block]:
    for agent, file in files.items():
        yield from read(file, agent)


def _without_version(name: str) -> str:
    stem, dash_v, version = name.rpartition("-v")
    return stem if dash_v and version.isdigit() else name


__all__ = ["Block", "Log", "open_log"]
