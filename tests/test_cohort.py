"""Samplers that are tuned by one program: each learner gets what it would alone, and the program is one."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from stacked_teams import ALGORITHM, REFRESHED, close, deploy, program, team_of

from marline import population, tuning
from marline.agent import AgentState
from marline.cohort import Cohort, _to_program, assemble, policies_of, programs, to_write, tune_cohort
from marline.population import Stack, stacked
from marline.samplers import FreshShare, OnlineMatched, Oracle, ReturnWeighted, Shuffled, Uniform
from marline.samplers.draw_plan import ByPlan

PLANNED: dict[str, Any] = {
    "uniform": Uniform(batch_size=8),
    "online-only": Uniform("online", batch_size=8),
    "fresh": FreshShare(0.3, batch_size=8),
    "matched": OnlineMatched(batch_size=8),
    "by return": ReturnWeighted(batch_size=8),
    "by return, shuffled": Shuffled(ReturnWeighted(batch_size=8)),
}
SOME = {name: PLANNED[name] for name in ("fresh", "matched", "by return, shuffled")}
PAIR: dict[str, Any] = {"otc": REFRESHED, "otc, shuffled": Shuffled(REFRESHED)}


def started(team: tuning.Team, sampler: Any) -> tuning.Team:
    team = tuning.init_samplers(team, sampler)
    if not isinstance(sampler, OnlineMatched):
        return team
    shares = jnp.array([[0.5, 0.0, 0.5], [0.2, 0.3, 0.5]])
    memories = {who: team[who].sampler._replace(shares=shares) for who in team}
    return population.rearranged(lambda state, memory: state.with_memory(memory), team, memories)


def together(team: tuning.Team, samplers: dict[str, Any]) -> Cohort:
    (program,) = set(programs(samplers).values())
    return assemble(samplers, program, {name: started(team, sampler) for name, sampler in samplers.items()})


def logs_of(number: int, team: tuning.Team, name: str) -> Any:
    """Teams of different samplers log different rows."""
    return deploy(number + 10 * len(name), team)


@pytest.mark.parametrize(
    ("samplers", "agents"),
    [
        (SOME, ("left",)),
        (PLANNED, ("left", "middle", "right")),
        (PAIR, ("left",)),
    ],
    ids=["some by plan", "all by plan", "with its control"],
)
@pytest.mark.slow
def test_each_gets_what_it_would_alone(samplers: dict[str, Any], agents: tuple[str, ...]) -> None:
    """Two deployments, two seeds; also agents of two shapes."""
    with stacked(False):
        team = team_of(2, *agents)
        alone = {}
        for name, sampler in samplers.items():
            of_name, its = started(team, sampler), None
            for number in (1, 2):
                of_name = tuning.merge(of_name, logs_of(number, of_name, name), number, ALGORITHM)
                its = tuning.tune_on(of_name, number, ALGORITHM, sampler, num_updates=5)
                of_name = its.team
            alone[name] = its
    with stacked(True):
        cohort, tuned = together(team_of(2, *agents), samplers), None
        for number in (1, 2):
            logs = {
                (*who, name): its for name in samplers for who, its in logs_of(number, alone[name].team, name).items()
            }
            tuned = tune_cohort(cohort, logs, number, ALGORITHM, num_updates=5)
            cohort = tuned.cohort
        assert tuned is not None and isinstance(cohort.team, Stack)
        assert not tuned.diverged
        written, acting = to_write(cohort), policies_of(cohort, ALGORITHM)
        for name, its in alone.items():
            for (seed, agent), state in its.team.items():
                close(written[name][seed][agent].learner, state.learner)
                close(written[name][seed][agent].sampler, state.sampler)
                close(tuned.metrics[seed, agent, name], its.metrics[seed, agent])
                close(acting[name][seed][agent], ALGORITHM.policy(state.learner))


@pytest.mark.slow
def test_the_program_is_as_long_for_many_samplers_as_for_few() -> None:
    """Primitive by primitive, with as many outputs: what differs are the arrays."""
    with stacked(True):
        team, found = team_of(2), []
        for names in (("fresh", "by return, shuffled"), tuple(PLANNED)):
            cohort = together(team, {name: PLANNED[name] for name in names})
            memories = {name: its for name, its in cohort.memories.items()}
            drawing = population.side_by_side(_to_program(cohort, memories, cohort.team))
            found.append(program(population.rearranged(AgentState.with_memory, cohort.team, drawing), cohort.program))
    assert found[0] == found[1]


def test_samplers_by_a_plan_are_one_program_and_a_control_one_with_its_sampler() -> None:
    found = programs({**PLANNED, **PAIR, "other batches": Uniform(batch_size=4)})
    assert {found[name] for name in PLANNED} == {ByPlan(8)}
    assert {found[name] for name in PAIR} == {Shuffled(REFRESHED)}
    assert found["other batches"] == Uniform(batch_size=4)
    assert programs({"one": Uniform(), "otc": REFRESHED}) == {"one": Uniform(), "otc": REFRESHED}


@pytest.mark.parametrize("agents", [("left", "middle"), ("left",)])
@pytest.mark.slow
def test_offline_rows_are_held_once_for_an_agent(agents: tuple[str, ...]) -> None:
    """With one seed, too, when they share nothing until samplers come in."""
    with stacked(True):
        samplers = {"uniform": Uniform(batch_size=8), "weighted": Oracle(batch_size=8)}
        cohort = together(team_of(1, *agents), samplers)
        logs = {who: its for name in samplers for who, its in named(deploy(1, team_of(1, *agents)), name)}
        for team in (cohort.team, tune_cohort(cohort, logs, 1, ALGORITHM, num_updates=1).cohort.team):
            if not isinstance(team, Stack):
                assert len(agents) == 1
                continue
            (group,) = team.groups
            rows = group.stacked.tree.experience.offline_rows
            assert rows.shape == ((2, 40, 16) if len(agents) == 2 else (40, 16))
            assert group.size == (len(agents), 2)


def named(logs: Any, name: str) -> list[Any]:
    return [((*who, name), its) for who, its in logs.items()]


@pytest.mark.slow
def test_who_diverges_stays_as_it_was_and_others_go_on() -> None:
    samplers = {"uniform": Uniform(batch_size=8), "fresh": FreshShare(batch_size=8)}
    with stacked(True):
        team = team_of(2)
        cohort = together(team, samplers)
        logs = {who: its for name in samplers for who, its in named(deploy(1, team), name)}
        bad = logs[0, "left", "fresh"]
        bad.rewards[:] = np.inf
        before = to_write(cohort)
        tuned = tune_cohort(cohort, logs, 1, ALGORITHM, num_updates=4)
        after = to_write(tuned.cohort)
    assert set(tuned.diverged) == {(0, "left", "fresh")}
    close(after["fresh"][0]["left"].learner, before["fresh"][0]["left"].learner, 0.0)
    assert int(after["fresh"][1]["left"].learner.num_updates) == 4
    assert int(after["uniform"][0]["left"].learner.num_updates) == 4
