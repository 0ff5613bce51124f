"""Samplers of a study that advance together: one deployment of all their teams, then the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marline.cohort import Cohort, assemble, policies_of, programs, to_write, tune_cohort
from marline.envs import Task
from marline.errors import CorruptionError
from marline.rollouts.collection import at_once
from marline.rollouts.partners import true_log_ratios
from marline.rollouts.rollout import Policies
from marline.runs.driver import Driver, Records
from marline.runs.records import StopRecord
from marline.runs.world_keys import world_key
from marline.samplers import OnlineMatched
from marline.samplers.oracle import Oracle, informed, oracle_in
from marline.study.playing import Whose, play_deployment
from marline.tuning import LearnerID, Team
from marline.types import AgentID


class Outcome(NamedTuple):
    """What came out of a deployment: of each team what was measured of its agents, and who diverged."""

    metrics: Mapping[Whose, Mapping[AgentID, dict[str, Any]]]
    stopped: Mapping[Whose, Mapping[AgentID, StopRecord]]


class Together:
    """The teams of some samplers, of all seeds that are trained side by side.

    Attributes:
        policies: that each team would deploy now; of those that have taken part in a deployment here.
    """

    def __init__(self, driver: Driver, task: Task, offline: Team, done: Mapping[str, int]) -> None:
        """Begin, or go on after what was done.

        Args:
            driver: of the run directory.
            task: what is played.
            offline: the offline teams.
            done: deployments behind each sampler; one that is ahead waits for the others.
        """
        self.policies: dict[Whose, Policies] = {}
        self._driver, self._task, self._offline, self._done = driver, task, offline, dict(done)
        self._cohorts: list[Cohort] = []

    def tune(self, number: int) -> Outcome:
        """Play deployment `number` with all who are not beyond it, and tune their learners on its logs.

        A control comes after the sampler that it matches: not before that one's learners are tuned is it known what
        to match.
        """
        self.join(number)
        self._play(number)
        metrics: dict[Whose, dict[AgentID, dict[str, Any]]] = defaultdict(dict)
        stopped: dict[Whose, Mapping[AgentID, StopRecord]] = {}
        config = self._driver.config
        for place, cohort in enumerate(self._cohorts):
            logs = {
                (*learner[:2], name): its
                for name in cohort.samplers
                for learner, its in self._driver.logs(name, number).items()
            }
            cohort = self._prescribed(cohort, number, metrics)
            tuned = tune_cohort(cohort, logs, number, config.algorithm, num_updates=config.updates)
            self._cohorts[place] = tuned.cohort
            for learner, its in tuned.metrics.items():
                metrics[learner[0], learner[-1]][learner[1]] = its
            for name in cohort.samplers:
                diverged = {learner[:2]: its for learner, its in tuned.diverged.items() if learner[-1] == name}
                for seed, its in self._driver.keep_batches(name, number, diverged).items():
                    stopped[seed, name] = its
        self._look_at_policies()
        return Outcome(metrics, stopped)

    def publish(
        self,
        number: int,
        records: Mapping[str, Records],
        trajectories: Mapping[Whose, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write what a deployment came to, one sampler after another.

        Args:
            number: of the deployment.
            records: of each sampler, the measurements up to it.
            trajectories: of each team, to publish too.
        """
        for cohort in self._cohorts:
            for name, of_seeds in to_write(cohort).items():
                team: dict[LearnerID, Any] = {
                    (seed, agent): state for seed, members in of_seeds.items() for agent, state in members.items()
                }
                policies = {who: self.policies[who[0], name][who[1]] for who in team}
                its = None if trajectories is None else {seed: trajectories[seed, name] for seed in of_seeds}
                self._driver.publish(name, number, team, records[name], policies=policies, trajectories=its)

    def join(self, number: int) -> None:
        """Take in the samplers whose turn it is from deployment `number` on, all of them from what was published.

        A sampler at its beginning is fitted to the offline rows here, which may take long.
        """
        now = {name: done for name, done in self._done.items() if done < number}
        if {name for cohort in self._cohorts for name in cohort.samplers} == now.keys():
            return
        config, self._cohorts = self._driver.config, []
        samplers = {name: config.samplers[name] for name in now}
        kinds: dict[Any, list[str]] = defaultdict(list)
        for name, program in programs(samplers).items():
            kinds[isinstance(samplers[name], OnlineMatched) and config.matches[name] in now, program].append(name)
        for (_, program), names in sorted(kinds.items(), key=lambda kind: kind[0][0]):
            program = program if len(names) > 1 else samplers[names[0]]
            teams = {name: self._driver.team_after(name, number - 1, self._offline) for name in names}
            self._cohorts.append(assemble({name: samplers[name] for name in names}, program, teams))
        self._look_at_policies()

    def _look_at_policies(self) -> None:
        for cohort in self._cohorts:
            for name, of_seeds in policies_of(cohort, self._driver.config.algorithm).items():
                self.policies |= {(seed, name): its for seed, its in of_seeds.items()}

    def _play(self, number: int) -> None:
        """Log the deployment, but for teams whose logs are there."""
        config, names = self._driver.config, [name for cohort in self._cohorts for name in cohort.samplers]
        histories = {(seed, name): its for name in names for seed, its in self._driver.histories(name).items()}
        lacking = [who for who, history in histories.items() if history.load_logs(number) is None]
        for some in at_once(self._task, lacking):
            teams = {who: self.policies[who] for who in some}
            for who, logs in play_deployment(config, self._task, teams, number=number).items():
                provenance = {"task": config.task, "deployment": number, "seed": who[0]}
                histories[who].save_logs(number, logs, provenance)

    def _prescribed(
        self, cohort: Cohort, number: int, metrics: Mapping[Whose, Mapping[AgentID, dict[str, Any]]]
    ) -> Cohort:
        """Tell controls the shares that those whom they match drew in this deployment, and oracles the truth."""
        config, memories = self._driver.config, dict(cohort.memories)
        for name, sampler in cohort.samplers.items():
            if isinstance(sampler, OnlineMatched):
                matched = config.matches[name]
                drawn = {
                    seed: metrics[seed, matched]
                    if (seed, matched) in metrics
                    else shares_drawn(self._driver, matched, seed, number)
                    for seed in self._driver.seeds
                }
                memories[name] = {
                    who: prescribed(sampler, memory, number, drawn[who[0]].get(who[1], {}))
                    for who, memory in memories[name].items()
                }
            elif oracle := oracle_in(sampler):
                policies = {seed: self.policies[seed, name] for seed in self._driver.seeds}
                ratios = true_ratios(self._driver, self._task, oracle, policies, number)
                memories[name] = {
                    who: informed(sampler, memory, ratios[who[0], who[1]]) for who, memory in memories[name].items()
                }
        return cohort._replace(memories=memories)


