"""What one team has been through, on disk: checkpoints, policies, logs and measurements.

    checkpoint-0003/      learners and sampler memories after deployment 3; the last two are kept
    deployment-03/logs/   what each agent logged in deployment 3, D4RL keys, one file per agent
    deployment-03/policies/
    metrics.jsonl         a line per deployment, 0 being the offline team

Everything is published by a rename; a checkpoint carries all lines of metrics up to itself, so
whatever a crash leaves behind is either the old state or the new one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from marline.agent import AgentState
from marline.data import checkpoints, dataset
from marline.data.dataset import Dataset
from marline.data.files import atomic_bytes
from marline.errors import CorruptionError, require
from marline.types import AgentID

KEPT_CHECKPOINTS = 2
Record = dict[str, Any]
Members = Mapping[AgentID, AgentState]


class History:
    """The folder of one team."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Numbers of the checkpoints there are, ascending."""
        found = self.folder.glob("checkpoint-" + "[0-9]" * 7)
        return sorted(int(path.name.removeprefix("checkpoint-")) for path in found)

    def records(self) -> list[Record]:
        """One measurement per deployment so far."""
        path = self.folder / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def save(self, step: int, members: Members, records: list[Record]) -> None:
        """Publish checkpoint `step` and the measurements up to it; the oldest checkpoint goes."""
        checkpoints.save_checkpoint(self._checkpoint(step), _trees(members), {"step": step, "records": records})
        self._write_records(records)
        for old in self.steps()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(self._checkpoint(old))

    def restore(self, step: int, members: Members) -> dict[AgentID, AgentState]:
        """Learners and sampler memories of checkpoint `step`, given members of the same shapes.

        Measurements beyond it are dropped, for what follows will be done again.
        """
        trees, manifest = checkpoints.load_checkpoint(self._checkpoint(step), _trees(members))
        self._write_records(manifest["records"])
        return {
            agent: state._replace(learner=trees[f"{agent}/learner"], sampler=trees[f"{agent}/sampler"])
            for agent, state in members.items()
        }

    def load_learners(self, templates: Mapping[AgentID, PyTree]) -> tuple[int, dict[AgentID, PyTree]]:
        """Number of the newest intact checkpoint, and its learners in the structure of their templates.

        Raises:
            ConfigError: there is no checkpoint yet.
        """
        steps = self.intact_steps()
        require(len(steps) > 0, f"{self.folder} holds no team yet; let the run go on: marline resume")
        names = {f"{agent}/learner": template for agent, template in templates.items()}
        trees, _ = checkpoints.load_checkpoint(self._checkpoint(steps[-1]), names)
        return steps[-1], {agent: trees[f"{agent}/learner"] for agent in templates}

    def intact_steps(self) -> list[int]:
        """Checkpoints whose files are what was written, ascending."""
        return [step for step in self.steps() if self._is_intact(step)]

    def save_logs(self, number: int, logs: Mapping[AgentID, Dataset], provenance: Mapping[str, Any]) -> None:
        """Publish what the agents logged in a deployment."""
        dataset.save(self._deployment(number) / "logs", logs, provenance)

    def load_logs(self, number: int) -> dict[AgentID, Dataset] | None:
        """What the agents logged in a deployment, if it has happened."""
        folder = self._deployment(number) / "logs"
        return dataset.load(folder) if folder.exists() else None

    def save_policies(self, number: int, policies: Mapping[AgentID, PyTree]) -> None:
        """Publish the policies that came out of a deployment."""
        checkpoints.save_checkpoint(self._deployment(number) / "policies", policies, {"deployment": number})

    def _checkpoint(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step:07d}"

    def _deployment(self, number: int) -> Path:
        return self.folder / f"deployment-{number:02d}"

    def _is_intact(self, step: int) -> bool:
        try:
            checkpoints.verify(self._checkpoint(step))
        except CorruptionError:
            return False
        return True

    def _write_records(self, records: list[Record]) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_bytes(self.folder / "metrics.jsonl", lines.encode())


def _trees(members: Members) -> dict[str, PyTree]:
    trees = {}
    for agent, state in members.items():
        trees |= {f"{agent}/learner": state.learner, f"{agent}/sampler": state.sampler}
    return trees
