"""What a reader who was not there must know first, and what may be done next: of the task, of returns, of commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from marline import plugins
from marline.display import shell
from marline.display.words import plural
from marline.envs import TASKS, Task, make_task
from marline.envs.facts import FACTS
from marline.errors import MarlineError
from marline.inputs.options import read_written
from marline.report.appearance import join, shorten
from marline.report.comparison import Outcome
from marline.report.records import Run
from marline.runs.layout import RunDirectory
from marline.statistics.intervals import MIN_SEEDS

MOST_NAMES = 4  # of channels


def about(run: Run) -> str:
    """Task, agents, episodes, what the return is and what is compared, in a few sentences."""
    task = None if run.is_campaign else _known(run.task)
    listed = run.dataset.get("agents")
    agents = [entry for entry in listed if isinstance(entry, str | Mapping)] if isinstance(listed, list) else []
    num = len(agents) or (len(task.agents) if task is not None else 0)
    return " ".join(filter(None, [_what(run, task, num), _sees(agents), _episodes(task), _compared(run)]))


def titles(runs: Sequence[Run]) -> list[str]:
    """The task of each run; before it what its folder is called, where several runs are of one task."""
    kinds = [run.task.partition("(")[0] for run in runs]
    return [
        shorten(run.task if kinds.count(kind) == 1 else f"{run.path.name}: {run.task}", 60)
        for run, kind in zip(runs, kinds, strict=True)
    ]


class Step(NamedTuple):
    """A command, and what it does."""

    command: str
    does: str


def next_step(run: Run, found: Sequence[Outcome]) -> Step | None:
    """What may be done with a run that is read where it lies; nothing if it was read off a table."""
    if not RunDirectory(run.path).configuration.exists():
        return None
    if run.is_campaign:
        command = shell.command_elsewhere("status", run.path)
        return Step(command, "says where the campaign stands, and which command it waits for.")
    trust = ("--trust",) if any(plugins.code_in(run.settings)) else ()
    reached = [max(run.lines.get((one.name, seed), {0: {}})) for one in run.samplers for seed in run.seeds]
    if min(reached, default=0) < run.num_deployments:
        return Step(shell.command_elsewhere("resume", run.path, *trust), "goes on to the end.")
    if (
        run.seeds == tuple(range(len(run.seeds)))
        and len(run.seeds) < MIN_SEEDS
        and any(one.comparisons for one in found)
    ):
        command = shell.command_elsewhere("resume", run.path, "--seeds", str(MIN_SEEDS), *trust)
        return Step(command, f"makes them the {MIN_SEEDS} seeds that a verdict takes.")
    team = [*run.methods, *(one.name for one in run.samplers)][0]
    whose = "--sampler", team, "--seed", str(run.seeds[0])
    return Step(shell.command_elsewhere("play", run.path, *whose, *trust), "lets a team of this run play.")


def _known(name: str) -> Task | None:
    """A task that comes with marline; of others nothing is imported."""
    try:
        return make_task(name) if not plugins.is_code(name) and read_written(name, "task").kind in TASKS else None
    except (MarlineError, LookupError, TypeError, ValueError):
        return None


def _what(run: Run, task: Task | None, num: int) -> str:
    if task is not None:
        facts = FACTS.get(type(task))
        return f"The task: {task.description}." + (f" The reward of a step: {facts.reward}." if facts else "")
    of = f" of {plural(num, 'agent')}" if num else ""
    if run.is_campaign:
        return f"The task is in the field: a team{of}, trained on its own logs, is deployed outside."
    return f"The task{of} is the user's own: {shorten(run.task, 60)}."


def _sees(agents: Sequence[str | Mapping[str, Any]]) -> str:
    """ "Each agent sees 12 numbers and acts by 2", or what each kind of agent does."""
    kinds: dict[str, list[str]] = {}
    for entry in agents:
        if isinstance(entry, str) or not isinstance(spec := entry.get("spec"), Mapping):
            return ""
        channels = entry.get("channels")
        named = channels if isinstance(channels, Mapping) else {}
        sees = _channels(named.get("observation_names"), _counted(spec.get("observation_size"), "number"))
        acts = _counted(spec.get("action_size"), "choice" if spec.get("discrete") else "number")
        acts = _channels(named.get("action_names"), acts)
        kinds.setdefault(f"{sees}, and acts by {acts}", []).append(shorten(entry.get("name"), 40))
    if not 1 <= len(kinds) <= 3:
        return ""
    if len(kinds) == 1:
        return f"Each agent sees {next(iter(kinds))}."
    return "Each agent sees " + "; ".join(f"{what} ({join(who)})" for what, who in kinds.items()) + "."


def _counted(size: object, what: str) -> str:
    return f"{size} {what}{'' if size == 1 else 's'}"


def _channels(names: object, count: str) -> str:
    if not isinstance(names, list) or not 1 <= len(names) <= MOST_NAMES:
        return count
    return join([shorten(name, 24) for name in names])


def _episodes(task: Task | None) -> str:
    try:
        steps = f" of at most {plural(task.horizon, 'step')}" if task is not None else ""
    except MarlineError:  # of a simulator that is not installed
        steps = ""
    return f"The return is the sum of the rewards of an episode{steps}; more is better."


def _compared(run: Run) -> str:
    if run.is_campaign or len(run.samplers) < 2:
        return ""
    times = plural(run.num_deployments, "time")
    return f"Compared is which logged rows a team learns from, while it is deployed {times} and tuned after each."
