"""Algorithm 1 of the OTC paper: offline training, then K times deploy, merge, adapt, tune.

A learner is one agent under one seed, and under one sampler where several are tuned together; a team is a mapping of
learners. Every step below treats each learner by itself, so teams of several seeds can be tuned side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from marline import trial
from marline.agent import AgentState, begin_deployment, stream, stream_of, stream_words, summarise, tune
from marline.algorithms import Algorithm, Prepares
from marline.data.dataset import Dataset
from marline.data.experience import Experience, NewRows
from marline.divergence import Divergence, batches, first_divergence
from marline.errors import ConfigError, require
from marline.population import Stack, compiled, kept, map_learners, on_host, rearranged, together
from marline.samplers import Sampler, Shuffled, Uniform
from marline.trial import is_theirs, require_algorithm, require_sampler, trying
from marline.types import AgentID, Policy

LearnerID = tuple[Any, ...]  # seed and agent; and the name of its sampler, where several are tuned together
Team = Mapping[LearnerID, AgentState]
Logs = Mapping[LearnerID, Dataset]
Deploy = Callable[[int, Mapping[LearnerID, Policy]], Logs]
Adapted = Callable[[int, "Summary"], None]  # told what samplers measured of a deployment, before anybody is tuned on it
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
    shared = {(seed, agent): experience for seed in seeds for agent, experience in experiences.items()}
    rows = together(shared, _kinds(algorithm))
    learners = map_learners(_init_learner, rows, _streams(rows, "init"), static=_by_learner(algorithm))
    return rearranged(lambda learner, experience: AgentState(learner, (), experience), learners, rows)


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
            programs.append(compiled(_init_learner, {"algorithm": member}).trace(experience, key))
        learner, begun = programs[-1].out_info, set[Hashable]()
        names = {OFFLINE_SAMPLER: "offline training"} | {sampler: name for name, sampler in samplers.items()}
        for sampler, name in names.items():
            static = {"algorithm": member, "sampler": sampler}
            try:
                with trying(member, sampler):
                    require_sampler(sampler, member.critic, learner, experience, key)
                    programs.append(compiled(_init_sampler, {"sampler": sampler}).trace(experience, key))
                    state = AgentState(learner, programs[-1].out_info, experience)
                    for what, program in _beginnings(state, key, member, sampler):
                        if what not in begun:  # a control's sampler may be there by itself
                            programs.append(program)
                            begun.add(what)
                    whole = {**static, "num_updates": num_updates}
                    programs.append(compiled(tune, whole).trace(state, key, key, jnp.int32(0)))
            except ConfigError as error:
                raise ConfigError(f"{name} with {type(member).__name__}: {error}") from None
    return programs


def require_rows_that_are_there(
    algorithm: Algorithms, samplers: Mapping[str, Sampler[Any]], outlines: Mapping[AgentID, Experience]
) -> None:
    """Refuse samplers of the user's own that draw rows which are not logged; arguments as of `check_compatible`."""
    kinds = {(algorithm_of(algorithm, agent), it.spec): it for agent, it in outlines.items()}
    for (member, _), experience in kinds.items():
        for name, sampler in samplers.items():
            try:
                trial.require_rows_that_are_there(sampler, member, experience)
            except ConfigError as error:
                raise ConfigError(f"{name} with {type(member).__name__}: {error}") from None


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
    team = together(team, _kinds(algorithm))
    while done < num_updates:
        length = min(chunk, num_updates - done)
        team, metrics, diverged = tune_team(
            team, algorithm, OFFLINE_SAMPLER, length, phase="offline", first_update=done, still=stopped
        )
        stopped |= diverged.keys()
        done += length
        yield Trained(done, team, metrics, diverged)


def init_samplers(team: Team, sampler: Sampler[Any]) -> Team:
    """Give every learner the memory of a sampler, fitted on its own B^0."""
    team = together(team, lambda learner: None)
    experiences = rearranged(lambda state: state.experience, team)
    memories = map_learners(_init_sampler, experiences, _streams(team, "sampler"), static={"sampler": sampler})
    return rearranged(lambda state, memory: state._replace(sampler=memory), team, memories)


