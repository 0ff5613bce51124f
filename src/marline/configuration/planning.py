"""What a run is to be: names, objects, options and the paper's numbers become one configuration.

The command line and Python call the same two functions, so that both make the same run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import jax

from marline import tuning
from marline.algorithms import Algorithm, Informed
from marline.algorithms.algorithm import default_updates, hidden_widths, least_offline_updates
from marline.configuration.run_config import BUILT_IN, RunConfig, require_recordable
from marline.configuration.selection import CONTROLS, GROUPS, SHUFFLED, select_algorithm, select_samplers
from marline.data.dataset import Dataset, digest
from marline.data.experience import Experience
from marline.envs import Drifting, Simulator, Task, World, make_task, name_of, name_task
from marline.envs.checked_worlds import require_world
from marline.errors import require, require_name
from marline.inputs.arguments import checked_arguments
from marline.inputs.options import option_names, with_options
from marline.rollouts import simulation
from marline.rollouts.partners import require_joint_logs, require_partners
from marline.samplers import SAMPLERS, Sampler, trains
from marline.samplers.oracle import oracle_in
from marline.tuning import Algorithms
from marline.types import AgentID, Spec

GENERATED_ROWS = 1_000_000
DEPLOYED_FRACTION = 0.01  # of the offline rows, M
DEFAULT_ALGORITHM = "td3-bc"
DEFAULT_SAMPLER = "kernel-ratio"
DEFAULT_SAMPLERS = (DEFAULT_SAMPLER, "uniform", SHUFFLED)
MOST_ROWS = 2**31  # of an agent

AlgorithmChoice = str | Sequence[str] | Algorithms
SamplerChoice = Sequence[str] | Mapping[str, str | Sampler[Any]]


@checked_arguments
def plan_study(
    *,
    task: str | Task,
    algorithm: AlgorithmChoice = DEFAULT_ALGORITHM,
    samplers: SamplerChoice = (),
    seeds: int | Sequence[int] = 5,
    logs: Mapping[AgentID, Dataset] | None = None,
    dataset_size: int | None = None,
    data_seed: int = 0,
    deployment_fraction: float = DEPLOYED_FRACTION,
    rows_per_deployment: int | None = None,
    offline_updates: int = 100_000,
    deployments: int = 10,
    updates: int | None = None,
    evaluation_episodes: int | None = None,
    sequential_exploration: float | None = None,
    hidden: Sequence[int] = (),
    algorithm_options: Mapping[str, Any] | None = None,
    sampler_options: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The configuration of a study: offline training, then K deployments with tuning, for several samplers and seeds.

    Args:
        task: a task, or its name as `marline list tasks` has it.
        algorithm: what learns; an object or a name, for all agents or by agent.
        samplers: what is compared, see `selection.select_samplers`; `kernel-ratio`, its shuffled control and
            uniform replay unless given.
        seeds: how many, or which.
        logs: offline logs by agent, found fit for the task; random play unless given.
        dataset_size: rows per agent of random play; a million unless given.
        data_seed: of random play.
        deployment_fraction: rows logged per deployment, as a fraction of the offline rows.
        rows_per_deployment: the same as a number.
        offline_updates: of every agent on its offline logs.
        deployments: K.
        updates: L, of every agent after each deployment; what the algorithm says unless given.
        evaluation_episodes: per evaluation; 1000 in a world in JAX and 10 in a simulator unless given.
        sequential_exploration: how often an agent acts at random in its own turn of a deployment, if it has one.
        hidden: widths of hidden layers; the algorithm's own unless given.
        algorithm_options: fields of the algorithm by name.
        sampler_options: fields of all samplers that prefer rows and of their distances by name.

    Raises:
        ConfigError: what cannot be meant, or cannot be run; nothing is computed and nothing is written.
    """
    name = name_task(task)
    task = make_task(name)
    # so that what is missing or wrong is told before anything is written
    if isinstance(task, Simulator):
        simulation.try_out(task)
    elif isinstance(task, World):
        require_world(task, name_of(task))
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    require(len(numbers) > 0, f"seeds is {seeds}, but a run needs at least 1")
    require(
        dataset_size is None or logs is None,
        "dataset_size is the size of random play, and given logs take its place; leave out one of them",
    )
    size = GENERATED_ROWS if dataset_size is None else dataset_size
    require(size >= 1, f"dataset_size is {size}, but must be at least 1")
    num_rows = size if logs is None else min(map(len, logs.values()))
    require(0 < deployment_fraction <= 1, f"deployment_fraction is {deployment_fraction}; give one in (0, 1]")
    members = _algorithms(algorithm, task.agents, algorithm_options, hidden, offline_updates, task)
    named = samplers or DEFAULT_SAMPLERS
    # of a world that drifts, no return can be read without that of a team which nobody trains
    if isinstance(task, Drifting) and "frozen" not in named:
        named = {**named, "frozen": "frozen"} if isinstance(named, Mapping) else (*named, "frozen")
    selected = select_samplers(named, options=sampler_options, hidden=widths(members))
    for known, sampler in selected.samplers.items():
        if oracle_in(sampler) is not None:
            require_partners(task.specs, known)
            if logs is not None:
                require_joint_logs(logs, known)
    episodes = 10 if isinstance(task, Simulator) else 1000  # where many cost next to nothing
    config = RunConfig(
        task=name,
        algorithm=members,
        samplers={known: _informed(sampler, task) for known, sampler in selected.samplers.items()},
        matches=selected.matches,
        seeds=numbers,
        rows_per_deployment=_rows(rows_per_deployment, deployment_fraction, num_rows),
        offline_updates=offline_updates,
        deployments=deployments,
        updates=_updates(members) if updates is None else updates,
        evaluation_episodes=episodes if evaluation_episodes is None else evaluation_episodes,
        sequential_exploration=sequential_exploration,
        dataset_size=size if logs is None else None,
        data_seed=data_seed,
        data_sha256=None if logs is None else digest(logs),
    )
    sizes = dict.fromkeys(task.specs, size) if logs is None else {agent: len(log) for agent, log in logs.items()}
    try_out(config, {agent: (task.specs[agent], num) for agent, num in sizes.items()})
    return config


