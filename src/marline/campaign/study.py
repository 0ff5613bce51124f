"""A study: one task, one algorithm, several samplers and seeds, in one run directory.

run.json          the resolved configuration
data/             the offline logs, shared by all seeds
seed-0/offline/   the offline team, common start of every sampler of the seed
seed-0/uniform/   one history per sampler
provenance.jsonl  who computed what, when and with which versions: a line per start
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from marline import plugins, tuning
from marline.campaign.belonging import require_belonging
from marline.campaign.history import TRAJECTORIES, History, Record
from marline.campaign.run_directory import decisive_sha256
from marline.collection import collect, collect_in_turns, collect_random, evaluate, trace
from marline.configuration import OFFLINE, RunConfig
from marline.data import dataset
from marline.data.checkpoints import tree_sha256
from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.data.files import atomic_json, json_sha256
from marline.data.plain import require_plain_run
from marline.data.provenance import record_start
from marline.data.scratch import is_scratch
from marline.envs import Drifting, Task, make_task
from marline.errors import ConfigError, CorruptionError
from marline.memory import release_memory
from marline.rollout import Policies
from marline.samplers import OnlineMatched, Sampler, trains
from marline.shell import command
from marline.tuning import LearnerID, Team
from marline.types import AgentID, Policy

X = TypeVar("X")
Step = tuple[str, int]  # what is going on, and how many updates were just done
OFFLINE_CHECKPOINT = 10_000  # updates between two checkpoints of the offline phase


def plan(folder: Path, config: RunConfig) -> RunConfig:
    """What a run directory is to hold: this run, or the run that is there and the seeds and samplers that it lacks.

    Raises:
        ConfigError: the directory holds something else, or another run.
    """
    path = folder / "run.json"
    if path.exists():
        require_plain_run(folder)
        there = RunConfig.read(path)
        try:
            whole = there.extended(config)
        except ConfigError as error:
            going_on = command("status", folder) if config.task is None else resume_command(folder, there)
            raise ConfigError(
                f"{folder} already holds another run ({error}); "
                f"choose another --run, or go on with that one: {going_on}"
            ) from None
        require_belonging(folder)
        return whole
    # what a writer left that was killed before there was a run.json is no content
    if folder.exists() and not all(map(is_scratch, folder.iterdir())):
        raise ConfigError(f"{folder} is not empty and not a run directory; choose another --run")
    return config


def create(folder: Path, config: RunConfig) -> RunConfig:
    """Start a run directory, or let the run there gain what it lacks; returns the configuration of the whole.

    Raises:
        ConfigError: see `plan`; nothing is changed.
    """
    whole, path = plan(folder, config), folder / "run.json"
    if not path.exists():
        atomic_json(path, whole.to_json())
    elif RunConfig.read(path) != whole:
        document = whole.added_to(path)
        record_start(folder, json_sha256(document))  # first, or a kill in between would leave one that is not known
        atomic_json(path, document)
    return whole


def resume_command(folder: Path, config: RunConfig) -> str:
    """What goes on with a study; the user's own code must be trusted again."""
    trust = ("--trust",) if any(plugins.code_in(config.to_json())) else ()
    return command("resume", folder, *trust)


def prepare_data(folder: Path, config: RunConfig) -> dict[AgentID, Dataset]:
    """The offline logs: those in the run directory, or random play of the task, made once."""
    if (folder / "data" / "dataset.json").exists():
        return dataset.load(folder / "data")
    if config.task is None or config.dataset_size is None:
        raise CorruptionError(
            f"{folder / 'data'} is missing, and these logs cannot be made again: put them back, or repeat the command "
            "that started the run, with the same logs"
        )
    logs = random_play(config)
    keep_play(folder, config, logs)
    return logs


def random_play(config: RunConfig) -> dict[AgentID, Dataset]:
    """The offline logs of a study that was given none."""
    assert config.task is not None and config.dataset_size is not None
    return collect_random(make_task(config.task), config.dataset_size, seed=config.data_seed)


