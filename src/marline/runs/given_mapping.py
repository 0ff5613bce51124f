"""The mapping that `--mapping` names: in a file, kept with a dataset, or kept in a run."""

from __future__ import annotations

from pathlib import Path

from marline.data import dataset
from marline.data.mapping import ImportMapping, from_document, read_mapping
from marline.errors import require
from marline.runs.layout import RunDirectory


def given_mapping(path: Path) -> ImportMapping:
    """Read it.

    Raises:
        ConfigError: there is none, or it says something that cannot be.
        CorruptionError: what keeps it is damaged.
    """
    if not path.is_dir():
        return read_mapping(path)
    kept = dataset.mapping_of(path) or dataset.mapping_of(RunDirectory(path).data)
    require(
        kept is not None, f"{path} keeps no mapping; give a file, or a dataset of tables, or a run that began with one"
    )
    return from_document(kept, str(path))