@checked_arguments
def plan_campaign(
    *,
    logs: Mapping[AgentID, Dataset] | None,
    algorithm: AlgorithmChoice = DEFAULT_ALGORITHM,
    sampler: str | Sampler[Any] = DEFAULT_SAMPLER,
    seed: int = 0,
    deployments: int = 10,
    offline_updates: int = 100_000,
    updates: int | None = None,
    rows_per_deployment: int | None = None,
    hidden: Sequence[int] = (),
    algorithm_options: Mapping[str, Any] | None = None,
    sampler_options: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The configuration of a campaign: one team, deployed in the real world.

    Args:
        logs: offline logs by agent, found fit to learn from; None where they lie elsewhere, and
            `rows_per_deployment` is given.
        algorithm: what learns; an object or a name, for all agents or by agent.
        sampler: what chooses the rows of each update.
        seed: of all randomness.
        deployments: how many there will be at most, K.
        offline_updates: of every agent on its offline logs.
        updates: L, of every agent after each deployment; what the algorithm says unless given.
        rows_per_deployment: the most rows an agent logs at one deployment; 1 % of the offline rows unless given, of
            the agent that has the fewest.
        hidden: widths of hidden layers; the algorithm's own unless given.
        algorithm_options: fields of the algorithm by name.
        sampler_options: fields of the sampler and of its distance by name.

    Raises:
        ConfigError: what cannot be meant, or cannot be run.
    """
    members = _algorithms(algorithm, tuple(logs or ()), algorithm_options, hidden, offline_updates, None)
    require(
        sampler not in CONTROLS,
        f"{sampler} is the control of another sampler, and a real team is tuned by one; choose another",
    )
    require(
        not isinstance(sampler, str) or sampler not in GROUPS,
        f"{sampler} stands for several samplers, and a real team is tuned by one; choose another",
    )
    chosen = (sampler,) if isinstance(sampler, str) else {_own_name(sampler): sampler}
    selected = select_samplers(chosen, options=sampler_options, hidden=widths(members))
    (only,) = selected.samplers.values()
    require(
        oracle_in(only) is None,
        f"{sampler} is told what all agents logged and would do, which no agent may know in the real world: it is a "
        "reference for studies; choose another",
    )
    require(trains(only), f"{sampler} trains nobody: it is a reference for studies; choose another")
    num_rows = min(map(len, logs.values())) if logs else 0
    require(num_rows > 0 or rows_per_deployment is not None, "there are no logs; say rows_per_deployment")
    config = RunConfig(
        task=None,
        algorithm=members,
        samplers=selected.samplers,
        seeds=(seed,),
        rows_per_deployment=_rows(rows_per_deployment, DEPLOYED_FRACTION, num_rows),
        offline_updates=offline_updates,
        deployments=deployments,
        updates=_updates(members) if updates is None else updates,
        data_sha256=None if logs is None else digest(logs),
    )
    if logs is not None:
        try_out(config, {agent: (log.spec, len(log)) for agent, log in logs.items()})
    return config


def try_out(config: RunConfig, sizes: Mapping[AgentID, tuple[Spec, int]], known: Collection[str] = ()) -> None:
    """Refuse parts that cannot work together, and samplers of the user's own that draw rows which are not there.

    Args:
        config: of the run.
        sizes: spec and number of offline rows of each agent.
        known: samplers that the run has already.

    Raises:
        ConfigError: naming the part; nothing is written.
    """
    check_compatible(config, sizes)
    new = {name: sampler for name, sampler in config.samplers.items() if name not in known and trains(sampler)}
    tuning.require_rows_that_are_there(config.algorithm, new, _outlines(config, sizes))


def check_compatible(config: RunConfig, sizes: Mapping[AgentID, tuple[Spec, int]]) -> list[jax.stages.Traced]:
    """Trace what a run computes; `ConfigError` if its parts cannot work together.

    Args:
        config: of the run.
        sizes: spec and number of offline rows of each agent.

    Returns:
        Its programs, to be compiled.
    """
    for agent, (_, num_rows) in sizes.items():
        planned = num_rows + config.deployments * config.rows_per_deployment
        require(
            planned < MOST_ROWS,
            f"{planned:,} rows are planned for agent {agent!r}, and rows are counted in 32 bits; plan fewer than "
            f"{MOST_ROWS:,}: fewer deployments, or fewer rows in each",
        )
    samplers = {name: sampler for name, sampler in config.samplers.items() if trains(sampler)}
    return tuning.check_compatible(config.algorithm, samplers, _outlines(config, sizes), num_updates=config.updates)


def _outlines(config: RunConfig, sizes: Mapping[AgentID, tuple[Spec, int]]) -> dict[AgentID, Experience]:
    """What each agent's rows will look like."""
    return {
        agent: Experience.outline(
            spec,
            num_offline=num_rows,
            num_deployments=config.deployments,
            rows_per_deployment=config.rows_per_deployment,
        )
        for agent, (spec, num_rows) in sizes.items()
    }


def _algorithms(
    chosen: AlgorithmChoice,
    agents: Sequence[AgentID],
    options: Mapping[str, Any] | None,
    hidden: Sequence[int],
    offline_updates: int,
    task: Task | None,
) -> Algorithms:
    """What learns, with those options that it has, and what the task knows; each option must find one that has it."""
    require(all(width >= 1 for width in hidden), f"hidden is {tuple(hidden)}; every layer needs at least 1 unit")
    if isinstance(chosen, str):
        chosen = (chosen,)
    found = chosen if isinstance(chosen, Algorithm | Mapping) else select_algorithm(chosen, agents)
    if isinstance(found, Mapping) and agents:
        for agent in agents:
            require(agent in found, f"algorithm has no entry for agent {agent!r}; give one for every agent")
        for agent in found:
            require_name(agent, agents, "agent")
    require_recordable(found, "the algorithm")
    members: dict[AgentID, Algorithm[Any]] = dict(found) if isinstance(found, Mapping) else {"": found}
    fields = {**({"hidden": tuple(hidden)} if hidden else {}), **(options or {})}
    known = dict.fromkeys(name for member in members.values() for name in option_names(member))
    for name in fields:
        require_name(name, known, "option of the algorithm")
    for agent, member in members.items():
        its = {name: value for name, value in fields.items() if name in option_names(member)}
        member = with_options(member, its, type(member).__name__) if its else member
        member: Algorithm[Any] = _informed(member, task)
        least = least_offline_updates(member)
        require(
            offline_updates >= least or offline_updates < 0,
            f"offline_updates is {offline_updates}, but {type(member).__name__} needs {least} before it has anything "
            "to deploy; give it more, or change its options",
        )
        members[agent] = member
    return members if isinstance(found, Mapping) else members[""]


def _informed(part: Any, task: Task | None) -> Any:
    """An algorithm or a sampler with what the task knows."""
    # of other tasks run.json cannot name what they know
    return part.informed_by(task) if isinstance(part, Informed) and type(task) in BUILT_IN.values() else part


def _members(algorithm: Algorithms) -> Iterable[Algorithm[Any]]:
    return algorithm.values() if isinstance(algorithm, Mapping) else (algorithm,)


def widths(algorithm: Algorithms) -> tuple[int, ...]:
    return hidden_widths(next(iter(_members(algorithm))))


def _updates(algorithm: Algorithms) -> int:
    return max(map(default_updates, _members(algorithm)))


def _rows(given: int | None, fraction: float, num_rows: int) -> int:
    return max(1, round(fraction * num_rows)) if given is None else given


def _own_name(sampler: Sampler[Any]) -> str:
    """The catalogue's name of a sampler, or its type's."""
    same = [name for name, known in SAMPLERS.items() if known == sampler]
    return same[0] if same else type(sampler).__name__.lower()
