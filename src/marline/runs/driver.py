"""Training that a kill at any moment does not harm: offline, then on one deployment after another.

A study and a campaign are driven alike. What differs is given: how many seeds are trained side by side, where the logs
of a deployment come from, what is measured of a team, and what else is published with it.

Everything is a function of what is on disk already, and a checkpoint is written last. So what a kill leaves behind is
made again from the last checkpoint that is intact, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import jax
from jaxtyping import PyTree

from marline import tuning
from marline.configuration.run_config import RunConfig
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.errors import CorruptionError
from marline.population import Stack, on_host, outlines, rearranged
from marline.runs.history import History
from marline.runs.layout import RunDirectory
from marline.runs.records import Record, StopRecord
from marline.runtime import release_memory
from marline.samplers import Sampler
from marline.tuning import Adapted, Deploy, LearnerID, Logs, Team
from marline.types import AgentID, Policy

OFFLINE_CHECKPOINT = 10_000  # updates between two checkpoints of the offline phase

X = TypeVar("X")
Records = Mapping[int, list[Record]]  # of each seed, what was measured up to a checkpoint
Stopped = Mapping[int, Mapping[AgentID, StopRecord]]  # of each seed, who diverged, as `History.save` takes it


class Tuned(NamedTuple):
    """What came out of a deployment: its number, the team, what was measured of each learner, and who diverged."""

    number: int
    team: Team
    metrics: tuning.Summary
    stopped: Stopped


class Driver:
    """Trains the teams of one seed, or of several side by side, in a run directory.

    Attributes:
        run: where it writes.
        config: of the run.
        experiences: offline rows of each agent on the device, with room for every deployment.
        seeds: whose teams are trained together.
    """

    def __init__(
        self, run: RunDirectory, config: RunConfig, experiences: Mapping[AgentID, Experience], seeds: Sequence[int]
    ) -> None:
        self.run, self.config, self.experiences, self.seeds = run, config, experiences, tuple(seeds)
        self._histories: dict[str | None, dict[int, History]] = {}

    def histories(self, sampler: str | None) -> Mapping[int, History]:
        """Of each seed, the history of the team of a sampler; None is the offline team. The same ones every time."""
        if sampler not in self._histories:
            self._histories[sampler] = {seed: History(self.run.team(seed, sampler)) for seed in self.seeds}
        return self._histories[sampler]

    def common_step(self, sampler: str | None) -> int | None:
        """The last checkpoint that every seed has intact, for seeds are trained side by side."""
        intact = [set(history.intact_steps()) for history in self.histories(sampler).values()]
        return max(set.intersection(*intact), default=None)

    def untrained(self) -> Team:
        """The teams before their first update."""
        return tuning.init_team_on(self.experiences, self.config.algorithm, seeds=self.seeds)

    @contextmanager
    def offline(self, *, ledger: dict[str, Any] | None = None) -> Iterator[OfflineTraining]:
        """Offline training, from the last checkpoint; what an interruption finds done is kept.

        Args:
            ledger: the newest event that the checkpoints build on, if there is a ledger.
        """
        training = OfflineTraining(self, ledger)
        try:
            yield training
        except (KeyboardInterrupt, SystemExit):
            training.keep()
            raise

    def trained(self) -> Team:
        """The offline teams, which must be on disk; only reads."""
        updates = self.config.offline_updates
        if not all(updates in history.steps() for history in self.histories(None).values()):
            raise CorruptionError(f"{self.run.folder} lost the offline team of seeds {self.seeds}; run it again")
        return self.loaded(None, updates, self.untrained())

    def begin(self, sampler: str, trained: Team) -> Team:
        """The offline teams with the memory of a sampler, as they go into their first deployment."""
        return tuning.init_samplers(trained, self.config.samplers[sampler])

    def team_after(self, sampler: str, number: int, offline: Team) -> Team:
        """The teams as they came out of a deployment; only reads.

        Args:
            sampler: that they are tuned with.
            number: of the deployment; 0 are the offline teams with a new memory of the sampler.
            offline: the teams with their offline rows; what they have learned is replaced.
        """
        if number == 0:
            return self.begin(sampler, offline)
        kind = self.config.samplers[sampler]
        memories = {agent: memory_template(its, kind) for agent, its in self.experiences.items()}
        team = offline
        for earlier in range(1, number + 1):
            team = tuning.merge(team, self.logs(sampler, earlier), earlier, self.config.algorithm)
        return self.loaded(sampler, number, team, memories)

    def logs(self, sampler: str, number: int) -> Logs:
        """What was logged in a deployment, of all agents but those that it did without."""
        logs: dict[LearnerID, Dataset] = {}
        for seed, history in self.histories(sampler).items():
            there = history.load_logs(number)
            if there is None:
                raise CorruptionError(f"{history.folder} lost the logs of deployment {number}; put them back")
            logs |= {(seed, agent): log for agent, log in there.items()}
        return logs

    def tune(
        self,
        sampler: str,
        team: Team,
        deploy: Deploy,
        deployments: Iterable[int],
        *,
        frozen: Collection[LearnerID] = (),
        adapted: Adapted | None = None,
    ) -> Iterator[Tuned]:
        """Deploy, merge, adapt and tune; the batches of who diverged are kept, and `publish` is for the caller to call.

        Args:
            sampler: that the team is tuned with.
            team: as it came out of the deployment before the first of these.
            deploy: policies in, logs out, which it has published; learners without logs keep policy and rows.
            deployments: their numbers.
            frozen: whose logs are merged, and who learn nothing from them.
            adapted: see `tuning.run`.
        """
        for number, after, metrics, diverged in tuning.run(
            team,
            deploy,
            self.config.algorithm,
            self.config.samplers[sampler],
            num_updates=self.config.updates,
            deployments=deployments,
            frozen=frozen,
            adapted=adapted,
        ):
            yield Tuned(number, after, metrics, self.keep_batches(sampler, number, diverged))

    def publish(
        self,
        sampler: str,
        number: int,
        team: Team,
        records: Records,
        *,
        learners: bool = False,
        policies: Mapping[LearnerID, Policy] | None = None,
        trajectories: Mapping[int, Mapping[str, Any]] | None = None,
        ledger: dict[str, Any] | None = None,
    ) -> None:
        """Write what a deployment came to, its checkpoint last.

        Args:
            sampler: that the team was tuned with.
            number: of the deployment.
            team: as it came out of it.
            records: measurements up to this deployment.
            learners: publish them beside the policies, to go back to.
            policies: of the team, where they are known.
            trajectories: of each seed, to publish too.
            ledger: the newest event that the checkpoint builds on, if there is a ledger.
        """
        policies = tuning.policies(team, self.config.algorithm) if policies is None else policies
        team = _to_write(team)
        for seed, history in self.histories(sampler).items():
            history.save_policies(number, of_seed(policies, seed))
            if learners:
                history.save_learners(number, {agent: its.learner for agent, its in of_seed(team, seed).items()})
            if trajectories is not None:
                history.save_trajectories(trajectories[seed])
        for seed, history in self.histories(sampler).items():
            history.save(number, of_seed(team, seed), records[seed], ledger=ledger)

    def keep_batches(
        self, sampler: str | None, number: int, diverged: tuning.Diverged
    ) -> dict[int, dict[AgentID, StopRecord]]:
        """Keep the batches of those who diverged; what to remember of each, by seed. Number 0 is offline training."""
        histories = self.histories(sampler)
        stopped: dict[int, dict[AgentID, StopRecord]] = {seed: {} for seed in self.seeds}
        for (seed, agent), its in diverged.items():
            home = histories[seed].deployment(number) if number else histories[seed].folder
            stopped[seed][agent] = histories[seed].save_divergence(home, agent, its)
        return stopped

    def loaded(
        self, sampler: str | None, step: int, team: Team, memories: Mapping[AgentID, PyTree] | None = None
    ) -> Team:
        """Learners and memories of checkpoint `step`, given teams of the same shapes with their rows; only reads.

        Args:
            sampler: of the teams; None is the offline team.
            step: of the checkpoint.
            team: with the rows that there were then.
            memories: shapes of the sampler's memory by agent, if they are not those in the team.
        """
        templates = outlines(team)
        if memories is not None:
            templates = {who: its._replace(sampler=memories[who[1]]) for who, its in templates.items()}
        loaded: dict[LearnerID, Any] = {}
        for seed, history in self.histories(sampler).items():
            states = history.load(step, of_seed(templates, seed))  # whose rows are templates still
            loaded |= {(seed, agent): (its.learner, its.sampler) for agent, its in states.items()}
        return rearranged(lambda state, its: state._replace(learner=its[0], sampler=its[1]), team, loaded)


class OfflineTraining:
    """Offline training under way. Iterating over it trains: it tells the updates done, a stretch at a time.

    Attributes:
        updates: done so far.
        team: as it is after them.
        stopped: who diverged so far.
        is_over: whether the last checkpoint was there already; if not, `finish` is to be called at the end.
    """

    def __init__(self, driver: Driver, ledger: dict[str, Any] | None) -> None:
        self._driver, self._ledger, self._histories = driver, ledger, driver.histories(None)
        self._total = driver.config.offline_updates
        found = driver.common_step(None)
        self._saved, self.is_over = found or 0, found == self._total
        team = driver.untrained()
        if found is not None:
            team = driver.loaded(None, found, team)
            for history in self._histories.values():
                history.settle(found)
        self._step = tuning.Trained(self._saved, team, {}, {})
        self.stopped = {
            seed: history.stopped_at(self._saved) if self._saved else {} for seed, history in self._histories.items()
        }

    @property
    def updates(self) -> int:
        return self._step.updates

    @property
    def team(self) -> Team:
        return self._step.team

    def __iter__(self) -> Iterator[int]:
        config = self._driver.config
        for step in tuning.pretrain(
            self.team,
            config.algorithm,
            num_updates=self._total,
            first_update=self._saved,
            chunk=config.updates,
            stopped=[(seed, agent) for seed, agents in self.stopped.items() for agent in agents],
        ):
            self._step = step
            self._keep_batches()
            yield self.updates
            if self.updates - self._saved >= OFFLINE_CHECKPOINT:
                self._checkpoint()

    def keep(self) -> None:
        """Keep what was done since the last checkpoint, wherever training was interrupted."""
        if self._saved < self.updates < self._total:
            self._keep_batches()  # the interruption may have come just before
            self._checkpoint()

    def finish(self, records: Records, stopped: Stopped | None = None) -> None:
        """The last checkpoint, with what was measured of the trained teams, and who diverged if that is to be in it."""
        self._save(records, stopped or {})

    def _checkpoint(self) -> None:
        if self.updates < self._total:
            self._saved = self.updates
            self._save({seed: [] for seed in self._histories}, self.stopped)

    def _keep_batches(self) -> None:
        kept = self._driver.keep_batches(None, 0, self._step.diverged)
        self.stopped = {seed: {**self.stopped[seed], **kept[seed]} for seed in self.stopped}

    def _save(self, records: Records, stopped: Stopped) -> None:
        team = _to_write(self.team)
        for seed, history in self._histories.items():
            its = of_seed(team, seed)
            history.save(self._step.updates, its, records[seed], stopped.get(seed), ledger=self._ledger)


def of_seed(team: Mapping[LearnerID, X], seed: int) -> dict[AgentID, X]:
    """What belongs to one seed, by agent."""
    return {agent: team[its_seed, agent] for its_seed, agent in team if its_seed == seed}


def _to_write(team: Team) -> Team:
    """The same; if they are stacked, all learners and memories brought over at once, without rows."""
    return on_host(rearranged(lambda state: state._replace(experience=None), team)) if isinstance(team, Stack) else team


def place_data(config: RunConfig, data: dict[AgentID, Dataset]) -> dict[AgentID, Experience]:
    """The offline logs on the device. `data` is emptied: a second copy of large logs is most of what a run takes."""
    experiences: dict[AgentID, Experience] = {}
    for agent in list(data):
        experiences |= tuning.to_device(
            {agent: data.pop(agent)},
            config.algorithm,
            num_deployments=config.deployments,
            rows_per_deployment=config.rows_per_deployment,
        )
        release_memory()
    return experiences


def memory_template(experience: Experience, sampler: Sampler[Any]) -> PyTree:
    """Shapes of a sampler's memory, without the work of fitting it."""
    return jax.eval_shape(lambda experience, key: sampler.init(experience, key=key), experience, jax.random.key(0))
