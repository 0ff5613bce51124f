"""Learners stacked from end to end: each gets what it would alone, and what is done for all does not grow with them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stacked_teams import AGENTS, ALGORITHM, REFRESHED, ROWS, close, deploy, make_logs, primitives, program, team_of

from marline import population, tuning
from marline.agent import tune
from marline.algorithms import TD3BC
from marline.configuration.run_config import RunConfig
from marline.population import Stack, outlines, stacked
from marline.runs.creation import start_run
from marline.runs.driver import Driver
from marline.samplers import OnlineMatched, ReturnWeighted, Shuffled, Uniform
from marline.study.engines import make_engine


def campaign(team: tuning.Team, sampler: Any) -> list[tuning.Deployment]:
    for trained in tuning.pretrain(team, ALGORITHM, num_updates=8, chunk=4):
        team = trained.team
    team = tuning.init_samplers(team, sampler)
    return list(tuning.run(team, deploy, ALGORITHM, sampler, num_updates=6, deployments=[1, 2]))


@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(Uniform(batch_size=8), id="uniform"),
        pytest.param(Shuffled(REFRESHED), id="shuffled"),
    ],
)
@pytest.mark.slow
def test_a_campaign_is_what_it_would_be_one_by_one(sampler: Any) -> None:
    """Agents of two shapes, two of them alike, under two seeds."""
    results = []
    for way in (False, True):
        with stacked(way):
            results.append(campaign(team_of(2, *AGENTS), sampler))
    for alone, together in zip(*results, strict=True):
        assert isinstance(alone.team, dict) and isinstance(together.team, Stack)
        assert list(alone.team) == list(together.team)
        assert [group.size for group in together.team.groups] == [(2, 2), (1, 2)]
        for learner, state in alone.team.items():
            close(state, together.team[learner])
        close(alone.metrics, together.metrics)


@pytest.mark.slow
def test_what_is_shared_is_held_once_for_an_agent_or_for_all() -> None:
    sampler = Uniform(batch_size=8)
    with stacked(True):
        for deployment in campaign(team_of(3, *AGENTS), sampler):
            assert isinstance(deployment.team, Stack)
            both, single = (group.stacked.tree for group in deployment.team.groups)
            assert both.experience.offline_rows.shape == (2, 40, 16) and single.experience.offline_rows.shape[0] == 40
            assert both.experience.online_rows.shape == (2, 3, 2 * ROWS, 16)
            assert both.experience.online_labels.shape == (2 * ROWS,)
            for count in (both.experience.size, both.experience.online_start, both.learner.num_updates):
                assert count.shape == ()
            assert both.learner.actor.opt_state[0].count.shape == ()


@pytest.mark.slow
def test_who_diverges_stays_as_it_was_and_nobody_is_restacked() -> None:
    data = {agent: make_logs(agent, 40, 0) for agent in ("left", "middle")}
    data["left"].rewards[:] = np.inf
    finals = []
    for way in (False, True):
        with stacked(way):
            team = tuning.init_team(data, ALGORITHM, seeds=(0, 1), num_deployments=1, rows_per_deployment=ROWS)
            untrained = {learner: team[learner].learner for learner in team}
            steps = list(tuning.pretrain(team, ALGORITHM, num_updates=6, chunk=2))
            assert [set(step.diverged) for step in steps] == [{(0, "left"), (1, "left")}, set(), set()]
            assert set(steps[1].metrics) == {(0, "middle"), (1, "middle")}
            finals.append(steps[-1].team)
            for seed in (0, 1):
                close(finals[-1][seed, "left"].learner, untrained[seed, "left"], 0.0)
                assert int(finals[-1][seed, "middle"].learner.num_updates) == 6
                assert int(finals[-1][seed, "left"].learner.num_updates) == 0
    assert isinstance(finals[1], Stack) and [group.size for group in finals[1].groups] == [(2, 2)]
    for learner in finals[0]:
        close(finals[0][learner], finals[1][learner])


def test_logs_of_different_lengths_are_merged() -> None:
    with stacked(True):
        team = team_of(2)
        logs = {(seed, "left"): make_logs("left", ROWS - seed, seed) for seed in (0, 1)}
        team = tuning.merge(team, logs, 1, ALGORITHM)
        assert [int(team[seed, "left"].experience.size) for seed in (0, 1)] == [40 + ROWS, 40 + ROWS - 1]
        for seed in (0, 1):
            fresh = team[seed, "left"].experience[jnp.arange(40, 40 + ROWS - 1)]
            np.testing.assert_array_equal(fresh.observation, logs[seed, "left"].observations[: ROWS - 1])


@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(Uniform(batch_size=8), id="uniform"),
        pytest.param(REFRESHED, id="refreshed", marks=pytest.mark.slow),
    ],
)
def test_what_is_due_now_and_then_stays_a_branch(sampler: Any) -> None:
    """The delayed actor, a look at TD errors, a refresh: as many branches as for one learner alone."""
    with stacked(True):
        team = tuning.init_samplers(team_of(3), sampler)
        counts, _ = program(team, sampler)
    one = outlines(team)[0, "left"]
    key = jax.eval_shape(lambda: jax.random.key(0))
    static = {"algorithm": ALGORITHM, "sampler": sampler, "num_updates": 4}
    alone = Counter(primitives(population.compiled(tune, static).trace(one, key, key, jnp.int32(0)).jaxpr))
    assert counts["cond"] == alone["cond"] == (2 if sampler.__class__ is Uniform else 3)
    # nothing is computed on both sides and then chosen from
    assert counts["select_n"] <= alone["select_n"] + 2
    # rows are counted once for all updates, outside of the loop
    assert counts["sort"] == alone["sort"]


@pytest.mark.parametrize("sampler", [Uniform(batch_size=8), REFRESHED], ids=["uniform", "refreshed"])
@pytest.mark.slow
def test_a_program_is_as_long_for_many_learners_as_for_few(sampler: Any) -> None:
    with stacked(True):
        few, many = (program(tuning.init_samplers(team_of(number), sampler), sampler) for number in (3, 12))
    assert few == many


@pytest.mark.slow
def test_the_host_does_as_much_for_many_learners_as_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of compiled programs, transfers to the host and traces of a deployment."""
    sampler, counted = REFRESHED, Counter[str]()
    fetch, over_learners = jax.device_get, population._over_learners

    def counting_fetch(tree: Any) -> Any:
        counted["transfers"] += bool(jax.tree.leaves(tree))
        return fetch(tree)

    def counting_program(function: Any, static: Any) -> Any:
        counted["calls"] += 1
        return over_learners(function, static)

    monkeypatch.setattr(jax, "device_get", counting_fetch)
    monkeypatch.setattr(population, "_over_learners", counting_program)
    found = []
    for number in (3, 12):
        with stacked(True):
            team = tuning.init_samplers(team_of(number), sampler)
            logs = deploy(1, tuning.policies(team, ALGORITHM))
            counted.clear()
            team = tuning.merge(team, logs, 1, ALGORITHM)
            result = tuning.tune_on(team, 1, ALGORITHM, sampler, num_updates=2)
            tuning.policies(result.team, ALGORITHM)
            found.append(dict(counted))
    assert found[0] == found[1]
    assert found[0]["calls"] == 7  # append; a key, begin; two keys, tune; policies