def run(
    team: Team,
    deploy: Deploy,
    algorithm: Algorithms,
    sampler: Sampler[Any],
    *,
    num_updates: int,
    deployments: Iterable[int],
    frozen: Collection[LearnerID] = (),
    adapted: Adapted | None = None,
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
        adapted: see `tune_on`.
    """
    for number in deployments:
        logs = deploy(number, policies(team, algorithm))
        team = merge(team, logs, number, algorithm)
        everyone = logs.keys() >= team.keys()  # who need not be taken apart
        there = team if everyone else {learner: state for learner, state in team.items() if learner in logs}
        result = tune_on(there, number, algorithm, sampler, num_updates=num_updates, frozen=frozen, adapted=adapted)
        team = result.team if everyone else {**team, **result.team}
        yield result._replace(team=team)


def algorithm_of(algorithm: Algorithms, agent: AgentID) -> Algorithm[Any]:
    """What one agent learns by."""
    if not isinstance(algorithm, Mapping):
        return algorithm
    require(agent in algorithm, f"algorithm has no entry for agent {agent!r}; name one for every agent")
    return algorithm[agent]


def policies(team: Team, algorithm: Algorithms) -> Mapping[LearnerID, Policy]:
    """The policy that each learner would deploy now; of stacked learners in NumPy, brought over at once."""
    if isinstance(team, Stack):
        learners = rearranged(lambda state: state.learner, team)
        return on_host(map_learners(_policy, learners, static=_by_learner(algorithm)))
    return {learner: algorithm_of(algorithm, learner[1]).policy(state.learner) for learner, state in team.items()}


def merge(team: Team, logs: Logs, number: int, algorithm: Algorithms) -> Team:
    """B^k = B^(k-1) u D^k for every learner that has logs."""
    team = together(team, _kinds(algorithm))
    rows = {who: _prepared(logs[who], algorithm_of(algorithm, who[1])) for who in team if who in logs}
    ends = {who: its.terminals | its.timeouts for who, its in rows.items()}
    if len(rows) < len(team) or not isinstance(team, Stack):
        merged = dict(team)
        for who, its in rows.items():
            experience = team[who].experience.merge(its.transition(), number, ends=ends[who])
            merged[who] = team[who]._replace(experience=experience)
        return together(merged, _kinds(algorithm))
    experiences = team.beside(rearranged(lambda state: state.experience, team))
    sizes = on_host(rearranged(lambda experience: experience.size, experiences))
    new = {}
    for group in experiences.groups:
        outline = group.stacked.outline
        for who in group.learners:
            outline.require_room(len(rows[who]), number, size=int(sizes[who]))
            new[who] = outline.new_rows(rows[who].transition(), ends[who])
    appended = map_learners(_append, experiences, new, dict.fromkeys(team, np.int32(number)), static={}, tables=True)
    return rearranged(
        lambda state, new: state._replace(experience=eqx.tree_at(_changed, state.experience, new)), team, appended
    )


def adapt(team: Team, number: int, algorithm: Algorithms, sampler: Sampler[Any]) -> tuple[Team, Summary]:
    """Let every learner's sampler take in the rows just merged; returns also what it measured."""
    team = together(team, _kinds(algorithm))
    keys = _streams(team, f"adapt/{number}")
    begun = _begin(team, keys, algorithm, sampler)
    adapted = rearranged(lambda state, begun: state._replace(sampler=begun[0]), team, begun)
    measured = on_host(rearranged(lambda begun: dict(begun[1]), begun))
    return adapted, {learner: {name: x.tolist() for name, x in measured[learner].items()} for learner in team}


def _begin(
    team: Team, keys: Mapping[LearnerID, Any], algorithm: Algorithms, sampler: Sampler[Any]
) -> Mapping[LearnerID, tuple[Any, Any]]:
    """`begin_deployment` of every learner. A control begins as its sampler does, by the very same program."""
    if type(sampler) is not Shuffled:
        return map_learners(begin_deployment, team, keys, static=_by_learner(algorithm, sampler=sampler))
    inside = rearranged(lambda state: state.with_memory(state.sampler.of), team)
    return map_learners(_exchange, team, _begin(inside, keys, algorithm, sampler.of), keys, static={"sampler": sampler})


def _exchange(state: AgentState, begun: tuple[Any, Any], key: Any, *, sampler: Shuffled) -> tuple[Any, Any]:
    """The memory of a control whose sampler has begun, and what that measured."""
    return sampler.exchanged(state.sampler, begun[0], state.experience, key=key), begun[1]


def _beginnings(
    state: AgentState, key: Any, algorithm: Algorithm[Any], sampler: Sampler[Any]
) -> Iterator[tuple[Hashable, jax.stages.Traced]]:
    """The programs of `_begin`, each with what it is."""
    if type(sampler) is not Shuffled:
        static = {"algorithm": algorithm, "sampler": sampler}
        yield (algorithm, sampler), compiled(begin_deployment, static).trace(state, key)
        return
    inside = list(_beginnings(state.with_memory(state.sampler.of), key, algorithm, sampler.of))
    yield from inside
    begun = inside[-1][1].out_info
    yield sampler, compiled(_exchange, {"sampler": sampler}).trace(state, begun, key)


def tune_on(
    team: Team,
    number: int,
    algorithm: Algorithms,
    sampler: Sampler[Any],
    *,
    num_updates: int,
    frozen: Collection[LearnerID] = (),
    adapted: Adapted | None = None,
) -> Deployment:
    """Adapt the sampler to the rows just merged, then tune every learner on B^k that is not frozen.

    The memory of a sampler follows the rows, whether its learner learns from them or not. A learner that diverges
    stays as it was, with the memory of its sampler adapted; the others go on. `adapted` is told what samplers measured
    before the first update.
    """
    team, metrics = adapt(team, number, algorithm, sampler)
    if adapted is not None:
        adapted(number, metrics)
    team, measured, diverged = tune_team(team, algorithm, sampler, num_updates, phase=str(number), still=frozen)
    metrics |= {learner: metrics[learner] | its for learner, its in measured.items()}
    return Deployment(number, team, metrics, diverged)


def tune_team(
    team: Team,
    algorithm: Algorithms,
    sampler: Sampler[Any],
    num_updates: int,
    *,
    phase: str,
    first_update: int = 0,
    still: Collection[LearnerID] = (),
    require_rows: bool | None = None,
) -> tuple[Team, Summary, Diverged]:
    """Some updates of every learner, whose sampler has taken in the rows.

    Args:
        team: who learns.
        algorithm: what learns.
        sampler: what draws, by the memories in the team.
        num_updates: how many.
        phase: names the streams: "offline", or the number of a deployment.
        first_update: number of the first.
        still: who is to stay still, and is not measured.
        require_rows: look whether the rows that were drawn are there; as for a sampler of the user's own, unless given.

    Returns:
        The team afterwards, what was measured, up to where a learner diverged, and who did: they stay as they were.
    """
    # those who are stacked move along; what becomes of them is thrown away
    moving = team if isinstance(team, Stack) else {who: state for who, state in team.items() if who not in still}
    # the offline phase ignores the memory of any sampler, and each sampler its own stream's noise
    results = map_learners(
        tune,
        moving,
        _streams(moving, f"sample/{phase}"),
        _streams(moving, f"update/{phase}"),
        dict.fromkeys(moving, jnp.int32(first_update)),
        static=_by_learner(algorithm, sampler=sampler, num_updates=num_updates),
    )
    rows = rearranged(lambda result: result.rows, results)
    if is_theirs(sampler) if require_rows is None else require_rows:
        drawn = on_host(rows)
        for learner in results:
            _require_logged(drawn[learner], team[learner].experience, sampler, learner)
    measured = on_host(rearranged(lambda result: (dict(result.metrics), result.is_finite), results))
    summary: Summary = {}
    diverged: dict[LearnerID, Divergence] = {}
    for learner, (values, is_finite) in measured.items():
        if learner in still:
            continue
        metrics = {name: np.asarray(of_updates, np.float64) for name, of_updates in values.items()}
        found = first_divergence(metrics, is_finite=bool(is_finite))
        if found is None:
            summary[learner] = summarise(metrics)
            continue
        place, reason = found
        batch = batches(team[learner].experience, np.asarray(rows[learner]), place, first_update=first_update)
        diverged[learner] = Divergence(first_update + place, reason, first_update, batch)
        summary[learner] = summarise({name: values[:place] for name, values in metrics.items()}) if place else {}
    tuned = rearranged(
        lambda state, result: state._replace(learner=result.learner, sampler=result.sampler), moving, results
    )
    return kept({*still, *diverged}, team, tuned), summary, diverged


def _require_logged(rows: Any, experience: Experience, sampler: Sampler[Any], learner: LearnerID) -> None:
    """Refuse rows that are not there, in place of which JAX takes others without a word."""
    rows, size = np.asarray(rows), int(experience.size)
    missing = rows[(rows < 0) | (rows >= size)]
    if len(missing):
        raise ConfigError(
            f"{type(sampler).__name__}.sample drew row {missing[0]} for agent {learner[1]!r} under seed {learner[0]}, "
            f"who has rows 0 to {size - 1}; draw from 0 on and below experience.size"
        )


def _by_learner(algorithms: Algorithms, **static: Hashable) -> Callable[[LearnerID], Mapping[str, Hashable]]:
    """What is compiled in for each learner: its algorithm, and what is so for all."""
    return lambda learner: {"algorithm": algorithm_of(algorithms, learner[1]), **static}


def _kinds(algorithms: Algorithms) -> Callable[[LearnerID], Hashable]:
    """Learners of one kind may be stacked."""
    return lambda learner: algorithm_of(algorithms, learner[1])


def _streams(team: Mapping[LearnerID, Any], purpose: str) -> Mapping[LearnerID, Any]:
    """Each learner's random stream for a purpose; of many learners, all in one go."""
    if not isinstance(team, Stack):
        return {learner: stream(learner[0], learner[1], purpose) for learner in team}
    words = team.beside({learner: stream_words(learner[0], learner[1], purpose) for learner in team})
    return map_learners(stream_of, words, static={})


def _prepared(logs: Dataset, algorithm: Algorithm[Any]) -> Dataset:
    return algorithm.prepare(logs) if isinstance(algorithm, Prepares) else logs


def _init_learner(experience: Experience, key: Any, *, algorithm: Algorithm[Any]) -> Any:
    return algorithm.init(experience, key=key)


def _init_sampler(experience: Experience, key: Any, *, sampler: Sampler[Any]) -> Any:
    return sampler.init(experience, key=key)


def _policy(learner: Any, *, algorithm: Algorithm[Any]) -> Policy:
    return algorithm.policy(learner)


def _append(experience: Experience, new: NewRows, number: Any) -> tuple[Any, ...]:
    return _changed(experience.append(new, number))


def _changed(experience: Experience) -> tuple[Any, ...]:
    """What of an experience new rows change."""
    return (
        experience.online_rows,
        experience.online_labels,
        experience.online_ends,
        experience.size,
        experience.online_start,
    )
