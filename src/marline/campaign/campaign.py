"""One team in the real world: train on its logs, deploy, bring the logs back, tune, again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from marline import tuning
from marline.algorithms import TD3BC
from marline.campaign import study
from marline.campaign.history import History, Record
from marline.configuration import RunConfig
from marline.data.check import check
from marline.data.dataset import Dataset, digest, from_arrays
from marline.data.summary import episodes
from marline.errors import ConfigError, CorruptionError, DataError, require
from marline.policy import NumpyPolicy
from marline.samplers import OTC, SAMPLERS, Sampler
from marline.tuning import Algorithms, Team
from marline.types import AgentID

X = TypeVar("X")
Arrays = Mapping[str, Any]
Robots = Callable[[Mapping[AgentID, NumpyPolicy]], Mapping[AgentID, Dataset | Arrays]]


class Campaign:
    """A team that lives in a run directory; every method returns only when its effect is on disk.

    The order is `train`, then for each deployment `deploy` and `tune`. A campaign that was
    interrupted anywhere goes on after `Campaign.open`.
    """

    def __init__(self, folder: Path, config: RunConfig, data: Mapping[AgentID, Dataset]) -> None:
        self.folder, self.config = folder, config
        self.agents = tuple(data)
        ((self.sampler_name, self.sampler),) = config.samplers.items()
        (self.seed,) = config.seeds
        self._offline = History(folder / f"seed-{self.seed}" / "offline")
        self._history = History(folder / f"seed-{self.seed}" / self.sampler_name)
        self._untrained = tuning.recruit(
            data,
            config.algorithm,
            seeds=config.seeds,
            num_deployments=config.deployments,
            rows_per_deployment=config.rows_per_deployment,
        )
        self._team: Team | None = None
        self._number = 0
        self._resume()

    @staticmethod
    def create(
        folder: str | Path,
        logs: Mapping[AgentID, Dataset],
        *,
        algorithm: Algorithms | None = None,
        sampler: Sampler[Any] | None = None,
        seed: int = 0,
        deployments: int = 10,
        offline_updates: int = 100_000,
        updates: int = 2000,
        rows_per_deployment: int | None = None,
    ) -> Campaign:
        """Start a campaign in a new run directory.

        Args:
            folder: the run directory; must not hold another run.
            logs: offline logs per agent, as `marline.load` returns them; checked before use.
            algorithm: what learns, for all agents or by agent; TD3+BC by default.
            sampler: what chooses the rows of each update; OTC with the value distance by default.
            seed: of all randomness.
            deployments: how many there will be at most, K.
            offline_updates: updates on the offline logs.
            updates: updates after each deployment, L.
            rows_per_deployment: the most rows an agent logs at one deployment; 1 % of the offline
                rows by default.

        Raises:
            DataError: logs that break a rule; nothing is written.
            ConfigError: the folder holds something else.
        """
        check(logs)
        sampler = OTC() if sampler is None else sampler
        config = RunConfig(
            task=None,
            algorithm=TD3BC() if algorithm is None else algorithm,
            samplers={_name(sampler): sampler},
            seeds=(seed,),
            deployments=deployments,
            offline_updates=offline_updates,
            updates=updates,
            data_sha256=digest(logs),
            rows_per_deployment=rows_per_deployment or max(1, round(0.01 * len(next(iter(logs.values()))))),
        )
        study.rehearse(config, {agent: (log.spec, len(log)) for agent, log in logs.items()})
        folder = Path(folder)
        study.create(folder, config)
        study.keep_data(folder, logs, "given logs")
        return Campaign.open(folder)

    @staticmethod
    def open(folder: str | Path) -> Campaign:
        """Go on with the campaign in a run directory."""
        folder = Path(folder)
        config = RunConfig.read(folder / "run.json")
        require(
            len(config.samplers) == 1 and len(config.seeds) == 1,
            f"{folder} compares several samplers or seeds; go on with it by: marline resume {folder}",
        )
        return Campaign(folder, config, study.prepare_data(folder, config))

    @property
    def number(self) -> int:
        """Deployments tuned on so far."""
        return self._number

    @property
    def returns(self) -> list[float]:
        """Mean logged return of each team deployed so far, the offline team first."""
        return [record["return"] for record in self._records() if "return" in record]

    @property
    def policies(self) -> dict[AgentID, NumpyPolicy]:
        """The policies to deploy now: arrays in, arrays out."""
        policies = tuning.policies(self._trained(), self.config.algorithm)
        return {agent: NumpyPolicy(policies[self.seed, agent], seed=self.seed) for agent in self.agents}

    def train(self) -> None:
        """Train every agent on its offline logs, from where an earlier call was interrupted."""
        if self._team is not None:
            return
        updates, team = self.config.offline_updates, self._untrained
        saved = max(self._offline.intact_steps(), default=0)
        if saved:
            team = self._seeded(self._offline.restore(saved, self._members(team)))
        training = tuning.pretrain(
            team, self.config.algorithm, num_updates=updates, first_update=saved, chunk=self.config.updates
        )
        for done, team, _ in training:
            if done - saved >= study.OFFLINE_CHECKPOINT and done < updates:
                saved = done
                self._offline.save(done, self._members(team), [])
        self._offline.save(updates, self._members(team), [{"deployment": 0, "agents": {}}])
        self._team = tuning.equip(team, self.sampler)

    def deploy(self, robots: Robots) -> dict[AgentID, Dataset]:
        """Hand the policies to `robots` and return the logs that come back, checked; nothing is merged yet."""
        self._require_budget()
        returned = {agent: _as_dataset(agent, logs) for agent, logs in robots(self.policies).items()}
        self._check(returned)
        return returned

    def export(self, out: str | Path | None = None) -> dict[AgentID, Path]:
        """Write the policies to deploy now as bundles, for robots without JAX; returns each agent's folder.

        Args:
            out: gets one folder per agent; `bundles` beside the policies in the run directory if None.
        """
        from marline.campaign.exporting import export

        self._trained()
        exported = export(self.folder, None if out is None else Path(out), deployment=self._number)
        return {agent: exported.folder / agent for agent in self.agents}

    def report(self) -> Path:
        """Write `report.html` into the run directory."""
        from marline.report import write_report

        return write_report([self.folder], self.folder / "report.html")

    def tune(self, logs: Mapping[AgentID, Dataset | Arrays] | None = None) -> Record:
        """Merge the logs of a deployment, tune every agent, and return what was measured.

        Args:
            logs: one entry per agent. None takes the logs that an interrupted call saved.

        Raises:
            DataError: an agent's logs are missing, strange or malformed; nothing is merged.
        """
        self._require_budget()
        team, number = self._trained(), self._number + 1
        saved = self._history.load_logs(number)
        if saved is None:
            if logs is None:
                raise ConfigError(f"deployment {number} has no logs yet; pass them to tune")
            saved = {agent: _as_dataset(agent, log) for agent, log in logs.items()}
            self._check(saved)
            self._history.save_logs(number, saved, {"deployment": number})
        merged = tuning.merge(team, self._seeded(saved), number, self.config.algorithm)
        result = tuning.tune_on(merged, number, self.config.algorithm, self.sampler, num_updates=self.config.updates)
        records = self._records()
        # these logs show how the team before this tuning did
        returns = episodes(saved[self.agents[0]]).returns
        records[-1] |= {"return": float(returns.mean()), "returns": returns.tolist()}
        record: Record = {"deployment": number, "agents": self._members(result.metrics)}
        policies = tuning.policies(result.team, self.config.algorithm)
        self._history.save_policies(number, self._members(policies))
        self._history.save(number, self._members(result.team), [*records, record])
        self._team, self._number = result.team, number
        return record

    def _records(self) -> list[Record]:
        return self._history.records() or self._offline.records()

    def _resume(self) -> None:
        done = max(self._history.intact_steps(), default=0)
        offline = max(self._offline.intact_steps(), default=-1)
        if done == 0 and offline < self.config.offline_updates:
            return
        if done == 0:
            members = self._offline.restore(offline, self._members(self._untrained))
            self._team = tuning.equip(self._seeded(members), self.sampler)
            return
        team = {
            learner: state._replace(sampler=study.memory_template(state.experience, self.sampler))
            for learner, state in self._untrained.items()
        }
        for number in range(1, done + 1):
            logs = self._history.load_logs(number)
            if logs is None:
                raise CorruptionError(f"{self._history.folder} lost the logs of deployment {number}; put them back")
            team = tuning.merge(team, self._seeded(logs), number, self.config.algorithm)
        self._team = self._seeded(self._history.restore(done, self._members(team)))
        self._number = done

    def _trained(self) -> Team:
        if self._team is None:
            raise ConfigError(f"the team in {self.folder} is not trained yet; call train() first")
        return self._team

    def _require_budget(self) -> None:
        require(
            self._number < self.config.deployments,
            f"all {self.config.deployments} deployments are done; plan more when the campaign is created",
        )

    def _check(self, logs: Mapping[AgentID, Dataset]) -> None:
        missing, strange = set(self.agents) - set(logs), set(logs) - set(self.agents)
        if missing or strange:
            wrong = [f"{agent!r} is missing" for agent in sorted(missing)]
            wrong += [f"{agent!r} is not of this team" for agent in sorted(strange)]
            raise DataError(f"logs of the wrong agents: {', '.join(wrong)}; the team is {', '.join(self.agents)}")
        for agent, log in logs.items():
            spec = self._untrained[self.seed, agent].experience.spec
            if log.spec != spec:
                raise DataError(f"logs of agent {agent!r} have {log.spec}, but its offline logs have {spec}")
            if len(log) > self.config.rows_per_deployment:
                raise DataError(
                    f"logs of agent {agent!r} hold {len(log)} rows, but the campaign planned at most "
                    f"{self.config.rows_per_deployment} per deployment; cut them"
                )
        check(logs)

    def _members(self, team: Mapping[tuning.LearnerID, X]) -> dict[AgentID, X]:
        return {agent: value for (_, agent), value in team.items()}

    def _seeded(self, members: Mapping[AgentID, X]) -> dict[tuning.LearnerID, X]:
        return {(self.seed, agent): members[agent] for agent in self.agents}


def _as_dataset(agent: AgentID, logs: Dataset | Arrays) -> Dataset:
    return logs if isinstance(logs, Dataset) else from_arrays(agent, logs)


def _name(sampler: Sampler[Any]) -> str:
    """The catalogue's name of a sampler, or its type's."""
    same = [name for name, known in SAMPLERS.items() if known == sampler]
    return same[0] if same else type(sampler).__name__.lower()
