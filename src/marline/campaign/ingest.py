"""Logs that come back from the field: they wait for those of other agents, are in, or were in before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from marline.campaign.parts import Entries, is_in, is_open, put_behind
from marline.campaign.read_logs import Received
from marline.campaign.require_logs import (
    Awaited,
    Ingested,
    describe,
    require_budget,
    require_fitting,
    require_stamps,
)
from marline.data import dataset
from marline.data.check import check
from marline.display.shell import command
from marline.errors import require
from marline.runs.events import Event, of_kind
from marline.runs.events import Ingested as IngestedEvent
from marline.runs.history import History
from marline.types import AgentID


@dataclasses.dataclass(frozen=True, eq=False)
class Intake:
    """Where the logs of one deployment are brought in.

    Attributes:
        run: the run directory.
        history: of the team.
        number: of the deployment that is out.
        awaited: what its logs must be like.
        events: of the ledger, which knows the policies that went out.
    """

    run: Path
    history: History
    number: int
    awaited: Awaited
    events: Sequence[Event]

    def take(
        self, received: Received, *, allow_missing: bool, unstamped: bool, replace: bool, more: bool = False
    ) -> Ingested:
        """See `Campaign.ingest`; writes all that came or nothing."""
        channels = self.awaited.channels
        require_fitting(received.logs, self.awaited)
        scope = self.awaited.reward_scope
        known = {
            agent: dataclasses.replace(log, channels=channels[agent], reward_scope=scope)
            for agent, log in received.logs.items()
        }
        received = dataclasses.replace(received, logs=known)  # some tell less of their columns than is known
        described, waiting = describe(received.logs, received.stamps), self._waiting()
        before = self._found(described)
        if before is not None:
            return before
        fresh = {agent: its for agent, its in described.items() if not is_in(waiting, agent, its)}
        closing = not more and any(is_open(waiting, agent) for agent in described)
        if described and not fresh and not allow_missing and not closing:
            return self._ingested(self.number, "repeated", waiting, ())
        require_budget(self.number, self.awaited)
        self._require_acceptable(received, fresh, waiting, unstamped=unstamped, replace=replace)
        there = self.history.load_waiting(self.number)
        parts, fresh = put_behind({} if replace else there, waiting, received.logs, fresh, described, more=more)
        require_fitting(parts, self.awaited)
        logs = {**there, **parts}
        logs = {agent: logs[agent] for agent in self.awaited.specs if agent in logs}
        require(bool(logs), f"no logs of deployment {self.number} are there; bring in those of one agent at least")
        known_rules = ("reward-mismatch",) if self.awaited.rewards_differ else ()  # of the offline logs it was told
        notes = (*received.notes, *check(logs, but=known_rules))
        entries = {**waiting, **fresh}
        missing = tuple(agent for agent in self.awaited.specs if agent not in logs)
        late = missing or any(is_open(entries, agent) for agent in logs)
        if late and (more or not allow_missing):
            self.history.save_waiting(self.number, logs, {"deployment": self.number, "agents": entries})
            return self._ingested(self.number, "waiting", entries, (), notes)
        whole = {agent: {key: its[key] for key in its if key != "more"} for agent, its in entries.items()}
        self.history.save_logs(self.number, logs, {"deployment": self.number, "agents": whole, "waived": list(missing)})
        self.history.drop_waiting(self.number)
        return self._ingested(self.number, "ingested", entries, missing, notes)

    def _require_acceptable(
        self, received: Received, fresh: Entries, waiting: Entries, *, unstamped: bool, replace: bool
    ) -> None:
        """Raise unless the deployment is open, its policies logged this, and nothing is replaced unasked."""
        number = self.number
        require(
            self.history.load_logs(number) is None,
            f"the logs of deployment {number} are in already, and these are others; next: {command('tune', self.run)}",
        )
        require_stamps(received.stamps, self.events, number, received.source)
        plain = [agent for agent in fresh if agent not in received.stamps]
        require(
            unstamped or not plain,
            f"{received.source} does not tell which policy acted for {', '.join(plain)}; log with run_policy.py of the "
            "bundle or add a column policy_sha256, name the bundles that acted with --policy-of BUNDLES, or, if you "
            f"are sure that they were those for deployment {number}, pass --unstamped",
        )
        replaced = [agent for agent in fresh if agent in waiting and not is_open(waiting, agent)]
        require(
            replace or not replaced,
            f"other logs of {', '.join(replaced)} for deployment {number} are waiting; pass --replace to take these",
        )

    def _waiting(self) -> Entries:
        folder = self.history.waiting(self.number)
        return dataset.describe(folder)["provenance"]["agents"] if folder.exists() else {}

    def _found(self, described: Entries) -> Ingested | None:
        """The deployment that has exactly these logs already."""
        for event, known in of_kind(IngestedEvent, self.events):
            if described and all(is_in(known.agents, agent, its) for agent, its in described.items()):
                return self._ingested(event.deployment, "repeated", known.agents, known.waived)
        return None

    def _ingested(
        self, number: int, outcome: str, entries: Entries, waived: tuple[AgentID, ...], notes: tuple[str, ...] = ()
    ) -> Ingested:
        agents = self.awaited.specs
        rows = {agent: entries[agent]["rows"] for agent in agents if agent in entries}
        late = {agent for agent in rows if outcome != "ingested" and is_open(entries, agent)}
        missing = tuple(agent for agent in agents if agent not in waived and (agent not in rows or agent in late))
        return Ingested(number, outcome, rows, missing, waived, notes)