def shares_drawn(driver: Driver, name: str, seed: int, number: int) -> Mapping[AgentID, Mapping[str, Any]]:
    """What was measured of the agents of a team in a deployment that is behind it."""
    history = driver.histories(name)[seed]
    records = history.records_at(max(history.intact_steps()))
    of_number = [record["agents"] for record in records if record["deployment"] == number]
    if not of_number:
        raise CorruptionError(f"{history.folder} does not tell what was drawn in deployment {number}; run it again")
    return of_number[0]


def prescribed(sampler: OnlineMatched, memory: Any, number: int, drawn: Mapping[str, Any]) -> Any:
    """The memory of a control that knows what shares to draw in a deployment."""
    if "share_offline" not in drawn:  # it diverged with the first update
        return memory
    shares = [drawn["share_offline"], drawn["share_earlier"], drawn["share_current"]]
    return sampler.prescribe(memory, number, jnp.array(shares))


def true_ratios(
    driver: Driver, task: Task, oracle: Oracle, policies: Mapping[int, Policies], number: int
) -> dict[LearnerID, Float[Array, " offline"]]:
    """How much likelier what partners did in each offline row is now, by the logarithm; by seed and agent.

    Args:
        driver: of the run directory, with the offline rows.
        task: in which the partners act.
        oracle: that is to be told.
        policies: that are deployed, by seed.
        number: of the deployment.
    """
    told: dict[LearnerID, Float[Array, " offline"]] = {}
    for seed, its in policies.items():
        key = jax.random.fold_in(world_key(seed, "oracle"), number)
        ratios = true_log_ratios(task, driver.experiences, its, tolerance=oracle.tolerance, key=key)
        told |= {(seed, agent): jnp.asarray(ratio) for agent, ratio in ratios.items()}
    return told
