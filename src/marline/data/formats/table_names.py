"""Which files are tables, told by their names."""

from __future__ import annotations

from pathlib import Path

TABLES = (".parquet", ".csv", ".jsonl", ".ndjson")
PACKED = ".gz"


def table_kind(path: Path) -> str:
    """What a table is, such as ".csv", whatever the case of its name and whether it is gzipped; "" if it is none."""
    name = path.name.lower()
    kind = Path(name.removesuffix(PACKED)).suffix
    return kind if kind in TABLES and not (name.endswith(PACKED) and kind == ".parquet") else ""


def is_packed(path: Path) -> bool:
    """Whether a table is gzipped."""
    return path.name.lower().endswith(PACKED)


def stem_of(path: Path) -> str:
    """The name of a table without what says its kind."""
    return Path(path.name[: -len(PACKED)] if is_packed(path) else path.name).stem
