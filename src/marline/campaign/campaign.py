"""One team in the real world: train on its logs, deploy, bring the logs back, tune, again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marline import tuning
from marline.algorithms import TD3BC, Algorithm
from marline.campaign import study
from marline.campaign.config import RunConfig
from marline.campaign.history import History, Record
from marline.data import dataset
from marline.data.check import check
from marline.data.dataset import Dataset, from_arrays
from marline.policy import NumpyPolicy
from marline.samplers import OTC, Sampler
from marline.tuning import Team
from marline.types import AgentID, ConfigError, DataError, require

Arrays = Mapping[str, np.ndarray]
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
        self._go_on()

    @staticmethod
    def create(
        folder: str | Path,
        logs: Mapping[AgentID, Dataset],
        *,
        algorithm: Algorithm[Any] | None = None,
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
            algorithm: what learns; TD3+BC by default.
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
            rows_per_deployment=rows_per_deployment or max(1, round(0.01 * len(next(iter(logs.values()))))),
        )
        folder = Path(folder)
        study.create(folder, config)
        if not (folder / "data" / "dataset.json").exists():
            dataset.save(folder / "data", logs, {"source": "given logs"})
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
    def policies(self) -> dict[AgentID, NumpyPolicy]:
        """The policies to deploy now: arrays in, arrays out."""
        policies = tuning.policies(self._trained(), self.config.algorithm)
        return {agent: NumpyPolicy(policies[self.seed, agent], seed=self.seed) for agent in self.agents}

    def train(self) -> None:
        """Train every agent on its offline logs; does nothing when that is done already."""
        if self._team is not None:
            return
        team = self._untrained
        for _, team, _ in tuning.pretrain(  # noqa: B007
            team, self.config.algorithm, num_updates=self.config.offline_updates
        ):
            pass
        self._save(self._offline, team, self.config.offline_updates, [{"deployment": 0, "agents": {}}])
        self._team = tuning.equip(team, self.sampler)

    def deploy(self, robots: Robots) -> dict[AgentID, Dataset]:
        """Hand the policies to `robots` and check the logs that come back; nothing is merged yet."""
        require(
            self._number < self.config.deployments,
            f"all {self.config.deployments} deployments are done; plan more when the campaign is created",
        )
        returned = robots(self.policies)
        return {
            agent: logs if isinstance(logs, Dataset) else from_arrays(agent, logs) for agent, logs in returned.items()
        }

    def tune(self, logs: Mapping[AgentID, Dataset | Arrays]) -> Record:
        """Merge the logs of a deployment, tune every agent, and return what was measured.

        Raises:
            DataError: an agent's logs are missing, strange or malformed; nothing is merged.
        """
        team, number = self._trained(), self._number + 1
        received = {agent: log if isinstance(log, Dataset) else from_arrays(agent, log) for agent, log in logs.items()}
        self._check(received)
        self._history.save_logs(number, received, {"deployment": number})
        merged = tuning.merge(team, {(self.seed, agent): received[agent] for agent in self.agents}, number)
        result = tuning.tune_on(merged, number, self.config.algorithm, self.sampler, num_updates=self.config.updates)
        reward = float(np.mean([log.rewards.sum() / max(1, log.num_episodes) for log in received.values()]))
        measured = {agent: result.metrics[self.seed, agent] for agent in self.agents}
        record: Record = {"deployment": number, "logged_return": reward, "agents": measured}
        policies = tuning.policies(result.team, self.config.algorithm)
        self._history.save_policies(number, {agent: policies[self.seed, agent] for agent in self.agents})
        records = self._history.records() or self._offline.records()
        self._save(self._history, result.team, number, [*records, record])
        self._team, self._number = result.team, number
        return record
