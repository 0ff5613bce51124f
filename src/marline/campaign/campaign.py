"""One team in the real world: train on its logs, deploy, bring the logs back, tune, again."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marline import tuning
from marline.campaign import foresight, notebook, reconcile
from marline.campaign.ingest import Intake
from marline.campaign.off_policy_evaluation import Foresight
from marline.campaign.read_logs import Logs, Received, as_datasets, read_logs
from marline.campaign.require_logs import Awaited, Ingested, require_budget, require_everyone, require_fitting
from marline.campaign.robots import Robots, logs_from, robots_of
from marline.campaign.rollback import rolled_back, with_learners_of
from marline.campaign.timeline import timeline
from marline.configuration.planning import DEFAULT_ALGORITHM, DEFAULT_SAMPLER, AlgorithmChoice, plan_campaign
from marline.configuration.run_config import RunConfig
from marline.data.check import check
from marline.data.checkpoints import NOT_IDENTICAL, other_versions, read_manifest
from marline.data.dataset import Dataset
from marline.data.manifest import require_file_name
from marline.display.shell import command
from marline.envs import Task
from marline.errors import ConfigError, CorruptionError, DataError, DivergenceWarning, require, require_name
from marline.inputs.arguments import checked_arguments
from marline.policy import NumpyPolicy
from marline.runs.creation import resume_command, start_run
from marline.runs.disk_space import require_room
from marline.runs.divergences import Stop, sentence, stops
from marline.runs.driver import Driver, of_seed, place_data
from marline.runs.history import History, Record
from marline.runs.integrity import require_belonging
from marline.runs.layout import BUNDLES, LOGS, RunDirectory, require_run
from marline.runs.ledger import Event, Ledger
from marline.runs.lineage import exported_policies, lineage
from marline.runs.lock import writing
from marline.runs.offline_logs import keep_data, prepare_data
from marline.runs.policies import read_policies
from marline.runs.replay import is_same, train_again, tune_again
from marline.samplers import Sampler
from marline.tuning import Team
from marline.types import AgentID, Policy

if TYPE_CHECKING:
    from marline.runs.export import Exported


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
        notes: what was found damaged and is made again, or was made with other versions, one sentence each.
    """

    def __init__(self, folder: Path, config: RunConfig, data: Mapping[AgentID, Dataset]) -> None:
        self.folder, self.config = folder, config
        self.agents = tuple(data)
        (self.sampler_name,), (self.seed,) = config.samplers, config.seeds
        self.ledger = Ledger(folder)
        self._run = RunDirectory(folder)
        self._offline = History(self._run.team(self.seed))
        self._history = History(self._run.team(self.seed, self.sampler_name))
        self._specs = {agent: log.spec for agent, log in data.items()}
        self.channels = {agent: log.channels for agent, log in data.items()}
        self._awaited = Awaited(self._specs, self.channels, config.rows_per_deployment, config.deployments)
        self._driver = Driver(self._run, config, place_data(config, dict(data)), config.seeds)
        self._team: Team | None = None
        self._number = 0
        self._is_writing = False
        self.notes: tuple[str, ...] = ()
        self._other_versions: list[str] = []
        self._resume()
        self._seen = self._state()

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
            sampler: what chooses the rows of each update, an object or a name; OTC with the value distance by default.
            seed: of all randomness.
            deployments: how many there will be at most, K.
            offline_updates: updates on the offline logs.
            updates: updates after each deployment, L; what the algorithm says by default.
            rows_per_deployment: the most rows an agent logs at one deployment; 1 % of the offline
                rows by default.

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
        folder: str | Path, logs: Mapping[AgentID, Dataset], config: RunConfig, source: str = "given logs"
    ) -> Campaign:
        """`create`, from a configuration; `logs` were checked."""
        for agent in logs:  # before anything is written
            require_file_name(agent, "agent", DataError)
        sizes = {agent: (log.spec, len(log)) for agent, log in logs.items()}
        folder = Path(folder)
        if not RunDirectory(folder).configuration.exists():
            require_room(folder, config, sizes)
        start_run(folder, config)
        with writing(folder):
            keep_data(folder, logs, source)
        return Campaign.open(folder)

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
        told = f"{folder} was made with {'; '.join(campaign._other_versions)}; {NOT_IDENTICAL}"
        require(not (strict and campaign._other_versions), told)
        campaign.notes += (told,) if campaign._other_versions else ()
        return campaign

    @property
    def number(self) -> int:
        """Deployments tuned on so far."""
        return self._number

    @property
    def tuned_on(self) -> dict[AgentID, int]:
        """The deployment that each agent's policy was last tuned on; 0 is the offline policy."""
        return lineage(self.agents, self._records(), self.ledger.events())[-1]

    @property
    def diverged(self) -> tuple[Stop, ...]:
        """Who left the finite numbers so far, and when; those agents kept what they were before."""
        return tuple(stops(self._records()))

    @property
    def offline_rows(self) -> dict[AgentID, int]:
        """Rows of each agent's offline logs."""
        return {agent: its.num_offline for agent, its in self._driver.experiences.items()}

    @property
    def versions(self) -> str:
        """What the last checkpoint was made with, such as "marline 0.1.0, jax 0.10.2"."""
        history, step = (self._history, self._number) if self._number else (self._offline, self.config.offline_updates)
        versions = read_manifest(history.checkpoint(step))["versions"]
        return ", ".join(f"{name} {version}" for name, version in versions.items())

    @property
    def records(self) -> list[Record]:
        """What was measured: of the offline team, then of each deployment tuned on."""
        return self._records()

    @property
    def returns(self) -> list[float]:
        """Mean logged return of each team deployed so far, the offline team first."""
        return [record["return"] for record in self._records() if "return" in record]

    @property
    def policies(self) -> dict[AgentID, NumpyPolicy]:
        """The policies to deploy now: arrays in, arrays out, on the scale of the offline logs."""
        policies, channels = self._policies(), self.channels
        return {
            agent: NumpyPolicy(policies[agent], seed=self.seed, spec=self._specs[agent], channels=channels[agent])
            for agent in self.agents
        }

    @checked_arguments
    def train(self, progress: Callable[[int], None] | None = None) -> None:
        """Train every agent on its offline logs, from where an earlier call was interrupted.

        An agent that diverges stops, with a `DivergenceWarning`, and is left as it was not long before; see `diverged`.

        Args:
            progress: is told the number of updates done.
        """
        with self._writing():
            if self._team is not None:
                return
            with self._driver.offline(ledger=self._ledger(0)) as training:
                for updates in training:
                    if progress is not None:
                        progress(updates)
            stopped = training.stopped[self.seed]
            record: Record = {"deployment": 0, "agents": {}, **({"diverged": stopped} if stopped else {})}
            training.finish({self.seed: [record]})
            self._team = self._driver.begin(self.sampler_name, training.team)
        self._warn_of_divergence(0)

    @checked_arguments
    def deploy(self, robots: Robots | Task) -> dict[AgentID, Dataset]:
        """Hand the policies to `robots` and return the logs that come back, checked; nothing is merged yet.

        In place of robots stands a task, in which as many rows are logged as were planned. Policies act, and arrays
        come back, on the scale of the offline logs.
        """
        require_budget(self._number + 1, self._awaited)
        self._require_learned(self.agents)
        if isinstance(robots, Task):
            robots = robots_of(robots, self._policies(), self._awaited, self._number + 1, seed=self.seed)
        return logs_from(robots, self.policies, self._awaited)

    @checked_arguments
    def export(
        self, out: str | Path | None = None, agents: Collection[AgentID] = (), *, deployment: int | None = None
    ) -> Exported:
        """Write policies as bundles, for robots without JAX; the ledger knows of them before they are there.

        Args:
            out: gets one folder per agent; `bundles` beside the policies in the run directory if None.
            agents: whose bundles; everyone's if empty.
            deployment: the last one that the policies were tuned on, 0 for the offline ones; the policies to deploy
                now if None.

        Raises:
            ConfigError: there is no such policy, or it cannot be exported; nothing is written.
        """
        from marline.runs.export import bundle_team  # ONNX, which only an export needs

        self._require_agents(agents)
        number, policies, tuned_on = self._deployable(deployment)
        chosen = {agent: policy for agent, policy in policies.items() if not agents or agent in agents}
        self._require_learned(chosen)
        home = self._history.deployment(number) if number else self._offline.folder
        exported = bundle_team(
            self.folder,
            self.config,
            chosen,
            tuned_on=tuned_on,
            logs_of=number + 1,
            provenance={"task": self.config.task, "seed": self.seed, "sampler": self.sampler_name},
            out=home / BUNDLES if out is None else Path(out),
        )
        body: dict[str, Any] = {
            "policies": {agent: bundle.policy_sha256 for agent, bundle in exported.bundles.items()},
            "tuned_on": {agent: tuned_on[agent] for agent in exported.bundles},
            "folder": str(exported.folder),
        }
        exported.require_places()
        with self._writing():
            # before the bundles: none may be out there that the ledger does not know
            known = exported_policies(self.ledger.events(), exported.deployment)  # without those withdrawn since
            are_out = all(policy in known.get(agent, ()) for agent, policy in body["policies"].items())
            if not are_out or body not in [event.body for event in self._events_of("exported", exported.deployment)]:
                self.ledger.append("exported", exported.deployment, body)
            exported.write()
        return exported

    def _deployable(self, deployment: int | None) -> tuple[int, Mapping[AgentID, Policy], Mapping[AgentID, int]]:
        """The deployment that a team came out of, its policies, and the last deployment that each was tuned on."""
        if deployment is None:
            return self._number, self._policies(), self.tuned_on
        self._trained()
        past = lineage(self.agents, self._records(), self.ledger.events())
        require(
            0 <= deployment <= self._number,
            f"the team in {self.folder} was tuned on deployments up to {self._number}, not on {deployment}",
        )
        if deployment == self._number:
            require(
                past[-2] == past[-1],
                f"agents of the team in {self.folder} were rolled back since deployment {deployment}; what it deploys "
                "now is exported without --deployment",
            )
            return deployment, self._policies(), past[-1]
        _, _, policies = read_policies(self._run, self.config, self.seed, self.sampler_name, deployment)
        return deployment, policies, past[deployment]

    def foresee(self) -> dict[AgentID, Foresight]:
        """Compare the policies to deploy now with those of the last deployment, on the logs of it.

        Returns:
            By agent, of those that logged in the last deployment; nothing before the first one. Mind
            `off_policy_evaluation.LIMITS`: logs cannot tell how the others will act.
        """
        team, number = self._trained(), self._number
        logs = self._history.load_logs(number) if number else None
        if logs is None:
            return {}
        deployed = with_learners_of(self._driver, self.sampler_name, team, number - 1, self.agents)
        deployed = self._rolled_back(deployed, number - 1)
        found = foresight.foresights(team, deployed, logs, self.config.algorithm, seed=self.seed)
        body = {"agents": {agent: its._asdict() for agent, its in found.items()}}
        with self._writing():
            if body not in [event.body for event in self._events_of("foreseen", number + 1)]:
                self.ledger.append("foreseen", number + 1, body)
        return found

    @checked_arguments
    def ingest(
        self,
        logs: str | Path | Logs | None = None,
        *,
        allow_missing: bool = False,
        unstamped: bool = False,
        replace: bool = False,
        clip_actions: bool = False,
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

        Raises:
            DataError: the logs break a rule, or are of another scale, policy, deployment or agent; nothing is changed.
            ConfigError: the team is not trained, or all deployments are done.
        """
        self._trained()
        if logs is None:
            require(
                allow_missing, "name the logs that came back, or --allow-missing to go on without those that did not"
            )
            received = Received({}, {}, (), "")
        elif isinstance(logs, Mapping):
            received = Received(as_datasets(logs, self.channels), {}, (), "arrays")
            unstamped = True
        else:
            received = read_logs(logs, self._specs, channels=self.channels, clip_actions=clip_actions)
        with self._writing():
            return self._intake().take(received, allow_missing=allow_missing, unstamped=unstamped, replace=replace)

    @checked_arguments
    def tune(
        self, logs: Logs | None = None, *, agents: Collection[AgentID] = (), freeze: Collection[AgentID] = ()
    ) -> Record:
        """Merge the logs of a deployment, tune every agent, and return what was measured.

        An agent that was waived or is frozen keeps its policy; a frozen agent's logs are merged all the same. So does
        one that diverges, with a `DivergenceWarning`; see `diverged`.

        Args:
            logs: one entry per agent, arrays on the scale of the offline logs. None takes the logs that were ingested.
            agents: tune only these, as if all others were frozen.
            freeze: do not tune these.

        Raises:
            DataError: an agent's logs are missing, strange or malformed; nothing is merged.
        """
        self._require_agents([*agents, *freeze])
        with self._writing():
            number = self._number + 1
            require_budget(number, self._awaited)
            team = self._trained()
            saved = self._history.load_logs(number)
            if saved is None and logs is not None:
                received = Received(as_datasets(logs, self.channels), {}, (), "arrays")
                require_fitting(received.logs, self._awaited)
                require_everyone(received.logs, self._awaited)
                self._intake().take(received, allow_missing=False, unstamped=True, replace=True)
                saved = self._history.load_logs(number)
            if saved is None:
                bring = command("ingest", self.folder, "LOGS")
                raise ConfigError(f"deployment {number} has no logs yet; bring them in with: {bring}")
            frozen = [agent for agent in self.agents if agent in freeze or (agents and agent not in agents)]
            before = self._events_of("tuned", number)
            if before:  # its checkpoint was lost, and is made again
                frozen = list(before[-1].body["frozen"])
            deploy = lambda *_: {(self.seed, agent): log for agent, log in saved.items()}  # noqa: E731
            (tuned,) = self._driver.tune(self.sampler_name, team, deploy, [number], frozen=self._learners(frozen))
            stopped = tuned.stopped[self.seed]
            # these logs show how the team before this tuning did
            returns = reconcile.team_returns(saved)
            records = self._records()
            records[-1] |= {"return": float(returns.mean()), "returns": returns.tolist()}
            waived = [agent for agent in self.agents if agent not in saved]
            record: Record = {"deployment": number, "agents": of_seed(tuned.metrics, self.seed)}
            record |= {"frozen": sorted(frozen)} if frozen else {}
            record |= {"waived": waived} if waived else {}
            record |= {"diverged": stopped} if stopped else {}
            written = {self.seed: [*records, record]}
            ledger = self._ledger(number)
            self._driver.publish(self.sampler_name, number, tuned.team, written, learners=True, ledger=ledger)
            if before:
                again = reconcile.tuned_again(self._history, self._offline, number, before[-1])
                if again is not None:
                    self.ledger.append("tuned", number, again)
            # decided before its checkpoint was lost
            self._team, self._number = self._rolled_back(tuned.team, number), number
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
        self._require_agents(agents)
        with self._writing():
            self._trained()
            require(
                0 <= to <= self._number,
                f"the team in {self.folder} was tuned on deployments up to {self._number}, not on {to}",
            )
            waiting = self._history.load_waiting(self._number + 1)
            require(
                not waiting or self._history.load_logs(self._number + 1) is not None,
                f"logs of {', '.join(waiting)} wait for those of the others; bring these in, or go on without them "
                f"first: {command('ingest', self.folder, '--allow-missing')}",
            )
            chosen = [agent for agent in self.agents if not agents or agent in agents]
            event = self.ledger.append("rolled-back", self._number, {"to": to, "agents": chosen})
            self._team = with_learners_of(self._driver, self.sampler_name, self._trained(), to, chosen)
        return event

    def replay(self) -> dict[AgentID, bool]:
        """Train again what was trained last, changing nothing: whether each agent comes out with the same bytes.

        Compared are the learners of the checkpoint, which the policies to deploy are taken from, and the learners and
        policies that were published beside it.
        """
        number, driver = self._number, self._driver
        self._trained()
        if number == 0:
            updates = self.config.offline_updates
            return is_same(driver, self.seed, None, updates, train_again(driver, updates))
        frozen = self._learners(self._records()[-1].get("frozen", ()))
        again = tune_again(driver, self.sampler_name, number, self._team_after(number - 1), frozen=frozen)
        return is_same(driver, self.seed, self.sampler_name, number, again)

    def report(self) -> Path:
        """Write `report.html` into the run directory."""
        from marline.report import write_report

        return write_report([self.folder], self._run.report, {self.folder: timeline(self.ledger.events())})

    def __repr__(self) -> str:
        return f"<Campaign of {', '.join(self.agents)} in {self.folder}, tuned on {self.number} deployments>"

    def _repr_html_(self) -> str:
        """For notebooks: where every agent stands, and how each deployment went."""
        title = f"{self.folder}: {self.number} of {self.config.deployments} deployments, {self.sampler_name}"
        return notebook.tables(title, self.offline_rows, self.tuned_on, self.returns)

    def _intake(self) -> Intake:
        return Intake(self.folder, self._history, self._number + 1, self._awaited, self.ledger.events())

    def _warn_of_divergence(self, number: int) -> None:
        for stop in self.diverged:
            if stop.deployment == number:
                warnings.warn(sentence(stop, self.folder), DivergenceWarning, stacklevel=3)

    def _records(self) -> list[Record]:
        # those of the checkpoint: a crash may have kept them from metrics.jsonl
        if self._number:
            return self._history.records_at(self._number)
        return self._offline.records() if self._team is None else self._offline.records_at(self.config.offline_updates)

    def _resume(self) -> None:
        self._require_ingested_logs()
        done = max(self._history.intact_steps(), default=0)
        offline = max(self._offline.intact_steps(), default=-1)
        for history, last in ((self._offline, offline), (self._history, done)):
            lost = [history.checkpoint(step) for step in history.steps() if step > last]
            self.notes += tuple(
                f"{path} is damaged, so what came after the one before it is done again" for path in lost
            )
        if done > 0 or offline > 0:
            last = self._history.checkpoint(done) if done > 0 else self._offline.checkpoint(offline)
            self._other_versions = other_versions(read_manifest(last))
        if done > 0 or offline >= self.config.offline_updates:
            self._team, self._number = self._team_after(done), done

    def _team_after(self, number: int) -> Team:
        """The team as the next deployment finds it: checkpoint, rows, and the rollbacks that were decided since."""
        if number == 0:
            team = self._driver.begin(self.sampler_name, self._driver.trained())
        else:
            team = self._driver.team_after(self.sampler_name, number, self._driver.untrained())
        return self._rolled_back(team, number)

    def _rolled_back(self, team: Team, number: int) -> Team:
        return rolled_back(self._driver, self.sampler_name, team, number, self.ledger.events())

    def _require_ingested_logs(self) -> None:
        """What the ledger knows to have come back cannot be made again."""
        for event in self.ledger.events("ingested"):
            folder = self._history.deployment(event.deployment) / LOGS
            if not folder.exists():
                raise CorruptionError(f"{folder} is missing, and these logs cannot be made again: put them back")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the run directory; what a crash kept from the ledger is entered before, what was done after."""
        if self._is_writing:
            yield
            return
        with writing(self.folder):
            require(
                self._state() == self._seen,
                f"{self.folder} has changed since it was opened here; open it again",
            )
            self._is_writing = True
            try:
                self._reconcile()
                self._seen = self._state()
                yield
                self._reconcile()
                self._seen = self._state()
            finally:
                self._is_writing = False

    def _reconcile(self) -> None:
        if self._team is not None:
            with contextlib.suppress(CorruptionError):  # of a checkpoint that is no longer needed
                self._offline.settle(self.config.offline_updates)
        if self._number:
            self._history.settle(self._number)
        if (self._history.deployment(self._number + 1) / LOGS).exists():
            self._history.drop_waiting(self._number + 1)
        for kind, number, body in reconcile.due_events(
            self.folder, self.config.offline_updates, self._offline, self._history, self._number
        ):
            self.ledger.append(kind, number, body)
        self.ledger.anchor(self.ledger.events())

    def _ledger(self, number: int) -> dict[str, Any] | None:
        return reconcile.builds_on(self.ledger.events(), number)

    def _state(self) -> tuple[object, ...]:
        return len(self.ledger.events()), self._offline.steps(), self._history.steps()

    def _events_of(self, kind: str, number: int) -> list[Event]:
        return [event for event in self.ledger.events(kind) if event.deployment == number]

    def _policies(self) -> dict[AgentID, Policy]:
        return of_seed(tuning.policies(self._trained(), self.config.algorithm), self.seed)

    def _trained(self) -> Team:
        if self._team is None:
            train = command("train", "--run", self.folder)
            raise ConfigError(f"the team in {self.folder} is not trained yet; call train() first, or: {train}")
        return self._team

    def _require_learned(self, agents: Collection[AgentID]) -> None:
        """Raise `ConfigError` for who diverged offline before a first checkpoint and was not tuned since."""
        tuned_on = self.tuned_on
        for stop in self.diverged:
            require(
                stop.agent not in agents or stop.deployment > 0 or stop.kept > 0 or tuned_on[stop.agent] > 0,
                f"agent {stop.agent!r} diverged before it had learned anything, so there is no policy of it to deploy: "
                "train another run with a lower learning_rate, or export the others with --agent, and ingest their "
                "logs with --allow-missing",
            )

    def _require_agents(self, agents: Collection[AgentID]) -> None:
        for agent in agents:
            require_name(agent, self.agents, "agent")

    def _learners(self, agents: Iterable[AgentID]) -> list[tuning.LearnerID]:
        return [(self.seed, agent) for agent in agents]
