"""One team in the real world: train on its logs, deploy, bring the logs back, tune, again."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marline.campaign import departure, notebook, off_policy_evaluation, rollback, training
from marline.campaign.ingest import Intake
from marline.campaign.parts import is_open
from marline.campaign.read_logs import Logs, Received, as_datasets, read_logs, stamped
from marline.campaign.require_logs import (
    Ingested,
    require_budget,
    require_everyone,
    require_fitting,
    short_of_an_episode,
)
from marline.campaign.robots import Robots, logs_from, robots_of
from marline.campaign.state import CampaignState
from marline.campaign.timeline import timeline
from marline.configuration.planning import DEFAULT_ALGORITHM, DEFAULT_SAMPLER, AlgorithmChoice, plan_campaign
from marline.configuration.run_config import RunConfig
from marline.data import dataset
from marline.data.check import check
from marline.data.checkpoints import NOT_IDENTICAL, read_manifest
from marline.data.dataset import Dataset
from marline.data.formats import tables_in
from marline.data.manifest import require_file_name
from marline.display.shell import command
from marline.display.words import logs_to_come
from marline.envs import Task
from marline.errors import ConfigError, CorruptionError, DataError, DivergenceWarning, require
from marline.inputs.arguments import checked_arguments
from marline.policy import NumpyPolicy
from marline.runs.creation import resume_command, start_run
from marline.runs.disk_space import require_room
from marline.runs.divergences import Stop, sentence, stops
from marline.runs.events import Event, Exported
from marline.runs.given_mapping import given_mapping
from marline.runs.integrity import require_belonging
from marline.runs.layout import LOGS, RunDirectory, require_run
from marline.runs.lock import writing
from marline.runs.offline_logs import keep_data, prepare_data
from marline.runs.records import Record
from marline.samplers import Sampler
from marline.statistics.fitted_q_evaluation import OffPolicyEstimate
from marline.types import AgentID

if TYPE_CHECKING:
    from marline.runs.export import Exported as Bundles


class Campaign:
    """A team that lives in a run directory; every method returns only when its effect is on disk.

    The order is `train`, then for each deployment `deploy` and `tune`; where the robots are elsewhere, `export`,
    `ingest` and `tune`. A campaign that was interrupted anywhere goes on after `Campaign.open`.

    Attributes:
        folder: the run directory.
        config: what the run is.
        agents: the team, in the order of its logs.
        ledger: what happened so far.
        channels: names, units and ranges of each agent's columns, as its offline logs have them.
        notes: what was found damaged and is made again, was made with other versions, or was planned too small,
            one sentence each.
    """

    def __init__(self, folder: Path, config: RunConfig, data: Mapping[AgentID, Dataset]) -> None:
        self._state = state = CampaignState(folder, config, data)
        self.folder, self.config, self.agents, self.ledger = folder, config, state.agents, state.ledger
        self.seed, self.sampler_name = state.seed, state.sampler
        self.channels = state.awaited.channels
        self.notes = state.notes

    @staticmethod
    @checked_arguments
    def create(
        folder: str | Path,
        logs: Mapping[AgentID, Dataset],
        *,
        algorithm: AlgorithmChoice | None = None,
        sampler: str | Sampler[Any] | None = None,
        seed: int = 0,
        deployments: int = 10,
        offline_updates: int = 100_000,
        updates: int | None = None,
        rows_per_deployment: int | None = None,
    ) -> Campaign:
        """Start a campaign in a new run directory.

        Args:
            folder: the run directory; must not hold another run.
            logs: offline logs per agent, as `marline.load` returns them; checked before use.
            algorithm: what learns, for all agents or by agent, an object or a name; TD3+BC by default.
            sampler: what chooses the rows of each update, an object or a name; `kernel-ratio` by default.
            seed: of all randomness.
            deployments: how many there will be at most, K.
            offline_updates: updates on the offline logs.
            updates: updates after each deployment, L; what the algorithm says by default.
            rows_per_deployment: the most rows an agent logs at one deployment, for good; 1 % of the offline
                rows by default. `notes` says where that is less than an episode of them.

        Raises:
            DataError: logs that break a rule; nothing is written.
            ConfigError: the folder holds something else.
        """
        check(logs)
        config = plan_campaign(
            logs=logs,
            algorithm=DEFAULT_ALGORITHM if algorithm is None else algorithm,
            sampler=DEFAULT_SAMPLER if sampler is None else sampler,
            seed=seed,
            deployments=deployments,
            offline_updates=offline_updates,
            updates=updates,
            rows_per_deployment=rows_per_deployment,
        )
        return Campaign.start(folder, logs, config)

    @staticmethod
    def start(
        folder: str | Path,
        logs: Mapping[AgentID, Dataset],
        config: RunConfig,
        source: str = "given logs",
        mapping: Mapping[str, Any] | None = None,
    ) -> Campaign:
        """`create`, from a configuration; `logs` were checked, and read by `mapping` where they came from tables."""
        for agent in logs:  # before anything is written
            require_file_name(agent, "agent", DataError)
        sizes = {agent: (log.spec, len(log)) for agent, log in logs.items()}
        folder = Path(folder)
        if not RunDirectory(folder).configuration.exists():
            require_room(folder, config, sizes)
        start_run(folder, config)
        with writing(folder):
            keep_data(folder, logs, source, mapping)
        campaign = Campaign.open(folder)
        campaign.notes += short_of_an_episode(logs, config.rows_per_deployment)
        return campaign

    @staticmethod
    @checked_arguments
    def open(folder: str | Path, *, strict: bool = False) -> Campaign:
        """Go on with the campaign in a run directory.

        Args:
            folder: the run directory.
            strict: refuse to where results would not be bit-identical, instead of a note in `notes`.
        """
        folder = Path(folder)
        path = require_run(folder)
        # one altered digit is a sound configuration too, and would train other policies
        require_belonging(folder)
        config = RunConfig.read(path)
        require(
            len(config.samplers) == 1 and len(config.seeds) == 1,
            f"{folder} compares several samplers or seeds; go on with it by: {resume_command(folder, config)}",
        )
        campaign = Campaign(folder, config, prepare_data(folder, config))
        different = campaign._state.other_versions
        told = f"{folder} was made with {'; '.join(different)}; {NOT_IDENTICAL}"
        require(not (strict and different), told)
        campaign.notes += (told,) if different else ()
        return campaign

    @property
    def number(self) -> int:
        """Deployments tuned on so far."""
        return self._state.number

    @property
    def logs_are_in(self) -> bool:
        """Whether the logs of the next deployment were brought in, so that the team is to be tuned on them."""
        return (self._state.history.deployment(self.number + 1) / LOGS).exists()

    @property
    def tuned_on(self) -> dict[AgentID, int]:
        """The deployment that each agent's policy was last tuned on; 0 is the offline policy."""
        return self._state.lineage[-1]

    @property
    def diverged(self) -> tuple[Stop, ...]:
        """Who left the finite numbers so far, and when; those agents kept what they were before."""
        return tuple(stops(self._state.records))

    @property
    def offline_rows(self) -> dict[AgentID, int]:
        """Rows of each agent's offline logs."""
        return {agent: its.num_offline for agent, its in self._state.driver.experiences.items()}

    @property
    def versions(self) -> str:
        """What the last checkpoint was made with, such as "marline 0.1.0, jax 0.10.2"."""
        versions = read_manifest(self._state.checkpoint)["versions"]
        return ", ".join(f"{name} {version}" for name, version in versions.items())

    @property
    def records(self) -> list[Record]:
        """What was measured: of the offline team, then of each deployment tuned on; yours to change."""
        return copy.deepcopy(self._state.records)

    @property
    def returns(self) -> list[float]:
        """Mean logged return of each team deployed so far, the offline team first."""
        return [record["return"] for record in self._state.records if "return" in record]

    @property
    def policies(self) -> dict[AgentID, NumpyPolicy]:
        """The policies to deploy now: arrays in, arrays out, on the scale of the offline logs."""
        specs, channels = self._state.awaited.specs, self.channels
        return {
            agent: NumpyPolicy(policy, seed=self.seed, spec=specs[agent], channels=channels[agent])
            for agent, policy in self._state.policies.items()
        }

    @checked_arguments
    def train(self, progress: Callable[[int], None] | None = None) -> None:
        """Train every agent on its offline logs, from where an earlier call was interrupted.

        An agent that diverges stops, with a `DivergenceWarning`, and is left as it was not long before; see `diverged`.

        Args:
            progress: is told the number of updates done.
        """
        with self._state.writing():
            if self._state.team is not None:
                return
            training.train(self._state, progress)
        self._warn_of_divergence(0)

    @checked_arguments
    def deploy(self, robots: Robots | Task) -> dict[AgentID, Dataset]:
        """Hand the policies to `robots` and return the logs that come back, checked; nothing is merged yet.

        In place of robots stands a task, in which as many rows are logged as were planned. Policies act, and arrays
        come back, on the scale of the offline logs.
        """
        state = self._state
        require_budget(state.number + 1, state.awaited)
        departure.require_learned(state, state.agents)
        if isinstance(robots, Task):
            robots = robots_of(robots, state.policies, state.awaited, state.number + 1, seed=state.seed)
        return logs_from(robots, self.policies, state.awaited)

    @checked_arguments
    def export(
        self, out: str | Path | None = None, agents: Collection[AgentID] = (), *, deployment: int | None = None
    ) -> Bundles:
        """Write policies as bundles, for robots without JAX; the ledger knows of them before they are there.

        Args:
            out: gets one folder per agent; `bundles` beside the policies in the run directory if None.
            agents: whose bundles; everyone's if empty.
            deployment: the last one that the policies were tuned on, 0 for the offline ones; the policies to deploy
                now if None.

        Raises:
            ConfigError: there is no such policy, or it cannot be exported; nothing is written.
        """
        return departure.export(self._state, None if out is None else Path(out), agents, deployment)

    def off_policy_evaluation(self) -> dict[AgentID, OffPolicyEstimate]:
        """Compare the policies to deploy now with those of the last deployment, on the logs of it.

        Returns:
            By agent, of those that logged in the last deployment; nothing before the first one. Mind
            `fitted_q_evaluation.LIMITS`: logs cannot tell how the others will act.
        """
        return off_policy_evaluation.off_policy_evaluation(self._state)

    @checked_arguments
    def ingest(
        self,
        logs: str | Path | Logs | None = None,
        *,
        allow_missing: bool = False,
        unstamped: bool = False,
        replace: bool = False,
        clip_actions: bool = False,
        more: bool = False,
        policy_of: str | Path | None = None,
        mapping: str | Path | None = None,
    ) -> Ingested:
        """Bring in the logs of the deployment that is out; all agents or none, and nothing is merged yet.

        The same logs again change nothing. Logs of some agents wait for those of the others.

        Args:
            logs: a path that `read_logs.read_logs` reads, or arrays by agent, on the scale of the offline logs; None
                with `allow_missing` goes on with those that wait.
            allow_missing: do without the agents whose logs are not there: they keep policy and data as they are.
            unstamped: take logs from files that do not tell which policy acted.
            replace: let these logs take the place of others that wait.
            clip_actions: cut continuous actions to their range instead of refusing others.
            more: these are a part of what their agents logged, and more of it is to come: the next logs of an agent
                are put behind them, until some come without `more`.
            policy_of: the bundles that acted, of logs that do not tell it: the folder that `export` wrote.
            mapping: how to read these tables, in the place of the mapping that was kept with the offline logs: a file,
                or a dataset folder or a run that keeps one.

        Raises:
            DataError: the logs break a rule, or are of another scale, policy, deployment or agent; nothing is changed.
            ConfigError: the team is not trained, or all deployments are done.
        """
        state = self._state
        state.trained()
        if logs is None:
            require(
                allow_missing, "name the logs that came back, or --allow-missing to go on without those that did not"
            )
            received = Received({}, {}, (), "")
        elif isinstance(logs, Mapping):
            received, unstamped = self._given(logs), True
        else:
            received = self._read(logs, None if mapping is None else Path(mapping), clip_actions=clip_actions)
        if policy_of is not None:
            received = stamped(received, policy_of)
        with state.writing():
            intake = self._intake()
            return intake.take(received, allow_missing=allow_missing, unstamped=unstamped, replace=replace, more=more)

    @checked_arguments
    def tune(
        self,
        logs: Logs | None = None,
        *,
        agents: Collection[AgentID] = (),
        freeze: Collection[AgentID] = (),
        changes: Callable[[list[str]], None] | None = None,
    ) -> Record:
        """Merge the logs of a deployment, tune every agent, and return what was measured.

        An agent that was waived or is frozen keeps its policy; a frozen agent's logs are merged all the same. So does
        one that diverges, with a `DivergenceWarning`; see `diverged`.

        Args:
            logs: one entry per agent, arrays on the scale of the offline logs. None takes the logs that were ingested.
            agents: tune only these, as if all others were frozen.
            freeze: do not tune these.
            changes: is told, in sentences, whose partners or world changed and whether it matters, before anybody is
                tuned; nothing unless the sampler asks.

        Raises:
            DataError: an agent's logs are missing, strange or malformed; nothing is merged.
        """
        state = self._state
        state.require_agents([*agents, *freeze])
        with state.writing():
            number = state.number + 1
            require_budget(number, state.awaited)
            state.trained()
            saved = state.history.load_logs(number)
            if saved is None and logs is not None:
                received = self._given(logs)
                require_fitting(received.logs, state.awaited)
                require_everyone(received.logs, state.awaited)
                self._intake().take(received, allow_missing=False, unstamped=True, replace=True)
                saved = state.history.load_logs(number)
            if saved is None:
                raise ConfigError(self._awaited_logs(number))
            frozen = [agent for agent in self.agents if agent in freeze or (agents and agent not in agents)]
            record = training.tune(state, saved, frozen, changes)
        self._warn_of_divergence(number)
        return record

    @checked_arguments
    def rollback(self, to: int, agents: Collection[AgentID] = ()) -> Event:
        """Let agents go on from what they were after an earlier deployment; the next bundles carry those policies.

        Policy, critic and optimizers go back. What was logged since stays, and so does the sampler's memory of it.

        Args:
            to: the last deployment that they were tuned on then; 0 are the offline policies.
            agents: who goes back; everyone if empty.
        """
        self._state.require_agents(agents)
        with self._state.writing():
            return rollback.roll_back(self._state, to, agents)

    def replay(self) -> dict[AgentID, bool]:
        """Train again what was trained last, changing nothing: whether each agent comes out with the same bytes.

        Compared are the learners of the checkpoint, which the policies to deploy are taken from, and the learners and
        policies that were published beside it.
        """
        return training.replay(self._state)

    def report(self) -> Path:
        """Write `report.html` into the run directory."""
        from marline.report import write_report

        events = timeline(self.ledger.events())
        return write_report([self.folder], RunDirectory(self.folder).report, {self.folder: events})

    def __repr__(self) -> str:
        return f"<Campaign of {', '.join(self.agents)} in {self.folder}, tuned on {self.number} deployments>"

    def _repr_html_(self) -> str:
        """For notebooks: where every agent stands, and how each deployment went."""
        title = f"{self.folder}: {self.number} of {self.config.deployments} deployments, {self.sampler_name}"
        return notebook.tables(title, self.offline_rows, self.tuned_on, self.returns)

    def _given(self, logs: Logs) -> Received:
        return Received(as_datasets(logs, self.channels), {}, (), "arrays")

    def _read(self, logs: str | Path, mapping: Path | None, *, clip_actions: bool) -> Received:
        """Logs from files: tables by a mapping, or else as the offline logs were."""
        kept = dataset.mapping_of(RunDirectory(self.folder).data)
        try:
            return read_logs(
                logs,
                self._state.awaited.specs,
                channels=self.channels,
                clip_actions=clip_actions,
                mapping=kept if mapping is None else given_mapping(mapping).to_document(),
                deployment=self._state.number + 1,
            )
        except (DataError, CorruptionError) as error:
            if not tables_in(logs):
                raise
            if mapping is not None:
                raise type(error)(
                    f"{error}. {mapping} must give as many numbers as the offline logs have: for words that they had "
                    "not, say other"
                ) from None
            known = ("--mapping", self.folder) if kept else ()
            raise type(error)(
                f"{error}. To read these logs otherwise than the offline ones: "
                f"{command('data', 'import', logs, *known)} tells all that is wrong and writes a mapping; edit it, "
                f"and {command('ingest', self.folder, logs, '--mapping', 'FILE')} reads them by it"
            ) from None

    def _awaited_logs(self, number: int) -> str:
        """Whose logs of a deployment are to come before the team can be tuned on it."""
        bring = f"bring them in with: {command('ingest', self.folder, 'LOGS')}"
        waiting = self._state.history.waiting(number)
        if not waiting.exists() and not self._state.told(Exported, number):
            send = f"send the policies out: {command('export', self.folder)}"
            return f"deployment {number} has no logs yet, and its policies were not exported; {send}, or {bring}"
        if not waiting.exists():
            return f"deployment {number} has no logs yet; {bring}"
        there = dataset.describe(waiting)["provenance"]["agents"]
        awaited = logs_to_come(
            [agent for agent in self.agents if agent not in there], [agent for agent in there if is_open(there, agent)]
        )
        without = command("ingest", self.folder, "--allow-missing")
        return f"deployment {number}: {awaited}; {bring}, or go on with what is there: {without}"

    def _intake(self) -> Intake:
        state = self._state
        return Intake(self.folder, state.history, state.number + 1, state.awaited, self.ledger.events())

    def _warn_of_divergence(self, number: int) -> None:
        for stop in self.diverged:
            if stop.deployment == number:
                warnings.warn(sentence(stop, self.folder), DivergenceWarning, stacklevel=3)
