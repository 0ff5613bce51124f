"""What `marline data ...` does; imported only when one of its commands runs."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from marline.cli.options.data import Check, Export, Import
from marline.data import dataset
from marline.data.check import Finding, lint
from marline.data.dataset import Dataset
from marline.data.decentralize import import_log
from marline.data.export import EXPORTS
from marline.data.formats import open_log
from marline.data.split import read_split
from marline.data.summary import Summary, summarise
from marline.data.team import require_agents, require_sizes
from marline.display.console import say, say_json
from marline.display.shell import command
from marline.errors import DataError, MarlineError, require
from marline.types import AgentID

FOUND_ERRORS = 2


def import_(options: Import) -> int:
    """`marline data import`."""
    from marline.envs import make_task

    began = time.monotonic()
    require(
        options.task is None or options.spec is None, "--task and --spec both say which columns are whose; give one"
    )
    specs = None if options.task is None else make_task(options.task).specs
    split = None if options.spec is None else read_split(options.spec)
    log = open_log(options.source, _columns(options.column))
    imported = import_log(
        log, options.out, specs=specs, split=split, clip_actions=options.clip_actions, replace=options.replace
    )
    for note in imported.notes:
        say(f"note: {note}")
    channels = dataset.channels_of(options.out)
    for agent, num_rows in imported.num_rows.items():
        scale = f", actions in {channels[agent].scale()}" if channels[agent].has_scale else ""
        say(f"{agent}: {num_rows:,} transitions{scale}")
    say(f"read {log.kind} in {time.monotonic() - began:.1f} s")
    say(f"  dataset: {options.out}")
    say(f"  next:    {command('data', 'check', options.out)}")
    return 0


def _columns(pairs: tuple[str, ...]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        key, equals, name = pair.partition("=")
        require(bool(key and equals and name), f"--column {pair!r} is not KEY=NAME; write for example agent=robot")
        columns[key] = name
    return columns


def export(options: Export) -> int:
    """`marline data export`."""
    logs = dataset.load(options.folder)
    EXPORTS[options.format](logs, options.out)
    say(f"{len(logs)} agents, {len(next(iter(logs.values()))):,} transitions of each")
    say(f"  {options.format}: {options.out}")
    return 0


def check(options: Check) -> int:
    """`marline data check`."""
    logs = dataset.load_each(options.folder)
    findings = list(lint(logs, clip_actions=options.clip_actions))
    if options.task is not None:
        findings += _against_task(options.task, logs)
    readable = {agent: log for agent, log in logs.items() if isinstance(log, Dataset) and len(log)}
    summaries = {agent: summarise(log) for agent, log in readable.items()}
    errors = [finding for finding in findings if finding.severity == "error"]
    if options.html is not None:
        from marline.report.dataset_page import write_dataset_page

        write_dataset_page(options.html, str(options.folder), logs, findings)
    if options.json:
        channels = {agent: log.channels.to_json() for agent, log in readable.items()}
        facts = {agent: {**summary._asdict(), "channels": channels[agent]} for agent, summary in summaries.items()}
        say_json({"agents": facts, "findings": [finding._asdict() for finding in findings]})
        return FOUND_ERRORS if errors else 0
    _print_table(logs, summaries, findings)
    for agent, log in readable.items():
        if log.channels.has_scale:
            say(f"{agent}: in the field, actions lie in {log.channels.scale()}")
    for finding in sorted(findings, key=lambda finding: finding.severity != "error"):
        say(f"{finding.severity} ({finding.rule}): {finding.message}")
    say(f"{len(errors)} errors, {len(findings) - len(errors)} warnings")
    if options.html is not None:
        say(f"  page: {options.html}")
    if not errors:
        trusted = ("--trust",) if options.trust else ()
        task = options.task or "NAME"
        following = command("run", "--data", options.folder, "--task", task, *trusted, "--run", "runs/first")
        say(f"  next: {following}")
    return FOUND_ERRORS if errors else 0


def _against_task(name: str, logs: Mapping[AgentID, Dataset | MarlineError]) -> list[Finding]:
    from marline.envs import make_task

    specs = make_task(name).specs
    try:
        require_agents(logs, name, specs)
        require_sizes({agent: log.spec for agent, log in logs.items() if isinstance(log, Dataset)}, name, specs)
    except DataError as error:
        return [Finding("error", "wrong-team", "", "", None, str(error))]
    return []


def _print_table(
    logs: Mapping[AgentID, Dataset | MarlineError], summaries: Mapping[AgentID, Summary], findings: list[Finding]
) -> None:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("agent")
    for title in ("rows", "episodes", "length", "return", "terminal", "seen", "actions", "errors"):
        table.add_column(title, justify="right", no_wrap=True)
    for agent in logs:
        wrong = sum(finding.agent == agent and finding.severity == "error" for finding in findings)
        shown = ["-"] * 7
        if agent in summaries:
            its = summaries[agent]
            shown = [f"{its.num_rows:,}", f"{its.num_episodes:,}", f"{its.mean_length:.1f}", f"{its.mean_return:.2f}"]
            shown += [f"{100 * its.share_terminal:.0f} %", str(its.observation_size)]
            shown += [f"1 of {its.action_size}" if its.discrete else str(its.action_size)]
        table.add_row(escape(agent), *shown, str(wrong))
    Console().print(table)
