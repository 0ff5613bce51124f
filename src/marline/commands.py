"""What the subcommands do; imported only when one of them runs."""

from __future__ import annotations

import ast
import dataclasses
import json as jsonlib
import math
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import marline
from marline.algorithms import ALGORITHMS, BCQ, BREMEN, MABCQ, TD3BC, Algorithm
from marline.algorithms.bremen import KnownReward
from marline.campaign import study, workers
from marline.configuration import RunConfig, option_names, select_algorithm, select_samplers, with_options
from marline.console import ProgressDisplay, say
from marline.envs import TASKS, Task, make_task
from marline.errors import ConfigError, require, require_name
from marline.samplers import OTC, SAMPLERS, EmbeddingDistance, OnlineMatched, Sampler, Uniform
from marline.samplers.distances import DISTANCES
from marline.tuning import Algorithms, rehearse
from marline.types import AgentID

if TYPE_CHECKING:
    from marline import cli

INTERRUPTED = 130


def run(options: cli.Run) -> int:
    """`marline run`."""
    config = configure(options)
    _set_up_jax()
    study.create(options.run, config)
    return _finish(options.run, config, json=options.json)


def resume(folder: Path, *, json: bool = False) -> int:
    """`marline resume`."""
    path = folder / "run.json"
    require(path.is_file(), f"{folder} is not a run directory: it has no run.json; start one with: marline run")
    _set_up_jax()
    return _finish(folder, RunConfig.read(path), json=json)


def demo(folder: Path) -> int:
    """`marline demo`: the main job in a minute."""
    samplers, matches = select_samplers(("otc-value", "uniform", "online-matched"))
    config = RunConfig(
        task="cooperative-navigation-3",
        algorithm=TD3BC(hidden=(64, 64), alpha_bc=100.0),
        samplers=samplers,
        matches=matches,
        seeds=(0, 1, 2, 3),
        dataset_size=100_000,
        rows_per_deployment=1000,
        offline_updates=4200,
        deployments=4,
        updates=300,
    )
    _set_up_jax()
    study.create(folder, config)
    return _finish(folder, config, json=False)


def configure(options: cli.Run) -> RunConfig:
    """The configuration that the flags of `marline run` describe; `ConfigError` where they make no sense."""
    task = make_task(options.task)
    require(options.seeds >= 1, f"--seeds is {options.seeds}, but a run needs at least 1")
    require(options.dataset_size >= 1, f"--dataset-size is {options.dataset_size}, but must be at least 1")
    require(
        0 < options.deployment_fraction <= 1,
        f"--deployment-fraction is {options.deployment_fraction}; give one in (0, 1]",
    )
    require(
        all(width >= 1 for width in options.hidden), f"--hidden is {options.hidden}; every layer needs at least 1 unit"
    )
    algorithm = set_up_algorithm(
        select_algorithm(options.algorithm, task.agents),
        parse_options(options.algorithm_option, "--algorithm-option"),
        options.hidden,
        task,
    )
    members = list(algorithm.values()) if isinstance(algorithm, Mapping) else [algorithm]
    for member in members:
        require(
            not isinstance(member, BREMEN) or options.offline_updates >= member.cloning_updates,
            f"--offline-updates is {options.offline_updates}, but BREMEN clones for "
            f"{getattr(member, 'cloning_updates', 0)} updates before it improves anything; "
            "give it more, or lower --algorithm-option cloning_updates=...",
        )
    samplers, matches = select_samplers(options.sampler)
    samplers = set_up_samplers(
        samplers, parse_options(options.sampler_option, "--sampler-option"), base_hidden(members[0])
    )
    slow = any(isinstance(member, BCQ | MABCQ) for member in members)
    config = RunConfig(
        task=options.task,
        algorithm=algorithm,
        samplers=samplers,
        matches=matches,
        seeds=tuple(range(options.seeds)),
        rows_per_deployment=max(1, round(options.deployment_fraction * options.dataset_size)),
        offline_updates=options.offline_updates,
        deployments=options.deployments,
        updates=options.updates if options.updates is not None else 4000 if slow else 2000,
        evaluation_episodes=options.evaluation_episodes,
        dataset_size=options.dataset_size,
        data_seed=options.data_seed,
    )
    rehearse(algorithm, samplers, task.specs)
    return config