def keep_play(folder: Path, config: RunConfig, logs: Mapping[AgentID, Dataset]) -> None:
    """Put `random_play` into the run directory; done once."""
    if not (folder / "data" / "dataset.json").exists():
        provenance = {"task": config.task, "policy": "uniform random", "seed": config.data_seed}
        dataset.save(folder / "data", logs, provenance | _source(folder))


def keep_data(
    folder: Path, logs: Mapping[AgentID, Dataset], source: str, mapping: Mapping[str, Any] | None = None
) -> None:
    """Copy given offline logs into the run directory, where their hashes are kept; done once.

    With them goes what was said of the tables that they came from, so that later logs are read alike.
    """
    if not (folder / "data" / "dataset.json").exists():
        told = {"source": source, **({"mapping": dict(mapping)} if mapping else {})}
        dataset.save(folder / "data", logs, told | _source(folder))


def _source(folder: Path) -> dict[str, str]:
    """For which configuration the offline logs are there."""
    path = folder / "run.json"
    return {"run.json": decisive_sha256(path)} if path.exists() else {}


def place_data(config: RunConfig, data: dict[AgentID, Dataset]) -> dict[AgentID, Experience]:
    """The offline logs on the device. `data` is emptied: a second copy of large logs is most of what a run takes."""
    experiences: dict[AgentID, Experience] = {}
    for agent in list(data):
        experiences |= tuning.place(
            {agent: data.pop(agent)},
            config.algorithm,
            num_deployments=config.deployments,
            rows_per_deployment=config.rows_per_deployment,
        )
        release_memory()
    return experiences


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
        yield from study.tune(study.trained(), sampler)


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
    return _Study(folder, config, place_data(config, dict(data)), (seed,)).replay(seed, sampler)


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
        self.folder, self.config, self.seeds = folder, config, seeds
        self.task: Task = make_task(config.task)
        self.experiences, self.agents = experiences, tuple(experiences)

    def offline(self) -> Generator[Step, None, Team]:
        """The offline teams, trained or read from disk."""
        config = self.config
        histories = {seed: self._history(seed, OFFLINE) for seed in self.seeds}
        found, team = self._offline_so_far(histories)
        saved = last = found or 0
        yield "offline training", last
        stopped = {seed: history.stopped_at(last) if last else {} for seed, history in histories.items()}
        training = tuning.pretrain(
            team,
            config.algorithm,
            num_updates=config.offline_updates,
            first_update=last,
            chunk=config.updates,
            stopped=[(seed, agent) for seed, agents in stopped.items() for agent in agents],
        )
        for step in training:
            team, done = step.team, step.updates
            for (seed, agent), its in step.diverged.items():
                stopped[seed][agent] = histories[seed].save_divergence(histories[seed].folder, agent, its)
            yield "offline training", done - last
            last = done
            if done - saved >= OFFLINE_CHECKPOINT and done < config.offline_updates:
                saved = done
                self._save(team, histories, done, {seed: [] for seed in self.seeds}, stopped)
        if found != config.offline_updates:
            measured = self._evaluate(team, 0, {}, 0.0, stopped)
            records = {seed: [measured[seed]] for seed in self.seeds}
            self._save(team, histories, config.offline_updates, records, stopped)
        return team

    def trained(self) -> Team:
        """The offline teams, which must be on disk."""
        done, team = self._offline_so_far({seed: self._history(seed, OFFLINE) for seed in self.seeds})
        if done != self.config.offline_updates:
            raise CorruptionError(f"{self.folder} lost the offline team of seeds {self.seeds}; run it again")
        return team

    def replay(self, seed: int, name: str | None) -> dict[AgentID, bool]:
        """See the function."""
        config, history = self.config, self._history(seed, name or OFFLINE)
        step = max(history.intact_steps(), default=0)
        if step == 0:
            return {}
        if name is None:
            team = tuning.recruit_on(self.experiences, config.algorithm, seeds=self.seeds)
            for trained in tuning.pretrain(team, config.algorithm, num_updates=step, chunk=config.updates):
                team = trained.team
        elif not trains(config.samplers[name]):
            team = self.trained()
        else:
            before = self._tuned(self.trained(), name, step - 1)
            team = tuning.merge(before, self._logs({seed: history}, step), step, config.algorithm)
            team = tuning.tune_on(team, step, config.algorithm, config.samplers[name], num_updates=config.updates).team
        there = history.load(step, _of_seed(team, seed))
        same = {
            agent: tree_sha256(state.learner) == tree_sha256(there[agent].learner)
            for agent, state in _of_seed(team, seed).items()
        }
        if name is not None:
            policies = _of_seed(tuning.policies(team, config.algorithm), seed)
            served = history.load_policies(step, policies)
            same = {agent: same[agent] and tree_sha256(served[agent]) == tree_sha256(policies[agent]) for agent in same}
        return same

    def _tuned(self, team: Team, name: str, step: int) -> Team:
        """The team after deployment `step`, from disk; `team` is that of offline training."""
        sampler, histories = self.config.samplers[name], {seed: self._history(seed, name) for seed in self.seeds}
        if step == 0:
            return self._prescribe(tuning.equip(team, sampler), name, sampler)
        templates = {learner: memory_template(state.experience, sampler) for learner, state in team.items()}
        team = {learner: state._replace(sampler=templates[learner]) for learner, state in team.items()}
        for number in range(1, step + 1):
            team = tuning.merge(team, self._logs(histories, number), number, self.config.algorithm)
        return {
            (seed, agent): state
            for seed, history in histories.items()
            for agent, state in history.load(step, _of_seed(team, seed)).items()
        }

    def _offline_so_far(self, histories: Mapping[int, History]) -> tuple[int | None, Team]:
        """The updates of the last checkpoint, if there is one, and the teams as they were then."""
        untrained = tuning.recruit_on(self.experiences, self.config.algorithm, seeds=self.seeds)
        done = _common_step(histories)
        return done, untrained if done is None else _restore(untrained, histories, done)

    def tune(self, team: Team, name: str) -> Iterator[Step]:
        """K deployments under one sampler, from the offline teams."""
        config, sampler = self.config, self.config.samplers[name]
        histories = {seed: self._history(seed, name) for seed in self.seeds}
        offline = {seed: self._history(seed, OFFLINE) for seed in self.seeds}
        records = {seed: history.records_at(config.offline_updates) for seed, history in offline.items()}
        start, done = team, _common_step(histories)
        if done is not None and done >= config.deployments:
            for history in histories.values():
                history.settle(done)
            yield f"{name}: done before", config.deployments * config.updates
            return
        if not trains(sampler):
            yield from self._leave_alone(team, name, histories, done or 0)
            return
        if done is None:
            yield f"{name}: preparing", 0
            done, team = 0, self._tuned(team, name, 0)
        else:
            team = self._tuned(team, name, done)
            for history in histories.values():
                history.rewind(done)
            records = {seed: history.records_at(done) for seed, history in histories.items()}
            yield f"{name}: resumed", done * config.updates

        def deploy(number: int, policies: Mapping[LearnerID, Policy]) -> dict[LearnerID, Dataset]:
            for seed, history in histories.items():
                if history.load_logs(number) is None:
                    key = jax.random.fold_in(world_key(seed, "collection"), number)
                    logs = self._collect(_of_seed(policies, seed), key, number)
                    history.save_logs(number, logs, {"task": config.task, "deployment": number, "seed": seed})
            return self._logs(histories, number)

        remaining = range(done + 1, config.deployments + 1)
        campaign = tuning.run(
            team, deploy, config.algorithm, sampler, num_updates=config.updates, deployments=remaining
        )
        for number in remaining:
            yield f"{name}: deployment {number} of {config.deployments}", 0
            began = time.monotonic()
            _, team, metrics, diverged = next(campaign)
            stopped: dict[int, dict[AgentID, Record]] = {seed: {} for seed in self.seeds}
            for (seed, agent), its in diverged.items():
                home = histories[seed].deployment(number)
                stopped[seed][agent] = histories[seed].save_divergence(home, agent, its)
            measured = self._evaluate(team, number, metrics, time.monotonic() - began, stopped)
            records = {seed: [*records[seed], measured[seed]] for seed in self.seeds}
            yield self._publish(start, team, name, number, histories, records)

    def _leave_alone(self, team: Team, name: str, histories: Mapping[int, History], done: int) -> Iterator[Step]:
        """Evaluate the offline teams wherever the others are evaluated: a reference that nobody trains."""
        config = self.config
        so_far = histories if done else {seed: self._history(seed, OFFLINE) for seed in self.seeds}
        records = {seed: its.records_at(done or config.offline_updates) for seed, its in so_far.items()}
        for number in range(done + 1, config.deployments + 1):
            measured = self._evaluate(team, number, {}, 0.0, {seed: {} for seed in self.seeds})
            records = {seed: [*records[seed], measured[seed]] for seed in self.seeds}
            yield self._publish(team, team, name, number, histories, records)

    def _publish(
        self,
        start: Team,
        team: Team,
        name: str,
        number: int,
        histories: Mapping[int, History],
        records: Mapping[int, list[Record]],
    ) -> Step:
        """Write what a deployment serves, and its checkpoint last; the step that this was."""
        config = self.config
        policies = tuning.policies(team, config.algorithm)
        for seed, history in histories.items():
            history.save_policies(number, _of_seed(policies, seed))
            if number == config.deployments:
                self._save_trajectories(start, team, seed, history)
        self._save(team, histories, number, records)
        mean = np.mean([its[-1]["return"] for its in records.values()])
        return f"{name}: deployment {number} of {config.deployments}, return {mean:.1f}", config.updates

    def _collect(self, policies: Policies, key: PRNGKeyArray, number: int) -> dict[AgentID, Dataset]:
        num_rows, epsilon = self.config.rows_per_deployment, self.config.sequential_exploration
        if epsilon is None:
            return collect(self.task, policies, num_rows, key=key, deployment=number)
        return collect_in_turns(self.task, policies, num_rows, epsilon=epsilon, key=key, deployment=number)

    def _history(self, seed: int, name: str) -> History:
        return History(self.folder / f"seed-{seed}" / name)

    def _logs(self, histories: Mapping[int, History], number: int) -> dict[LearnerID, Dataset]:
        logs: dict[LearnerID, Dataset] = {}
        for seed, history in histories.items():
            of_seed = history.load_logs(number)
            if of_seed is None:
                raise CorruptionError(f"{history.folder} lost the logs of deployment {number}; put them back")
            logs |= {(seed, agent): of_seed[agent] for agent in self.agents}
        return logs

    def _prescribe(self, team: Team, name: str, sampler: Sampler[Any]) -> Team:
        """Tell a control the shares that the sampler it matches drew, per agent and deployment."""
        if not isinstance(sampler, OnlineMatched):
            return team
        prescribed = {}
        for (seed, agent), state in team.items():
            memory = state.sampler
            matched = self._history(seed, self.config.matches[name])
            for record in matched.records_at(self.config.deployments)[1:]:
                drawn = record["agents"][agent]
                if "share_offline" not in drawn:  # it diverged with the first update
                    continue
                shares = [drawn["share_offline"], drawn["share_earlier"], drawn["share_current"]]
                memory = sampler.prescribe(memory, record["deployment"], jnp.array(shares))
            prescribed[seed, agent] = state._replace(sampler=memory)
        return prescribed

    def _evaluate(
        self,
        team: Team,
        number: int,
        metrics: tuning.Summary,
        seconds: float,
        stopped: Mapping[int, Mapping[AgentID, Record]],
    ) -> dict[int, Record]:
        policies = tuning.policies(team, self.config.algorithm)
        records = {}
        for seed in self.seeds:
            of_seed = _of_seed(policies, seed)
            key, episodes = evaluation_key(self.config, seed), self.config.evaluation_episodes
            result = evaluate(self.task, of_seed, episodes, key=key, deployment=number + 1)  # its next, where it drifts
            fixed = {}
            if isinstance(self.task, Drifting):  # in the last world too, where only the policies make a difference
                last = evaluate(self.task, of_seed, episodes, key=key, deployment=self.config.deployments + 1)
                fixed = {"return_in_last_world": float(last.returns.mean())}
            records[seed] = {
                "deployment": number,
                "return": float(result.returns.mean()),
                **fixed,
                "returns": [round(float(value), 4) for value in result.returns],
                "mean_abs_action": result.mean_abs_action,
                "seconds": round(seconds, 3),
                "agents": {agent: metrics[seed, agent] for agent in self.agents if (seed, agent) in metrics},
                **({"diverged": stopped[seed]} if stopped[seed] else {}),
            }
        return records

    def _save(
        self,
        team: Team,
        histories: Mapping[int, History],
        step: int,
        records: Mapping[int, list[Record]],
        stopped: Mapping[int, Mapping[AgentID, Record]] | None = None,
    ) -> None:
        for seed, history in histories.items():
            history.save(step, _of_seed(team, seed), records[seed], (stopped or {}).get(seed))

    def _save_trajectories(self, start: Team, team: Team, seed: int, history: History) -> None:
        traces = {}
        for when, members, number in (("before", start, 0), ("after", team, self.config.deployments)):
            policies = tuning.policies(members, self.config.algorithm)
            of_seed = _of_seed(policies, seed)
            traces[when] = trace(self.task, of_seed, key=evaluation_key(self.config, seed), deployment=number + 1)
        atomic_json(history.folder / TRAJECTORIES, traces)


