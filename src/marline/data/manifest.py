"""The JSON file that lists what a folder holds: sizes and hashes, so that one altered byte anywhere is noticed.

The list vouches for itself too: `seal` is the SHA-256 of the file's own bytes with 64 zeros in its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from marline.data.files import open_regular, read_regular, sha256_file, to_json
from marline.data.migrations import Schema, migrated
from marline.data.scratch import sync
from marline.errors import ConfigError, CorruptionError, DataError, MarlineError
from marline.runtime import physical_memory

Manifest = dict[str, Any]
FileRecord = dict[str, Any]
RESERVED = ("kind", "schema", "files", "seal")
_NO_SEAL = "0" * 64
LARGEST = 1 << 28  # bytes of JSON; more is neither written nor read. docs/scaling.md tells for how many agents it does
_WIDTH = 100  # letters of an entry that stands on one line
_HOLLOW = 1024  # no disk packs what is worth keeping so well
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def write_sealed(
    path: Path, kind: str, schema: int, entries: Mapping[str, object], files: Mapping[str, FileRecord]
) -> None:
    """Write the list of a folder's files, sealed; for use while the folder is being published.

    Args:
        path: the JSON file, in the folder.
        kind: what the folder is, such as "checkpoint".
        schema: version of the folder's layout.
        entries: anything else worth keeping, with a JSON form.
        files: `record_file` of every file, by path relative to the folder.

    Raises:
        ConfigError: `entries` has a reserved key or a value without a JSON form, or is more than would be read again.
        OSError: the disk is full or the path may not be written.
    """
    for key in RESERVED:
        if key in entries:
            raise ConfigError(f"{path.name} keeps the key {key!r} for itself; name that entry otherwise")
    document = {"kind": kind, "schema": schema, **entries, "files": dict(files), "seal": _NO_SEAL}
    text = _laid_out(document)
    head, tail = text.rsplit(_NO_SEAL, 1)
    data = (head + hashlib.sha256(text.encode()).hexdigest() + tail).encode()
    if len(data) > LARGEST:
        raise ConfigError(
            f"{path.name} of this {kind.removeprefix('marline ')} would have {len(data):,} bytes, and no more than "
            f"{LARGEST:,} are read again; plan fewer agents or fewer deployments in one run"
        )
    path.write_bytes(data)


def read_sealed(path: Path, schema: Schema, *, as_written: bool = False) -> Manifest:
    """Read a list that `write_sealed` wrote.

    Args:
        path: the JSON file.
        schema: of the kind of folder that it should be.
        as_written: give back what the file says, for a hash of it, and not what it would say today.

    Raises:
        CorruptionError: the file is missing or altered, or lists a file outside its folder.
        DataError: it is of another kind.
        NewerError: it is of a newer version than this one knows.
    """
    with open_regular(path) as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise CorruptionError(f"{path} has more than the {LARGEST:,} bytes that marline writes; restore a copy")
    try:
        manifest = json.loads(data)
        seal = manifest["seal"]
        head, tail = data.rsplit(seal.encode(), 1)
        if hashlib.sha256(head + _NO_SEAL.encode() + tail).hexdigest() != seal:
            raise ValueError("its seal does not match")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CorruptionError(f"{path} was altered after it was written; restore a copy") from error
    if manifest.get("kind") != schema.kind:
        raise DataError(
            f"{path} belongs to a {manifest.get('kind')!r}, not to a {schema.kind!r}; choose another folder"
        )
    today = migrated(manifest, schema, path)
    if not _well_formed(manifest.get("files")):
        raise CorruptionError(f"{path} has no proper list of files; write the folder anew")
    return manifest if as_written else today


def record_file(path: Path) -> FileRecord:
    """Hash and size of a file, once it is on the disk."""
    sync(path)
    return {"sha256": sha256_file(path), "size": path.stat().st_size}


def start_verification(
    directory: Path, manifest: Manifest, names: Iterable[str], pool: ThreadPoolExecutor
) -> dict[str, Future[None]]:
    """Begin `require_intact` for several files at once; each future raises what it raises."""
    return {name: pool.submit(require_intact, directory / name, manifest["files"][name]) for name in names}


def verify_files(directory: Path, manifest: Manifest) -> None:
    """Raise `CorruptionError`, naming the file, unless every listed file is what was written."""
    with ThreadPoolExecutor(num_threads()) as pool:
        for check in start_verification(directory, manifest, manifest["files"], pool).values():
            check.result()


def read_intact(path: Path, record: FileRecord) -> bytes:
    """The content of a small file; `CorruptionError` unless it has the size and hash that were recorded."""
    _require_size(path, record)
    memory = physical_memory()
    if record["size"] > memory:
        raise CorruptionError(f"{path} has {record['size']} bytes, and this machine {memory} bytes of memory")
    data = read_regular(path, memory)
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise CorruptionError(f"{path} was altered after it was written: its SHA-256 differs; restore a copy")
    return data


def require_intact(path: Path, record: FileRecord) -> None:
    """Raise `CorruptionError` unless a file has the size and hash that were recorded."""
    _require_size(path, record)
    if sha256_file(path) != record["sha256"]:
        raise CorruptionError(f"{path} was altered after it was written: its SHA-256 differs; restore a copy")


def num_threads() -> int:
    """Threads for hashing: a few, for memory is the limit beyond."""
    return min(4, os.cpu_count() or 1)


def require_file_name(name: str, what: str, error: type[MarlineError] = ConfigError) -> None:
    """Raise `error` unless `name` can be a file name on any system: it may come from someone else's data."""
    if not _SAFE_NAME.fullmatch(name) or name.endswith("."):
        shown = name if len(name) <= 40 else name[:40] + "..."
        raise error(
            f"{what} {shown!r} cannot name a file; use 1 to 100 of the letters A-Z and a-z, digits, '.', '_' and '-', "
            "starting with a letter or digit and not ending with '.'"
        )


def _require_size(path: Path, record: FileRecord) -> None:
    if not os.path.lexists(path):
        raise CorruptionError(f"{path} is missing; restore a copy")
    found = os.lstat(path)
    size, stored = found.st_size, found.st_blocks * 512
    if size != record["size"]:
        raise CorruptionError(f"{path} has {size} bytes instead of {record['size']}; restore a copy")
    if size > _HOLLOW * max(stored, 1 << 20):  # reading the nothing in it could take for ever
        raise CorruptionError(f"{path} claims {size} bytes and takes {stored} on the disk; restore a copy")


def _laid_out(document: Mapping[str, object]) -> str:
    """JSON of a line per entry, and of long ones per part: soon written, however much was measured."""
    lines = []
    for key, value in document.items():
        if isinstance(value, dict):
            text = _laid_out_parts("{", [to_json({name: part})[1:-1] for name, part in value.items()], "}")
        elif isinstance(value, list):
            text = _laid_out_parts("[", [to_json(part) for part in value], "]")
        else:
            text = to_json(value)
        lines.append(f"  {to_json(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _laid_out_parts(opening: str, parts: Sequence[str], closing: str) -> str:
    line = f"{opening}{', '.join(parts)}{closing}"
    return line if len(line) <= _WIDTH else f"{opening}\n    " + ",\n    ".join(parts) + f"\n  {closing}"


def _well_formed(files: object) -> bool:
    """Whether this maps names inside the folder to hashes and sizes."""
    return isinstance(files, dict) and all(
        isinstance(record, dict)
        and isinstance(record.get("sha256"), str)
        and isinstance(record.get("size"), int)
        and all(_SAFE_NAME.fullmatch(part) for part in name.split("/"))
        for name, record in files.items()
    )