@pytest.mark.slow
def test_one_program_serves_all_chunks_of_offline_training() -> None:
    """What an update changes is held after it as before it."""
    traced: list[int] = []

    @dataclasses.dataclass(frozen=True)
    class Traced(TD3BC):
        def update(self, state: Any, batch: Any, *, key: Any) -> Any:
            traced.append(1)
            return super().update(state, batch, key=key)

    algorithm = Traced(hidden=(4,))
    data = {"left": make_logs("left", 40, 0)}
    with stacked(True):
        team = tuning.init_team(data, algorithm, seeds=(0, 1), num_deployments=1, rows_per_deployment=ROWS)
        training = tuning.pretrain(team, algorithm, num_updates=6, chunk=2)
        next(training)
        once = len(traced)
        assert len(list(training)) == 2
    assert len(traced) == once


BY_PLAN: dict[str, Any] = {
    "uniform": Uniform(batch_size=8),
    "online-only": Uniform("online", batch_size=8),
    "by-return": ReturnWeighted(batch_size=8),
}
OF_ALL_KINDS = {
    **BY_PLAN,
    "otc": REFRESHED,
    "otc-shuffled": Shuffled(REFRESHED),
    "matched": OnlineMatched(batch_size=8),
}


def study(folder: Path, task: str, samplers: dict[str, Any]) -> RunConfig:
    config = RunConfig(
        task=task,
        algorithm=TD3BC(hidden=(4,)),
        samplers=samplers,
        matches={"matched": "otc"} if "matched" in samplers else {},
        seeds=(0, 1),
        dataset_size=200,
        rows_per_deployment=60,
        offline_updates=4,
        deployments=2,
        updates=4,
        evaluation_episodes=3,
    )
    return start_run(folder, config)


