"""One team in the real world: train on its logs, deploy, bring the logs back, tune, again."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jax

from marline import tuning
from marline.arguments import checked_arguments, fit
from marline.campaign import study
from marline.campaign.belonging import require_belonging
from marline.campaign.diverging import Stop, sentence, stops
from marline.campaign.foresight import Foresight, foresee
from marline.campaign.history import History, Record
from marline.campaign.intake import Ingested, describe, is_open, put_behind, require_fitting, require_stamps
from marline.campaign.ledger import Event, Ledger, told
from marline.campaign.lineage import exported_policies, lineage
from marline.campaign.lock import writing
from marline.campaign.looking import look
from marline.campaign.receiving import Received, read_logs, stamps_of_bundles
from marline.campaign.reconciling import due_events, team_returns, tuned_body
from marline.campaign.room import require_room
from marline.campaign.run_directory import require_run
from marline.campaign.timeline import timeline
from marline.collection import collect
from marline.configuration import RunConfig
from marline.data import dataset
from marline.data.channels import Channels
from marline.data.check import check
from marline.data.checkpoints import NOT_IDENTICAL, other_versions, read_manifest, tree_sha256
from marline.data.dataset import Dataset, from_arrays
from marline.data.layout import logs_of
from marline.data.manifest import FileRecord, require_file_name
from marline.data.team import on_task_scale, require_agents, require_sizes
from marline.envs import Task
from marline.errors import ConfigError, CorruptionError, DataError, DivergenceWarning, require, require_name
from marline.notebook import html_table
from marline.planning import DEFAULT_ALGORITHM, DEFAULT_SAMPLER, AlgorithmChoice, plan_campaign
from marline.policy import NumpyPolicy
from marline.samplers import Sampler
from marline.shell import command
from marline.tuning import Team
from marline.types import AgentID, Policy

if TYPE_CHECKING:
    from marline.campaign.exporting import Exported

X = TypeVar("X")
Arrays = Mapping[str, Any]
Logs = Mapping[AgentID, Dataset | Arrays]
Robots = Callable[[Mapping[AgentID, NumpyPolicy]], Logs]


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
        ((self.sampler_name, self.sampler),) = config.samplers.items()
        (self.seed,) = config.seeds
        self.ledger = Ledger(folder)
        self._offline = History(folder / f"seed-{self.seed}" / "offline")
        self._history = History(folder / f"seed-{self.seed}" / self.sampler_name)
        self._specs = {agent: log.spec for agent, log in data.items()}
        self.channels = {agent: log.channels for agent, log in data.items()}
        self._untrained = tuning.recruit(
            data,
            config.algorithm,
            seeds=config.seeds,
            num_deployments=config.deployments,
            rows_per_deployment=config.rows_per_deployment,
        )
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
        if not (folder / "run.json").exists():
            require_room(folder, config, sizes)
        study.create(folder, config)
        with writing(folder):
            study.keep_data(folder, logs, source, mapping)
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
            f"{folder} compares several samplers or seeds; go on with it by: {study.resume_command(folder, config)}",
        )
        campaign = Campaign(folder, config, study.prepare_data(folder, config))
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
        return {agent: self._untrained[self.seed, agent].experience.num_offline for agent in self.agents}

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
            updates, team = self.config.offline_updates, self._untrained
            saved = max(self._offline.intact_steps(), default=0)
            if saved:
                team = self._seeded(self._offline.restore(saved, self._members(team)))
            stopped = self._offline.stopped_at(saved) if saved else {}
            step = tuning.Trained(saved, team, {}, {})
            training = tuning.pretrain(
                team,
                self.config.algorithm,
                num_updates=updates,
                first_update=saved,
                chunk=self.config.updates,
                stopped=[(self.seed, agent) for agent in stopped],
            )
            try:
                for step in training:
                    stopped = {**stopped, **self._kept(0, step.diverged)}
                    if progress is not None:
                        progress(step.updates)
                    if step.updates - saved >= study.OFFLINE_CHECKPOINT and step.updates < updates:
                        saved = step.updates
                        self._offline.save(saved, self._members(step.team), [], stopped, ledger=self._ledger(0))
            except (KeyboardInterrupt, SystemExit):
                if saved < step.updates < updates:
                    stopped = {**stopped, **self._kept(0, step.diverged)}  # the signal may have come just before
                    self._offline.save(step.updates, self._members(step.team), [], stopped, ledger=self._ledger(0))
                raise
            record: Record = {"deployment": 0, "agents": {}, **({"diverged": stopped} if stopped else {})}
            self._offline.save(updates, self._members(step.team), [record], ledger=self._ledger(0))
            self._team = tuning.equip(step.team, self.sampler)
        self._warn_of_divergence(0)

    @checked_arguments
    def deploy(self, robots: Robots | Task) -> dict[AgentID, Dataset]:
        """Hand the policies to `robots` and return the logs that come back, checked; nothing is merged yet.

        In place of robots stands a task, in which as many rows are logged as were planned. Policies act, and arrays
        come back, on the scale of the offline logs.
        """
        self._require_budget()
        self._require_learned(self.agents)
        if isinstance(robots, Task):
            robots = self._simulated(robots)
        given: Logs = fit(robots(self.policies), Logs, "what the robots returned")
        # in memory of their own, for robots may log the next deployment into the same arrays
        returned = {agent: _copied(log) for agent, log in self._as_datasets(given).items()}
        require_fitting(returned, self._specs, self.channels, self.config.rows_per_deployment)
        self._require_everyone(returned)
        check(returned)
        return returned

    @checked_arguments
    def export(self, out: str | Path | None = None, agents: Collection[AgentID] = ()) -> Exported:
        """Write the policies to deploy now as bundles, for robots without JAX.

        Args:
            out: gets one folder per agent; `bundles` beside the policies in the run directory if None.
            agents: whose bundles; everyone's if empty.
        """
        from marline.campaign.exporting import bundle_team

        self._require_agents(agents)
        policies = {agent: policy for agent, policy in self._policies().items() if not agents or agent in agents}
        self._require_learned(policies)
        tuned_on = self.tuned_on
        home = self._history.deployment(self._number) if self._number else self._offline.folder
        exported = bundle_team(
            self.folder,
            self.config,
            policies,
            tuned_on=tuned_on,
            logs_of=self._number + 1,
            provenance={"task": self.config.task, "seed": self.seed, "sampler": self.sampler_name},
            out=home / "bundles" if out is None else Path(out),
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

    def foresee(self) -> dict[AgentID, Foresight]:
        """Compare the policies to deploy now with those of the last deployment, on the logs of it.

        Returns:
            By agent, of those that logged in the last deployment; nothing before the first one. Mind
            `foresight.LIMITS`: logs cannot tell how the others will act.
        """
        team, number = self._trained(), self._number
        logs = self._history.load_logs(number) if number else None
        if logs is None:
            return {}
        deployed = self._members(tuning.policies(self._with_learners_after(number - 1), self.config.algorithm))
        found = {}
        for agent, log in logs.items():
            algorithm = tuning.algorithm_of(self.config.algorithm, agent)
            experience = team[self.seed, agent].experience
            policies = deployed[agent], algorithm.policy(team[self.seed, agent].learner)
            steps, seen = look(policies, experience, log, seed=self.seed)
            found[agent] = foresee(steps, seen, log.spec, gamma=algorithm.gamma, seed=self.seed)
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
        more: bool = False,
        policy_of: str | Path | None = None,
    ) -> Ingested:
        """Bring in the logs of the deployment that is out; all agents or none, and nothing is merged yet.

        The same logs again change nothing. Logs of some agents wait for those of the others.

        Args:
            logs: a path that `receiving.read_logs` reads, or arrays by agent, on the scale of the offline logs; None
                with `allow_missing` goes on with those that wait.
            allow_missing: do without the agents whose logs are not there: they keep policy and data as they are.
            unstamped: take logs from files that do not tell which policy acted.
            replace: let these logs take the place of others that wait.
            clip_actions: cut continuous actions to their range instead of refusing others.
            more: these are a part of what their agents logged, and more of it is to come: the next logs of an agent
                are put behind them, until some come without `more`.
            policy_of: the bundles that acted, of logs that do not tell it: the folder that `export` wrote.

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
            received = Received(self._as_datasets(logs), {}, (), "arrays")
            unstamped = True
        else:
            received = read_logs(
                logs,
                self._specs,
                channels=self.channels,
                clip_actions=clip_actions,
                mapping=dataset.mapping_of(self.folder / "data"),
                deployment=self._number + 1,
            )
        if policy_of is not None:
            plain = [agent for agent in received.logs if agent not in received.stamps]
            stamps = {**received.stamps, **stamps_of_bundles(policy_of, plain)}
            received = dataclasses.replace(received, stamps=stamps)
        with self._writing():
            return self._ingest(received, allow_missing=allow_missing, unstamped=unstamped, replace=replace, more=more)

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
            self._require_budget()
            team, number = self._trained(), self._number + 1
            saved = self._history.load_logs(number)
            if saved is None and logs is not None:
                received = Received(self._as_datasets(logs), {}, (), "arrays")
                require_fitting(received.logs, self._specs, self.channels, self.config.rows_per_deployment)
                self._require_everyone(received.logs)
                self._ingest(received, allow_missing=False, unstamped=True, replace=True)
                saved = self._history.load_logs(number)
            if saved is None:
                bring = command("ingest", self.folder, "LOGS")
                raise ConfigError(f"deployment {number} has no logs yet; bring them in with: {bring}")
            frozen = {agent for agent in self.agents if agent in freeze or (agents and agent not in agents)}
            before = self._events_of("tuned", number)
            if before:  # its checkpoint was lost, and is made again
                frozen = set(before[-1].body["frozen"])
            team, metrics, diverged = self._tune_on(team, saved, number, frozen)
            # these logs show how the team before this tuning did
            returns = team_returns(saved)
            records = self._records()
            records[-1] |= {"return": float(returns.mean()), "returns": returns.tolist()}
            waived = [agent for agent in self.agents if agent not in saved]
            record: Record = {"deployment": number, "agents": metrics}
            record |= {"frozen": sorted(frozen)} if frozen else {}
            record |= {"waived": waived} if waived else {}
            record |= {"diverged": self._kept(number, diverged)} if diverged else {}
            members = self._members(team)
            self._history.save_policies(number, self._members(tuning.policies(team, self.config.algorithm)))
            self._history.save_learners(number, {agent: state.learner for agent, state in members.items()})
            self._history.save(number, members, [*records, record], ledger=self._ledger(number))
            if before:
                self._enter_again(number, before[-1])
            for event in self._events_of("rolled-back", number):  # decided before its checkpoint was lost
                team = self._gone_back(team, event.body)
            self._team, self._number = team, number
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
            self._team = self._gone_back(self._trained(), event.body)
        return event

    def replay(self) -> dict[AgentID, bool]:
        """Train again what was trained last, changing nothing: whether each agent comes out with the same bytes.

        Compared are the learners of the checkpoint, which the policies to deploy are taken from, and the learners and
        policies that were published beside it.
        """
        number = self._number
        self._trained()
        if number == 0:
            chunk, updates = self.config.updates, self.config.offline_updates
            last = self._untrained
            for step in tuning.pretrain(last, self.config.algorithm, num_updates=updates, chunk=chunk):
                last = step.team
            again, checkpoint = self._members(last), self._offline.checkpoint(updates)
        else:
            logs = self._history.load_logs(number)
            assert logs is not None  # or it could not have been opened
            frozen = self._records()[-1].get("frozen", ())
            team, *_ = self._tune_on(self._team_after(number - 1), logs, number, frozen)
            again, checkpoint = self._members(team), self._history.checkpoint(number)
        expected = {(checkpoint, agent): (f"{agent}/learner", state.learner) for agent, state in again.items()}
        if number:
            home = self._history.deployment(number)
            policies = self._members(tuning.policies(self._seeded(again), self.config.algorithm))
            expected |= {(home / "learners", agent): (agent, state.learner) for agent, state in again.items()}
            expected |= {(home / "policies", agent): (agent, policy) for agent, policy in policies.items()}
        files = {folder: _files(folder) for folder, _ in expected}
        same = dict.fromkeys(self.agents, True)
        for (folder, agent), (name, tree) in expected.items():
            same[agent] &= tree_sha256(tree) == files[folder][f"{name}.safetensors"]["sha256"]
        return same

    def report(self) -> Path:
        """Write `report.html` into the run directory."""
        from marline.report import write_report

        events = timeline(self.ledger.events())
        return write_report([self.folder], self.folder / "report.html", {self.folder: events})

    def __repr__(self) -> str:
        return f"<Campaign of {', '.join(self.agents)} in {self.folder}, tuned on {self.number} deployments>"

    def _repr_html_(self) -> str:
        """For notebooks: where every agent stands, and how each deployment went."""
        tuned_on, returns = self.tuned_on, self.returns
        agents = [
            (agent, f"{self.offline_rows[agent]:,}", "offline logs" if not number else f"deployment {number}")
            for agent, number in tuned_on.items()
        ]
        title = f"{self.folder}: {self.number} of {self.config.deployments} deployments, {self.sampler_name}"
        table = html_table(title, ("agent", "offline rows", "policy tuned on"), agents)
        went = [(str(number), f"{value:.4g}") for number, value in enumerate(returns, start=1)]
        return table + (html_table("Logged returns", ("deployment", "mean return"), went) if went else "")

    def _simulated(self, task: Task) -> Robots:
        require_agents(self.agents, "the task", task.specs)
        require_sizes(self._specs, "the task", task.specs)
        team, number, num_rows = self._policies(), self._number + 1, self.config.rows_per_deployment
        return lambda _: simulate(task, team, self.channels, number, seed=self.seed, num_rows=num_rows)

    def _ingest(
        self, received: Received, *, allow_missing: bool, unstamped: bool, replace: bool, more: bool = False
    ) -> Ingested:
        number = self._number + 1
        require_fitting(received.logs, self._specs, self.channels, self.config.rows_per_deployment)
        known = {agent: dataclasses.replace(log, channels=self.channels[agent]) for agent, log in received.logs.items()}
        received = dataclasses.replace(received, logs=known)  # some tell less of their columns than is known
        described = describe(received.logs, received.stamps)
        waiting = self._waiting(number)
        known = {agent: (its["rows_sha256"], *its.get("parts", ())) for agent, its in waiting.items()}
        before = self._find_ingested(described)
        if before is not None:
            return before
        fresh = {agent: its for agent, its in described.items() if its["rows_sha256"] not in known.get(agent, ())}
        closing = not more and any(is_open(waiting, agent) for agent in described)
        if described and not fresh and not allow_missing and not closing:
            return self._ingested(number, "repeated", waiting, ())
        self._require_budget()
        require(
            self._history.load_logs(number) is None,
            f"the logs of deployment {number} are in already, and these are others; "
            f"next: {command('tune', self.folder)}",
        )
        require_stamps(received.stamps, self.ledger.events(), number, received.source)
        plain = [agent for agent in fresh if agent not in received.stamps]
        require(
            unstamped or not plain,
            f"{received.source} does not tell which policy acted for {', '.join(plain)}; log with run_policy.py of the "
            f"bundle, or, if you are sure that it was the one for deployment {number}, pass --unstamped",
        )
        replaced = [agent for agent in fresh if agent in known and not is_open(waiting, agent)]
        require(
            replace or not replaced,
            f"other logs of {', '.join(replaced)} for deployment {number} are waiting; pass --replace to take these",
        )
        there = self._history.load_waiting(number)
        parts, fresh = put_behind({} if replace else there, waiting, received.logs, fresh, described, more=more)
        require_fitting(parts, self._specs, self.channels, self.config.rows_per_deployment)
        logs = {**there, **parts}
        logs = {agent: logs[agent] for agent in self.agents if agent in logs}
        require(bool(logs), f"no logs of deployment {number} are there; bring in those of one agent at least")
        notes = (*received.notes, *check(logs))
        entries = {**waiting, **fresh}
        missing = tuple(agent for agent in self.agents if agent not in logs)
        late = missing or any(is_open(entries, agent) for agent in logs)
        provenance = {"deployment": number, "agents": entries}
        if late and (more or not allow_missing):
            self._history.save_waiting(number, logs, provenance)
            return self._ingested(number, "waiting", entries, (), notes)
        whole = {agent: {key: its[key] for key in its if key != "more"} for agent, its in entries.items()}
        self._history.save_logs(number, logs, {"deployment": number, "agents": whole, "waived": list(missing)})
        self._history.drop_waiting(number)
        return self._ingested(number, "ingested", entries, missing, notes)

    def _find_ingested(self, described: Mapping[AgentID, Mapping[str, Any]]) -> Ingested | None:
        """The deployment that has exactly these logs already."""
        for number in range(1, self._number + 2):
            folder = self._history.deployment(number) / "logs"
            if described and folder.exists():
                there = dataset.describe(folder)["provenance"]
                rows = {agent: its["rows_sha256"] for agent, its in there.get("agents", {}).items()}
                parts = {agent: its.get("parts", ()) for agent, its in there.get("agents", {}).items()}
                known = {agent: (sha256, *parts[agent]) for agent, sha256 in rows.items()}
                if all(its["rows_sha256"] in known.get(agent, ()) for agent, its in described.items()):
                    return self._ingested(number, "repeated", there["agents"], tuple(there["waived"]))
        return None

    def _ingested(
        self,
        number: int,
        outcome: str,
        entries: Mapping[AgentID, Mapping[str, Any]],
        waived: tuple[AgentID, ...],
        notes: tuple[str, ...] = (),
    ) -> Ingested:
        rows = {agent: entries[agent]["rows"] for agent in self.agents if agent in entries}
        missing = tuple(
            agent
            for agent in self.agents
            if agent not in waived and (agent not in rows or (outcome != "ingested" and is_open(entries, agent)))
        )
        return Ingested(number, outcome, rows, missing, waived, notes)

    def _waiting(self, number: int) -> dict[AgentID, Any]:
        folder = self._history.waiting(number)
        return dataset.describe(folder)["provenance"]["agents"] if folder.exists() else {}

    def _tune_on(
        self, team: Team, logs: Mapping[AgentID, Dataset], number: int, frozen: Collection[AgentID]
    ) -> tuple[Team, dict[AgentID, Mapping[str, float]], tuning.Diverged]:
        """The team after deployment `number`, what was measured of each agent that has logs of it, and who diverged."""
        team = self._merged(team, logs, number)
        algorithm, sampler = self.config.algorithm, self.sampler
        still = {(self.seed, agent): team[self.seed, agent] for agent in logs if agent in frozen}
        moving = {(self.seed, agent): team[self.seed, agent] for agent in logs if agent not in frozen}
        # the memory of a sampler follows the rows, whether its agent learns from them or not
        adapted, metrics = tuning.adapt(still, number, algorithm, sampler)
        result = tuning.tune_on(moving, number, algorithm, sampler, num_updates=self.config.updates)
        measured = self._members({**metrics, **result.metrics})
        found: dict[AgentID, Mapping[str, float]] = {agent: measured[agent] for agent in self.agents if agent in logs}
        return {**team, **adapted, **result.team}, found, result.diverged

    def _kept(self, number: int, diverged: tuning.Diverged) -> dict[AgentID, Record]:
        """Keep the batches of those who diverged; what to remember of each."""
        history, home = self._offline, self._offline.folder
        if number:
            history, home = self._history, self._history.deployment(number)
        return {agent: history.save_divergence(home, agent, its) for agent, its in self._members(diverged).items()}

    def _warn_of_divergence(self, number: int) -> None:
        for stop in self.diverged:
            if stop.deployment == number:
                warnings.warn(sentence(stop, self.folder), DivergenceWarning, stacklevel=3)

    def _merged(self, team: Team, logs: Mapping[AgentID, Dataset], number: int) -> Team:
        """The team with the rows of those agents that have logs of a deployment."""
        present = {(self.seed, agent): team[self.seed, agent] for agent in logs}
        rows = {(self.seed, agent): log for agent, log in logs.items()}
        return {**team, **tuning.merge(present, rows, number, self.config.algorithm)}

    def _records(self) -> list[Record]:
        # those of the checkpoint: a crash may have kept them from metrics.jsonl
        if self._number:
            return self._history.records_at(self._number)
        return self._offline.records() if self._team is None else self._offline.records_at(self.config.offline_updates)

    def _resume(self) -> None:
        self._require_ingested_logs(self.ledger.events())
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
            members = self._offline.load(self.config.offline_updates, self._members(self._untrained))
            team = tuning.equip(self._seeded(members), self.sampler)
        else:
            team = {
                learner: state._replace(sampler=study.memory_template(state.experience, self.sampler))
                for learner, state in self._untrained.items()
            }
            for earlier in range(1, number + 1):
                logs = self._history.load_logs(earlier)
                if logs is None:
                    raise CorruptionError(
                        f"{self._history.folder} lost the logs of deployment {earlier}; put them back"
                    )
                team = self._merged(team, logs, earlier)
            team = self._seeded(self._history.load(number, self._members(team)))
        for event in self._events_of("rolled-back", number):
            team = self._gone_back(team, event.body)
        return team

    def _with_learners_after(self, number: int) -> Team:
        """The team of now with the learners that it went into the deployment after `number` with."""
        team = self._gone_back(self._trained(), {"to": number, "agents": self.agents})
        for event in self._events_of("rolled-back", number):
            team = self._gone_back(team, event.body)
        return team

    def _gone_back(self, team: Team, decided: Mapping[str, Any]) -> Team:
        to, agents = decided["to"], decided["agents"]
        templates = {agent: team[self.seed, agent].learner for agent in agents}
        if to == 0:
            learners = self._offline.checkpointed_learners(self.config.offline_updates, templates)
        else:
            learners = self._history.load_learners(to, templates)
        back = {(self.seed, agent): team[self.seed, agent]._replace(learner=learners[agent]) for agent in agents}
        return {**team, **back}

    def _require_ingested_logs(self, events: Sequence[Event]) -> None:
        """What the ledger knows to have come back cannot be made again."""
        for event in events:
            folder = self._history.deployment(event.deployment) / "logs"
            if event.kind == "ingested" and not folder.exists():
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
        if (self._history.deployment(self._number + 1) / "logs").exists():
            self._history.drop_waiting(self._number + 1)
        for kind, number, body in due_events(
            self.folder, self.config.offline_updates, self._offline, self._history, self._number
        ):
            self.ledger.append(kind, number, body)
        self.ledger.anchor(self.ledger.events())

    def _ledger(self, number: int) -> dict[str, Any] | None:
        """The newest event that the checkpoint of a deployment builds on: the same where it is made a second time."""
        events = list(itertools.takewhile(lambda event: not _is_of(event, number), self.ledger.events()))
        return {"number": len(events), "told": told(events)} if events else None

    def _enter_again(self, number: int, before: Event) -> None:
        """A checkpoint that was lost and made again may have come out otherwise, on another machine."""
        body = tuned_body(self._history, self._offline, self._history.records_at(number), number)
        if any(body.get(kind) != before.body.get(kind) for kind in ("policies", "learners", "identity")):
            self.ledger.append("tuned", number, body)

    def _state(self) -> tuple[object, ...]:
        return len(self.ledger.events()), self._offline.steps(), self._history.steps()

    def _events_of(self, kind: str, number: int) -> list[Event]:
        return [event for event in self.ledger.events(kind) if event.deployment == number]

    def _policies(self) -> dict[AgentID, Policy]:
        return self._members(tuning.policies(self._trained(), self.config.algorithm))

    def _trained(self) -> Team:
        if self._team is None:
            train = command("train", "--run", self.folder)
            raise ConfigError(f"the team in {self.folder} is not trained yet; call train() first, or: {train}")
        return self._team

    def _require_budget(self) -> None:
        require(
            self._number < self.config.deployments,
            f"all {self.config.deployments} deployments are done; plan more when the campaign is created",
        )

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

    def _as_datasets(self, logs: Logs) -> dict[AgentID, Dataset]:
        """What a caller or its robots give as logs: of each agent a Dataset, or arrays by key on the field's scale."""
        found = {}
        for agent, log in logs.items():
            if not isinstance(log, Dataset | Mapping):
                told = f"{type(log).__name__} {log!r:.60}; give a Dataset, or a dict of arrays"
                raise DataError(f"{logs_of(agent)} are {told}")
            known = self.channels.get(agent)
            found[agent] = log if isinstance(log, Dataset) else from_arrays(agent, log, channels=known)
        return found

    def _require_agents(self, agents: Collection[AgentID]) -> None:
        for agent in agents:
            require_name(agent, self.agents, "agent")

    def _require_everyone(self, logs: Mapping[AgentID, Dataset]) -> None:
        missing = [agent for agent in self.agents if agent not in logs]
        if missing:
            wrong = ", ".join(f"{agent!r} is missing" for agent in missing)
            raise DataError(f"logs of the wrong agents: {wrong}; the team is {', '.join(self.agents)}")

    def _members(self, team: Mapping[tuning.LearnerID, X]) -> dict[AgentID, X]:
        return {agent: value for (_, agent), value in team.items()}

    def _seeded(self, members: Mapping[AgentID, X]) -> dict[tuning.LearnerID, X]:
        return {(self.seed, agent): members[agent] for agent in self.agents}


def simulate(
    task: Task,
    policies: Mapping[AgentID, Policy],
    channels: Mapping[AgentID, Channels],
    number: int,
    *,
    seed: int,
    num_rows: int,
) -> dict[AgentID, Dataset]:
    """What deployment `number` of a team brings where a task stands in place of robots: the same each time.

    `channels` are those of the offline logs, on whose scale these are, too: a task that tells another is refused.
    """
    key = jax.random.fold_in(study.world_key(seed, "collection"), number)
    logs = collect(task, policies, num_rows, key=key, deployment=number)
    for agent, log in logs.items():
        on_task_scale(agent, log, channels[agent])
    return {agent: dataclasses.replace(log, channels=channels[agent]) for agent, log in logs.items()}


def _is_of(event: Event, number: int) -> bool:
    """Whether an event tells that a team was trained offline, or tuned on a deployment."""
    return (event.kind, event.deployment) == ("tuned" if number else "trained", number)


def _files(checkpoint: Path) -> Mapping[str, FileRecord]:
    return read_manifest(checkpoint)["files"]


def _copied(logs: Dataset) -> Dataset:
    columns = {key: column.copy() for key, column in logs.columns().items()}
    return dataclasses.replace(logs, **columns)
