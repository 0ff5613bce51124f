"""A study: one task, one algorithm, several samplers and seeds, in one run directory; see `runs.layout`.

What is here is what a study does with the driver that it has in common with a campaign: it plays the deployments,
evaluates every team, and tells a control what the sampler that it matches drew.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from marline import tuning
from marline.configuration.run_config import RunConfig
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.display.shell import command
from marline.envs import Task, make_task
from marline.errors import ConfigError
from marline.population import rearranged
from marline.rollouts.collection import side_by_side
from marline.rollouts.partners import require_joint_logs, require_partners, true_log_ratios
from marline.runs.driver import Driver, Records, Stopped, of_seed, place_data
from marline.runs.layout import RunDirectory, checkpoint_steps
from marline.runs.records import Record
from marline.runs.replay import is_same, train_again, tune_again
from marline.runs.world_keys import world_key
from marline.samplers import OnlineMatched, trains
from marline.samplers.oracle import oracle_in, prescribed
from marline.study.playing import measure, play_deployment, show
from marline.tuning import Inform, LearnerID, Logs, Team
from marline.types import AgentID, Policy

Step = tuple[str, int]  # what is going on, and how many updates were just done


def run_seeds(
    folder: Path, config: RunConfig, experiences: Mapping[AgentID, Experience], seeds: Sequence[int]
) -> Iterator[Step]:
    """Run or finish every sampler for some seeds, side by side; what is on disk is not done again."""
    for group in _abreast(folder, config, seeds):
        study = _Study(folder, config, experiences, group)
        team = yield from study.offline()
        for name in config.samplers:
            yield from study.tune(team, name)


def run_part(
    folder: Path, config: RunConfig, data: Mapping[AgentID, Dataset], seed: int, sampler: str | None
) -> Iterator[Step]:
    """Run or finish one sampler of one seed, or its offline training, without which no sampler can begin.

    Args:
        folder: has what the part builds on: for a sampler the offline team, for a control also what it matches.
        config: of the study.
        data: the offline logs.
        seed: of the learners.
        sampler: its name; None is the offline training.
    """
    study = _Study(folder, config, place_data(config, dict(data)), (seed,))
    if sampler is None:
        yield from study.offline()
    else:
        yield from study.tune(study.driver.trained(), sampler)


def replay(
    folder: Path, config: RunConfig, data: Mapping[AgentID, Dataset], seed: int, sampler: str | None
) -> dict[AgentID, bool]:
    """Compute again what a part computed last, changing nothing: whether what is served has the same bytes.

    Args:
        folder, config, data, seed, sampler: as of `run_part`.

    Returns:
        By agent, whether its policy and its learner are those in the run directory; nothing for a part that has not
        come to its first checkpoint.
    """
    study = _Study(folder, config, place_data(config, dict(data)), (seed,))
    step = study.driver.common_step(sampler) or 0
    if step == 0:
        return {}
    if sampler is None:
        team = train_again(study.driver, step)
    elif not trains(config.samplers[sampler]):
        team = study.driver.trained()
    else:
        before = study.team_after(sampler, step - 1, study.driver.trained())
        team = tune_again(study.driver, sampler, step, before, inform=study.inform(sampler))
    return is_same(study.driver, seed, sampler, step, team)


class _Study:
    """The seeds of one process."""

    def __init__(
        self, folder: Path, config: RunConfig, experiences: Mapping[AgentID, Experience], seeds: tuple[int, ...]
    ) -> None:
        if config.task is None:
            raise ConfigError(
                f"{folder} has no task to deploy in, its deployments happen outside; "
                f"see how it goes on: {command('status', folder)}"
            )
        self.config, self.seeds = config, seeds
        self.task: Task = make_task(config.task)
        self.driver = Driver(RunDirectory(folder), config, experiences, seeds)
        for name, sampler in config.samplers.items():
            if oracle_in(sampler) is not None:
                require_partners(experiences, name)
                require_joint_logs(experiences, name)

    def offline(self) -> Generator[Step, None, Team]:
        """The offline teams, trained or read from disk."""
        with self.driver.offline() as training:
            last = training.updates
            yield "offline training", last
            for done in training:
                yield "offline training", done - last
                last = done
            if not training.is_over:
                measured = self._measure(training.team, 0, {}, 0.0, training.stopped)
                training.finish({seed: [record] for seed, record in measured.items()}, training.stopped)
        return training.team

    def tune(self, team: Team, name: str) -> Iterator[Step]:
        """K deployments under one sampler, from the offline teams."""
        config, driver = self.config, self.driver
        histories, done = driver.histories(name), driver.common_step(name) or 0
        if done >= config.deployments:
            for history in histories.values():
                history.settle(done)
            yield f"{name}: done before", config.deployments * config.updates
            return
        before, at = (histories, done) if done else (driver.histories(None), config.offline_updates)
        records = {seed: history.records_at(at) for seed, history in before.items()}
        remaining = range(done + 1, config.deployments + 1)
        if not trains(config.samplers[name]):
            yield from self._leave_alone(team, name, remaining, records)
            return
        start = team
        if not done:
            yield f"{name}: preparing", 0
        team = self.team_after(name, done, start)
        if done:
            for history in histories.values():
                history.rewind(done)
            yield f"{name}: resumed", done * config.updates

        def deploy(number: int, policies: Mapping[LearnerID, Policy]) -> Logs:
            lacking = [seed for seed, history in histories.items() if history.load_logs(number) is None]
            for seeds in side_by_side(lacking):
                teams = {seed: of_seed(policies, seed) for seed in seeds}
                for seed, logs in play_deployment(config, self.task, teams, number=number).items():
                    provenance = {"task": config.task, "deployment": number, "seed": seed}
                    histories[seed].save_logs(number, logs, provenance)
            return driver.logs(name, number)

        tuning_of_all = driver.tune(name, team, deploy, remaining, inform=self.inform(name))
        for number in remaining:
            yield f"{name}: deployment {number} of {config.deployments}", 0
            began = time.monotonic()
            _, team, metrics, stopped = next(tuning_of_all)
            measured = self._measure(team, number, metrics, time.monotonic() - began, stopped)
            records = {seed: [*records[seed], measured[seed]] for seed in self.seeds}
            yield self._publish(start, team, name, number, records)

    def team_after(self, name: str, number: int, offline: Team) -> Team:
        """The teams as the deployment after `number` finds them, given the offline teams."""
        if number > 0:
            return self.driver.team_after(name, number, offline)
        return self._prescribe(self.driver.begin(name, offline), name)

    def inform(self, name: str) -> Inform | None:
        """What tells a sampler, at each deployment, the true weights of logged rows; None unless it is an oracle."""
        sampler, experiences = self.config.samplers[name], self.driver.experiences
        oracle = oracle_in(sampler)
        if oracle is None:
            return None

        def tell(number: int, deployed: Mapping[LearnerID, Policy], team: Team) -> Team:
            memories = rearranged(lambda state: state.sampler, team)
            told = {}
            for seed in self.seeds:
                key = jax.random.fold_in(world_key(seed, "oracle"), number)
                ratios = true_log_ratios(
                    self.task, experiences, of_seed(deployed, seed), tolerance=oracle.tolerance, key=key
                )
                told |= {
                    (seed, agent): prescribed(sampler, memories[seed, agent], jnp.asarray(ratio))
                    for agent, ratio in ratios.items()
                }
            return rearranged(lambda state, memory: state._replace(sampler=memory), team, told)

        return tell

    def _leave_alone(self, team: Team, name: str, deployments: range, records: Records) -> Iterator[Step]:
        """Evaluate the offline teams wherever the others are evaluated: a reference that nobody trains."""
        for number in deployments:
            measured = self._measure(team, number, {}, 0.0, {})
            records = {seed: [*records[seed], measured[seed]] for seed in self.seeds}
            yield self._publish(team, team, name, number, records)

    def _publish(self, start: Team, team: Team, name: str, number: int, records: Records) -> Step:
        """Write what a deployment came to; the step that this was."""
        config, trajectories = self.config, None
        if number == config.deployments:
            before, after = (tuning.policies(its, config.algorithm) for its in (start, team))
            trajectories = {
                seed: show(config, self.task, of_seed(before, seed), of_seed(after, seed), seed=seed)
                for seed in self.seeds
            }
        self.driver.publish(name, number, team, records, trajectories=trajectories)
        mean = np.mean([its[-1].get("return", np.nan) for its in records.values()])
        return f"{name}: deployment {number} of {config.deployments}, return {mean:.1f}", config.updates

    def _prescribe(self, team: Team, name: str) -> Team:
        """Tell a control the shares that the sampler it matches drew, per agent and deployment."""
        sampler = self.config.samplers[name]
        if not isinstance(sampler, OnlineMatched):
            return team
        prescribed = {}
        matched = self.driver.histories(self.config.matches[name])
        records = {seed: history.records_at(self.config.deployments)[1:] for seed, history in matched.items()}
        memories = rearranged(lambda state: state.sampler, team)
        for (seed, agent), memory in memories.items():
            for record in records[seed]:
                drawn = record["agents"][agent]
                if "share_offline" not in drawn:  # it diverged with the first update
                    continue
                shares = [drawn["share_offline"], drawn["share_earlier"], drawn["share_current"]]
                memory = sampler.prescribe(memory, record["deployment"], jnp.array(shares))
            prescribed[seed, agent] = memory
        return rearranged(lambda state, memory: state._replace(sampler=memory), team, prescribed)

    def _measure(
        self, team: Team, number: int, metrics: tuning.Summary, seconds: float, stopped: Stopped
    ) -> dict[int, Record]:
        policies = tuning.policies(team, self.config.algorithm)
        teams = {seed: of_seed(policies, seed) for seed in self.seeds}
        records = measure(self.config, self.task, teams, number=number)
        for seed, record in records.items():
            record["seconds"], record["agents"] = round(seconds, 3), of_seed(metrics, seed)
            if stopped.get(seed):
                record["diverged"] = stopped[seed]
        return records


def _abreast(folder: Path, config: RunConfig, seeds: Sequence[int]) -> list[tuple[int, ...]]:
    """Divide seeds into groups that have come equally far: those that a run gained are not to hold up, or undo, others.

    A kill between the checkpoints of two seeds leaves them one deployment apart; they go on together.
    """

    def last_step(seed: int, name: str | None) -> int:
        return max(checkpoint_steps(RunDirectory(folder).team(seed, name)), default=0)

    def are_abreast(one: int, other: int) -> bool:
        return last_step(one, None) == last_step(other, None) and all(
            abs(last_step(one, name) - last_step(other, name)) <= 1 for name in config.samplers
        )

    groups: list[list[int]] = []
    for seed in seeds:
        group = next((group for group in groups if are_abreast(group[0], seed)), None)
        if group is None:
            groups.append([seed])
        else:
            group.append(seed)
    return [tuple(group) for group in groups]
