"""A campaign as its run directory has it: the team after its last checkpoint, the ledger, and who may change them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marline import tuning
from marline.campaign import reconcile
from marline.campaign.learners import rolled_back
from marline.campaign.require_logs import Awaited
from marline.campaign.status import made_again
from marline.configuration.run_config import RunConfig
from marline.data.checkpoints import other_versions, read_manifest
from marline.data.dataset import Dataset
from marline.data.summary import returns_by_agent
from marline.display.shell import command
from marline.errors import ConfigError, CorruptionError, require, require_name
from marline.runs.driver import Driver, of_seed, place_data
from marline.runs.events import C, Ingested, of_kind
from marline.runs.history import Record
from marline.runs.layout import LOGS, RunDirectory
from marline.runs.ledger import Ledger
from marline.runs.lineage import lineage
from marline.runs.lock import writing
from marline.tuning import LearnerID, Team
from marline.types import AgentID, Policy

if TYPE_CHECKING:
    from marline.runs.lineage import Lineage


class CampaignState:
    """What the steps of a campaign read, and change while they hold `writing`.

    Attributes:
        folder: the run directory.
        config: what the run is.
        agents: the team, in the order of its logs.
        seed, sampler: its only ones.
        awaited: what the logs of every deployment must be like.
        ledger: what happened so far.
        driver: trains the team.
        offline, history: of the team without and with the sampler.
        team: learners, memories and rows as the next deployment finds them; None before offline training is over.
        number: deployments tuned on so far.
        notes: what was found damaged and is made again, one sentence each.
        other_versions: how what made the last checkpoint differs from what runs here.
    """

    def __init__(self, folder: Path, config: RunConfig, data: Mapping[AgentID, Dataset]) -> None:
        self.folder, self.config, self.agents = folder, config, tuple(data)
        (self.sampler,), (self.seed,) = config.samplers, config.seeds
        self.awaited = Awaited(
            {agent: log.spec for agent, log in data.items()},
            {agent: log.channels for agent, log in data.items()},
            config.rows_per_deployment,
            config.deployments,
            next(iter(data.values())).reward_scope,
            bool(returns_by_agent(data)),
        )
        self.ledger = Ledger(folder)
        self.driver = Driver(RunDirectory(folder), config, place_data(config, dict(data)), config.seeds)
        self.offline, self.history = (self.driver.histories(sampler)[self.seed] for sampler in (None, self.sampler))
        self.team: Team | None = None
        self.number = 0
        self.notes: tuple[str, ...] = ()
        self.other_versions: list[str] = []
        self._over: set[Path] = set()  # folders of deployments before the last
        self._measured: tuple[object, list[Record]] | None = None  # after which checkpoint, and what up to it
        self._resume()
        self._is_writing, self._seen = False, self._on_disk()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the run directory; what a crash kept from the ledger is entered before, what was done after."""
        if self._is_writing:
            yield
            return
        # what is over was looked through when it was opened, or was written here
        self._over |= {self.history.deployment(number) for number in range(len(self._over) + 1, self.number)}
        with writing(self.folder, known=self._over):
            require(
                self._on_disk() == self._seen,
                f"{self.folder} has changed since it was opened here; open it again",
            )
            self._is_writing = True
            try:
                self._reconcile()
                self._seen = self._on_disk()
                yield
                self._reconcile()
                self._seen = self._on_disk()
            finally:
                self._is_writing = False

    @property
    def records(self) -> list[Record]:
        """What was measured, as the last checkpoint has it: a crash may have kept it from the file beside it."""
        if self.team is None:
            return self.offline.records()
        if self._measured is None or self._measured[0] != self.number:
            found = (
                self.history.records_at(self.number)
                if self.number
                else self.offline.records_at(self.config.offline_updates)
            )
            self._measured = self.number, found
        return [record.copy() for record in self._measured[1]]

    @property
    def lineage(self) -> list[Lineage]:
        """The deployment that each agent's policy was last tuned on: see `lineage`."""
        return lineage(self.agents, self.records, self.ledger.events())

    @property
    def checkpoint(self) -> Path:
        """The last one."""
        return self.history.checkpoint(self.number) if self.number else self.offline.checkpoint(self._updates)

    @property
    def policies(self) -> dict[AgentID, Policy]:
        """The policies to deploy now."""
        return of_seed(tuning.policies(self.trained(), self.config.algorithm), self.seed)

    def trained(self) -> Team:
        """The team; `ConfigError` before its offline training is over."""
        if self.team is None:
            train = command("train", "--run", self.folder)
            raise ConfigError(f"the team in {self.folder} is not trained yet; call train() first, or: {train}")
        return self.team

    def team_after(self, number: int) -> Team:
        """The team as the next deployment finds it: checkpoint, rows, and the rollbacks that were decided since."""
        if number == 0:
            return self.rolled_back(self.driver.begin(self.sampler, self.driver.trained()), 0)
        return self.rolled_back(self.driver.team_after(self.sampler, number, self.driver.untrained()), number)

    def rolled_back(self, team: Team, number: int) -> Team:
        """The team as it came out of a deployment, with the rollbacks that were decided since."""
        return rolled_back(self.driver, self.sampler, team, number, self.ledger.events())

    def learners(self, agents: Iterable[AgentID]) -> list[LearnerID]:
        """Agents, as the driver names them."""
        return [(self.seed, agent) for agent in agents]

    def told(self, kind: type[C], number: int) -> list[C]:
        """What the events of a kind say of a deployment."""
        return [content for _, content in of_kind(kind, self.ledger.events(kind.kind), number)]

    def builds_on(self, number: int) -> dict[str, Any] | None:
        """See `reconcile.builds_on`."""
        return reconcile.builds_on(self.ledger.events(), number)

    def require_agents(self, agents: Collection[AgentID]) -> None:
        """Raise `ConfigError` for who is not of the team."""
        for agent in agents:
            require_name(agent, self.agents, "agent")

    def require_reached(self, number: int) -> None:
        """Raise `ConfigError` unless the team was tuned on a deployment."""
        require(
            0 <= number <= self.number,
            f"the team in {self.folder} was tuned on deployments up to {self.number}, not on {number}",
        )

    @property
    def _updates(self) -> int:
        return self.config.offline_updates

    def _resume(self) -> None:
        for event in self.ledger.events(Ingested.kind):
            folder = self.history.deployment(event.deployment) / LOGS
            if not folder.exists():
                raise CorruptionError(f"{folder} is missing, and these logs cannot be made again: put them back")
        done = max(self.history.intact_steps(), default=0)
        offline = max(self.offline.intact_steps(), default=-1)
        needed = ((self.history, done),) if done else ((self.offline, offline), (self.history, done))
        for history, last in needed:
            self.notes += tuple(made_again(history.checkpoint(step)) for step in history.steps() if step > last)
        if done > 0 or offline > 0:
            last = self.history.checkpoint(done) if done > 0 else self.offline.checkpoint(offline)
            self.other_versions = other_versions(read_manifest(last))
        if done > 0 or offline >= self._updates:
            self.team, self.number = self.team_after(done), done

    def _reconcile(self) -> None:
        if self.team is not None:
            with contextlib.suppress(CorruptionError):  # of a checkpoint that is no longer needed
                self.offline.settle(self._updates)
        if self.number:
            self.history.settle(self.number)
        if (self.history.deployment(self.number + 1) / LOGS).exists():
            self.history.drop_waiting(self.number + 1)
        records = self.records if self.number else []
        events = self.ledger.events()
        due = reconcile.due_events(self.folder, events, records, self._updates, self.offline, self.history, self.number)
        for number, content in due:
            self.ledger.append(number, content)
        self.ledger.anchor(self.ledger.events())

    def _on_disk(self) -> tuple[object, ...]:
        return len(self.ledger.events()), self.offline.steps(), self.history.steps()
