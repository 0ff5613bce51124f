"""Algorithm 1 of the OTC paper: offline training, then K times deploy, merge, adapt, tune.

A learner is one agent under one seed; a team is a mapping of learners. Every step below treats
each learner by itself, so teams of several seeds can be tuned side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marline.agent import AgentState, begin_deployment, stream, summarise, tune
from marline.algorithms import Algorithm, Prepares
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.divergence import Divergence, batches, first_divergence
from marline.errors import ConfigError, require
from marline.population import compiled, map_learners
from marline.samplers import Sampler, Uniform
from marline.trial import is_theirs, require_algorithm, require_sampler, trying
from marline.types import AgentID, Policy

LearnerID = tuple[int, AgentID]
Team = Mapping[LearnerID, AgentState]
Logs = Mapping[LearnerID, Dataset]
Deploy = Callable[[int, Mapping[LearnerID, Policy]], Logs]
Summary = dict[LearnerID, dict[str, Any]]  # numbers by name, and lists of them
Diverged = Mapping[LearnerID, Divergence]
Algorithms = Algorithm[Any] | Mapping[AgentID, Algorithm[Any]]  # one for all agents, or one for each

OFFLINE_SAMPLER = Uniform()  # before the first merge all rows are offline rows


class Trained(NamedTuple):
    """A stretch of offline training: updates done so far, the team, what was measured, and who diverged in it."""

    updates: int
    team: Team
    metrics: Summary
    diverged: Diverged


class Deployment(NamedTuple):
    """One turn of the campaign: its number, the team after tuning, what was measured, and who diverged."""

    number: int
    team: Team
    metrics: Summary
    diverged: Diverged


def init_team(
    data: Mapping[AgentID, Dataset],
    algorithm: Algorithms,
    *,
    seeds: Sequence[int],
    num_deployments: int,
    rows_per_deployment: int,
) -> Team:
    """Untrained learners, one per seed and agent, each with its own offline rows."""
    experiences = to_device(data, algorithm, num_deployments=num_deployments, rows_per_deployment=rows_per_deployment)
    return init_team_on(experiences, algorithm, seeds=seeds)


def to_device(
    data: Mapping[AgentID, Dataset], algorithm: Algorithms, *, num_deployments: int, rows_per_deployment: int
) -> dict[AgentID, Experience]:
    """Each agent's offline rows on the device, with room for every deployment: what all seeds may share."""
    experiences = {}
    for agent, dataset in data.items():
        rows = _prepared(dataset, algorithm_of(algorithm, agent))
        experiences[agent] = Experience.create(
            rows.transition(),
            rows.spec,
            num_deployments=num_deployments,
            rows_per_deployment=rows_per_deployment,
            ends=rows.terminals | rows.timeouts,
        )
    return experiences


def init_team_on(experiences: Mapping[AgentID, Experience], algorithm: Algorithms, *, seeds: Sequence[int]) -> Team:
    """Untrained learners, one per seed and agent, on rows that are on the device already."""
    team: dict[LearnerID, AgentState] = {}
    for seed in seeds:
        for agent, experience in experiences.items():
            key = stream(seed, agent, "init")
            learner = _init_learner(experience, key, algorithm=algorithm_of(algorithm, agent))
            team[seed, agent] = AgentState(learner, (), experience)
    return team


def check_compatible(
    algorithm: Algorithms,
    samplers: Mapping[str, Sampler[Any]],
    outlines: Mapping[AgentID, Experience],
    *,
    num_updates: int = 1,
) -> list[jax.stages.Traced]:
    """Trace what a campaign computes per agent, computing none of it, and refuse what cannot work together.

    Args:
        algorithm: what learns; for all agents, or by agent.
        samplers: by name.
        outlines: of each agent's experience, as by `Experience.outline`.
        num_updates: L, per deployment.

    Returns:
        The programs, for `compile_ahead`.

    Raises:
        ConfigError: naming the algorithm, the sampler if it is to blame, and the reason.
    """
    programs = []
    key = jax.eval_shape(lambda: jax.random.key(0))
    kinds = {(algorithm_of(algorithm, agent), it.spec, it.num_offline): it for agent, it in outlines.items()}
    for (member, *_), experience in kinds.items():
        with trying(member):
            require_algorithm(member, experience, key)
            programs.append(_init_learner.trace(experience, key, algorithm=member))
        learner = programs[-1].out_info
        names = {OFFLINE_SAMPLER: "offline training"} | {sampler: name for name, sampler in samplers.items()}
        for sampler, name in names.items():
            static = {"algorithm": member, "sampler": sampler}
            try:
                with trying(member, sampler):
                    require_sampler(sampler, member.critic, learner, experience, key)
                    programs.append(compiled(_init_sampler, {"sampler": sampler}).trace(experience, key))
                    state = AgentState(learner, programs[-1].out_info, experience)
                    programs += [
                        compiled(begin_deployment, static).trace(state, key),
                        compiled(tune, {**static, "num_updates": num_updates}).trace(state, key, key, jnp.int32(0)),
                    ]
            except ConfigError as error:
                raise ConfigError(f"{name} with {type(member).__name__}: {error}") from None
    return programs


