"""What one team has been through, on disk: checkpoints, policies, logs and measurements.

    checkpoint-0000003/   learners and sampler memories after deployment 3; the last two are kept
    deployment-03/logs/   what each agent logged in deployment 3, D4RL keys, one file per agent
    deployment-03/policies/   as tuned on it
    deployment-03/learners/   the same with critics and optimizers, where a team may be rolled back to it
    deployment-03/waiting/    logs of some agents, until those of the others are in
    deployment-03/bundles/    the same for machines without JAX, where they were exported
    trajectories.json     an episode of the team before the first deployment and after the last
    deployment-03/diverged/   of each agent that left the finite numbers, the batch with which it did; in the offline
                              history beside the checkpoints
    metrics.jsonl         a line per deployment, 0 being the offline team

Everything is published by a rename, and a checkpoint comes last: without it, what else a deployment left is made again.
It carries the lines of metrics up to itself, of which `metrics.jsonl` is a copy to read. So whatever a crash leaves
behind is either the old state or the new one; what is left to do after a checkpoint, `settle` does. A checkpoint also
says what it was made from, see `belonging`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from marline.agent import AgentState
from marline.data import checkpoints, dataset
from marline.data.dataset import Dataset
from marline.data.files import atomic_bytes, atomic_json, read_lines, small_sha256, state_of, to_json
from marline.data.scratch import discard, is_scratch, sweep
from marline.divergence import Divergence
from marline.errors import CorruptionError, MarlineError
from marline.runs.layout import (
    DIVERGED,
    LEARNERS,
    LOGS,
    METRICS,
    OFFLINE,
    POLICIES,
    TRAJECTORIES,
    WAITING,
    RunDirectory,
    checkpoint_folder,
    checkpoint_steps,
    decisive_sha256,
    deployment_folder,
    deployment_numbers,
)
from marline.runs.records import Record, StopRecord, require_records, require_stopped
from marline.types import AgentID

KEPT_CHECKPOINTS = 2
Members = Mapping[AgentID, AgentState]


class History:
    """The folder of one team."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rewound: object = None

    def steps(self) -> list[int]:
        """Numbers of the checkpoints there are, ascending."""
        return checkpoint_steps(self.folder)

    def records(self) -> list[Record]:
        """The lines of `metrics.jsonl`; what counts is `records_at`. `CorruptionError` where a line is damaged."""
        path = self.folder / METRICS
        return require_records(path, read_lines(path))

    def save(
        self,
        step: int,
        members: Members,
        records: list[Record],
        stopped: Mapping[AgentID, StopRecord] | None = None,
        *,
        ledger: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish checkpoint `step` and the measurements up to it; the oldest checkpoint goes.

        `stopped` are agents that diverged before the checkpoint and are to be trained no further; `ledger` is the
        newest event that the checkpoint builds on.
        """
        entries = {"step": step, "records": records, **({"stopped": stopped} if stopped else {})}
        entries["made_from"] = self._made_from(step) | ({"ledger": ledger} if ledger else {})
        checkpoints.save_checkpoint(self.checkpoint(step), _trees(members), entries)
        self._write_records(records)
        self._rewound = self._measured_by(step)
        self.forget()

    def forget(self) -> None:
        """Remove all checkpoints but the last two, each in one step, and what killed writers left."""
        for old in self.steps()[:-KEPT_CHECKPOINTS]:
            discard(self.checkpoint(old))
        if self.folder.exists():
            sweep(self.folder)

    def settle(self, step: int) -> None:
        """Do what a kill right after checkpoint `step`, the last that is intact, may have kept from being done.

        Measurements beyond it are dropped, for what follows will be done again.
        """
        self.rewind(step)
        if self.steps()[-1] == step:  # else a later one is damaged, and those before it may be needed
            self.forget()

    @property
    def place(self) -> str:
        """Where it lies in the run directory, as "seed-0/offline"."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def sampler(self) -> str | None:
        """The sampler that the team is trained by; None is the offline team."""
        return None if self.folder.name == OFFLINE else self.folder.name

    def parts(self, number: int) -> dict[str, str]:
        """Hashes of the lists of what a deployment brought and what came out of it."""
        homes = {kind: self.deployment(number) / kind for kind in (LOGS, POLICIES, LEARNERS)}
        return {kind: list_sha256(home) for kind, home in homes.items() if home.exists()}

    def _made_from(self, step: int) -> dict[str, Any]:
        """What checkpoint `step` builds on: configuration, offline logs, the checkpoint before, all deployments."""
        run = RunDirectory(self.folder.parents[1])
        made: dict[str, Any] = {"place": self.place}
        if run.configuration.exists():
            made["run.json"] = decisive_sha256(run.configuration, self.sampler)
        if run.data_list.exists():
            made["data"] = list_sha256(run.data)
        earlier = [self.checkpoint(other) for other in self.steps() if other < step]
        offline = History(self.folder.parent / OFFLINE)
        if self.sampler is None:  # which earlier checkpoints there are depends on interruptions
            return made
        known: dict[str, Any] = {}
        for checkpoint in [*map(offline.checkpoint, offline.steps()[-1:]), *earlier][-1:]:
            with contextlib.suppress(MarlineError):  # damaged: what comes of it is checked by whoever goes on from it
                its = checkpoints.read_manifest(checkpoint).get("made_from")
                known = its.get("deployments", {}) if isinstance(its, dict) else {}
                place = str(checkpoint.relative_to(run.folder))
                made["before"] = {"checkpoint": place, "identity": identity(checkpoint)}
        there = [number for number in deployment_numbers(self.folder) if number <= step]
        numbers = sorted({*map(int, known), *there})
        made["deployments"] = {str(number): known.get(str(number)) or self.parts(number) for number in numbers}
        return made

    def published(self) -> list[Path]:
        """Folders and files that were published by a rename each, those of a deployment in the order of that."""
        checkpoints = [self.checkpoint(step) for step in self.steps()]
        homes = [self.deployment(number) for number in deployment_numbers(self.folder)]
        deployed = [home / LOGS for home in homes]
        deployed += [batch for home in homes for batch in sorted((home / DIVERGED).glob("*"))]
        deployed += [home / POLICIES for home in homes]
        deployed += sorted((self.folder / DIVERGED).glob("*"))
        files = [self.folder / TRAJECTORIES, *checkpoints, self.folder / METRICS]
        return [path for path in (*deployed, *files) if path.exists() and not is_scratch(path)]

    def load(self, step: int, members: Members) -> dict[AgentID, AgentState]:
        """Learners and sampler memories of checkpoint `step`, given members of the same shapes; only reads."""
        trees, _ = checkpoints.load_checkpoint(self.checkpoint(step), _trees(members))
        return {
            agent: state._replace(learner=trees[f"{agent}/learner"], sampler=trees[f"{agent}/sampler"])
            for agent, state in members.items()
        }

    def records_at(self, step: int) -> list[Record]:
        """The measurements up to checkpoint `step`, which it carries itself."""
        folder = self.checkpoint(step)
        records = require_records(folder, checkpoints.read_manifest(folder).get("records"))
        return [record.copy() for record in records]

    def stopped_at(self, step: int) -> dict[AgentID, StopRecord]:
        """The agents that diverged before checkpoint `step`, as they were given to `save`."""
        folder = self.checkpoint(step)
        return require_stopped(folder, checkpoints.read_manifest(folder).get("stopped", {}))

    def rewind(self, step: int) -> None:
        """Make `metrics.jsonl` say what checkpoint `step` does."""
        if self._rewound == self._measured_by(step):
            return  # neither was touched since, and both grow with every deployment
        records = self.records_at(step)
        try:
            is_same = records == self.records()
        except CorruptionError:
            is_same = False
        if not is_same:
            self._write_records(records)
        self._rewound = self._measured_by(step)

    def intact_steps(self) -> list[int]:
        """Checkpoints whose files are what was written, ascending."""
        return [step for step in self.steps() if self._is_intact(step)]

    def save_logs(self, number: int, logs: Mapping[AgentID, Dataset], provenance: Mapping[str, Any]) -> None:
        """Publish what the agents logged in a deployment."""
        dataset.save(self.deployment(number) / LOGS, logs, provenance)

    def load_logs(self, number: int) -> dict[AgentID, Dataset] | None:
        """What the agents logged in a deployment, if it has happened."""
        folder = self.deployment(number) / LOGS
        return dataset.load(folder) if folder.exists() else None

    def save_waiting(self, number: int, logs: Mapping[AgentID, Dataset], provenance: Mapping[str, Any]) -> None:
        """Keep logs of some agents until those of the others are in; replaces those that wait."""
        dataset.save(self.waiting(number), logs, provenance, replace=True)

    def load_waiting(self, number: int) -> dict[AgentID, Dataset]:
        """The logs that wait; none if there are none."""
        return dataset.load(self.waiting(number)) if self.waiting(number).exists() else {}

    def drop_waiting(self, number: int) -> None:
        """Remove logs that wait, which are among those of the deployment by now."""
        if self.waiting(number).exists():
            discard(self.waiting(number))

    def save_policies(self, number: int, policies: Mapping[AgentID, PyTree]) -> None:
        """Publish the policies that came out of a deployment."""
        checkpoints.save_checkpoint(self.deployment(number) / POLICIES, policies, {"deployment": number})

    def load_policies(self, number: int, templates: Mapping[AgentID, PyTree]) -> dict[AgentID, PyTree]:
        """The policies that came out of a deployment, given trees of the same shapes."""
        return checkpoints.load_checkpoint(self.deployment(number) / POLICIES, templates)[0]

    def save_learners(self, number: int, learners: Mapping[AgentID, PyTree]) -> None:
        """Publish the learners that came out of a deployment, to go back to."""
        checkpoints.save_checkpoint(self.deployment(number) / LEARNERS, learners, {"deployment": number})

    def load_learners(self, number: int, templates: Mapping[AgentID, PyTree]) -> dict[AgentID, PyTree]:
        """The learners that came out of a deployment, given trees of the same shapes."""
        return checkpoints.load_checkpoint(self.deployment(number) / LEARNERS, templates)[0]

    def checkpointed_learners(self, step: int, templates: Mapping[AgentID, PyTree]) -> dict[AgentID, PyTree]:
        """The learners of checkpoint `step`, given trees of the same shapes."""
        named = {f"{agent}/learner": template for agent, template in templates.items()}
        trees, _ = checkpoints.load_checkpoint(self.checkpoint(step), named)
        return {agent: trees[f"{agent}/learner"] for agent in templates}

    def save_trajectories(self, trajectories: Mapping[str, Any]) -> None:
        """Publish an episode of the team before the first deployment and after the last."""
        atomic_json(self.folder / TRAJECTORIES, trajectories)

    def save_divergence(self, home: Path, agent: AgentID, divergence: Divergence) -> StopRecord:
        """Keep the batch with which an agent diverged, in the folder of its phase; returns what to remember of it."""
        folder = home / DIVERGED / agent
        update, reason, kept = divergence.update, divergence.reason, divergence.kept
        entries = {"agent": agent, "update": update, "reason": reason, "kept": kept}
        checkpoints.save_checkpoint(folder, {"batch": dict(divergence.batch)}, entries)
        # from the run directory, which may move
        batch = str(folder.relative_to(self.folder.parents[1]) / "batch.safetensors")
        return {"update": update, "reason": reason, "kept": kept, "batch": batch}

    def deployment(self, number: int) -> Path:
        """The folder of a deployment."""
        return deployment_folder(self.folder, number)

    def waiting(self, number: int) -> Path:
        """The folder of the logs that wait."""
        return self.deployment(number) / WAITING

    def checkpoint(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return checkpoint_folder(self.folder, step)

    def _measured_by(self, step: int) -> object:
        """The same for as long as nobody touches `metrics.jsonl`, or the list of checkpoint `step`."""
        return step, state_of(self.checkpoint(step) / checkpoints.MANIFEST), state_of(self.folder / METRICS)

    def _is_intact(self, step: int) -> bool:
        try:
            checkpoints.verify(self.checkpoint(step))
        except CorruptionError:
            return False
        return True

    def _write_records(self, records: list[Record]) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_bytes(self.folder / METRICS, lines.encode())


def list_sha256(folder: Path) -> str:
    """SHA-256 of the list that vouches for all other files of a folder."""
    listed = folder / checkpoints.MANIFEST
    return small_sha256(listed if listed.exists() else folder / dataset.MANIFEST)


def identity(checkpoint: Path) -> str:
    """A hash of all that a checkpoint holds but the versions that made it: the same when it is made a second time."""
    return _identity(checkpoint, state_of(checkpoint / checkpoints.MANIFEST))


@functools.lru_cache(maxsize=64)
def _identity(checkpoint: Path, _: tuple[int, ...]) -> str:
    """See `identity`; asked again and again in a campaign, of lists that grow with it."""
    manifest = checkpoints.read_manifest(checkpoint, as_written=True)
    entries = {key: value for key, value in manifest.items() if key not in ("versions", "seal")}
    return hashlib.sha256(to_json(entries).encode()).hexdigest()


def _trees(members: Members) -> dict[str, PyTree]:
    trees = {}
    for agent, state in members.items():
        trees |= {f"{agent}/learner": state.learner, f"{agent}/sampler": state.sampler}
    return trees
