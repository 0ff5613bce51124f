"""Durable training by itself: teams that learn next to nothing, on logs that are made up, stopped here and there."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from marline import tuning
from marline.configuration.run_config import RunConfig
from marline.data.checkpoints import read_manifest
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.errors import CorruptionError
from marline.runs import driver as driving
from marline.runs.driver import Driver, Records, of_seed, place_data
from marline.runs.layout import RunDirectory
from marline.runs.replay import is_same, train_again, tune_again
from marline.samplers import Uniform
from marline.tuning import LearnerID, Team
from marline.types import Metrics, Policy, Spec, Transition

SPECS = dict.fromkeys(["left", "right"], Spec(3, 1))  # alike, for such learners share one program
SEEDS = (0, 1)
ROWS = 6
OFFLINE_UPDATES, UPDATES = 10, 2


class Learner(NamedTuple):
    mean: Array
    noise: Array


class Rule(NamedTuple):
    mean: Array

    def __call__(self, observation: Array, *, key: Array, action_mask: Array | None = None) -> Array:
        return jnp.tanh(self.mean @ observation)[None]


@dataclasses.dataclass(frozen=True)
class Averager:
    """The mean of what was observed, and noise; diverges where a reward is out of this world."""

    gamma: float = 0.9

    def init(self, experience: Experience, *, key: Array) -> Learner:
        return Learner(jax.random.normal(key, (experience.spec.observation_size,)), jnp.float32(0.0))

    def update(self, state: Learner, batch: Transition, *, key: Array) -> tuple[Learner, Metrics]:
        mean = state.mean + 0.1 * (jnp.mean(batch.observation, axis=0) - state.mean)
        metrics = {"critic_loss": jnp.mean(jnp.square(batch.reward)), "mean_q": jnp.mean(batch.reward)}
        return Learner(mean, 0.9 * state.noise + jax.random.normal(key)), metrics

    def policy(self, state: Learner) -> Rule:
        return Rule(state.mean)

    def critic(self, state: Learner) -> None:
        return None


def made_up(agent: str, num: int, seed: int, reward: float = 1.0) -> Dataset:
    spec, random = SPECS[agent], np.random.default_rng([seed, len(agent)])
    return Dataset(
        observations=random.normal(size=(num, spec.observation_size)).astype(np.float32),
        actions=random.uniform(-1, 1, (num, spec.action_size)).astype(np.float32),
        rewards=np.full(num, reward, np.float32),
        terminals=np.zeros(num, bool),
        timeouts=np.arange(1, num + 1) % 3 == 0,
        next_observations=random.normal(size=(num, spec.observation_size)).astype(np.float32),
        spec=spec,
    )


def make(folder: Path, *, reward_of_left: float = 1.0, seeds: tuple[int, ...] = SEEDS) -> Driver:
    config = RunConfig(
        task=None,
        algorithm=Averager(),
        samplers={"even": Uniform(batch_size=4)},
        seeds=seeds,
        rows_per_deployment=ROWS,
        offline_updates=OFFLINE_UPDATES,
        deployments=3,
        updates=UPDATES,
    )
    logs = {"left": made_up("left", 12, 0, reward_of_left), "right": made_up("right", 12, 0)}
    return Driver(RunDirectory(folder), config, place_data(config, logs), seeds)


def nothing(driver: Driver) -> Records:
    return {seed: [] for seed in driver.seeds}


def line(driver: Driver, *numbers: int) -> Records:
    return {seed: [{"deployment": number, "agents": {}} for number in numbers] for seed in driver.seeds}


def trained(driver: Driver) -> Team:
    with driver.offline() as training:
        list(training)
        if not training.is_over:
            training.finish(line(driver, 0))
    return training.team


def logged(driver: Driver, number: int, *, without: str | None = None) -> dict[LearnerID, Dataset]:
    """The logs of a deployment, published."""
    for seed, history in driver.histories("even").items():
        logs = {agent: made_up(agent, ROWS, 10 * number + seed) for agent in SPECS if agent != without}
        history.save_logs(number, logs, {})
    return dict(driver.logs("even", number))


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all files, but of those that say with what they were made."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def steps(driver: Driver, sampler: str | None = None) -> dict[int, list[int]]:
    return {seed: history.steps() for seed, history in driver.histories(sampler).items()}


def same(first: Mapping[Any, object], second: Mapping[Any, object]) -> bool:
    pairs = zip(jax.tree.leaves(dict(first)), jax.tree.leaves(dict(second)), strict=True)
    return all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)


def learned(team: Team) -> dict[LearnerID, Learner]:
    return {learner: state.learner for learner, state in team.items()}


@pytest.fixture(autouse=True, scope="module")
def often() -> Iterator[None]:
    """A checkpoint at every second stretch of offline training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driving, "OFFLINE_CHECKPOINT", 2 * UPDATES)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    trained(make(folder))
    return folder


