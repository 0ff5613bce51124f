"""What is said of an agent that diverged, read off the measurements of a team; imports no JAX."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from marline.runs.records import Record

if TYPE_CHECKING:  # it would import JAX, for which `marline status` does not wait
    from marline.types import AgentID

ADVICE = (
    "look there for extreme values, then take another run with a lower learning_rate or with those rows removed, or go "
    "on with the policy that it keeps"
)


class Stop(NamedTuple):
    """An agent that diverged.

    Attributes:
        agent: who.
        deployment: while it was tuned on which; 0 is the offline training.
        update: with which update of that, counted from 0.
        reason: such as "critic_loss is nan".
        kept: offline, its learner is that after so many updates; else as it was before the deployment.
        batch: file with the rows of that update and of the one before, relative to the run directory.
    """

    agent: AgentID
    deployment: int
    update: int
    reason: str
    kept: int
    batch: str


def stops(records: Iterable[Record]) -> Iterator[Stop]:
    """Everybody who diverged, in order, from the records of `History.records`."""
    for record in records:
        for agent, its in record.get("diverged", {}).items():
            yield Stop(agent, record["deployment"], its["update"], its["reason"], its["kept"], its["batch"])


def sentence(stop: Stop, run: Path) -> str:
    """Who diverged when, what became of it, and what to do."""
    when = f"tuning on deployment {stop.deployment}" if stop.deployment else "offline training"
    keeps = f"is as after update {stop.kept}" if stop.kept else "has learned NOTHING"
    keeps = "keeps the policy that it had before" if stop.deployment else keeps
    return (
        f"agent {json.dumps(stop.agent)} DIVERGED at update {stop.update} of {when} ({stop.reason}); it stopped there "
        f"and {keeps}, and the others went on. The batch is in {run / stop.batch}: {ADVICE}"
    )
