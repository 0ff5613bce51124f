"""What exports of marline's own say of their columns: names, units, and the scale that actions are written on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from marline.data import dataset
from marline.data.channels import Channels
from marline.data.files import open_regular
from marline.data.formats.log import Block, Log
from marline.data.formats.optional import require_package
from marline.errors import CorruptionError
from marline.types import AgentID

RECORD = "marline"  # the key in the metadata of a Parquet table or a Minari dataset
_LARGEST = 1 << 24  # bytes of metadata


def of_parquet(path: Path) -> Channels:
    """What a table says of its columns; nothing if it is no table, for its reader tells why."""
    arrow = require_package("pyarrow", "Parquet tables", "data")
    parquet = require_package("pyarrow.parquet", "Parquet tables", "data")
    try:
        with open_regular(path) as file:
            metadata = parquet.read_schema(file).metadata or {}
    except (arrow.ArrowException, OSError, CorruptionError):
        return Channels()
    text = metadata.get(RECORD.encode())
    return Channels() if text is None else Channels.from_text(text, str(path))


def of_minari(folder: Path, metadata: Path) -> Channels:
    """What a Minari dataset says of its columns; nothing if its metadata are none, for its reader tells why."""
    with open_regular(folder / metadata) as file:
        try:
            document = json.loads(file.read(_LARGEST))
        except (ValueError, RecursionError):
            return Channels()
    recorded = document.get(RECORD) if isinstance(document, Mapping) else None
    return Channels() if recorded is None else Channels.from_json(recorded, str(folder / metadata))


def on_field_scale(log: Log, folder: Path) -> Log:
    """The log of a dataset folder of ours, whose actions lie in [-1, 1], as it was in the field."""
    channels: dict[AgentID | None, Channels] = {**dataset.channels_of(folder)}

    def blocks():
        for agent, columns in log.blocks():
            scale = channels.get(agent, Channels())
            yield Block(agent, {**columns, "actions": scale.to_field(columns["actions"])})

    return Log(log.source, log.kind, blocks, notes=log.notes, channels=channels)
