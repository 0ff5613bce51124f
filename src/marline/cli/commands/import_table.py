"""What `marline data import` does: shows what a table holds and how it would be read, and reads it when agreed."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from marline.cli.options.data import Import
from marline.data import dataset
from marline.data.decentralize import import_log
from marline.data.files import write_output
from marline.data.formats import open_log, tables_in
from marline.data.formats.optional import require_package
from marline.data.mapping import FILE, AgentMapping, ImportMapping, key_called
from marline.data.notes import grouped
from marline.data.split import read_entries
from marline.display.console import say
from marline.display.shell import command
from marline.errors import USAGE_ERROR, CorruptionError, DataError, require
from marline.runs.given_mapping import given_mapping
from marline.runs.layout import RunDirectory
from marline.types import AgentID, Spec

if TYPE_CHECKING:
    from marline.data.proposal.draft import Proposal


def import_(options: Import) -> int:
    """`marline data import`."""
    from marline.envs import make_task

    require(
        options.task is None or options.spec is None, "--task and --spec both say which columns are whose; give one"
    )
    require(
        options.out is None or options.replace or not os.path.lexists(options.out / dataset.MANIFEST),
        f"{options.out} holds a dataset already; add --replace to put this one in its place, or choose another --out",
    )
    said, has_file = _said(options)
    specs = None if options.task is None else make_task(options.task).specs
    tables = tables_in(options.source)
    if not tables:
        open_log(options.source, said)  # which tells what is wrong with it first
        require(
            options.out is not None, f"{options.source} is no table to be shown; say where the dataset goes: --out DIR"
        )
        require(options.mapping is None or has_file, f"{options.mapping} does not exist, and is written of tables only")
        return _import(options, said, specs)
    if options.out is None:
        return _show(options, tables, said, specs, has_file=has_file)
    try:
        return _import(options, said, specs)
    except (DataError, CorruptionError) as error:
        return _instead(options, tables, said, specs, error, has_file=has_file)


def _said(options: Import) -> tuple[ImportMapping, bool]:
    """What the options say, and whether a file says it."""
    said, has_file = ImportMapping(), False
    if options.mapping is not None and options.mapping.exists():
        said, has_file = given_mapping(options.mapping), True
    if options.spec is not None:
        require(not said.agents, f"{options.spec} and {options.mapping} both name agents; give one")
        entries = read_entries(options.spec)
        said = dataclasses.replace(said, agents={agent: AgentMapping(spec=entry) for agent, entry in entries.items()})
    columns = {**said.columns, **_columns(options.column)}
    rewards = options.rewards or said.rewards
    return dataclasses.replace(said, columns=columns, align=said.align or options.align, rewards=rewards), has_file


def _columns(pairs: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    columns: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        word, equals, name = pair.partition("=")
        require(bool(word and equals and name), f"--column {pair!r} is not KEY=NAME; write for example agent=robot")
        key = key_called(word)
        require(key not in columns, f"--column says {key} twice; join names by commas: {key}=ONE,OTHER")
        columns[key] = (name,)
    return columns


def _import(options: Import, mapping: ImportMapping, specs: Mapping[AgentID, Spec] | None) -> int:
    began = time.monotonic()
    assert options.out is not None
    log = open_log(options.source, mapping)
    imported = import_log(
        log,
        options.out,
        specs=specs,
        split=mapping.split,
        clip_actions=options.clip_actions,
        replace=options.replace,
        reward_scope=mapping.rewards or None,
    )
    for note in grouped(imported.notes):
        say(f"note: {note}")
    channels = dataset.channels_of(options.out)
    for agent, num_rows in imported.num_rows.items():
        scale = f", actions in {channels[agent].scale()}" if channels[agent].has_scale else ""
        say(f"{agent}: {num_rows:,} transitions{scale}")
    say(f"read {log.kind} in {time.monotonic() - began:.1f} s")
    say(f"  dataset: {options.out}")
    say(f"  next:    {command('data', 'check', options.out)}")
    return 0


def _proposal(
    tables: list[Path], said: ImportMapping, specs: Mapping[AgentID, Spec] | None, *, guess: bool
) -> Proposal:
    require_package("pyarrow", "tables", "data")
    from marline.data.formats.survey import survey
    from marline.data.proposal.propose import propose

    return propose(survey(tables, said), said, guess=guess, is_joint=specs is not None)


def _show(
    options: Import,
    tables: list[Path],
    said: ImportMapping,
    specs: Mapping[AgentID, Spec] | None,
    *,
    has_file: bool,
) -> int:
    """Tell what is there and what would be done; nothing is imported."""
    require(not options.yes, "--yes accepts what is shown; say as well where the dataset is to go: --out DIR")
    proposal = _proposal(tables, said, specs, guess=not has_file)
    _tell(options, proposal)
    is_file = has_file and options.mapping is not None and options.mapping.is_file()
    path = options.mapping if is_file and options.mapping is not None else _write(options, proposal)
    _tell_next(options, path, proposal)
    return 0


def _instead(
    options: Import,
    tables: list[Path],
    said: ImportMapping,
    specs: Mapping[AgentID, Spec] | None,
    error: DataError | CorruptionError,
    *,
    has_file: bool,
) -> int:
    """What is done where a table cannot be read by what was said: show all that is wrong, and how it might be read."""
    if options.spec is not None:  # whose columns are whose and which ranges they have is said there
        raise error
    try:
        proposal = _proposal(tables, said, specs, guess=not has_file)
    except (DataError, CorruptionError):
        raise error from None
    if not proposal.problems and (has_file or proposal.mapping == said):
        raise error
    _tell(options, proposal)
    if has_file:
        print(f"marline: nothing was imported: {error}", file=sys.stderr)
        return USAGE_ERROR
    if not proposal.is_open and (options.yes or _agreed(options)):
        return _import(options, proposal.mapping, specs)
    path = _write(options, proposal)
    _tell_next(options, path, proposal)
    undecided = next((problem.text for problem in proposal.problems if problem.is_open), None)
    why = f"{undecided}; see above for all that is to be decided, and say it in {path}"
    if undecided is None:
        why = f"what is shown was guessed; accept it with --yes, or edit {path} and give it with --mapping"
    print(f"marline: nothing was imported yet: {why}", file=sys.stderr)
    return USAGE_ERROR


def _tell(options: Import, proposal: Proposal) -> None:
    from marline.data.proposal.text import lines

    for line in lines(str(options.source), proposal):
        say(line)


def _agreed(options: Import) -> bool:
    """Whether somebody at the terminal agrees."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return input(f"Import into {options.out} as shown? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _write(options: Import, proposal: Proposal) -> Path:
    """Write the mapping file, never over another one."""
    from marline.data.proposal.mapping_file import to_text

    text = to_text(proposal)
    named = options.mapping if options.mapping is not None and not options.mapping.is_dir() else None
    path, number = named or Path(FILE), 2
    while path.exists():
        if path.is_file() and path.stat().st_size < len(text) * 8 and path.read_bytes() == text.encode():
            return path
        path, number = Path(FILE).with_stem(f"{Path(FILE).stem}-{number}"), number + 1
    write_output(path, text)
    return path


def _tell_next(options: Import, path: Path, proposal: Proposal) -> None:
    out = options.out or Path("logs")
    task = ("--task", options.task) if options.task else ()
    following = command("data", "import", options.source, "--mapping", path, *task, "--out", out)
    if options.mapping is not None and RunDirectory(options.mapping).configuration.exists():
        following = command("ingest", options.mapping, options.source, "--mapping", path)
    say(f"  mapping: {path}{' (edit it first)' if proposal.is_open else ' (as shown; edit it to change that)'}")
    say(f"  next:    {following}")
