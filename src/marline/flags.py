"""What the flags of `marline run` mean: names, options and the paper's numbers become one configuration."""

from __future__ import annotations

import ast
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from marline import simulation
from marline.algorithms import BCQ, BREMEN, MABCQ, Algorithm
from marline.algorithms.bremen import KnownReward
from marline.campaign import study
from marline.configuration import (
    CONTROL,
    REBUILDABLE,
    RunConfig,
    option_names,
    select_algorithm,
    select_samplers,
    with_options,
)
from marline.data.dataset import Dataset, digest
from marline.envs import Simulator, Task, World, make_task, name_of
from marline.envs.checked_worlds import require_world
from marline.errors import require, require_name
from marline.samplers import OTC, EmbeddingDistance, OnlineMatched, Sampler, Uniform
from marline.samplers.distances import DISTANCES
from marline.tuning import Algorithms
from marline.types import AgentID

if TYPE_CHECKING:
    from marline import cli, cli_campaign


GENERATED_ROWS = 1_000_000


def configure(options: cli.Run, logs: Mapping[AgentID, Dataset] | None = None) -> RunConfig:
    """The configuration that the flags of `marline run` describe; `ConfigError` where they make no sense.

    Args:
        options: the flags.
        logs: what `--data` names, found fit for the task.
    """
    task = make_task(options.task)
    # so that what is missing or wrong is told before anything is written
    if isinstance(task, Simulator):
        simulation.try_out(task)
    elif isinstance(task, World):
        require_world(task, name_of(task))
    require(options.seeds >= 1, f"--seeds is {options.seeds}, but a run needs at least 1")
    size = GENERATED_ROWS if options.dataset_size is None else options.dataset_size
    require(size >= 1, f"--dataset-size is {size}, but must be at least 1")
    require(
        options.dataset_size is None or options.data is None,
        "--dataset-size is the size of random play, and --data takes its place; leave out one of them",
    )
    num_rows = size if logs is None else min(map(len, logs.values()))
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
    _require_cloning(members, options.offline_updates)
    samplers, matches = select_samplers(options.sampler)
    samplers = set_up_samplers(
        samplers, parse_options(options.sampler_option, "--sampler-option"), base_hidden(members[0])
    )
    slow = any(isinstance(member, BCQ | MABCQ) for member in members)
    episodes = options.evaluation_episodes
    config = RunConfig(
        task=options.task,
        algorithm=algorithm,
        samplers=samplers,
        matches=matches,
        seeds=tuple(range(options.seeds)),
        rows_per_deployment=max(1, round(options.deployment_fraction * num_rows)),
        offline_updates=options.offline_updates,
        deployments=options.deployments,
        updates=options.updates if options.updates is not None else 4000 if slow else 2000,
        evaluation_episodes=episodes if episodes is not None else 10 if isinstance(task, Simulator) else 100,
        sequential_exploration=options.sequential_exploration,
        dataset_size=size if logs is None else None,
        data_seed=options.data_seed,
        data_sha256=None if logs is None else digest(logs),
    )
    sizes = {agent: size for agent in task.specs} if logs is None else {agent: len(log) for agent, log in logs.items()}
    study.rehearse(config, {agent: (task.specs[agent], num) for agent, num in sizes.items()})
    return config


def configure_campaign(options: cli_campaign.Train, logs: Mapping[AgentID, Dataset]) -> RunConfig:
    """The configuration that the flags of `marline train` describe; `ConfigError` where they make no sense.

    Args:
        options: the flags.
        logs: the offline logs, found fit to learn from.
    """
    require(
        all(width >= 1 for width in options.hidden), f"--hidden is {options.hidden}; every layer needs at least 1 unit"
    )
    algorithm = set_up_algorithm(
        select_algorithm(options.algorithm, tuple(logs)),
        parse_options(options.algorithm_option, "--algorithm-option"),
        options.hidden,
        None,
    )
    members = list(algorithm.values()) if isinstance(algorithm, Mapping) else [algorithm]
    _require_cloning(members, options.offline_updates)
    require(
        options.sampler != CONTROL,
        f"{CONTROL} repeats the shares that another sampler drew, and a real team is tuned by one; choose another",
    )
    samplers, _ = select_samplers((options.sampler,))
    samplers = set_up_samplers(
        samplers, parse_options(options.sampler_option, "--sampler-option"), base_hidden(members[0])
    )
    slow = any(isinstance(member, BCQ | MABCQ) for member in members)
    rows = options.rows_per_deployment
    return RunConfig(
        task=None,
        algorithm=algorithm,
        samplers=samplers,
        seeds=(options.seed,),
        rows_per_deployment=rows if rows is not None else max(1, round(0.01 * min(map(len, logs.values())))),
        offline_updates=options.offline_updates,
        deployments=options.deployments,
        updates=options.updates if options.updates is not None else 4000 if slow else 2000,
        data_sha256=digest(logs),
    )


def _require_cloning(members: Iterable[Algorithm[Any]], offline_updates: int) -> None:
    cloning = max((member.cloning_updates for member in members if isinstance(member, BREMEN)), default=0)
    require(
        offline_updates >= cloning or offline_updates < 0,
        f"--offline-updates is {offline_updates}, but BREMEN clones for {cloning} updates before it improves "
        "anything; give it more, or lower --algorithm-option cloning_updates=...",
    )


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
    algorithm: Algorithms, options: Mapping[str, Any], hidden: tuple[int, ...], task: Task | None
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
        known = isinstance(task, KnownReward) and type(task) in REBUILDABLE.values()  # or run.json cannot name it
        if isinstance(member, BREMEN) and known:
            # with_options gave back a BREMEN, which the type of the mapping does not say
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
