"""What exports of marline's own say: names and units of columns, the scale of actions, sizes, and whose rewards are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from marline.data import dataset
from marline.data.channels import Channels, read_document
from marline.data.files import open_regular
from marline.data.formats.log import Block, Log
from marline.data.formats.optional import require_package
from marline.data.formats.table_names import stem_of, table_kind
from marline.errors import CorruptionError, DataError
from marline.types import REWARD_SCOPES, AgentID, RewardScope, Spec

RECORD = "marline"  # the key in the metadata of a Parquet table or a Minari dataset, of channels by agent
SIZES = "marline.specs"  # of specs by agent
SCOPE = "marline.rewards"  # of whose the rewards of the team are
_LARGEST = 1 << 24  # bytes of metadata


Recorded = dict[AgentID | None, Channels]  # under None, of a log that does not tell agents apart


def specs_of_tables(files: Sequence[Path]) -> dict[AgentID | None, Spec]:
    """The sizes that Parquet tables tell, by agent and by file as `of_tables`."""
    found: dict[AgentID | None, Spec] = {}
    for file in files:
        text = _metadata(file).get(SIZES.encode()) if table_kind(file) == ".parquet" else None
        its = {} if text is None else _specs(read_document(text, str(file)))
        if len(its) == 1:
            found[stem_of(file) if len(files) > 1 else None] = next(iter(its.values()))
        found |= its
    return found


def spec_of_minari(folder: Path, metadata: Path) -> Spec | None:
    """The sizes that a Minari dataset of ours tells."""
    found = _specs(_document(folder, metadata).get(SIZES))
    return next(iter(found.values())) if len(found) == 1 else None


def reward_scope_of_tables(files: Sequence[Path]) -> RewardScope | None:
    """Whose the rewards are, if Parquet tables tell, and all of them the same."""
    told = {_metadata(file).get(SCOPE.encode(), b"") for file in files if table_kind(file) == ".parquet"}
    return _scope({text.decode(errors="replace") for text in told})


def reward_scope_of_minari(folders: Iterable[Path], metadata: Path) -> RewardScope | None:
    """Whose the rewards are, if Minari datasets tell, and all of them the same."""
    return _scope({str(_document(folder, metadata).get(SCOPE)) for folder in folders})


def _scope(told: set[str]) -> RewardScope | None:
    return next((scope for scope in REWARD_SCOPES if told == {scope}), None)


def _specs(document: Any) -> dict[AgentID, Spec]:
    """Those that are specs: whatever else is there, the columns will tell."""
    found = {}
    for agent, its in document.items() if isinstance(document, Mapping) else ():
        its = its if isinstance(its, Mapping) else {}
        seen, done, discrete = (its.get(field.name) for field in dataclasses.fields(Spec))
        if isinstance(seen, int) and isinstance(done, int) and min(seen, done) >= 1 and isinstance(discrete, bool):
            found[agent] = Spec(seen, done, discrete)
    return found


def of_tables(files: Sequence[Path]) -> Recorded:
    """What Parquet tables say of their columns, by the agent that they name and by that of the file."""
    found: Recorded = {}
    for file in files:
        its = _of_table(file) if table_kind(file) == ".parquet" else {}
        if len(its) == 1:  # whatever it is called now, and whether it still has a column for the agent
            found[stem_of(file) if len(files) > 1 else None] = next(iter(its.values()))
        found |= its
    return found


def _of_table(path: Path) -> dict[AgentID, Channels]:
    text = _metadata(path).get(RECORD.encode())
    return {} if text is None else _by_agent(read_document(text, str(path)), str(path))


def _metadata(path: Path) -> Mapping[bytes, bytes]:
    """Nothing if it is no table, for its reader tells why."""
    arrow = require_package("pyarrow", "Parquet tables", "data")
    parquet = require_package("pyarrow.parquet", "Parquet tables", "data")
    try:
        with open_regular(path) as file:
            return parquet.read_schema(file).metadata or {}
    except (arrow.ArrowException, OSError, CorruptionError):
        return {}


def of_minari(folder: Path, metadata: Path) -> Channels:
    """What a Minari dataset says of its columns; nothing if its metadata are none, for its reader tells why."""
    found = _by_agent(_document(folder, metadata).get(RECORD, {}), str(folder / metadata))
    return next(iter(found.values())) if len(found) == 1 else Channels()


def _document(folder: Path, metadata: Path) -> Mapping[str, Any]:
    with open_regular(folder / metadata) as file:
        try:
            document = json.loads(file.read(_LARGEST))
        except (ValueError, RecursionError):
            return {}
    return document if isinstance(document, Mapping) else {}


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
    specs: dict[AgentID | None, Spec] = {whose: spec for whose, (spec, _) in dataset.outline(folder).items()}
    if agent is not None:
        channels, specs = {None: channels.get(agent, Channels())}, {}

    def blocks() -> Iterator[Block]:
        for agent, columns in log.blocks():
            scale = channels.get(agent, Channels())
            yield Block(agent, {**columns, "actions": scale.to_field(columns["actions"])})

    scope = dataset.reward_scope_of(folder)
    return Log(log.source, log.kind, blocks, notes=log.notes, channels=channels, specs=specs, reward_scope=scope)
