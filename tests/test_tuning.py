"""Algorithm 1 from untrained learners to tuned ones, with an algorithm simple enough to follow."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline import tuning
from marline.agent import begin_deployment, stream
from marline.algorithms import BREMEN, CQL, TD3BC
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.divergence import first_divergence
from marline.errors import ConfigError
from marline.samplers import OTC, OnlineMatched, Sampler, Shuffled, Uniform
from marline.tuning import Deployment, LearnerID, Team
from marline.types import Metrics, Policy, Spec, Transition

SPEC = Spec(3, 1)
AGENTS = ("left", "right")  # alike, for such learners share one program
SEEDS = (0, 1)
ROWS = 12  # per deployment
OTC_SMALL = OTC("value", num_candidates=16, num_references=8, batch_size=8, num_estimate=16)
UNIFORM = Uniform(batch_size=8)


class Learner(NamedTuple):
    """A running mean of the observations shown, and of the noise that came with the updates."""

    mean: Array
    noise: Array


class DotPolicy(NamedTuple):
    mean: Array

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return jnp.tanh(self.mean @ observation)[None]


class DotCritic(NamedTuple):
    mean: Array
    gamma: float

    def q(self, observation: Array, action: Array) -> Array:
        return self.mean @ observation

    def v(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return self.mean @ observation


@dataclasses.dataclass(frozen=True)
class Averager:
    """Learns next to nothing, but from its batches and its noise alone."""

    gamma: float = 0.9
    step_size: float = 0.1

    def init(self, experience: Experience, *, key: Array) -> Learner:
        return Learner(jax.random.normal(key, (experience.spec.observation_size,)), jnp.float32(0.0))

    def update(self, state: Learner, batch: Transition, *, key: Array) -> tuple[Learner, Metrics]:
        mean = state.mean + self.step_size * (jnp.mean(batch.observation, axis=0) - state.mean)
        noise = 0.9 * state.noise + jax.random.normal(key)
        metrics = {"critic_loss": jnp.mean(jnp.square(batch.reward)), "mean_q": jnp.mean(batch.reward)}
        return Learner(mean, noise), metrics

    def policy(self, state: Learner) -> DotPolicy:
        return DotPolicy(state.mean)

    def critic(self, state: Learner) -> DotCritic:
        return DotCritic(state.mean, self.gamma)


ALGORITHM = Averager()


def make_logs(agent: str, num: int, seed: int, spec: Spec = SPEC) -> Dataset:
    rng = np.random.default_rng((seed, len(agent)))
    return Dataset(
        observations=rng.normal(size=(num, spec.observation_size)).astype(np.float32),
        actions=rng.uniform(-1, 1, (num, spec.action_size)).astype(np.float32),
        rewards=rng.normal(size=num).astype(np.float32),
        terminals=np.zeros(num, bool),
        timeouts=np.arange(1, num + 1) % 4 == 0,
        next_observations=rng.normal(size=(num, spec.observation_size)).astype(np.float32),
        spec=spec,
    )


def init_team(data: Mapping[str, Dataset] | None = None) -> Team:
    data = data or {agent: make_logs(agent, 40, 0) for agent in AGENTS}
    return tuning.init_team(data, ALGORITHM, seeds=SEEDS, num_deployments=3, rows_per_deployment=ROWS)


def pretrained(team: Team | None = None) -> Team:
    *_, trained = tuning.pretrain(team or init_team(), ALGORITHM, num_updates=6)
    return trained.team


class Fleet:
    """Hands out prepared logs, and remembers who asked for them."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Mapping[LearnerID, Policy]]] = []

    def __call__(self, number: int, policies: Mapping[LearnerID, Policy]) -> dict[LearnerID, Dataset]:
        self.asked.append((number, policies))
        return {(seed, agent): make_logs(agent, ROWS, 100 * seed + number) for seed, agent in policies}


def run(
    team: Team, deployments: Sequence[int], sampler: Sampler[Any] = UNIFORM, fleet: Fleet | None = None
) -> list[Deployment]:
    campaign = tuning.run(team, fleet or Fleet(), ALGORITHM, sampler, num_updates=5, deployments=deployments)
    return list(campaign)


def same(first: object, second: object) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)


def learners(team: Team) -> dict[LearnerID, Learner]:
    return {learner: state.learner for learner, state in team.items()}


