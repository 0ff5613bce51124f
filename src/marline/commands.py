"""What the subcommands do; imported only when one of them runs."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import marline
from marline import film
from marline.algorithms import ALGORITHMS
from marline.campaign.belonging import require_belonging, require_measured
from marline.campaign.diverging import sentence, stops
from marline.campaign.engine import Engine, make_engine
from marline.campaign.history import History
from marline.campaign.ledger import Event, Ledger
from marline.campaign.run_directory import require_run
from marline.campaign.studies import Study
from marline.campaign.study import evaluation_key, resume_command, world_key
from marline.campaign.teams import chosen, read_policies
from marline.campaign.timeline import timeline
from marline.catalogue import ALGORITHM_LINES, SAMPLER_LINES, describe_task, works_with
from marline.collection import rollout
from marline.configuration import RunConfig
from marline.console import resumable, say, say_json
from marline.data import checkpoints, dataset
from marline.data.check import check
from marline.data.dataset import Dataset
from marline.data.files import require_writable
from marline.data.plain import require_plain_path
from marline.data.team import on_task_scale, require_agents, require_sizes
from marline.envs import TASKS, channels_of, make_task
from marline.errors import DIVERGED, CorruptionError, require
from marline.options import read_pairs
from marline.planning import plan_study
from marline.policy import RandomPolicy
from marline.rollout import Policies
from marline.runtime import set_up_jax
from marline.shell import command, quoted
from marline.types import AgentID

if TYPE_CHECKING:
    from marline import cli


def run(options: cli.Run) -> int:
    """`marline run`."""
    engine = make_engine(options.engine, options.address)
    logs = None if options.data is None else _given_logs(options)
    set_up_jax()
    study = Study.start(options.run, configure(options, logs), logs, source=str(options.data))
    del logs  # which the run directory holds now
    return _finish(study, engine, json=options.json)


def configure(options: cli.Run, logs: Mapping[AgentID, Dataset] | None = None) -> RunConfig:
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


def _given_logs(options: cli.Run) -> dict[AgentID, Dataset]:
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


def resume(options: cli.Resume) -> int:
    """`marline resume`."""
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
    return _finish(study, engine, json=options.json)


def _other_versions(folder: Path) -> list[str]:
    """How what wrote the checkpoints of a run differs from what runs here."""
    manifests = sorted(folder.glob(f"seed-*/*/checkpoint-*/{checkpoints.MANIFEST}"))
    different: list[str] = []
    for path in manifests:
        with contextlib.suppress(CorruptionError):  # which a resumed run makes again
            different += checkpoints.other_versions(checkpoints.read_manifest(path.parent))
    return list(dict.fromkeys(different))


def play(options: cli.Play) -> int:
    """`marline play`."""
    require(
        (options.run is None) != (options.task is None),
        "name either a run directory or a --task, whose agents are played",
    )
    require(options.episodes >= 1, f"--episodes is {options.episodes}, but must be at least 1")
    if options.video is not None:
        film.require_filmable(options.video)
    config = None
    if options.run is not None:
        config = RunConfig.read(require_run(options.run))
        require_belonging(options.run)
    name = options.task if config is None else config.task
    require(name is not None, f"{options.run} has no task: its deployments happen outside")
    assert name is not None
    task = make_task(name)
    set_up_jax()
    if config is None or options.run is None:
        who, number, seed = "at random", -1, options.seed or 0
        key = world_key(seed, "evaluation")
        team: Policies = {agent: RandomPolicy(spec) for agent, spec in task.specs.items()}
    else:
        seed = chosen(options.seed, config.seeds, "seed")
        key = evaluation_key(config, seed)
        who = None if options.deployment == 0 else chosen(options.sampler, tuple(config.samplers), "sampler")
        sizes = dataset.outline(options.run / "data")
        number, _, team = read_policies(options.run / f"seed-{seed}", config, sizes, who, options.deployment)
        who = f"{who} after deployment {number}" if number else "the offline team"
    deployment = number + 1  # the next one's world, where it drifts
    returns: list[float] = []
    say(f"{name}: {who}, seed {seed}", quiet=options.json)

    def episodes() -> Iterator[film.Frame]:
        for number in range(options.episodes):
            frames, total = film.film(task, team, key=key, episode=number, deployment=deployment)
            returns.append(total)
            say(f"  episode {number}: return {total:.2f}, {len(frames)} frames", quiet=options.json)
            yield from frames

    if options.video is not None:
        film.save(options.video, episodes())
        say(f"  video: {options.video}", quiet=options.json)
    else:
        played = rollout(task, team, options.episodes, key=key, deployment=deployment)
        returns = played.returns.tolist()
        for number, total in enumerate(returns):
            say(f"  episode {number}: return {total:.2f}", quiet=options.json)
    if options.json:
        video = None if options.video is None else str(options.video)
        say_json({"task": name, "team": who, "seed": seed, "returns": returns, "video": video})
    return 0


def demo(folder: Path) -> int:
    """`marline demo`: the main job, small."""
    set_up_jax()
    demonstration = Study.create(
        folder,
        task="cooperative-navigation-3",
        algorithm="td3-bc(hidden=(64, 64), alpha_bc=100)",
        seeds=4,
        dataset_size=100_000,
        rows_per_deployment=1000,
        offline_updates=2500,
        deployments=3,
        updates=250,
    )
    return _finish(demonstration, make_engine("local"), json=False)


def _finish(study: Study, engine: Engine, *, json: bool) -> int:
    """Run what is left of a study, then write its report."""
    began, folder, config = time.monotonic(), study.folder, study.config
    for note in study.notes:
        print(f"note: {note}", file=sys.stderr)
    say(f"{config.task}: {len(config.samplers)} samplers x {len(config.seeds)} seeds in {folder}", quiet=json)
    with resumable(resume_command(folder, config)):
        study.run(engine=engine, progress=not json)
    from marline import report as reporting

    page = reporting.write_report([folder], folder / "report.html")
    diverged = list(_diverged(folder, config))
    for line in diverged:
        print(f"marline: {line}", file=sys.stderr)
    status = DIVERGED if diverged else 0
    if json:
        say_json(reporting.summary_table([folder]))
        return status
    for line in reporting.headlines([folder]):
        say(line)
    say(f"done in {time.monotonic() - began:.0f} s")
    say(f"  report: {page}")
    say(f"  next:   {command('report', folder, '-o', 'page.html')}    marline run --help")
    return status


def _diverged(folder: Path, config: RunConfig) -> Iterator[str]:
    """A sentence for every learner of a study that left the finite numbers."""
    for seed in config.seeds:
        for name in ("offline", *config.samplers):
            for stop in stops(History(folder / f"seed-{seed}" / name).records()):
                if (stop.deployment == 0) == (name == "offline"):  # all records begin with a copy of the offline one
                    yield f"seed {seed}, {name}: {sentence(stop, folder)}"


def report(options: cli.Report) -> int:
    """`marline report`."""
    from marline import report as reporting

    require(len(options.runs) > 0, "name at least one run directory: marline report runs/demo")
    runs = list(options.runs)
    output = options.output or runs[0] / "report.html"
    outputs = [path for path in (output, options.csv, options.summary, options.figure) if path is not None]
    for path in outputs:
        require_writable(path)
    for run, path in itertools.product(runs, [*outputs, *filter(None, [options.tensorboard])]):
        require_plain_path(run, path)
    require(not options.sampler or options.figure is not None, "--sampler is of the figure; add --figure")
    if options.figure:
        reporting.require_drawable(runs, options.figure, options.sampler)
    if options.tensorboard:
        reporting.require_tensorboard()
    timelines = {run: timeline(_events(run)) for run in runs}
    page = reporting.write_report(runs, output, timelines)
    if options.csv:
        reporting.write_csv(runs, options.csv)
        reporting.write_differences(runs, options.csv.with_name(f"{options.csv.stem}-differences.csv"))
    if options.summary:
        reporting.write_summary(runs, options.summary)
    if options.figure:
        reporting.write_figure(runs, options.figure, samplers=options.sampler)
    if options.decomposition:
        reporting.write_decomposition(runs, options.decomposition)
    if options.tensorboard:
        reporting.write_tensorboard(runs, options.tensorboard)
    if options.json:
        say_json(reporting.summary_table(runs))
        return 0
    for line in reporting.headlines(runs):
        say(line)
    say(f"  report: {page}")
    say(f"  next:   open {quoted(page)} in a browser")
    return 0


def _events(run: Path) -> list[Event]:
    """What happened in a campaign, nothing in a study; `CorruptionError` if the parts do not belong together.

    That is what a report tells, so lines of measurements must be those of the checkpoints, too.
    """
    if not os.path.lexists(run / "run.json"):
        return []  # what reads it next says so
    require_run(run)
    events = Ledger(run).events()
    require_belonging(run)
    require_measured(run)
    return events


def export(options: cli.Export) -> int:
    """`marline export`."""
    set_up_jax()
    if options.deployment is None and Ledger(options.run).path.exists():
        from marline import commands_campaign

        return commands_campaign.export(options)
    from marline.campaign.exporting import export

    exported = export(
        options.run,
        options.out,
        deployment=options.deployment,
        agents=options.agent,
        sampler=options.sampler,
        seed=options.seed,
    )
    folders = {agent: exported.folder / agent for agent in exported.bundles}
    if options.json:
        bundles = {
            agent: {"folder": str(folders[agent]), "policy_sha256": bundle.policy_sha256}
            for agent, bundle in exported.bundles.items()
        }
        say_json({"tuned_on_deployment": exported.deployment - 1, "bundles": bundles})
        return 0
    for agent, bundle in exported.bundles.items():
        say(
            f"{agent}: {folders[agent]}, policy {bundle.policy_sha256[:12]}, "
            f"within {bundle.worst:.1e} of JAX on {bundle.num_checked} logged rows"
        )
    number = exported.deployment - 1
    tuned_on = f"deployments 1 to {number}" if number else "the offline logs"
    say(f"tuned on {tuned_on}; what they log is of deployment {number + 1}")
    say("  next:   copy each folder to its agent, and there: python run_policy.py LOGS")
    return 0


def list_catalogue(what: str, *, json: bool) -> int:
    """`marline list`."""
    everything = {
        "tasks": {name: task.description for name, task in TASKS.items()},
        "algorithms": ALGORITHM_LINES,
        "samplers": SAMPLER_LINES,
    }
    catalogue: dict[str, Any] = everything if what == "all" else {what: everything[what]}
    if what == "tasks":
        catalogue = {what: {name: describe_task(task) for name, task in TASKS.items()}}
    if json:
        pairs = {"pairs": {name: works_with(name) for name in ALGORITHMS}}
        say_json(catalogue | (pairs if what in ("all", "algorithms") else {}))
        return 0
    console = Console()
    for title, entries in catalogue.items():
        if what == "tasks":
            _print_tasks(console, entries)
            continue
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, line in entries.items():
            table.add_row(escape(name), escape(line))
        console.print(table)
    say("next: marline run --task cooperative-navigation-4 --sampler otc-value uniform online-matched --run runs/first")
    return 0


def _print_tasks(console: Console, tasks: Mapping[str, Mapping[str, str]]) -> None:
    for name, facts in tasks.items():
        table = Table(title=escape(name), title_justify="left", show_header=False, box=None, padding=(0, 2))
        for fact, text in facts.items():
            table.add_row(escape(fact), escape(text))
        console.print(table)


def doctor(*, json: bool) -> int:
    """`marline doctor`."""
    import importlib.metadata

    set_up_jax()
    packages = ("jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "h5py", "safetensors", "plotly", "tyro")
    began = time.monotonic()
    total = float(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((64, 64))))
    facts = {
        "marline": marline.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "device": f"{jax.devices()[0].platform} x {len(jax.devices())}",
        "cores": os.cpu_count(),
        "compilation cache": os.environ["JAX_COMPILATION_CACHE_DIR"],
        "a compiled product": "ok" if total == 64.0**3 else "WRONG",
        "compiled in": f"{time.monotonic() - began:.2f} s",
    }
    if json:
        say_json(facts)
    else:
        for name, fact in facts.items():
            say(f"{name:20} {fact}")
        say("next: marline demo")
    return 0 if total == 64.0**3 else 1