def test_offline_training_leaves_its_last_two_checkpoints_and_tells_how_far_it_is(tmp_path: Path) -> None:
    driver = make(tmp_path)
    with driver.offline() as training:
        assert (training.updates, training.is_over) == (0, False)
        assert list(training) == [2, 4, 6, 8, 10]
        assert steps(driver) == {0: [4, 8], 1: [4, 8]}
        training.finish(line(driver, 0))
    assert steps(driver) == {0: [8, 10], 1: [8, 10]}
    *_, last = tuning.pretrain(driver.untrained(), Averager(), num_updates=OFFLINE_UPDATES)
    assert same(learned(training.team), learned(last.team))
    assert same(learned(driver.trained()), learned(last.team))
    assert [its.records() for its in driver.histories(None).values()] == [[{"deployment": 0, "agents": {}}]] * 2
    before = contents(tmp_path)
    with driver.offline() as again:
        assert again.is_over and list(again) == []
    assert same(learned(again.team), learned(last.team)) and contents(tmp_path) == before


@pytest.mark.parametrize("at", [2, 4, 6, 8])
def test_training_that_was_left_goes_on_from_its_last_checkpoint_to_the_same_bytes(
    at: int, whole: Path, tmp_path: Path
) -> None:
    with make(tmp_path).offline() as training:
        for updates in training:
            if updates == at:
                break
    driver = make(tmp_path)
    with driver.offline() as again:
        assert again.updates == max(0, 4 * ((at - 1) // 4))
    trained(driver)
    last = f"checkpoint-{OFFLINE_UPDATES:07d}"
    assert {name: its for name, its in contents(tmp_path).items() if last in name or "metrics" in name} == {
        name: its for name, its in contents(whole).items() if last in name or "metrics" in name
    }


def test_what_an_interruption_finds_done_is_kept_and_an_error_keeps_nothing(tmp_path: Path) -> None:
    driver = make(tmp_path)
    for error, kept in ((ValueError, []), (KeyboardInterrupt, [2]), (SystemExit, [2, 4])):
        with pytest.raises(error), driver.offline() as training:
            for _ in training:
                raise error
        assert steps(driver) == {0: kept, 1: kept}


def test_a_damaged_checkpoint_of_one_seed_sends_all_back_to_the_one_before(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    file = run / "seed-1/offline/checkpoint-0000010/left/learner.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    driver = make(run)
    with driver.offline() as training:
        assert training.updates == 8 and not training.is_over
    trained(driver)
    assert contents(run) == contents(whole)
    shutil.rmtree(run / "seed-0/offline/checkpoint-0000010")
    with pytest.raises(CorruptionError, match=r"lost the offline team of seeds \(0, 1\); run it again"):
        driver.trained()


def test_who_diverges_offline_is_remembered_and_trained_no_further(tmp_path: Path) -> None:
    driver = make(tmp_path, reward_of_left=1e9, seeds=(0,))
    with pytest.raises(KeyboardInterrupt), driver.offline() as training:
        for _ in training:
            raise KeyboardInterrupt
    assert (tmp_path / "seed-0/offline/diverged/left/batch.safetensors").exists()
    with make(tmp_path, reward_of_left=1e9, seeds=(0,)).offline() as again:
        (entry,) = again.stopped[0].values()
        assert again.stopped == training.stopped and entry["kept"] == 0 and list(again) == [4, 6, 8, 10]
        again.finish(nothing(driver), again.stopped)
    assert same({(0, "left"): again.team[0, "left"].learner}, {(0, "left"): driver.untrained()[0, "left"].learner})
    assert driver.histories(None)[0].stopped_at(OFFLINE_UPDATES) == again.stopped[0]


def test_a_team_comes_back_from_disk_as_it_was_published(tmp_path: Path) -> None:
    driver = make(tmp_path)
    team = driver.begin("even", trained(driver))
    for number in (1, 2, 3):
        asked: list[Mapping[LearnerID, Policy]] = []

        def deploy(number: int, policies: Mapping[LearnerID, Policy], asked: list = asked) -> dict[LearnerID, Dataset]:
            asked.append(policies)
            return logged(driver, number)

        (tuned,) = driver.tune("even", team, deploy, [number])
        assert same(asked[0], tuning.policies(team, Averager())) and tuned.number == number
        team = tuned.team
        driver.publish("even", number, team, line(driver, *range(number + 1)))
        assert same(driver.team_after("even", number, driver.untrained()), team)
    assert steps(driver, "even") == {0: [2, 3], 1: [2, 3]} and driver.common_step("even") == 3
    for seed, history in driver.histories("even").items():
        policies = of_seed(tuning.policies(team, Averager()), seed)
        assert same(history.load_policies(3, policies), policies)
        assert not (history.deployment(3) / "learners").exists() and not (history.folder / "trajectories.json").exists()
    shutil.rmtree(driver.histories("even")[1].deployment(2) / "logs")
    with pytest.raises(CorruptionError, match="seed-1/even lost the logs of deployment 2; put them back"):
        driver.team_after("even", 3, driver.untrained())


def test_a_deployment_without_its_checkpoint_is_made_again_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = make(tmp_path)
    start = driver.begin("even", trained(driver))

    def tune() -> None:
        (tuned,) = driver.tune("even", start, lambda number, _: driver.logs("even", number), [1])
        shown = {seed: {"before": seed} for seed in SEEDS}
        ledger = {"number": 2, "told": "what"}
        driver.publish("even", 1, tuned.team, line(driver, 0, 1), learners=True, trajectories=shown, ledger=ledger)

    logged(driver, 1)
    with monkeypatch.context() as patch:
        patch.setattr(driving.History, "save", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tune()
    assert steps(driver, "even") == {0: [], 1: []}
    left = contents(tmp_path)
    published = ("deployment-01/policies/manifest.json", "deployment-01/learners/manifest.json", "trajectories.json")
    assert all(f"seed-{seed}/even/{name}" in left for seed in SEEDS for name in published)
    tune()
    assert {name: its for name, its in contents(tmp_path).items() if name in left} == left
    for history in driver.histories("even").values():
        assert read_manifest(history.checkpoint(1))["made_from"]["ledger"] == {"number": 2, "told": "what"}


def test_who_sits_a_deployment_out_keeps_rows_and_policy_and_who_is_frozen_the_policy(tmp_path: Path) -> None:
    driver = make(tmp_path)
    start = driver.begin("even", trained(driver))
    (usual,) = driver.tune("even", start, lambda number, _: logged(driver, number), [1])
    frozen = [(0, "left")]
    (tuned,) = driver.tune("even", start, lambda number, _: driver.logs("even", number), [1], frozen=frozen)
    assert list(tuned.team) == list(tuned.metrics) == list(start)
    for learner, state in tuned.team.items():
        its = start if learner in frozen else usual.team
        assert same({learner: state.learner}, {learner: its[learner].learner})
        assert int(state.experience.size) == 12 + ROWS

    without = tmp_path / "without"
    shutil.copytree(tmp_path / "seed-0", without / "seed-0")
    shutil.copytree(tmp_path / "seed-1", without / "seed-1")
    other = make(without)
    shutil.rmtree(without / "seed-0/even")
    shutil.rmtree(without / "seed-1/even")
    (tuned,) = other.tune("even", start, lambda number, _: logged(other, number, without="left"), [1])
    assert list(tuned.metrics) == [(0, "right"), (1, "right")]
    for learner, state in tuned.team.items():
        its = start if learner[1] == "left" else usual.team
        assert same({learner: state}, {learner: its[learner]})
    other.publish("even", 1, tuned.team, line(other, 0, 1))
    assert same(other.team_after("even", 1, other.untrained()), tuned.team)


def test_the_batch_of_who_diverges_is_kept_and_the_others_are_tuned(tmp_path: Path) -> None:
    driver = make(tmp_path, seeds=(0,))
    start = driver.begin("even", trained(driver))
    bad = {(0, agent): made_up(agent, ROWS, 10, 1e12 if agent == "left" else 1.0) for agent in SPECS}
    (tuned,) = driver.tune("even", start, lambda *_: bad, [1])
    (entry,) = tuned.stopped[0].values()
    assert list(tuned.stopped[0]) == ["left"] and "left/batch" in entry["batch"]
    assert (tmp_path / entry["batch"]).exists() and "seed-0/even/deployment-01/diverged" in entry["batch"]
    assert same({(0, "left"): tuned.team[0, "left"].learner}, {(0, "left"): start[0, "left"].learner})
    assert not same({(0, "right"): tuned.team[0, "right"].learner}, {(0, "right"): start[0, "right"].learner})


def test_what_is_served_is_computed_again_and_other_bytes_are_told(tmp_path: Path) -> None:
    driver = make(tmp_path)
    offline = trained(driver)
    start = driver.begin("even", offline)
    (tuned,) = driver.tune("even", start, lambda number, _: logged(driver, number), [1])
    driver.publish("even", 1, tuned.team, line(driver, 0, 1), learners=True)
    before = contents(tmp_path)
    again = train_again(driver, OFFLINE_UPDATES)
    assert is_same(driver, 1, None, OFFLINE_UPDATES, again) == {"left": True, "right": True}
    assert is_same(driver, 1, "even", 1, tune_again(driver, "even", 1, start)) == {"left": True, "right": True}
    other = tune_again(driver, "even", 1, start, frozen=[(1, "right")])
    assert is_same(driver, 1, "even", 1, other) == {"left": True, "right": False}
    assert is_same(driver, 0, "even", 1, other) == {"left": True, "right": True}
    assert contents(tmp_path) == before
    file = tmp_path / "seed-0/even/deployment-01/policies/left.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CorruptionError, match=r"left\.safetensors"):
        is_same(driver, 0, "even", 1, other)
