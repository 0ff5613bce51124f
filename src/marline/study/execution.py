"""A study: one task, one algorithm, several samplers and seeds, in one run directory; see `runs.layout`.

What is here is what a study does with the driver that it has in common with a campaign: it evaluates every team, and
goes on where each sampler stopped. Samplers are tuned one after another on a CPU and together on an accelerator.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marline import tuning
from marline.configuration.run_config import RunConfig
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.display.shell import command
from marline.envs import Task, make_task
from marline.errors import ConfigError
from marline.rollouts.partners import require_joint_logs, require_partners
from marline.rollouts.rollout import Policies
from marline.runs.driver import Driver, of_seed, place_data
from marline.runs.layout import OFFLINE, RunDirectory, checkpoint_steps
from marline.runs.records import Record, StopRecord
from marline.runs.replay import is_same, train_again, tune_again
from marline.samplers import OnlineMatched, trains
from marline.samplers.oracle import informed, oracle_in
from marline.study.playing import Whose, measure, show
from marline.study.together import Together, prescribed, shares_drawn, true_ratios
from marline.tuning import Team
from marline.types import AgentID

Step = tuple[str, int]  # what is going on, and how many updates were just done


def run_seeds(
    folder: Path,
    config: RunConfig,
    experiences: Mapping[AgentID, Experience],
    seeds: Sequence[int],
    together: Sequence[Sequence[str]] = (),
) -> Iterator[Step]:
    """Run or finish every sampler for some seeds, side by side; what is on disk is not done again.

    Args:
        folder, config: of the study.
        experiences: offline rows of each agent on the device.
        seeds: that are trained side by side.
        together: samplers in groups that advance side by side, too; one after another unless given.
    """
    for group in _abreast(folder, config, seeds):
        study = _Study(folder, config, experiences, group)
        team = yield from study.offline()
        for names in together or [[name] for name in config.samplers]:
            yield from study.tune(team, names)


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
        yield from study.tune(study.driver.trained(), [sampler])


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
        team = tune_again(study.driver, sampler, step, study.before(sampler, step, study.driver.trained()))
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
        self._policies: list[tuple[int, Policies]] | None = None  # of the offline teams

    def offline(self) -> Generator[Step, None, Team]:
        """The offline teams, trained or read from disk."""
        with self.driver.offline() as training:
            last = training.updates
            yield "offline training", last
            for done in training:
                yield "offline training", done - last
                last = done
            if not training.is_over:
                teams: dict[Whose, Policies] = {(seed, OFFLINE): its for seed, its in self._start(training.team)}
                measured = measure(self.config, self.task, teams, number=0)
                records = {
                    seed: [_completed(record, {}, 0.0, training.stopped.get(seed))]
                    for (seed, _), record in measured.items()
                }
                training.finish(records, training.stopped)
        return training.team

    def tune(self, offline: Team, names: Sequence[str]) -> Iterator[Step]:
        """K deployments under some samplers from the offline teams, all of them deployment by deployment."""
        config, last = self.config, self.config.deployments
        under_way: dict[str, int] = {}
        for name in names:
            done = self.driver.common_step(name) or 0
            if done < last:
                under_way[name] = done
                continue
            for history in self.driver.histories(name).values():
                history.settle(done)
            yield f"{name}: done before", last * config.updates
        records = {name: self._records_before(name, done) for name, done in under_way.items()}
        trained = {name: done for name, done in under_way.items() if trains(config.samplers[name])}
        for name, done in trained.items():
            yield f"{name}: resumed" if done else f"{name}: preparing", done * config.updates
        teams = Together(self.driver, self.task, offline, trained)
        for number in range(1 + min(under_way.values(), default=last), last + 1):
            now = [name for name, done in under_way.items() if done < number]
            told = f"{now[0] if len(now) == 1 else f'{len(now)} samplers'}: deployment {number} of {last}"
            yield told, 0
            teams.join(number)
            began = time.monotonic()
            metrics, stopped = teams.tune(number)
            seconds = (time.monotonic() - began) / max(1, sum(name in trained for name in now))
            still = {(seed, name): its for name in now if name not in trained for seed, its in self._start(offline)}
            policies = {who: its for who, its in {**teams.policies, **still}.items() if who[1] in now}
            for who, record in measure(config, self.task, policies, number=number).items():
                took = seconds if who[1] in trained else 0.0
                record = _completed(record, metrics.get(who, {}), took, stopped.get(who))
                records[who[1]][who[0]].append(record)
            trajectories = None
            if number == last:
                start = {(seed, name): its for name in now for seed, its in self._start(offline)}
                trajectories = show(config, self.task, start, policies)
            teams.publish(number, records, trajectories)
            for name in now:
                if name not in trained:
                    its = None if trajectories is None else {seed: trajectories[seed, name] for seed in self.seeds}
                    self.driver.publish(name, number, offline, records[name], trajectories=its)
            mean = np.mean([records[name][seed][-1].get("return", np.nan) for name in now for seed in self.seeds])
            yield f"{told}, return {mean:.1f}", config.updates * len(now)

    def before(self, name: str, number: int, offline: Team) -> Team:
        """The teams as deployment `number` finds them, given the offline teams; who is told something knows it."""
        team, sampler = self.driver.team_after(name, number - 1, offline), self.config.samplers[name]
        if oracle := oracle_in(sampler):
            policies = tuning.policies(team, self.config.algorithm)
            of_seeds = {seed: of_seed(policies, seed) for seed in self.seeds}
            ratios = true_ratios(self.driver, self.task, oracle, of_seeds, number)
            return {who: its.with_memory(informed(sampler, its.sampler, ratios[who])) for who, its in team.items()}
        if not isinstance(sampler, OnlineMatched):
            return team
        drawn = {seed: shares_drawn(self.driver, self.config.matches[name], seed, number) for seed in self.seeds}
        return {
            who: its.with_memory(prescribed(sampler, its.sampler, number, drawn[who[0]].get(who[1], {})))
            for who, its in team.items()
        }

    def _records_before(self, name: str, done: int) -> dict[int, list[Record]]:
        """What was measured until now of the teams of a sampler, which go on from here."""
        histories, at = self.driver.histories(name if done else None), done or self.config.offline_updates
        if done:
            for history in histories.values():
                history.rewind(done)
        return {seed: list(history.records_at(at)) for seed, history in histories.items()}

    def _start(self, offline: Team) -> list[tuple[int, Policies]]:
        """The policies of the offline teams, by seed."""
        if self._policies is None:
            policies = tuning.policies(offline, self.config.algorithm)
            self._policies = [(seed, of_seed(policies, seed)) for seed in self.seeds]
        return self._policies


def _completed(
    record: Record, metrics: Mapping[AgentID, Any], seconds: float, stopped: Mapping[AgentID, StopRecord] | None
) -> Record:
    """What was measured of a team, with what was measured of its agents, how long it took, and who diverged."""
    record["seconds"], record["agents"] = round(seconds, 3), dict(metrics)
    if stopped:
        record["diverged"] = stopped
    return record


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