def measured(folder: Path, samplers: dict[str, Any]) -> list[dict[str, Any]]:
    lines = [
        json.loads(line)
        for seed in (0, 1)
        for name in ("offline", *samplers)
        for line in (folder / f"seed-{seed}" / name / "metrics.jsonl").read_text("utf-8").splitlines()
    ]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize(
    ("task", "samplers"),
    [
        pytest.param("drifting-navigation", {"by-return": BY_PLAN["by-return"]}, id="world"),
        pytest.param("hopper-3x1", {"uniform": BY_PLAN["uniform"]}, id="simulator", marks=pytest.mark.slow),
        pytest.param("hopper-3x1", BY_PLAN, id="simulator, by plan", marks=pytest.mark.slow),
        pytest.param("drifting-navigation", OF_ALL_KINDS, id="world, of all kinds", marks=pytest.mark.slow),
    ],
)
def test_a_study_is_what_it_would_be_one_by_one(
    task: str, samplers: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A world written in JAX, and a simulator."""
    if task == "hopper-3x1":
        pytest.importorskip("mujoco")
    records, calls = [], []
    over_learners = population._over_learners
    monkeypatch.setattr(population, "_over_learners", lambda *its: calls.append(way) or over_learners(*its))
    for way in (False, True):
        folder = tmp_path / str(way)
        with stacked(way):
            make_engine("local").run(folder, study(folder, task, samplers), [[0, 1]], lambda *_: None)
        records.append(measured(folder, samplers))
    assert set(calls) == {True}
    assert len(records[0]) == 2 * (1 + 3 * len(samplers))
    assert jax.tree.structure(records[0]) == jax.tree.structure(records[1])
    close(records[0], records[1], 2e-2)


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the checkpoints of two samplers, of which one is then a deployment ahead."""
    samplers = BY_PLAN
    publish, published = Driver.publish, []

    def dying(driver: Driver, *given: Any, **named: Any) -> None:
        if len(published) == 4:  # the second deployment of the first sampler is there
            raise KeyboardInterrupt
        publish(driver, *given, **named)
        published.append(given[:2])

    records = []
    with stacked(True):
        for folder in (tmp_path / "whole", tmp_path / "killed"):
            config = study(folder, "drifting-navigation", samplers)
            if folder.name == "killed":
                monkeypatch.setattr(Driver, "publish", dying)
                with pytest.raises(KeyboardInterrupt):
                    make_engine("local").run(folder, config, [[0, 1]], lambda *_: None)
                assert published == [(name, 1) for name in samplers] + [("uniform", 2)]
                monkeypatch.setattr(Driver, "publish", publish)
            make_engine("local").run(folder, config, [[0, 1]], lambda *_: None)
            records.append(measured(folder, samplers))
    assert records[0] == records[1]
