"""What `marline data ...` does; imported only when one of its commands runs."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from marline.campaign.read_logs import read_logs
from marline.cli.commands.opening import read_unmapped
from marline.cli.options.data import Check, Export
from marline.data import dataset
from marline.data.check import Finding, lint
from marline.data.dataset import Dataset
from marline.data.export import EXPORTS
from marline.data.formats import tables_in
from marline.data.notes import grouped
from marline.data.summary import Summary, returns_by_agent, summarise
from marline.data.team import require_agents, require_sizes
from marline.display.console import say, say_json
from marline.display.shell import command
from marline.display.words import plural
from marline.errors import DataError, MarlineError, require
from marline.runs.given_mapping import given_mapping
from marline.types import AgentID

FOUND_ERRORS = 2


def export(options: Export) -> int:
    """`marline data export`."""
    logs = dataset.load(options.folder)
    EXPORTS[options.format](logs, options.out)
    rows = sorted({len(log) for log in logs.values()})
    say(f"{len(logs)} agents, {' to '.join(f'{number:,}' for number in (rows[0], *rows[1:][-1:]))} transitions of each")
    say(f"  {options.format}: {options.out}")
    return 0


def check(options: Check) -> int:
    """`marline data check`."""
    logs = _read(options)
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
    for line in _rewards(readable):
        say(line)
    for agent, log in readable.items():
        if log.channels.has_scale:
            say(f"{agent}: in the field, actions lie in {log.channels.scale()}")
    for severity in ("error", "warning"):
        rules = dict.fromkeys(finding.rule for finding in findings if finding.severity == severity)
        for rule in rules:
            same = [one.message for one in findings if (one.severity, one.rule) == (severity, rule)]
            for message in grouped(same):
                say(f"{severity} ({rule}): {message}")
    say(f"{plural(len(errors), 'error')}, {plural(len(findings) - len(errors), 'warning')}")
    if options.html is not None:
        say(f"  page: {options.html}")
    if not errors:
        say(f"  next: {_next(options, readable)}")
    return FOUND_ERRORS if errors else 0


def _read(options: Check) -> Mapping[AgentID, Dataset | MarlineError]:
    """The logs to check: of a dataset folder, or of a table, which is read as `ingest` would."""
    is_table = bool(tables_in(options.folder))
    require(
        options.mapping is None or is_table,
        f"{options.folder} is no table, and only tables have a mapping; leave it out",
    )
    if not is_table:
        return dataset.load_each(options.folder)
    said = given_mapping(options.mapping) if options.mapping is not None else None
    if said is None:
        received = read_unmapped(options.folder, command("data", "check", options.folder, "--mapping", "FILE"))
    else:
        received = read_logs(options.folder, mapping=said.to_document())
    for note in received.notes:
        say(f"note: {note}", quiet=options.json)
    return received.logs


def _next(options: Check, logs: Mapping[AgentID, Dataset]) -> str:
    """The command that makes something of these logs, with an algorithm that fits their actions."""
    discrete = [agent for agent, log in logs.items() if log.spec.discrete]
    algorithm: tuple[str, ...] = ()
    if len(discrete) == len(logs):
        algorithm = ("--algorithm", "cql")
    elif discrete:
        algorithm = ("--algorithm", *(f"{agent}={'cql' if agent in discrete else 'td3-bc'}" for agent in logs))
    if tables_in(options.folder):
        mapping = () if options.mapping is None else ("--mapping", options.mapping)
        return command("data", "import", options.folder, *mapping, "--out", "logs")
    if options.task is None:
        return command("train", options.folder, *algorithm, "--run", "runs/first")
    trusted = ("--trust",) if options.trust else ()
    return command("run", "--data", options.folder, "--task", options.task, *trusted, *algorithm, "--run", "runs/first")


def _rewards(logs: Mapping[AgentID, Dataset]) -> list[str]:
    """Whose the rewards of a team are, if it was said."""
    scope = dataset.common_reward_scope(logs) if len(logs) > 1 else None
    means = returns_by_agent(logs) if scope == "per-agent" else {}
    if means:
        return [f"rewards: each agent's own; mean over agents {sum(means.values()) / len(means):.2f} per episode"]
    return ["rewards: one that all agents share"] if scope == "shared" else []


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