def pretrain(
    team: Team,
    algorithm: Algorithms,
    *,
    num_updates: int,
    first_update: int = 0,
    chunk: int = 2000,
    stopped: Collection[LearnerID] = (),
) -> Iterator[Trained]:
    """Offline training on B^0, a chunk at a time.

    Results do not depend on `chunk`, the updates per compiled loop, unless somebody diverges: a learner
    that does stays as it was before the chunk, and the others go on. With as many updates as are made
    per deployment, one compiled program serves both this and tuning with the uniform sampler.

    Args:
        team: who is trained.
        algorithm: what learns; for all agents, or by agent.
        num_updates: at the end.
        first_update: how many were done before.
        chunk: updates between two looks.
        stopped: learners that diverged before.
    """
    done, stopped = first_update, set(stopped)
    while done < num_updates:
        length = min(chunk, num_updates - done)
        moving = {learner: state for learner, state in team.items() if learner not in stopped}
        moved, metrics, diverged = _tune(moving, algorithm, OFFLINE_SAMPLER, length, phase="offline", first_update=done)
        team = {**team, **moved}
        stopped |= diverged.keys()
        done += length
        yield Trained(done, team, metrics, diverged)


def init_samplers(team: Team, sampler: Sampler[Any]) -> Team:
    """Give every learner the memory of a sampler, fitted on its own B^0."""
    keys = {learner: stream(*learner, "sampler") for learner in team}
    experiences = {learner: state.experience for learner, state in team.items()}
    memories = map_learners(_init_sampler, experiences, keys, static={"sampler": sampler})
    return {learner: state._replace(sampler=memories[learner]) for learner, state in team.items()}


def run(
    team: Team,
    deploy: Deploy,
    algorithm: Algorithms,
    sampler: Sampler[Any],
    *,
    num_updates: int,
    deployments: Iterable[int],
    frozen: Collection[LearnerID] = (),
) -> Iterator[Deployment]:
    """The campaign: deploy, merge, adapt, tune; yields after every deployment.

    Args:
        team: trained offline and equipped with the sampler.
        deploy: policies in, logs out; a simulator, or a fleet and some days. Learners without logs sit the deployment
            out: they keep policy and rows, and nothing is measured of them.
        algorithm: what learns; for all agents, or by agent.
        sampler: what chooses the rows of each update.
        num_updates: L, per deployment.
        deployments: their numbers, 1..K, or what is left of them.
        frozen: see `tune_on`.
    """
    for number in deployments:
        logs = deploy(number, policies(team, algorithm))
        team = merge(team, logs, number, algorithm)
        there = {learner: state for learner, state in team.items() if learner in logs}
        result = tune_on(there, number, algorithm, sampler, num_updates=num_updates, frozen=frozen)
        team = {**team, **result.team}
        yield result._replace(team=team)


def algorithm_of(algorithm: Algorithms, agent: AgentID) -> Algorithm[Any]:
    """What one agent learns by."""
    if not isinstance(algorithm, Mapping):
        return algorithm
    require(agent in algorithm, f"algorithm has no entry for agent {agent!r}; name one for every agent")
    return algorithm[agent]


def policies(team: Team, algorithm: Algorithms) -> dict[LearnerID, Policy]:
    """The policy that each learner would deploy now."""
    return {learner: algorithm_of(algorithm, learner[1]).policy(state.learner) for learner, state in team.items()}


def merge(team: Team, logs: Logs, number: int, algorithm: Algorithms) -> Team:
    """B^k = B^(k-1) u D^k for every learner that has logs."""
    merged = dict(team)
    for learner, state in team.items():
        if learner in logs:
            rows = _prepared(logs[learner], algorithm_of(algorithm, learner[1]))
            ends = rows.terminals | rows.timeouts
            merged[learner] = state._replace(experience=state.experience.merge(rows.transition(), number, ends=ends))
    return merged