def test_every_seed_and_agent_has_a_learner_of_its_own() -> None:
    specs = {"left": SPEC, "right": Spec(5, 2)}
    data = {agent: make_logs(agent, 40, 0, spec) for agent, spec in specs.items()}
    team = init_team(data)
    assert list(team) == [(0, "left"), (0, "right"), (1, "left"), (1, "right")]
    for (_, agent), state in team.items():
        assert state.experience.spec == specs[agent]
        assert state.experience.capacity == 40 + 3 * ROWS
        np.testing.assert_array_equal(state.experience.offline().observation, data[agent].observations)
    assert not same(team[0, "left"].learner, team[1, "left"].learner)
    assert same(learners(team), learners(init_team(data)))


@pytest.mark.parametrize("chunk", [4, *(pytest.param(length, marks=pytest.mark.slow) for length in (1, 6))])
def test_offline_training_does_not_depend_on_its_chunks(chunk: int) -> None:
    whole = learners(pretrained())
    *_, trained = tuning.pretrain(init_team(), ALGORITHM, num_updates=6, chunk=chunk)
    assert trained.updates == 6
    assert same(learners(trained.team), whole)
    assert trained.metrics.keys() == trained.team.keys()


def test_offline_training_goes_on_where_it_stopped() -> None:
    stopped = next(tuning.pretrain(init_team(), ALGORITHM, num_updates=6, chunk=4))
    done, team, *_ = stopped
    assert done == 4
    steps = list(tuning.pretrain(team, ALGORITHM, num_updates=6, first_update=done, chunk=4))
    assert [step.updates for step in steps] == [6]
    assert same(learners(steps[-1].team), learners(pretrained()))
    assert list(tuning.pretrain(team, ALGORITHM, num_updates=4, first_update=4)) == []


def test_learners_are_carried_from_one_deployment_to_the_next() -> None:
    team, fleet = tuning.init_samplers(pretrained(), UNIFORM), Fleet()
    first, second = run(team, [1, 2], fleet=fleet)
    assert (first.number, second.number) == (1, 2)

    # one call at a time gives the same; what samplers measured is told before anybody learns
    told: list[tuple[int, Any]] = []

    def adapted(number: int, measured: Any) -> None:
        told.append((number, {who: dict(its) for who, its in measured.items()}))

    alone = next(tuning.run(team, Fleet(), ALGORITHM, UNIFORM, num_updates=5, deployments=[1], adapted=adapted))
    assert told == [(1, dict.fromkeys(team, {}))]
    assert same(alone.team, first.team)
    assert same(run(alone.team, [2])[0].team, second.team)
    # starting over from the offline team does not, though its rows be merged just the same
    merged = tuning.merge(team, Fleet()(1, tuning.policies(team, ALGORITHM)), 1, ALGORITHM)
    assert same(merged[0, "left"].experience, first.team[0, "left"].experience)
    restarted = run(merged, [2])[0]
    assert same(restarted.team[0, "left"].experience, second.team[0, "left"].experience)
    for learner in team:
        assert not same(restarted.team[learner].learner, second.team[learner].learner)

    # each deployment is of the policies that the one before left behind
    assert [number for number, _ in fleet.asked] == [1, 2]
    for (_, deployed), source in zip(fleet.asked, (team, first.team), strict=True):
        assert same(deployed, tuning.policies(source, ALGORITHM))
    assert not same(fleet.asked[0][1], fleet.asked[1][1])


def test_every_deployment_is_merged() -> None:
    for number, deployment in enumerate(run(tuning.init_samplers(pretrained(), UNIFORM), [1, 2, 3]), start=1):
        for (seed, agent), state in deployment.team.items():
            assert int(state.experience.size) == 40 + number * ROWS
            assert int(state.experience.online_start) == 40 + (number - 1) * ROWS
            fresh = state.experience[jnp.arange(40 + (number - 1) * ROWS, 40 + number * ROWS)]
            np.testing.assert_array_equal(fresh.observation, make_logs(agent, ROWS, 100 * seed + number).observations)


def test_an_agent_does_not_depend_on_the_others() -> None:
    plain = {agent: make_logs(agent, 40, 0) for agent in AGENTS}
    other = {**plain, "right": make_logs("right", 40, 9)}
    results = [
        run(tuning.init_samplers(pretrained(init_team(data)), OTC_SMALL), [1], OTC_SMALL)[0].team
        for data in (plain, other)
    ]
    for seed in SEEDS:
        assert same(results[0][seed, "left"], results[1][seed, "left"])
        assert not same(results[0][seed, "right"].learner, results[1][seed, "right"].learner)


