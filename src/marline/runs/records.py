"""What a line of measurements says, wherever it was read; imports no JAX."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, Required, TypedDict

from marline.errors import CorruptionError
from marline.runs.typed_json import fits


class StopRecord(TypedDict):
    """Of an agent that diverged; see `divergences.Stop`."""

    update: int
    reason: str
    kept: int
    batch: str


class ShiftRecord(TypedDict, total=False):
    """Of what was measured of an agent, what the ledger keeps; see `shift.Shift`."""

    alpha: float
    estimated_distance: float
    distance_histogram: list[int]
    effective_sample_size: float
    share_offline: float
    share_earlier: float
    share_current: float
    gain_nats: float
    change_nats: float
    change_se: float
    change_p_value: float
    gate_open: float
    power: float
    target_shift: float


class LogsRecord(TypedDict):
    """Of logs that came back: how many rows, a hash of them, and the policy that acted, if they tell.

    Of those that came in parts also the hash of each part, and whether more is to come.
    """

    rows: int
    rows_sha256: NotRequired[str]
    policy_sha256: NotRequired[str | None]
    parts: NotRequired[list[str]]
    more: NotRequired[bool]


class OffPolicyRecord(TypedDict):
    """See `fitted_q_evaluation.OffPolicyEstimate`."""

    value_difference: float
    low: float
    high: float
    deviation: float
    unfamiliar: float
    unfamiliar_deployed: NotRequired[float]
    no_value: NotRequired[str]


# A line of metrics.jsonl. `deployment` is that after which a team was measured, 0 the offline team; `agents` has what
# was measured of each while it was tuned; `return` and `returns`, by episode, are those of the team that came out,
# and `agent_returns` the mean of each agent by its own rewards: of none where all share one.
Record = TypedDict(
    "Record",
    {
        "deployment": Required[int],
        "return": float,
        "return_in_last_world": float,
        "returns": list[float],
        "agent_returns": Mapping[str, float],
        "mean_abs_action": Mapping[str, Any],
        "seconds": float,
        "agents": Required[Mapping[str, Mapping[str, Any]]],
        "frozen": list[str],
        "waived": list[str],
        "diverged": Mapping[str, StopRecord],
    },
    total=False,
)


def require_records(path: Path, found: object) -> list[Record]:
    """`found` if it is measurements, one per deployment; `CorruptionError` naming the file otherwise."""
    if not fits(found, list[Record]):
        raise CorruptionError(f"{path} holds a line that is no measurement; restore a copy")
    return typing.cast(list[Record], found)


def require_stopped(path: Path, found: object) -> dict[str, StopRecord]:
    """`found` if it tells who diverged, and how; `CorruptionError` naming the file otherwise."""
    if not fits(found, dict[str, StopRecord]):
        raise CorruptionError(f"{path} does not tell properly who diverged; restore a copy")
    return typing.cast(dict[str, StopRecord], found)