def adapt(team: Team, number: int, algorithm: Algorithms, sampler: Sampler[Any]) -> tuple[Team, Summary]:
    """Let every learner's sampler take in the rows just merged; returns also what it measured."""
    keys = {learner: stream(*learner, f"adapt/{number}") for learner in team}
    begun = _map_learners(begin_deployment, algorithm, team, keys, sampler=sampler)
    adapted = {learner: state._replace(sampler=begun[learner][0]) for learner, state in team.items()}
    measured = jax.device_get({learner: metrics for learner, (_, metrics) in begun.items()})
    return adapted, {learner: {name: x.tolist() for name, x in measured[learner].items()} for learner in team}


def tune_on(
    team: Team,
    number: int,
    algorithm: Algorithms,
    sampler: Sampler[Any],
    *,
    num_updates: int,
    frozen: Collection[LearnerID] = (),
) -> Deployment:
    """Adapt the sampler to the rows just merged, then tune every learner on B^k that is not frozen.

    The memory of a sampler follows the rows, whether its learner learns from them or not. A learner that diverges
    stays as it was, with the memory of its sampler adapted; the others go on.
    """
    team, metrics = adapt(team, number, algorithm, sampler)
    moving = {learner: state for learner, state in team.items() if learner not in frozen}
    moved, measured, diverged = _tune(moving, algorithm, sampler, num_updates, phase=str(number))
    metrics |= {learner: metrics[learner] | measured[learner] for learner in moved}
    return Deployment(number, {**team, **moved}, metrics, diverged)


def _tune(
    team: Team, algorithm: Algorithms, sampler: Sampler[Any], num_updates: int, *, phase: str, first_update: int = 0
) -> tuple[Team, Summary, Diverged]:
    """The team afterwards, what was measured, up to where a learner diverged, and who did."""
    # the offline phase ignores the memory of any sampler, and each sampler its own stream's noise
    results = _map_learners(
        tune,
        algorithm,
        team,
        {learner: stream(*learner, f"sample/{phase}") for learner in team},
        {learner: stream(*learner, f"update/{phase}") for learner in team},
        {learner: jnp.int32(first_update) for learner in team},
        sampler=sampler,
        num_updates=num_updates,
    )
    tuned, summary, diverged = dict(team), {}, {}
    for learner, result in results.items():
        if is_theirs(sampler):
            _require_logged(result.rows, team[learner].experience, sampler, learner)
        metrics = {name: np.asarray(values, np.float64) for name, values in result.metrics.items()}
        found = first_divergence(metrics, is_finite=bool(result.is_finite))
        if found is None:
            tuned[learner] = team[learner]._replace(learner=result.learner, sampler=result.sampler)
            summary[learner] = summarise(metrics)
            continue
        place, reason = found
        rows = np.asarray(result.rows)
        batch = batches(team[learner].experience, rows, place, first_update=first_update)
        diverged[learner] = Divergence(first_update + place, reason, first_update, batch)
        summary[learner] = summarise({name: values[:place] for name, values in metrics.items()}) if place else {}
    return tuned, summary, diverged


def _require_logged(rows: Any, experience: Experience, sampler: Sampler[Any], learner: LearnerID) -> None:
    """Refuse rows that are not there, in place of which JAX takes others without a word."""
    rows, size = np.asarray(rows), int(experience.size)
    missing = rows[(rows < 0) | (rows >= size)]
    if len(missing):
        raise ConfigError(
            f"{type(sampler).__name__}.sample drew row {missing[0]} for agent {learner[1]!r} under seed {learner[0]}, "
            f"who has rows 0 to {size - 1}; draw from 0 on and below experience.size"
        )


def _map_learners(
    function: Callable[..., Any], algorithms: Algorithms, *arguments: Mapping[LearnerID, Any], **static: Hashable
) -> dict[LearnerID, Any]:
    """`map_learners`, once for each algorithm among the learners."""
    chosen = {learner: algorithm_of(algorithms, learner[1]) for learner in arguments[0]}
    results: dict[LearnerID, Any] = {}
    for algorithm in dict.fromkeys(chosen.values()):
        members = [learner for learner in chosen if chosen[learner] == algorithm]
        theirs = ({learner: argument[learner] for learner in members} for argument in arguments)
        results |= map_learners(function, *theirs, static={"algorithm": algorithm, **static})
    return {learner: results[learner] for learner in chosen}


def _prepared(logs: Dataset, algorithm: Algorithm[Any]) -> Dataset:
    return algorithm.prepare(logs) if isinstance(algorithm, Prepares) else logs


@functools.partial(jax.jit, static_argnames="algorithm")
def _init_learner(experience: Experience, key: Any, *, algorithm: Algorithm[Any]) -> Any:
    return algorithm.init(experience, key=key)


def _init_sampler(experience: Experience, key: Any, *, sampler: Sampler[Any]) -> Any:
    return sampler.init(experience, key=key)