def parse_options(items: Iterable[str], flag: str) -> dict[str, Any]:
    """NAME=VALUE pairs; values are Python literals, true, false, nan, inf, or words."""
    parsed = {}
    for item in items:
        name, equals, text = item.partition("=")
        require(bool(name and equals and text), f"{flag} {item!r} is not NAME=VALUE; write for example alpha=2")
        parsed[name] = _value(text)
    return parsed


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "nan": math.nan, "inf": math.inf}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def set_up_algorithm(
    algorithm: Algorithms, options: Mapping[str, Any], hidden: tuple[int, ...], task: Task
) -> Algorithms:
    """Give every algorithm those options that it has, and what the task knows; each option must find one that does."""
    fields = {"hidden": hidden, **options} if hidden else dict(options)
    chosen = algorithm if isinstance(algorithm, Mapping) else {"": algorithm}
    known = [name for member in chosen.values() for name in option_names(member)]
    for name in fields:
        require_name(name, dict.fromkeys(known), "option of the algorithm")
    changed: dict[AgentID, Algorithm[Any]] = {}
    for agent, member in chosen.items():
        its = {name: value for name, value in fields.items() if name in option_names(member)}
        changed[agent] = with_options(member, its, type(member).__name__)
        if isinstance(member, BREMEN) and isinstance(task, KnownReward):
            changed[agent] = dataclasses.replace(changed[agent], known_reward=task)  # pyright: ignore[reportArgumentType]
    return changed if isinstance(algorithm, Mapping) else changed[""]


def base_hidden(algorithm: Any) -> tuple[int, ...]:
    """Widths of an algorithm's networks, which the embedding of OTC shares."""
    return algorithm.hidden if hasattr(algorithm, "hidden") else algorithm.base.hidden


def set_up_samplers(
    samplers: Mapping[str, Sampler[Any]], options: Mapping[str, Any], hidden: tuple[int, ...]
) -> dict[str, Sampler[Any]]:
    """Give every sampler but the references those options that it or its distance has; each must find one that does."""
    resolved = {
        name: dataclasses.replace(sampler, distance=_resolved(sampler.distance, hidden))
        if isinstance(sampler, OTC)
        else sampler
        for name, sampler in samplers.items()
        if not isinstance(sampler, Uniform | OnlineMatched)
    }
    require(
        not options or bool(resolved),
        "--sampler-option sets options of OTC and its rivals, and none is named; add one to --sampler",
    )
    known = [name for sampler in resolved.values() for name in option_names(sampler)]
    for name in options:
        require_name(name, dict.fromkeys(known), "option of these samplers")
    chosen = dict(samplers)
    for name, sampler in resolved.items():
        its = {key: value for key, value in options.items() if key in option_names(sampler)}
        sampler = with_options(sampler, its, name)
        if isinstance(sampler, OTC):  # a distance that is as the catalogue has it keeps its name there
            same = [word for word, preset in DISTANCES.items() if preset == sampler.distance]
            sampler = dataclasses.replace(sampler, distance=same[0]) if same else sampler
        chosen[name] = sampler
    return chosen


def _resolved(distance: Any, hidden: tuple[int, ...]) -> Any:
    distance = DISTANCES[distance] if isinstance(distance, str) else distance
    return dataclasses.replace(distance, hidden=hidden) if isinstance(distance, EmbeddingDistance) else distance


