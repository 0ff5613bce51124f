"""What the kinds of events hold. Whoever seals a ledger of his own can enter anything, so every one is checked.

A field that was added later, and that events of an earlier marline lack, has a default: what its absence meant.
Events of kinds that only a later marline knows are `Later`. Imports no JAX.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

from marline.runs import typed_json
from marline.runs.records import LogsRecord, OffPolicyRecord, ShiftRecord, StopRecord
from marline.runs.typed_json import KEY, NULL

MIN_EPISODES = 10  # of each deployment; fewer show a direction, no regression


class Change(NamedTuple):
    """Mean return of a deployment against the one before it.

    Attributes:
        now, before: mean return per episode.
        difference: of both.
        low, high: Welch's t interval of the difference at 95 %; NaN with fewer than two episodes on a side.
        num_now, num_before: episodes of each; enough, where a record of an older marline does not say.
    """

    now: float
    before: float
    difference: float
    low: float
    high: float
    num_now: int = MIN_EPISODES
    num_before: int = MIN_EPISODES

    @property
    def is_lower(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0

    @property
    def is_regression(self) -> bool:
        """Whether the whole interval lies below 0, and enough episodes say so."""
        return self.is_lower and min(self.num_now, self.num_before) >= MIN_EPISODES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Created:
    """A campaign began.

    Attributes:
        configuration: SHA-256 of run.json.
        data: that of the list of the offline logs.
        rows: of each agent in them.
        anchored: there is a `ledger.head`.
        rebuilt: an earlier ledger was lost, and files told what they could.
    """

    kind: ClassVar = "created"
    configuration: str = dataclasses.field(metadata={KEY: "run.json"})
    data: str
    rows: Mapping[str, int]
    anchored: bool = False
    rebuilt: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """The offline training is over.

    Attributes:
        updates: of every agent.
        checkpoint: SHA-256 of its list.
        identity: see `history.identity`.
        diverged: who did, and how.
    """

    kind: ClassVar = "trained"
    updates: int
    checkpoint: str
    identity: str | None = None
    diverged: Mapping[str, StopRecord] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """Policies went out for a deployment.

    Attributes:
        policies: SHA-256 of each agent's.
        tuned_on: the last deployment that each was tuned on.
        folder: where the bundles were written.
    """

    kind: ClassVar = "exported"
    policies: Mapping[str, str]
    tuned_on: Mapping[str, int] | None = None
    folder: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waiting:
    """Logs of some agents came back.

    Attributes:
        waiting: SHA-256 of their list.
        agents: whose they are.
    """

    kind: ClassVar = "waiting"
    waiting: str
    agents: Mapping[str, LogsRecord]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingested:
    """The logs of a deployment are in.

    Attributes:
        logs: SHA-256 of their list.
        agents: whose they are.
        waived: who has none.
    """

    kind: ClassVar = "ingested"
    logs: str
    agents: Mapping[str, LogsRecord]
    waived: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gated:
    """How the team did that was deployed, against the one before it; see `Change`.

    Attributes:
        regression: whether it did worse, as was told then.
        came_from: the deployment that the policy of each agent of the team before was last tuned on.
    """

    kind: ClassVar = "gated"
    now: float
    before: float
    difference: float
    low: float
    high: float
    num_now: int | None = None
    num_before: int | None = None
    regression: bool
    came_from: Mapping[str, int] | None = None

    @property
    def change(self) -> Change:
        """The numbers; of an earlier marline without how many episodes there were."""
        change = Change(self.now, self.before, self.difference, self.low, self.high)
        numbers = {"num_now": self.num_now, "num_before": self.num_before}
        return change._replace(**{name: number for name, number in numbers.items() if number is not None})


@dataclasses.dataclass(frozen=True, kw_only=True)
class OffPolicyEvaluated:
    """What logs could tell of the policies to deploy, by agent."""

    kind: ClassVar = "foreseen"  # what the ledgers of 0.1.0 call it
    agents: Mapping[str, OffPolicyRecord]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned:
    """The team was tuned on a deployment.

    Attributes:
        policies, learners: SHA-256 of the lists of what came out.
        identity: of the checkpoint, see `history.identity`.
        frozen: who was not to be tuned.
        waived: who had no logs.
        diverged: who did, and how.
        return_of_deployed: of the team that was deployed, where it is known.
        agents: what was measured of each.
    """

    kind: ClassVar = "tuned"
    policies: str | None = None
    learners: str | None = None
    identity: str | None = None
    frozen: tuple[str, ...]
    waived: tuple[str, ...]
    diverged: Mapping[str, StopRecord] | None = None
    return_of_deployed: float | None = dataclasses.field(default=None, metadata={NULL: True})
    agents: Mapping[str, ShiftRecord]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolledBack:
    """Agents go on from what they were.

    Attributes:
        to: the deployment that they were last tuned on then; 0 are the offline policies.
        agents: who.
    """

    kind: ClassVar = "rolled-back"
    to: int
    agents: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Later:
    """An event of a kind that this marline does not know."""

    kind: str
    body: Mapping[str, Any]


Known: TypeAlias = Created | Trained | Exported | Waiting | Ingested | Gated | OffPolicyEvaluated | Tuned | RolledBack
Content: TypeAlias = Known | Later
C = TypeVar("C", bound=Known)
KINDS: dict[str, type[Known]] = {
    kind.kind: kind
    for kind in (Created, Trained, Exported, Waiting, Ingested, Gated, OffPolicyEvaluated, Tuned, RolledBack)
}


def read_content(kind: str, body: object) -> Content:
    """What an event says; `ValueError` where it is not what marline enters."""
    if kind in KINDS:
        return typed_json.from_json(KINDS[kind], body)
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")
    return Later(kind, body)


def written(content: Content) -> dict[str, Any]:
    """What is entered into the ledger, in the order that the seals are over."""
    return dict(content.body) if isinstance(content, Later) else typed_json.to_json(content)


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        number: counted from 1.
        time: in UTC, ISO 8601.
        kind: created, trained, foreseen, exported, waiting, ingested, gated, tuned or rolled-back.
        deployment: the one that it belongs to; 0 is the offline team.
        body: what else there is to say, as it is sealed: a JSON object, where the event is well formed.
        seal: over this event and all before it.
    """

    number: int
    time: str
    kind: str
    deployment: int
    body: Any
    seal: str

    @functools.cached_property
    def content(self) -> Content:
        """What the body says, by name; those that `Ledger.events` gives say it properly."""
        return read_content(self.kind, self.body)

    @functools.cached_property
    def told(self) -> str:
        """JSON of what it tells, whenever it happened: put together once, for a deployment hashes all that were."""
        return json.dumps([self.kind, self.deployment, self.body])


def of_kind(kind: type[C], events: Iterable[Event], deployment: int | None = None) -> Iterator[tuple[Event, C]]:
    """The events of a kind, of one deployment or of all, each with what it says."""
    for event in events:
        content = event.content
        if isinstance(content, kind) and deployment in (None, event.deployment):
            yield event, content
