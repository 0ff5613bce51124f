"""Somebody else's log becomes a dataset folder: each agent's file holds its own observations and actions only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from marline.data import dataset, layout
from marline.data.channels import Channels
from marline.data.check import Steps, require_sound_rows, steps_differ
from marline.data.clipping import Reach
from marline.data.files import sha256_file
from marline.data.formats import Block, Log
from marline.data.formats.log import joined
from marline.data.manifest import require_file_name
from marline.data.split import Share, contiguous_blocks
from marline.errors import ConfigError, DataError
from marline.types import AgentID, RewardScope, Spec


class Imported(NamedTuple):
    """Rows of each agent, and what was odd or changed, one sentence each."""

    num_rows: dict[AgentID, int]
    notes: list[str]


def import_log(
    log: Log,
    directory: Path | str,
    *,
    specs: Mapping[AgentID, Spec] | None = None,
    split: Mapping[AgentID, Share] | None = None,
    channels: Mapping[AgentID, Channels] | None = None,
    clip_actions: bool = False,
    replace: bool = False,
    reward_scope: RewardScope | None = None,
) -> Imported:
    """Write a log as a dataset folder, without ever holding more than a few blocks of rows.

    Args:
        log: from `formats.open_log`.
        directory: the folder to make.
        specs: the agents and their sizes, as a task knows them; splits a joint log into contiguous blocks.
        split: the agents, and which columns are whose; in the place of `specs`. May tell names, units and ranges.
        channels: names, units and ranges by agent, for what `split` does not tell; before what the source says.
        clip_actions: cut continuous actions to their range instead of refusing others.
        replace: whether a dataset that is there already is replaced.
        reward_scope: whose the rewards are, see `Dataset`; what the source says unless given.

    Raises:
        DataError: the log breaks a rule, in which case nothing is written.
        ConfigError: the folder holds something else.
    """
    notes: list[str] = []
    provenance: dict[str, object] = {"source": log.source.name, "format": log.kind}
    agents: dict[AgentID, _Agent] = {}
    expected = list(split or specs or [])
    with ThreadPoolExecutor(1) as pool, dataset.writing(directory, provenance, replace=replace) as writer:
        writer.reward_scope = reward_scope or log.reward_scope
        digest = pool.submit(sha256_file, log.source) if log.source.is_file() else None
        for block in log.blocks():
            if block.agent is None and split is None:
                split = _contiguous(log, specs, block)
            for name, columns in _shares(log, block, split or {}, expected):
                share = (split or {}).get(name, Share())
                if name not in agents:
                    require_file_name(name, f"{log.source}: agent", DataError)
                    where = layout.logs_of(name, str(log.source))
                    known = (channels or {}).get(name, Channels())
                    spec = (specs or {}).get(name) or (_told(log, block) if share.is_whole else None)
                    agents[name] = _Agent(name, where, share, spec, known, clip_actions, notes)
                recorded = [log.channels.get(whose, Channels()) for whose in (block.agent, None)]
                for rows in agents[name].add(columns, recorded[0].or_else(recorded[1])):
                    writer.append(name, agents[name].known_spec, rows)
        for agent in agents.values():
            for rows in agent.finish():
                writer.append(agent.name, agent.known_spec, rows)
            writer.describe(agent.name, agent.channels)
        _require_team(log, agents, expected)
        notes += _other_steps(agents)
        writer.arrange(expected or agents)
        if log.columns:
            provenance["columns"] = _columns_of(log)
        if log.mapping:
            provenance["mapping"] = log.mapping
        if digest is not None:
            provenance["sha256"] = digest.result()
    return Imported({name: agent.num_rows for name, agent in agents.items()}, list(dict.fromkeys([*log.notes, *notes])))


def _columns_of(log: Log) -> dict[str, object]:
    """Source columns by key, where they are the same for every agent; by agent and key otherwise."""
    first, *others = log.columns.values()
    if all(columns == first for columns in others):
        return {**first}
    return {agent or "": columns for agent, columns in log.columns.items()}


def _contiguous(log: Log, specs: Mapping[AgentID, Spec] | None, block: Block) -> dict[AgentID, Share]:
    if specs is None:
        raise DataError(
            f"{log.source} holds the actions of all agents in one column or array; say which are whose: "
            "--task NAME for a task of the catalogue, or --spec FILE"
        )
    layout.require_keys(block.columns, layout.REQUIRED, str(log.source))
    try:
        return contiguous_blocks(specs, block.columns)
    except DataError as error:
        raise DataError(f"{log.source}: {error}") from None


def _shares(
    log: Log, block: Block, split: Mapping[AgentID, Share], expected: list[AgentID]
) -> Iterator[tuple[AgentID, layout.Columns]]:
    """Each agent's raw columns of a block."""
    layout.require_keys(block.columns, layout.REQUIRED, str(log.source))
    if block.agent is None:
        for agent in split:
            yield agent, block.columns
        return
    agent = block.agent
    if log.ordered_agents and expected:
        number = int(agent.removeprefix("agent_"))
        agent = expected[number] if number < len(expected) else agent
    if expected and agent not in expected:
        raise DataError(
            f"{log.source} has an agent {agent[:40]!r}, but the team is {', '.join(expected)}; rename or remove it"
        )
    yield agent, block.columns


