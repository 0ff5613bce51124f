"""`marline run, resume`."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from marline import report as reporting
from marline.cli.commands.report import say_where
from marline.cli.options.study import Resume, Run
from marline.configuration.planning import plan_study
from marline.configuration.run_config import RunConfig
from marline.data import checkpoints, dataset
from marline.data.check import check
from marline.data.dataset import Dataset
from marline.data.team import on_task_scale, require_agents, require_sizes
from marline.display.console import resumable, say, say_json
from marline.display.shell import command, quoted
from marline.display.words import size_of_study
from marline.envs import channels_of, make_task
from marline.errors import DIVERGED, CorruptionError, require
from marline.inputs.options import read_pairs
from marline.report.trackers import require_trackers
from marline.runs.creation import resume_command
from marline.runs.divergences import sentence, stops
from marline.runs.history import History
from marline.runs.integrity import histories
from marline.runs.layout import OFFLINE, RunDirectory
from marline.runtime import set_up_jax
from marline.study.engine import Engine
from marline.study.engines import make_engine
from marline.study.several import run_all
from marline.study.study import Study
from marline.types import AgentID


def run(options: Run) -> int:
    """`marline run`."""
    require_trackers(options.log)
    require(
        options.data is not None or not options.clip_actions,
        "--clip-actions is for the logs of --data; name them, or leave it out",
    )
    engine = make_engine(options.engine, options.address)
    set_up_jax()
    studies = []
    for its in _of_each_task(options):
        logs = None if its.data is None else _given_logs(its)
        studies.append(Study.start(its.run, configure(its, logs), logs, source=str(its.data)))
        del logs  # which the run directory holds now
    return finish(studies, engine, json=options.json, trackers=options.log)


def _of_each_task(options: Run) -> list[Run]:
    """The options of one run for each of several tasks; those given where there is one."""
    if not options.tasks:
        return [options]
    require(options.data is None, "--data are the logs of one task's agents; give --task, not --tasks, or leave it out")
    folders = [re.sub(r"[^A-Za-z0-9._-]+", "-", task) for task in options.tasks]
    twice = sorted({folder for folder in folders if folders.count(folder) > 1})
    require(not twice, f"--tasks names {', '.join(twice)} twice; a run directory is of one task")
    return [
        dataclasses.replace(options, task=task, tasks=(), run=options.run / folder)
        for task, folder in zip(options.tasks, folders, strict=True)
    ]


def configure(options: Run, logs: Mapping[AgentID, Dataset] | None = None) -> RunConfig:
    """The configuration that the options of `marline run` describe; `logs` are those of --data."""
    return plan_study(
        task=options.task,
        algorithm=options.algorithm,
        samplers=options.sampler,
        seeds=options.seeds,
        logs=logs,
        dataset_size=options.dataset_size,
        data_seed=options.data_seed,
        deployment_fraction=options.deployment_fraction,
        offline_updates=options.offline_updates,
        deployments=options.deployments,
        updates=options.updates,
        evaluation_episodes=options.evaluation_episodes,
        sequential_exploration=options.sequential_exploration,
        hidden=options.hidden,
        algorithm_options=read_pairs(options.algorithm_option, "--algorithm-option"),
        sampler_options=read_pairs(options.sampler_option, "--sampler-option"),
    )


def _given_logs(options: Run) -> dict[AgentID, Dataset]:
    """The logs of `--data`, checked, in the order of the task's agents."""
    assert options.data is not None
    specs = make_task(options.task).specs
    require_agents(dataset.agents_of(options.data), options.task, specs)
    found = dataset.load(options.data, specs=specs)
    require_sizes({agent: logs.spec for agent, logs in found.items()}, options.task, specs)
    for warning in check(found, clip_actions=options.clip_actions):
        say(f"note: {warning}", quiet=options.json)
    logs = {agent: found[agent].clipped() if options.clip_actions else found[agent] for agent in specs}
    channels = channels_of(make_task(options.task))
    return {agent: on_task_scale(agent, log, channels[agent], options.task) for agent, log in logs.items()}


def resume(options: Resume) -> int:
    """`marline resume`."""
    require_trackers(options.log)
    study = Study.open(options.run)
    set_up_jax()
    engine = make_engine(options.engine, options.address)
    different = _other_versions(options.run)
    told = f"{options.run} was made with {'; '.join(different)}; {checkpoints.NOT_IDENTICAL}"
    require(not (options.strict and different), told)
    if different:
        print(f"note: {told}", file=sys.stderr)
    if options.seeds is not None or options.sampler:
        study.extend(seeds=options.seeds, samplers=options.sampler)
    return finish([study], engine, json=options.json, trackers=options.log)


def _other_versions(folder: Path) -> list[str]:
    """How what wrote the checkpoints of a run differs from what runs here."""
    different: list[str] = []
    for history in histories(folder):
        for step in history.steps():
            with contextlib.suppress(CorruptionError):  # which a resumed run makes again
                different += checkpoints.other_versions(checkpoints.read_manifest(history.checkpoint(step)))
    return list(dict.fromkeys(different))


def finish(
    studies: Sequence[Study], engine: Engine, *, json: bool, trackers: Sequence[str] = (), page: Path | None = None
) -> int:
    """Run what is left of studies, then write their reports: one each, or a page of all."""
    began = time.monotonic()
    for study in studies:
        for note in study.notes:
            print(f"note: {note}", file=sys.stderr)
        config = study.config
        size = size_of_study(len(config.samplers), len(config.seeds))
        say(f"{config.task}: {size} in {study.folder}", quiet=json)
    with resumable(" && ".join(resume_command(study.folder, study.config) for study in studies)):
        run_all(studies, engine, progress=not json, log=trackers)
    status, tables = 0, {}
    pages: Mapping[Path, Sequence[Path]] = (
        {page: [study.folder for study in studies]}
        if page is not None
        else {RunDirectory(study.folder).report: [study.folder] for study in studies}
    )
    for study in studies:
        for line in _diverged(study.folder, study.config):
            print(f"marline: {line}", file=sys.stderr)
            status = DIVERGED
        if json:
            tables[study.config.task] = reporting.summary_table([study.folder])
    for place, folders in pages.items():
        written = reporting.write_report(folders, place)
        if json:
            continue
        for line in reporting.headlines(folders):
            say(line)
        say(f"done in {time.monotonic() - began:.0f} s")
        say(f"  report: {written}")
        say_where(trackers)
        say(f"  next:   open {quoted(written)} in a browser")
        say(f"          {command('report', *folders, '--csv', 'returns.csv')}")
        say(f"          {command('run', '--help')}")
    if json:
        say_json(tables if len(studies) > 1 else next(iter(tables.values())))
    return status


def _diverged(folder: Path, config: RunConfig) -> Iterator[str]:
    """A sentence for every learner of a study that left the finite numbers."""
    for seed in config.seeds:
        for name in (OFFLINE, *config.samplers):
            for stop in stops(History(RunDirectory(folder).team(seed, name)).records()):
                if (stop.deployment == 0) == (name == OFFLINE):  # all records begin with a copy of the offline one
                    yield f"seed {seed}, {name}: {sentence(stop, folder)}"