def _finish(folder: Path, config: RunConfig, *, json: bool) -> int:
    """Run what is left of a study, then write its report."""
    began = time.monotonic()
    lock = filelock.FileLock(folder / "run.lock")
    try:
        lock.acquire(timeout=0.5)
    except filelock.Timeout:
        owner = (folder / "run.pid").read_text() if (folder / "run.pid").exists() else "?"
        raise ConfigError(f"{folder} is being written by process {owner}; wait for it, or stop it") from None
    try:
        (folder / "run.pid").write_text(str(os.getpid()))
        shares = workers.plan(
            config.seeds, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        updates = config.offline_updates + len(config.samplers) * config.deployments * config.updates
        say(f"{config.task}: {len(config.samplers)} samplers x {len(config.seeds)} seeds in {folder}", quiet=json)
        with ProgressDisplay([(_label(share), updates * len(share)) for share in shares], quiet=json) as progress:
            workers.run(folder, config, shares, progress.advance)
    except (KeyboardInterrupt, SystemExit) as stop:
        status = stop.code if isinstance(stop, SystemExit) else INTERRUPTED
        print(f"\nstopped; everything so far is saved. Go on with: marline resume {folder}", file=sys.stderr)
        return int(status or 0)
    finally:
        (folder / "run.pid").unlink(missing_ok=True)
        lock.release()
    from marline import report as reporting

    page = reporting.write_report([folder], folder / "report.html")
    if json:
        print(jsonlib.dumps(reporting.summary_table([folder]), indent=2))
        return 0
    for line in reporting.headlines([folder]):
        say(line)
    say(f"done in {time.monotonic() - began:.0f} s")
    say(f"  report: {page}")
    say(f"  next:   marline report {folder} -o page.html    marline run --help")
    return 0


def _label(seeds: Iterable[int]) -> str:
    seeds = list(seeds)
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def report(options: cli.Report) -> int:
    """`marline report`."""
    from marline import report as reporting

    require(len(options.runs) > 0, "name at least one run directory: marline report runs/demo")
    runs = list(options.runs)
    page = reporting.write_report(runs, options.output or runs[0] / "report.html")
    if options.csv:
        reporting.write_csv(runs, options.csv)
    if options.summary:
        reporting.write_summary(runs, options.summary)
    if options.figure:
        reporting.write_figure(runs, options.figure, samplers=options.sampler)
    if options.json:
        print(jsonlib.dumps(reporting.summary_table(runs), indent=2))
        return 0
    for line in reporting.headlines(runs):
        say(line)
    say(f"  report: {page}")
    say(f"  next:   open {page} in a browser")
    return 0


def list_catalogue(*, json: bool) -> int:
    """`marline list`."""
    catalogue = {
        "tasks": {name: task.description for name, task in TASKS.items()},
        "algorithms": ALGORITHM_LINES,
        "samplers": SAMPLER_LINES,
    }
    if json:
        print(jsonlib.dumps({**catalogue, "pairs": {name: works_with(name) for name in ALGORITHMS}}, indent=2))
        return 0
    console = Console()
    for title, entries in catalogue.items():
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, line in entries.items():
            table.add_row(escape(name), escape(line))
        console.print(table)
    say("next: marline run --task cooperative-navigation-4 --sampler otc-value uniform online-matched --run runs/first")
    return 0


def works_with(algorithm: str) -> list[str]:
    """The samplers that an algorithm can be used with: all, unless they compare values and it learns none."""
    valueless = ALGORITHMS[algorithm] is BREMEN
    return [
        name
        for name, sampler in SAMPLERS.items()
        if not (valueless and isinstance(sampler, OTC) and sampler.distance in ("value", "value-literal"))
    ]


ALGORITHM_LINES = {
    "td3-bc": "continuous: TD3 that also imitates the data (Fujimoto & Gu 2021; OTC paper, Figs. 7 and 8)",
    "bcq": "continuous: Q-learning over actions that the data make likely (Fujimoto et al. 2019; OTC paper, Figs. 3-6)",
    "awac": "continuous: imitation weighted by advantage (Nair et al. 2020; OTC paper, Table 1)",
    "cql": "discrete, masked: keeps unseen actions low (Kumar et al. 2020; OTC paper, Fig. 6d)",
    "cql-continuous": "continuous: the same on a soft actor-critic (Kumar et al. 2020)",
    "iql": "continuous: values from logged actions alone (Kostrikov et al. 2021)",
    "bremen": "continuous, no otc-value: small steps in learned models (Matsushima et al. 2021; OTC paper, Fig. 6a, b)",
    "mabcq": "continuous: BCQ with weighted transitions, our reading (Jiang & Lu 2021)",
}
assert ALGORITHM_LINES.keys() == ALGORITHMS.keys()
SAMPLER_LINES = {
    "uniform": "uniform over offline and online rows together (the paper's baseline)",
    "offline-only": "uniform over the offline rows: continued offline training, a reference",
    "online-only": "uniform over the rows of the last deployment (OTC paper, Fig. 5)",
    "otc-value": "OTC with d_q, deviations from one common mean (OTC paper, 3.3; our default)",
    "otc-value-literal": "OTC with d_q, a mean for each side: the paper's formula read literally (3.3)",
    "otc-embedding": "OTC with d_e, one conditional VAE embedding, frozen (OTC paper, 3.5)",
    "otc-two-stage": "OTC matching on (s, a) and comparing s' - s, as defined in 3.2 (ours)",
    "balanced": "Balanced Replay: rows near the current policy's first (Lee et al. 2021; OTC paper, Figs. 5 and 8)",
    "classifier-ratio": "in proportion to estimated P_online(s'|s,a) / P_offline (DARC's ratio as a sampler; ours)",
    "online-matched": "control of an OTC sampler: as many fresh rows, distances ignored (ours)",
}
assert SAMPLER_LINES.keys() == SAMPLERS.keys()


def doctor(*, json: bool) -> int:
    """`marline doctor`."""
    import importlib.metadata

    _set_up_jax()
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
        print(jsonlib.dumps(facts, indent=2))
    else:
        for name, fact in facts.items():
            say(f"{name:20} {fact}")
        say("next: marline demo")
    return 0 if total == 64.0**3 else 1


def _set_up_jax() -> None:
    """Keep compiled programs in the user's cache folder; let float32 mean float32 on an accelerator too."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # through the environment too, for the workers
    settings = {
        "jax_default_matmul_precision": "highest",
        "jax_compilation_cache_dir": str(base / "marline" / "jax"),
        "jax_persistent_cache_min_compile_time_secs": "0.2",
    }
    for name, value in settings.items():
        value = os.environ.setdefault(name.upper(), value)
        jax.config.update(name, float(value) if name.endswith("_secs") else value)
