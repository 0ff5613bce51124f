"""What a reader of logs gives: blocks of rows, so that a file may be larger than memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from marline.data.channels import Channels
from marline.data.layout import Columns
from marline.errors import DataError
from marline.types import AgentID, RewardScope, Spec

BLOCK_ROWS = 1 << 16
BLOCK_BYTES = 1 << 28


class Block(NamedTuple):
    """Consecutive rows of one agent, or of all agents together.

    Attributes:
        agent: whose rows they are; None where every row holds the observation and the action of all.
        columns: arrays [n, ...] under D4RL's keys, of any numeric type. Either all blocks of an agent
            have `next_observations`, or none.
    """

    agent: AgentID | None
    columns: Columns


@dataclasses.dataclass(frozen=True)
class Log:
    """A source of logs, found readable; nothing but its head has been read.

    Attributes:
        source: the file or folder.
        kind: the format, for people.
        blocks: begins to read from the start; the blocks of an agent come in the order of its steps.
        ordered_agents: whether agents are only numbered by the format, so that they may be given other names.
        notes: what was found odd while reading, in sentences; grows meanwhile.
        columns: of a table, by agent and by key, the source column of every entry of a vector, in order; grows
            meanwhile. Under None where every row holds the observation and the action of all.
        channels: what the source itself says of its columns, by agent; under None, of those of all agents. A range
            must be there before the first block, names and units may come while reading.
        specs: sizes, and whether actions are choices, of agents of which the source tells it.
        reward_scope: whose the rewards are, if the source tells it; see `Dataset`.
        policies: by agent, the policies that its rows name, and the first row of each; grows meanwhile.
        mapping: what was said of the source, as plain values, where anything was.
    """

    source: Path
    kind: str
    blocks: Callable[[], Iterator[Block]]
    ordered_agents: bool = False
    notes: list[str] = dataclasses.field(default_factory=list)
    columns: dict[AgentID | None, dict[str, list[str]]] = dataclasses.field(default_factory=dict)
    channels: dict[AgentID | None, Channels] = dataclasses.field(default_factory=dict)
    specs: dict[AgentID | None, Spec] = dataclasses.field(default_factory=dict)
    reward_scope: RewardScope | None = None
    policies: dict[AgentID | None, dict[str, int]] = dataclasses.field(default_factory=dict)
    mapping: dict[str, Any] = dataclasses.field(default_factory=dict)


def block_rows(where: str, row_bytes: int, most: int = BLOCK_ROWS) -> int:
    """Rows of a block, fewer than `most` where they are wide; `DataError` if one alone is too wide."""
    if row_bytes > BLOCK_BYTES:
        raise DataError(f"{where} has rows of {row_bytes:,} bytes, which no step of an agent has; export it again")
    return min(most, BLOCK_BYTES // max(1, row_bytes))


def gathered(pieces: Iterable[Block]) -> Iterator[Block]:
    """The same rows in blocks of about `BLOCK_ROWS`, where pieces are as short as an episode."""
    waiting: dict[AgentID | None, list[Columns]] = {}
    num_rows: dict[AgentID | None, int] = {}
    for agent, columns in pieces:
        waiting.setdefault(agent, []).append(columns)
        num_rows[agent] = num_rows.get(agent, 0) + len(columns["rewards"])
        if num_rows[agent] >= BLOCK_ROWS:
            yield Block(agent, joined(waiting.pop(agent)))
            num_rows[agent] = 0
    for agent, mine in waiting.items():
        yield Block(agent, joined(mine))


def joined(pieces: list[Columns]) -> Columns:
    """Pieces of the same columns, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    return {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