def _told(log: Log, block: Block) -> Spec | None:
    """What the source says of an agent's sizes, unless its columns have been changed since."""
    spec, actions = log.specs.get(block.agent), block.columns["actions"]
    if spec is None or block.columns["observations"].shape[1:] != (spec.observation_size,):
        return None
    whole = actions.ndim == 1 and actions.dtype.kind in "iu" and actions.max(initial=0) < spec.action_size
    return spec if (whole if spec.discrete else actions.shape[1:] == (spec.action_size,)) else None


class _Agent:
    """One agent's rows on their way from the log to its file."""

    def __init__(
        self,
        name: AgentID,
        where: str,
        share: Share,
        spec: Spec | None,
        known: Channels,
        clip_actions: bool,
        notes: list[str],
    ) -> None:
        self.name, self.num_rows, self.channels = name, 0, Channels()
        self._where, self._share, self._spec, self._declared, self._known = where, share, spec, spec is not None, known
        self._clip_actions, self._notes = clip_actions, notes
        self._num_read = 0
        self._held: layout.Columns | None = None
        self._reach: Reach | None = None  # of actions before they are clipped
        self._one_hot = True
        self._ends: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def known_spec(self) -> Spec:
        assert self._spec is not None
        return self._spec

    @property
    def steps(self) -> Steps:
        """Where its episodes end."""
        terminals, timeouts = zip(*self._ends, strict=True) if self._ends else ([np.zeros(0, int)],) * 2
        return Steps(self._where, self.num_rows, np.concatenate(terminals), np.concatenate(timeouts))

    def add(self, raw: layout.Columns, recorded: Channels) -> Iterator[layout.Columns]:
        """Convert, check and complete rows; those whose next observation is not known yet are held back.

        `recorded` is what the source says of its columns so far.
        """
        try:
            own = self._share.of(raw)
            self.channels = self._share.channels(own, self._known.or_else(recorded))
        except (DataError, ConfigError) as error:
            raise DataError(f"{self._where}: {error}") from None
        notes: list[str] = []
        if not (self._spec and self._spec.discrete) and self._share.num_actions is None:
            own["actions"] = dataset.on_unit_scale(self._where, own["actions"], self.channels)
        spec = self._spec or self._share.spec(own)
        columns, spec = layout.convert(self._where, own, spec, notes, first=self._num_read)
        self._notes += [note for note in notes if note not in self._notes]
        self._learn(spec, columns)
        lone = self._share.action_names is None and len(self.channels.action_names or ()) == 1
        if spec.discrete and lone and not (self._declared and spec.action_size == 1):
            self.channels = dataclasses.replace(self.channels, action_names=None)  # its column's, and no choice's
        if not spec.discrete:
            self.channels.require_fit(self._where, spec)  # of choices more may be seen
            reach = Reach.of(columns["actions"])
            self._reach = reach if self._reach is None else self._reach.joined(reach)
            self._one_hot = self._one_hot and layout.is_one_hot(columns["actions"])
            if self._clip_actions:
                self._clip(columns)
        require_sound_rows(self._where, columns, self.known_spec, first=self._num_read, channels=self.channels)
        self._num_read += len(columns["rewards"])
        if "next_observations" in columns:
            yield from self._out(columns)
            return
        block = columns if self._held is None else joined([self._held, columns])
        # whether the last but one was cut is told by the last, and that by what follows
        self._held = {key: column[-2:] for key, column in block.items()}
        if len(block["rewards"]) > 2:
            ready = layout.rows_to_transitions(block)
            unsure = int(layout.rows_kept(block)[-2:].sum())
            yield from self._out({key: column[: len(column) - unsure] for key, column in ready.items()})

    def finish(self) -> Iterator[layout.Columns]:
        """The rows that were held back, as far as they can be completed.

        Raises:
            DataError: actions are choices, or too much was clipped, which only all rows together tell.
        """
        if self._reach is not None:
            self._require_numbers(self._reach)
        if self._held is not None:
            yield from self._out(layout.rows_to_transitions(self._held))
            dropped = self._num_read - self.num_rows
            self._notes.append(layout.rows_were_completed(self._where, dropped))

    def _require_numbers(self, reach: Reach) -> None:
        unclippable = reach.unclippable(self.channels)
        if unclippable is not None:
            scale = self.channels.scale()
            raise DataError(f"{self._where} hold actions beyond {scale}, which were not clipped: {unclippable}")
        if self._declared or self._share.continuous or self.channels.has_scale:
            return
        if self._one_hot:
            raise DataError(layout.several_choices(self._where, len(reach.low), one_hot=True))
        if not reach.fractions.any() and (reach.low < reach.high).any():
            self._notes.append(
                f"{self._where}: actions are whole numbers in every row and were taken for continuous ones; "
                "if they are choices, store them as integers [n]"
            )

    def _out(self, columns: layout.Columns) -> Iterator[layout.Columns]:
        if len(columns["rewards"]) == 0:
            return
        ends = [self.num_rows + np.flatnonzero(columns[key]) for key in ("terminals", "timeouts")]
        self._ends.append((ends[0], ends[1]))
        self.num_rows += len(columns["rewards"])
        yield columns

    def _learn(self, spec: Spec, columns: layout.Columns) -> None:
        """Where nothing declares how many choices there are, the largest one seen does."""
        declared = self._declared or self._share.num_actions is not None or "action_masks" in columns
        if spec.discrete and not declared:
            seen = layout.count_choices(self._where, columns["actions"])
            spec = dataclasses.replace(spec, action_size=max(spec.action_size, seen))
        self._spec = spec

    def _clip(self, columns: layout.Columns) -> None:
        actions = columns["actions"]
        clipped = np.clip(actions, -1.0, 1.0)
        if (clipped != actions).any():
            columns["actions"] = clipped
            note = f"{self._where}: actions beyond {self.channels.scale()} were clipped"
            self._notes += [note] if note not in self._notes else []


def _require_team(log: Log, agents: Mapping[AgentID, _Agent], expected: list[AgentID]) -> None:
    if not agents:
        raise DataError(f"{log.source} holds no rows; export the logs again")
    missing = [agent for agent in expected if agent not in agents]
    if missing:
        raise DataError(
            f"{log.source} has no agent {', '.join(missing)}, only {', '.join(name[:40] for name in agents)}; "
            "export the logs of the whole team"
        )
    for agent in agents.values():
        if agent.num_rows == 0:
            where = layout.logs_of(agent.name, str(log.source))
            raise DataError(f"{where} hold no row with a next observation; export whole episodes")


def _other_steps(agents: Mapping[AgentID, _Agent]) -> list[str]:
    """A sentence for each agent whose rows are not the same steps as those of the first.

    Raises:
        DataError: they are the same, but a row later.
    """
    first, *others = agents.values()
    notes = []
    for agent in others:
        told = steps_differ(agent.steps, first.steps)
        if told is not None and told.is_behind:
            raise DataError(told.message)
        notes += [told.message] if told is not None else []
    return notes