def test_samplers_are_compared_on_equal_noise() -> None:
    offline = pretrained()
    results = []
    for sampler in (UNIFORM, Uniform("online", batch_size=8), OTC_SMALL):
        team = tuning.init_samplers(offline, sampler)
        assert same(learners(team), learners(offline))  # equipping trains nothing
        results.append(learners(run(team, [1], sampler)[0].team))
    for learner in offline:
        first, *others = (result[learner] for result in results)
        for other in others:
            assert same(first.noise, other.noise)
            assert not same(first.mean, other.mean)
    noises = [float(learner.noise) for learner in results[0].values()]
    assert len(set(noises)) == len(noises)  # and every learner has noise of its own


def test_a_control_begins_as_it_would_in_one_program() -> None:
    sampler = Shuffled(OTC("value", num_candidates=8, num_references=4, batch_size=8, num_estimate=8))
    team = tuning.init_samplers(pretrained(), sampler)
    team = tuning.merge(team, {who: make_logs(who[1], ROWS, 1) for who in team}, 1, ALGORITHM)
    begun, measured = tuning.adapt(team, 1, ALGORITHM, sampler)
    begin = jax.jit(functools.partial(begin_deployment, algorithm=ALGORITHM, sampler=sampler))
    for (seed, agent), state in team.items():
        whole, metrics = begin(state, stream(seed, agent, "adapt/1"))
        for first, second in zip(jax.tree.leaves(begun[seed, agent].sampler), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-5)
        assert measured[seed, agent].keys() == metrics.keys()