def world_key(seed: int, purpose: str) -> PRNGKeyArray:
    """A stream of the world's, not of any agent's: the same under every sampler."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def evaluation_key(config: RunConfig, seed: int) -> PRNGKeyArray:
    """Decides the episodes in which the teams of a seed are evaluated."""
    return world_key(seed if config.evaluation_seed is None else config.evaluation_seed, "evaluation")


def _of_seed(team: Mapping[LearnerID, X], seed: int) -> dict[AgentID, X]:
    return {agent: value for (of_seed, agent), value in team.items() if of_seed == seed}


def _restore(team: Team, histories: Mapping[int, History], step: int) -> Team:
    restored = {}
    for seed, history in histories.items():
        members = history.restore(step, _of_seed(team, seed))
        restored |= {(seed, agent): state for agent, state in members.items()}
    return restored


def memory_template(experience: Experience, sampler: Sampler[Any]) -> PyTree:
    """Shapes of a sampler's memory, without the work of fitting it."""
    return jax.eval_shape(lambda experience, key: sampler.init(experience, key=key), experience, jax.random.key(0))


def _abreast(folder: Path, config: RunConfig, seeds: Sequence[int]) -> list[tuple[int, ...]]:
    """Divide seeds into groups that have come equally far: those that a run gained are not to hold up, or undo, others.

    A kill between the checkpoints of two seeds leaves them one deployment apart; they go on together.
    """

    def last_step(seed: int, name: str) -> int:
        return max(History(folder / f"seed-{seed}" / name).steps(), default=0)

    def are_abreast(one: int, other: int) -> bool:
        return last_step(one, OFFLINE) == last_step(other, OFFLINE) and all(
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


def _common_step(histories: Mapping[int, History]) -> int | None:
    """The last step that every seed has intact, for seeds are tuned side by side."""
    common = set.intersection(*(set(history.intact_steps()) for history in histories.values()))
    return max(common, default=None)
