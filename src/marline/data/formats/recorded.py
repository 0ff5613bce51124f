"""What exports of marline's own say of their columns: names, units, and the scale that actions are written on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from marline.data import dataset
from marline.data.channels import Channels, read_document
from marline.data.files import open_regular
from marline.data.formats.log import Block, Log
from marline.data.formats.optional import require_package
from marline.errors import CorruptionError, DataError
from marline.types import AgentID

RECORD = "marline"  # the key in the metadata of a Parquet table or a Minari dataset, of channels by agent
_LARGEST = 1 << 24  # bytes of metadata


Recorded = dict[AgentID | None, Channels]  # under None, of a log that does not tell agents apart


def of_tables(files: Sequence[Path]) -> Recorded:
    """What Parquet tables say of their columns, by the agent that they name and by that of the file."""
    found: Recorded = {}
    for file in files:
        its = _of_table(file) if file.suffix == ".parquet" else {}
        if len(its) == 1:  # whatever it is called now, and whether it still has a column for the agent
            found[file.stem if len(files) > 1 else None] = next(iter(its.values()))
        found |= its
    return found


def _of_table(path: Path) -> dict[AgentID, Channels]:
    """Nothing if it is no table, for its reader tells why."""
    arrow = require_package("pyarrow", "Parquet tables", "data")
    parquet = require_package("pyarrow.parquet", "Parquet tables", "data")
    try:
        with open_regular(path) as file:
            metadata = parquet.read_schema(file).metadata or {}
    except (arrow.ArrowException, OSError, CorruptionError):
        return {}
    text = metadata.get(RECORD.encode())
    return {} if text is None else _by_agent(read_document(text, str(path)), str(path))


def of_minari(folder: Path, metadata: Path) -> Channels:
    """What a Minari dataset says of its columns; nothing if its metadata are none, for its reader tells why."""
    with open_regular(folder / metadata) as file:
        try:
            document = json.loads(file.read(_LARGEST))
        except (ValueError, RecursionError):
            return Channels()
    recorded = document.get(RECORD, {}) if isinstance(document, Mapping) else {}
    found = _by_agent(recorded, str(folder / metadata))
    return next(iter(found.values())) if len(found) == 1 else Channels()


def _by_agent(document: Any, where: str) -> dict[AgentID, Channels]:
    if not isinstance(document, Mapping):
        raise DataError(
            f"{where}: {RECORD} is {str(document)[:40]!r}, but must tell channels by agent; export it again"
        )
    return {agent: Channels.from_json(its, f"{where}: agent {agent[:40]!r}") for agent, its in document.items()}


def on_field_scale(log: Log, folder: Path, agent: AgentID | None = None) -> Log:
    """The log of a dataset folder of ours, or of one agent's file in it, with its actions as in the field."""
    if not (folder / dataset.MANIFEST).is_file():
        return log
    channels: Recorded = {**dataset.channels_of(folder)}
    if agent is not None:
        channels = {None: channels.get(agent, Channels())}

    def blocks() -> Iterator[Block]:
        for agent, columns in log.blocks():
            scale = channels.get(agent, Channels())
            yield Block(agent, {**columns, "actions": scale.to_field(columns["actions"])})

    return Log(log.source, log.kind, blocks, notes=log.notes, channels=channels)
