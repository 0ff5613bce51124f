"""Samplers whose learners are tuned side by side by one program: all seeds and agents of them are one stack.

Samplers that differ in what they draw by, and not in how, are one program with other data. What takes in the rows of
a deployment is each sampler's own; the thousands of updates after it are in common. No learner gets anything else than
it would alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from marline.agent import AgentState
from marline.data.experience import Experience
from marline.population import map_learners, on_host, outlines, part, rearranged, renamed, side_by_side, together
from marline.samplers import Sampler, Shuffled, draws_by_plan
from marline.samplers.draw_plan import ByPlan, DrawPlan, completed
from marline.samplers.shuffled import State as ShuffledState
from marline.trial import is_theirs
from marline.tuning import Algorithms, Diverged, Logs, Summary, Team, adapt, algorithm_of, merge, policies, tune_team
from marline.types import Policy

Memories = Mapping[Any, Any]  # of one sampler, by learner


class Cohort(NamedTuple):
    """The learners of some samplers, which one program tunes.

    Attributes:
        samplers: by name.
        program: what draws for all of them between two deployments.
        team: by seed, agent and name of the sampler; without memories.
        memories: of each sampler, by the same.
    """

    samplers: Mapping[str, Sampler[Any]]
    program: Sampler[Any]
    team: Team
    memories: Mapping[str, Memories]


class Tuned(NamedTuple):
    """A cohort after a deployment, what was measured of each learner, and who diverged."""

    cohort: Cohort
    metrics: Summary
    diverged: Diverged


def programs(samplers: Mapping[str, Sampler[Any]]) -> dict[str, Sampler[Any]]:
    """What each sampler is while learners are tuned; samplers that are the same then may be tuned together.

    Those that draw by a plan are one program, if there are two of them or more with batches of one size. Any other is
    one with its shuffled control: it is shuffled, too, but so that every row stands for itself.
    """
    planned = [sampler.batch_size for sampler in samplers.values() if draws_by_plan(sampler)]
    found: dict[str, Sampler[Any]] = {}
    for name, sampler in samplers.items():
        found[name] = sampler
        if draws_by_plan(sampler):
            if planned.count(sampler.batch_size) > 1:
                found[name] = ByPlan(sampler.batch_size)
        elif any(isinstance(one, Shuffled) and one.of == sampler for one in samplers.values()):
            found[name] = Shuffled(sampler)
    return found


def assemble(samplers: Mapping[str, Sampler[Any]], program: Sampler[Any], teams: Mapping[str, Team]) -> Cohort:
    """A cohort of teams that have come equally far: by name of the sampler, and with its memory, as tuning has them.

    What they have in common, as the offline rows of an agent, should be the same arrays.
    """
    named = {name: renamed(team, functools.partial(_member, name)) for name, team in teams.items()}
    bare = [rearranged(lambda state: state._replace(sampler=()), team) for team in named.values()]
    team = side_by_side(bare, shared=lambda state: state.experience)
    memories = {name: rearranged(lambda state: state.sampler, its) for name, its in named.items()}
    return Cohort(dict(samplers), program, team, memories)


def tune_cohort(cohort: Cohort, logs: Logs, number: int, algorithm: Algorithms, *, num_updates: int) -> Tuned:
    """Merge the logs of a deployment, let every sampler take them in, and tune all learners at once.

    Args:
        cohort: as it came out of the deployment before.
        logs: of every learner.
        number: of the deployment.
        algorithm: what learns; for all agents, or by agent.
        num_updates: L.
    """
    # where there is one learner of each sampler, those of all are stacked from here on
    team = merge(together(cohort.team, lambda who: algorithm_of(algorithm, who[1])), logs, number, algorithm)
    memories: dict[str, Memories] = {}
    metrics: Summary = {}
    for name, sampler in cohort.samplers.items():
        its = rearranged(AgentState.with_memory, _of(team, name), cohort.memories[name])
        its, measured = adapt(its, number, algorithm, sampler)
        memories[name] = rearranged(lambda state: state.sampler, its)
        metrics |= measured
    drawing = side_by_side(_to_program(cohort, memories, team))
    moving = rearranged(AgentState.with_memory, team, drawing)
    moved, measured, diverged = tune_team(
        moving,
        algorithm,
        cohort.program,
        num_updates,
        phase=str(number),
        require_rows=any(map(is_theirs, cohort.samplers.values())),
    )
    metrics |= {who: metrics[who] | its for who, its in measured.items()}
    after = {name: _from_program(cohort, name, memories[name], _of(moved, name)) for name in memories}
    team = rearranged(lambda state: state._replace(sampler=()), moved)
    return Tuned(cohort._replace(team=team, memories=after), metrics, diverged)


def policies_of(cohort: Cohort, algorithm: Algorithms) -> dict[str, dict[int, dict[str, Policy]]]:
    """The policies that each team would deploy now, by sampler and seed."""
    found: dict[str, dict[int, dict[str, Policy]]] = {name: {} for name in cohort.samplers}
    for (seed, agent, name), policy in policies(cohort.team, algorithm).items():
        found[name].setdefault(seed, {})[agent] = policy
    return found


def to_write(cohort: Cohort) -> dict[str, dict[int, dict[str, AgentState]]]:
    """Learners and memories on the host, by sampler and seed, without rows."""
    states = on_host(rearranged(lambda state: state._replace(experience=None), cohort.team))
    memories = {name: on_host(its) for name, its in cohort.memories.items()}
    found: dict[str, dict[int, dict[str, AgentState]]] = {name: {} for name in cohort.samplers}
    for (seed, agent, name), state in states.items():
        found[name].setdefault(seed, {})[agent] = state.with_memory(memories[name][seed, agent, name])
    return found


def _member(name: str, learner: Any) -> tuple[int, str, str]:
    return (*learner[:2], name)


def _of(team: Team, name: str) -> Team:
    """The learners of one sampler."""
    return part(team, {who for who in team if who[-1] == name})


def _to_program(cohort: Cohort, memories: Mapping[str, Memories], team: Team) -> Sequence[Memories]:
    """What the program draws by for each sampler, made of their memories."""
    if isinstance(cohort.program, ByPlan):
        forms = [
            jax.eval_shape(sampler.plan, *(next(iter(outlines(its).values())) for its in (memories[name], _rows(team))))
            for name, sampler in cohort.samplers.items()
            if draws_by_plan(sampler)
        ]
        form = {what: any(getattr(plan, what) is not None for plan in forms) for what in ("table", "stand_in")}
        return [
            map_learners(_plan, memories[name], _rows(_of(team, name)), static={"sampler": sampler, **form})
            for name, sampler in cohort.samplers.items()
        ]
    return [
        its
        if cohort.samplers[name] == cohort.program
        else map_learners(_standing_for_itself, its, _rows(_of(team, name)), static={})
        for name, its in memories.items()
    ]


def _from_program(cohort: Cohort, name: str, before: Memories, moved: Team) -> Memories:
    """The memory of a sampler after its learners were tuned."""
    if isinstance(cohort.program, ByPlan):
        return before  # a plan says all, and drawing by it changes nothing
    own = cohort.samplers[name] == cohort.program
    return rearranged(lambda state: state.sampler if own else state.sampler.of, moved)


def _rows(team: Team) -> Mapping[Any, Experience]:
    return rearranged(lambda state: state.experience, team)


def _plan(memory: Any, experience: Experience, *, sampler: Any, table: bool, stand_in: bool) -> DrawPlan:
    return completed(sampler.plan(memory, experience), experience, table=table, stand_in=stand_in)


def _standing_for_itself(memory: Any, experience: Experience) -> ShuffledState:
    return ShuffledState(memory, jnp.arange(experience.capacity, dtype=jnp.int32))