def test_a_run_repeats_bit_for_bit() -> None:
    team = tuning.init_samplers(pretrained(), OTC_SMALL)
    first, second = (run(team, [1, 2], OTC_SMALL) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert same(one.team, other.team)
        for learner, metrics in one.metrics.items():
            np.testing.assert_equal(metrics, other.metrics[learner])  # NaN equals NaN


def test_metrics_tell_what_was_adapted_and_drawn() -> None:
    for deployment in run(tuning.init_samplers(pretrained(), OTC_SMALL), [1, 2], OTC_SMALL):
        for metrics in deployment.metrics.values():
            assert {"alpha", "alpha_raw", "estimated_distance", "critic_loss", "distinct_rows"} <= metrics.keys()
            shares = [metrics[f"share_{source}"] for source in ("offline", "earlier", "current")]
            assert sum(shares) == pytest.approx(1.0)
            assert deployment.number > 1 or metrics["share_earlier"] == 0


def test_the_control_draws_the_shares_it_is_told() -> None:
    sampler = OnlineMatched(batch_size=64)
    team = tuning.init_samplers(pretrained(), sampler)
    shares = jnp.array([0.25, 0.0, 0.75])
    team = {
        learner: state._replace(sampler=sampler.prescribe(state.sampler, 1, shares)) for learner, state in team.items()
    }
    for metrics in run(team, [1], sampler)[0].metrics.values():
        assert metrics["share_current"] == pytest.approx(0.75, abs=0.1)
        assert metrics["share_earlier"] == 0.0


def test_a_learner_that_diverges_stays_as_it_was_and_no_other_notices() -> None:
    class Broken(Fleet):
        def __call__(self, number: int, policies: Mapping[LearnerID, Policy]) -> dict[LearnerID, Dataset]:
            logs = super().__call__(number, policies)
            if number == 2:
                logs[1, "right"].rewards[:] = np.nan
            return logs

    team = tuning.init_samplers(pretrained(), UNIFORM)
    before, broken = run(team, [1, 2], fleet=Broken())
    _, sound = run(team, [1, 2])
    assert before.diverged == sound.diverged == {} and list(broken.diverged) == [(1, "right")]
    for learner in set(team) - set(broken.diverged):
        assert same(broken.team[learner].learner, sound.team[learner].learner)
        assert broken.metrics[learner] == pytest.approx(sound.metrics[learner], nan_ok=True, rel=0, abs=0)
    assert same(broken.team[1, "right"].learner, before.team[1, "right"].learner)
    assert same(broken.team[1, "right"].experience.size, sound.team[1, "right"].experience.size)
    found = broken.diverged[1, "right"]
    assert found.reason == "critic_loss is nan" and found.kept == 0
    of_update = found.batch["update"] == found.update
    assert of_update.sum() == UNIFORM.batch_size
    assert np.isnan(found.batch["reward"][of_update]).any() and not np.isnan(found.batch["reward"][~of_update]).any()
    assert (np.isnan(found.batch["reward"]) == (found.batch["row"] >= 40 + ROWS)).all()
    if found.update:
        assert np.isfinite(broken.metrics[1, "right"]["critic_loss"])


def test_offline_training_goes_on_without_whom_diverged() -> None:
    data = {agent: make_logs(agent, 40, 0) for agent in AGENTS}
    data["left"].rewards[7] = np.inf
    steps = list(tuning.pretrain(init_team(data), ALGORITHM, num_updates=30, chunk=3))
    diverged = {learner: (step, its) for step in steps for learner, its in step.diverged.items()}
    assert list(diverged) == [(0, "left"), (1, "left")] or list(diverged) == [(1, "left"), (0, "left")]
    wholes = {step.updates: step.team for step in tuning.pretrain(init_team(), ALGORITHM, num_updates=30, chunk=3)}
    wholes[0] = init_team()
    for learner, (step, its) in diverged.items():
        assert its.reason == "critic_loss is inf" and its.kept <= its.update < its.kept + 3 == step.updates
        assert 7 in its.batch["row"][its.batch["update"] == its.update]
        assert same(steps[-1].team[learner].learner, wholes[its.kept][learner].learner)
        assert learner in step.metrics and (step is steps[-1] or learner not in steps[-1].metrics)
    for learner in ((0, "right"), (1, "right")):
        assert same(steps[-1].team[learner].learner, wholes[30][learner].learner)
    first = next(step for step in steps if step.diverged)
    again = tuning.pretrain(
        first.team, ALGORITHM, num_updates=30, first_update=first.updates, chunk=3, stopped=first.diverged
    )
    assert same(learners([*again][-1].team), learners(steps[-1].team))


@pytest.mark.parametrize(
    ("metrics", "is_finite", "found"),
    [
        ({"critic_loss": [1, np.nan, np.nan], "mean_q": [0, 0, 0]}, False, (1, "critic_loss is nan")),
        ({"critic_loss": [1, 1, np.inf], "mean_q": [0, -1.1e6, 0]}, False, (1, "mean_q is -1.1e+06")),
        ({"mean_q": [0, np.inf, 0]}, True, (1, "mean_q is inf")),
        ({"actor_loss": [1, 1, 1], "mean_q": [0, 0, 0]}, False, (2, "its parameters are not finite")),
        ({"critic_loss": [1e30, 1, 1], "mean_q": [-1e6, 0, 0], "td_error_drawn": [np.nan] * 3}, True, None),
    ],
)
def test_what_counts_as_divergence(
    metrics: dict[str, list[float]], is_finite: bool, found: tuple[int, str] | None
) -> None:
    arrays = {name: np.asarray(values, np.float64) for name, values in metrics.items()}
    assert first_divergence(arrays, is_finite=is_finite) == found


@pytest.mark.slow
def test_agents_may_learn_by_different_algorithms() -> None:
    """Each learns as it does in a team of its own kind."""
    other = Averager(step_size=0.5)
    mixed = {"left": ALGORITHM, "right": other}
    results = {}
    for name, algorithm in {"mixed": mixed, "all alike": ALGORITHM, "all the other": other}.items():
        team = tuning.init_team(
            {agent: make_logs(agent, 40, 0) for agent in AGENTS},
            algorithm,
            seeds=(0,),
            num_deployments=1,
            rows_per_deployment=ROWS,
        )
        *_, trained = tuning.pretrain(team, algorithm, num_updates=4)
        deployed = tuning.run(trained.team, Fleet(), algorithm, UNIFORM, num_updates=5, deployments=[1])
        results[name] = learners(next(iter(deployed)).team)
    assert same(results["mixed"][0, "left"], results["all alike"][0, "left"])
    assert same(results["mixed"][0, "right"], results["all the other"][0, "right"])
    assert not same(results["all alike"][0, "right"], results["all the other"][0, "right"])


def test_what_cannot_work_together_is_named_before_anything_is_trained() -> None:
    continuous, discrete = (
        {"a": Experience.outline(spec, num_offline=4, num_deployments=1, rows_per_deployment=4)}
        for spec in (Spec(3, 2), Spec(3, 2, discrete=True))
    )
    samplers = {"uniform": Uniform(), "mine": OTC("value", num_references=4)}
    small = BREMEN(hidden=(4,))
    with pytest.raises(ConfigError, match="mine with BREMEN: d_q compares values"):
        tuning.check_compatible(small, samplers, continuous)
    tuning.check_compatible(small, {"uniform": Uniform(), "mine": OTC("two-stage", num_references=4)}, continuous)
    with pytest.raises(ConfigError, match="CQL needs discrete actions"):
        tuning.check_compatible(CQL(hidden=(4,)), samplers, continuous)
    tuning.check_compatible(CQL(hidden=(4,)), samplers, discrete)
    with pytest.raises(ConfigError, match="TD3\\+BC needs continuous"):
        tuning.check_compatible(
            {"a": CQL(hidden=(4,)), "b": TD3BC(hidden=(4,))}, samplers, discrete | {"b": discrete["a"]}
        )
