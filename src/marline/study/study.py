"""A study in Python: samplers and seeds compared on one task, in a run directory that a kill does not harm."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marline import plugins
from marline.configuration.planning import AlgorithmChoice, SamplerChoice, plan_study, try_out, widths
from marline.configuration.run_config import RunConfig
from marline.configuration.selection import select_samplers
from marline.data import dataset
from marline.data.check import check
from marline.data.dataset import Dataset
from marline.data.manifest import require_file_name
from marline.data.provenance import record_start
from marline.data.team import require_agents, require_sizes
from marline.display.console import ProgressDisplay
from marline.display.notebook import html_table
from marline.display.shell import command
from marline.display.words import size_of_study
from marline.envs import Task, make_task
from marline.errors import ConfigError, require, require_name
from marline.inputs.arguments import checked_arguments
from marline.report import write_report
from marline.report.comparison import Comparison, compare, last_deployment
from marline.report.records import Run, read_run
from marline.report.tracking import tracked
from marline.runs.creation import plan_run, start_run
from marline.runs.disk_space import require_room
from marline.runs.integrity import read_configuration, require_belonging, require_measured
from marline.runs.layout import RunDirectory, configuration_sha256, require_run
from marline.runs.lock import writing
from marline.runs.offline_logs import keep_data, keep_play, random_play
from marline.study.engine import Engine
from marline.study.engines import make_engine
from marline.types import AgentID, Spec

Table = Any  # pandas.DataFrame where pandas is installed, a NumPy record array otherwise


class Study:
    """Offline training, then K deployments with tuning, for several samplers and seeds.

    What was computed is on disk: a study that was interrupted goes on after `Study.open`, to the same bytes.

    Attributes:
        folder: the run directory.
        config: what the run is.
        notes: what it gained and what it kept when it was begun again, one sentence each.
    """

    def __init__(self, folder: Path, config: RunConfig, notes: Sequence[str] = ()) -> None:
        self.folder, self.config, self.notes = folder, config, tuple(notes)

    @staticmethod
    @checked_arguments
    def create(
        folder: str | Path,
        *,
        task: str | Task,
        algorithm: AlgorithmChoice = "td3-bc",
        samplers: SamplerChoice = (),
        seeds: int | Sequence[int] = 5,
        logs: Mapping[AgentID, Dataset] | str | Path | None = None,
        **settings: Any,
    ) -> Study:
        """Start a study in a new run directory, or let the one there gain the seeds and samplers that it lacks.

        Args:
            folder: the run directory.
            task, algorithm, samplers, seeds: names or objects, see `plan_study`.
            logs: offline logs by agent, or the folder that holds them; random play of the task unless given.
            settings: what else `plan_study` takes, as `deployments=5` or `hidden=(64, 64)`.

        Raises:
            ConfigError: what cannot be meant or cannot be run, or the folder holds something else.
            DataError: logs that break a rule, or are not those of the task.
        """
        folder = Path(folder)
        given = None if logs is None else _fitting(logs, task)
        config = plan_study(task=task, algorithm=algorithm, samplers=samplers, seeds=seeds, logs=given, **settings)
        return Study.start(folder, config, given, source=str(logs) if isinstance(logs, str | Path) else "given logs")

    @staticmethod
    def start(
        folder: Path, config: RunConfig, logs: Mapping[AgentID, Dataset] | None = None, *, source: str = "given logs"
    ) -> Study:
        """`create`, from a configuration; `logs` were checked."""
        require(config.task is not None, "the configuration is that of a campaign: it has no task")
        specs = make_task(config.task or "").specs
        for agent in specs:
            require_file_name(agent, "agent", ConfigError)
        path = RunDirectory(folder).configuration
        plan_run(folder, config)  # or refuse it here
        if path.exists():
            before = RunConfig.read(path)
            with writing(folder):
                whole = start_run(folder, config)
                if logs is not None:
                    keep_data(folder, logs, source)
            return Study(folder, whole, _growth(folder, config, before, whole))
        require_room(folder, config, _sizes(specs, config, logs))
        # before anything is written: an environment of the user's may do anything when it is first played
        played = random_play(config) if logs is None else None
        start_run(folder, config)
        with writing(folder):
            if logs is not None:
                keep_data(folder, logs, source)
            elif played is not None:
                keep_play(folder, config, played)
        return Study(folder, config)

    @staticmethod
    @checked_arguments
    def open(folder: str | Path, *, trust: bool = False, types: Sequence[type] = ()) -> Study:
        """The study in a run directory.

        Args:
            folder: the run directory.
            trust: import the code of the user's own that the run names.
            types: samplers, algorithms, distances and tasks of the user's own that the run may name.

        Raises:
            ConfigError: there is no study, or it names code that is not trusted.
            CorruptionError: its configuration is damaged.
        """
        path = require_run(Path(folder))
        plugins.register(*types)
        if trust:
            plugins.trust_configuration(path)
        config = read_configuration(path.parent)
        require(
            config.task is not None,
            f"{folder} is the campaign of a team in the real world, which marline.Campaign opens; see how it goes on: "
            + command("status", path.parent),
        )
        make_task(config.task or "")  # which refuses code that nobody said to trust
        require_belonging(path.parent)
        return Study(path.parent, config)

    @checked_arguments
    def extend(self, *, seeds: int | Sequence[int] | None = None, samplers: SamplerChoice = ()) -> Study:
        """Let the study gain seeds and samplers; `run` computes them. Controls may be of samplers that it has.

        Args:
            seeds: how many it is to have, or which more.
            samplers: as for `create`.
        """
        before, config = self.config, more(self.config, seeds, samplers)
        directory = RunDirectory(self.folder)
        if directory.data_list.exists():
            try_out(config, dataset.outline(directory.data), before.samplers)
        elif config.dataset_size is not None:  # before anything was computed
            try_out(config, _sizes(make_task(config.task or "").specs, config, None), before.samplers)
        with writing(self.folder):
            self.config = start_run(self.folder, config)
        wanted = dataclasses.replace(config, seeds=tuple(range(seeds))) if isinstance(seeds, int) else config
        self.notes = _growth(self.folder, wanted, before, self.config)
        return self

    @checked_arguments
    def run(
        self,
        *,
        engine: str | Engine = "local",
        address: str | None = None,
        progress: bool | Callable[[int, str, int], None] = True,
        log: Sequence[str] = (),
    ) -> Study:
        """Compute what is missing; returns the study.

        Args:
            engine: where: "local", "ray", or an `Engine`.
            address: of the Ray cluster.
            progress: bars in a terminal or notebook, elsewhere a line every half a minute; or a function that is told
                the number of the share of seeds, what is going on in it, and how many updates were just done.
            log: trackers that are told what is measured, while it runs: "tensorboard", "wandb", "mlflow".
        """
        engine = make_engine(engine, address) if isinstance(engine, str) else engine
        with writing(self.folder), tracked(self.folder, log):
            record_start(self.folder, configuration_sha256(RunDirectory(self.folder).configuration))
            shares = engine.plan(self.config.seeds)
            if callable(progress):
                engine.run(self.folder, self.config, shares, progress)
                return self
            total = num_updates(self.config)
            bars = [(share_label(share), total * len(share)) for share in shares]
            with ProgressDisplay(bars, quiet=not progress) as display:
                engine.run(self.folder, self.config, shares, display.advance)
        return self

    @property
    def records(self) -> Run:
        """All that was measured so far, as the report reads it."""
        require_measured(self.folder)
        return read_run(self.folder)

    @property
    def returns(self) -> Table:
        """A row per sampler, seed and deployment: a pandas DataFrame, or a NumPy record array without pandas."""
        run = self.records
        columns: dict[str, list[Any]] = {"sampler": [], "seed": [], "deployment": [], "return": []}
        for sampler in run.samplers:
            for seed in run.seeds:
                for deployment, value in sorted(run.curve(sampler.name, seed).items()):
                    for name, entry in zip(columns, (sampler.name, seed, deployment, value), strict=True):
                        columns[name].append(entry)
        return _table(columns)

    @checked_arguments
    def difference(self, sampler: str, other: str, *, deployment: int | None = None) -> Comparison:
        """The paired difference of two samplers over seeds after a deployment, the last that both reached by default.

        Raises:
            ConfigError: there is no such sampler, or no seed has got so far in both.
        """
        run = self.records
        for name in (sampler, other):
            require_name(name, self.config.samplers, "sampler")
        last = last_deployment(run, sampler, other) if deployment is None else deployment
        found = None if last is None else compare(run, sampler, other, last)
        require(found is not None, f"no seed of {self.folder} has got so far in both {sampler} and {other}; run it")
        assert found is not None
        return found

    def differences(self) -> Table:
        """A row per pair of samplers: mean of the paired difference, 95 % interval, p, seeds, and what may be said."""
        run, names = self.records, list(self.config.samplers)
        columns: dict[str, list[Any]] = {
            name: [] for name in ("sampler", "minus", "deployment", "mean", "low", "high", "p", "seeds", "finding")
        }
        for place, first in enumerate(names):
            for second in names[place + 1 :]:
                last = last_deployment(run, first, second)
                found = None if last is None else compare(run, first, second, last)
                if found is None:
                    continue
                its = found.difference
                row = (first, second, last, its.mean, its.low, its.high, its.p, len(found.seeds), found.finding)
                for name, entry in zip(columns, row, strict=True):
                    columns[name].append(entry)
        return _table(columns)

    @checked_arguments
    def report(self, output: str | Path | None = None) -> Path:
        """Write the study as one page; report.html in the run directory unless told otherwise."""
        require_measured(self.folder)
        return write_report([self.folder], RunDirectory(self.folder).report if output is None else Path(output))

    def __repr__(self) -> str:
        return f"<Study of {size_of_study(len(self.config.samplers), len(self.config.seeds))} in {self.folder}>"

    def _repr_html_(self) -> str:
        """For notebooks: how far it is, and where every sampler ended."""
        run = self.records
        rows = []
        for sampler in run.samplers:
            last = last_deployment(run, sampler.name)
            values = list(run.returns(sampler.name, last).values()) if last is not None else []
            mean = f"{np.mean(values):.4g}" if values else "not run yet"
            rows.append((sampler.name, "" if last is None else str(last), mean, f"{len(values)} of {len(run.seeds)}"))
        title = f"{run.task}, {run.algorithm}, {self.folder}"
        return html_table(title, ("sampler", "deployment", "mean return", "seeds"), rows)


def _growth(folder: Path, wanted: RunConfig, before: RunConfig, after: RunConfig) -> tuple[str, ...]:
    """What a run that was there already gained by being begun again, and what it has beyond what was wanted."""
    notes = []
    for what, named, had, has in (
        ("seeds", wanted.seeds, before.seeds, after.seeds),
        ("samplers", wanted.samplers, before.samplers, after.samplers),
    ):
        gained, kept = [one for one in has if one not in had], [one for one in had if one not in named]
        notes += [f"{folder} gains the {what} {', '.join(map(str, gained))}"] if gained else []
        notes += [f"{folder} keeps the {what} {', '.join(map(str, kept))}"] if kept else []
    return tuple(notes)


def more(config: RunConfig, seeds: int | Sequence[int] | None, samplers: SamplerChoice) -> RunConfig:
    """A study with more seeds and samplers; `ConfigError` where it cannot have them."""
    require(config.task is not None, "a campaign is of one team: it has one seed and one sampler")
    numbers = config.seeds if seeds is None else tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    require(len(numbers) > 0, f"seeds is {seeds}, but a run has at least 1")
    added = select_samplers(samplers, hidden=widths(config.algorithm), present=config.samplers)
    return dataclasses.replace(
        config,
        seeds=tuple(dict.fromkeys((*config.seeds, *numbers))),
        samplers={**config.samplers, **added.samplers},
        matches={**config.matches, **added.matches},
    )


def num_updates(config: RunConfig) -> int:
    """Updates of a learner under one seed."""
    return config.offline_updates + len(config.samplers) * config.deployments * config.updates


def share_label(seeds: Iterable[int]) -> str:
    """A share of the seeds, for people."""
    seeds = list(seeds)
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def _fitting(logs: Mapping[AgentID, Dataset] | str | Path, task: str | Task) -> dict[AgentID, Dataset]:
    """Logs of the agents of a task, checked, in the order of the task."""
    named = task if isinstance(task, str) else type(task).__name__
    specs = (make_task(task) if isinstance(task, str) else task).specs
    if isinstance(logs, str | Path):
        require_agents(dataset.agents_of(logs), named, specs)
        logs = dataset.load(logs, specs=specs)
    require_agents(logs, named, specs)
    require_sizes({agent: log.spec for agent, log in logs.items()}, named, specs)
    check(logs)
    return {agent: logs[agent] for agent in specs}


def _sizes(
    specs: Mapping[AgentID, Spec], config: RunConfig, logs: Mapping[AgentID, Dataset] | None
) -> dict[AgentID, tuple[Spec, int]]:
    return {
        agent: (spec, config.dataset_size or 0 if logs is None else len(logs[agent])) for agent, spec in specs.items()
    }


def _table(columns: Mapping[str, list[Any]]) -> Table:
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        kinds = [(name, np.asarray(values).dtype) for name, values in columns.items()]
        rows = list(zip(*columns.values(), strict=True))
        return np.array(rows, np.dtype(kinds)).view(np.recarray)
    return pandas.DataFrame(columns)
