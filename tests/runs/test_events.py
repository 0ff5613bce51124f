"""What events and lines of measurements say, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marline.errors import CorruptionError
from marline.runs.events import KINDS, Created, Event, Later, Tuned, of_kind, read_content, written
from marline.runs.ledger import Ledger
from marline.runs.records import require_records, require_stopped

LOGS = {"arm": {"rows": 3, "rows_sha256": "a", "policy_sha256": None}}
STOP = {"arm": {"update": 3, "reason": "critic_loss is nan", "kept": 0, "batch": "seed-0/x"}}
FORETOLD = {"value_difference": 1.0, "low": 0.5, "high": 1.5, "deviation": 0.25, "unfamiliar": 0.1}
# as they are entered, key by key, and as the least that an earlier marline entered
WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("created", {"run.json": "c", "data": "d", "rows": {"arm": 5}, "anchored": True, "rebuilt": True}),
    ("created", {"run.json": "c", "data": "d", "rows": {"arm": 5}}),
    ("trained", {"updates": 4, "checkpoint": "c", "identity": "i", "diverged": STOP}),
    ("trained", {"updates": 4, "checkpoint": "c"}),
    ("exported", {"policies": {"arm": "p"}, "tuned_on": {"arm": 0}, "folder": "bundles"}),
    ("exported", {"policies": {}}),
    ("waiting", {"waiting": "w", "agents": LOGS}),
    ("ingested", {"logs": "l", "agents": LOGS, "waived": ["cart"]}),
    (
        "gated",
        {"now": 1.0, "before": 2.0, "difference": -1.0, "low": -2.0, "high": 0.5, "num_now": 3, "num_before": 4}
        | {"regression": False, "came_from": {"arm": 1}},
    ),
    ("gated", {"now": 1.0, "before": 2.0, "difference": -1.0, "low": -2.0, "high": 0.5, "regression": False}),
    (
        "foreseen",
        {"agents": {"arm": {**FORETOLD, "unfamiliar_deployed": 0.5}, "cart": {**FORETOLD, "no_value": "it runs away"}}},
    ),
    (
        "tuned",
        {"policies": "p", "learners": "l", "identity": "i", "frozen": ["arm"], "waived": [], "diverged": STOP}
        | {"return_of_deployed": 1.5, "agents": {"arm": {"alpha": 1.0, "distance_histogram": [1, 2]}, "cart": {}}},
    ),
    ("tuned", {"frozen": [], "waived": [], "return_of_deployed": None, "agents": {}}),
    ("rolled-back", {"to": 0, "agents": ["arm"]}),
    ("of-a-later-marline", {"anything": [1]}),
]


@pytest.mark.parametrize(("kind", "body"), WHOLE)
def test_what_is_read_is_written_with_the_same_bytes(kind: str, body: dict[str, Any]) -> None:
    content = read_content(kind, body)
    assert content.kind == kind and isinstance(content, Later) == (kind not in KINDS)
    assert json.dumps(written(content)) == json.dumps(body)


def test_what_a_later_marline_adds_is_overlooked_and_stays_under_the_seal(tmp_path: Path) -> None:
    more = {"run.json": "c", "data": "d", "rows": {}, "mood": "good"}
    assert read_content("created", more) == Created(configuration="c", data="d", rows={})
    Ledger(tmp_path).append(0, Later("created", more))
    (event,) = Ledger(tmp_path).events()
    assert event.body == more and isinstance(event.content, Created)


def test_events_are_found_by_what_they_say() -> None:
    events = [Event(n, "", kind, n, body, "") for n, (kind, body) in enumerate(WHOLE)]
    assert [event.number for event, _ in of_kind(Tuned, events)] == [11, 12]
    assert [tuned.frozen for _, tuned in of_kind(Tuned, events, 11)] == [("arm",)]


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"deployment": "1", "agents": {}},
        {"deployment": True, "agents": {}},
        {"deployment": 1, "agents": {"arm": 3}},
        {"deployment": 1, "agents": {}, "return": "high"},
        {"deployment": 1, "agents": {}, "frozen": [3]},
        {"deployment": 1, "agents": {}, "diverged": {"arm": {"update": 3}}},
    ],
)
def test_lines_of_another_form_are_named(line: dict[str, Any], tmp_path: Path) -> None:
    sound = {"deployment": 0, "agents": {"arm": {"critic_loss": 1.0}}, "return": float("nan"), "diverged": STOP}
    assert require_records(tmp_path, [sound]) == [sound] and require_stopped(tmp_path, STOP) == STOP
    with pytest.raises(CorruptionError, match="holds a line that is no measurement"):
        require_records(tmp_path, [sound, line])
    with pytest.raises(CorruptionError, match="does not tell properly who diverged"):
        require_stopped(tmp_path, line or 3)
