"""The ledger's file, as strangers and earlier versions leave it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from field import contents

from marline.errors import CorruptionError
from marline.runs.events import Created, Exported, RolledBack, read_content
from marline.runs.ledger import Ledger, told


def ledger_of(folder: Path, *bodies: Mapping[str, Any]) -> Ledger:
    ledger = Ledger(folder)
    for number, body in enumerate(bodies):
        ledger.append(number, read_content("exported", body))
    return ledger


def altered(folder: Path, *statements: str) -> Ledger:
    """A ledger of two events to which somebody did something by SQL."""
    ledger = ledger_of(folder, {"policies": {}}, {"policies": {}})
    with closing(sqlite3.connect(ledger.path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return ledger


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW mine AS SELECT 1",
        "CREATE TABLE mine (x)",
        "CREATE INDEX mine ON events (kind)",
        "CREATE TRIGGER mine AFTER INSERT ON events BEGIN SELECT randomblob(1000000000); END",
        "CREATE VIRTUAL TABLE mine USING fts4(x)",
    ],
)
def test_whatever_acts_in_a_strangers_ledger_is_refused(statement: str, tmp_path: Path) -> None:
    ledger = altered(tmp_path, statement)
    before = contents(tmp_path)
    for use in (ledger.events, ledger.check, lambda: ledger.append(3, Exported(policies={}))):
        with pytest.raises(CorruptionError, match=r"ledger\.sqlite (holds a view, a trigger or a table|is no ledger)"):
            use()
    assert contents(tmp_path) == before


def test_a_view_in_place_of_the_events_is_refused(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    view = f"CREATE VIEW events AS SELECT i number, 1 time, 1 kind, 1 deployment, 1 body, 1 seal FROM ({endless})"
    ledger = altered(tmp_path, "DROP TABLE events", view)
    with pytest.raises(CorruptionError, match="holds a view"):
        ledger.events()


def test_a_journal_that_a_killed_writer_left_is_played_back_in_memory_and_removed_by_the_next_event(
    tmp_path: Path,
) -> None:
    """As an earlier marline left it, which let SQLite write the ledger."""
    ledger = ledger_of(tmp_path, *[{"policies": {}, "folder": "x" * 3000}] * 4)
    events, journal = ledger.events(), tmp_path / "ledger.sqlite-journal"
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("DROP TRIGGER no_update")
        whole = ledger.path.read_bytes()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE events SET body = ?", ("y" * 9000,))
        killed = ledger.path.read_bytes(), journal.read_bytes()
        connection.execute("ROLLBACK")
    assert killed[0] != whole
    ledger.path.write_bytes(killed[0])
    journal.write_bytes(killed[1])
    before = contents(tmp_path)
    assert ledger.events() == events
    ledger.check()
    assert contents(tmp_path) == before  # readers change nothing
    event = ledger.append(5, Exported(policies={}))
    assert not journal.exists() and ledger.events() == [*events, event]


def test_a_write_ahead_log_is_not_opened(tmp_path: Path) -> None:
    ledger = altered(tmp_path, "PRAGMA journal_mode = WAL")
    before = contents(tmp_path)
    with pytest.raises(CorruptionError, match=r"ledger\.sqlite is no ledger, or is damaged"):
        ledger.events()
    assert contents(tmp_path) == before


def test_an_older_ledger_that_was_put_back_is_told_from_the_newest(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, {"policies": {"arm": "1"}}, {"policies": {"arm": "2"}})
    older = ledger.path.read_bytes()
    ledger.append(1, RolledBack(to=0, agents=("arm",)))
    newest = ledger.path.read_bytes()
    for content in (older, b""):
        ledger.path.write_bytes(content)
        with pytest.raises(CorruptionError, match="ledger.head beside it names as the newest, number 3: an older"):
            ledger.events()
    ledger.path.write_bytes(newest)
    assert len(ledger.events()) == 3


def test_a_crash_between_the_ledger_and_its_head_is_mended_by_the_next_event(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, {"policies": {}})
    head = (tmp_path / "ledger.head").read_bytes()
    ledger.append(2, Exported(policies={}))
    (tmp_path / "ledger.head").write_bytes(head)
    assert len(ledger.events()) == 2
    ledger.anchor(ledger.events())
    assert json.loads((tmp_path / "ledger.head").read_text())["number"] == 2
    for damaged in (b"", b"[]", b"{}", b"[" * 4000, b'{"number": 1e999, "seal": ""}', b"\xff", b" " * 5000):
        (tmp_path / "ledger.head").write_bytes(damaged)
        with pytest.raises(CorruptionError, match="ledger.head"):
            ledger.events()


def test_a_ledger_that_began_with_a_head_has_one(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(0, Created(configuration="", data="", rows={}, anchored=True))
    (tmp_path / "ledger.head").unlink()
    assert len(ledger.events()) == 1  # a crash came before it
    ledger.append(1, Exported(policies={}))
    (tmp_path / "ledger.head").unlink()
    with pytest.raises(CorruptionError, match=r"ledger\.head is missing"):
        ledger.events()


@pytest.mark.parametrize(
    "kind, body",
    [
        ("created", {}),
        ("created", {"run.json": 1, "data": "", "rows": {}}),
        ("exported", {"policies": ["arm"]}),
        ("ingested", {"logs": "", "agents": {"arm": {"rows": "many"}}, "waived": []}),
        ("tuned", {"agents": {"arm": {"alpha": "x"}}, "frozen": [], "waived": []}),
        ("tuned", {"agents": {"arm": {"alpha": True}}, "frozen": [], "waived": []}),
        ("rolled-back", {"to": None, "agents": []}),
        ("gated", {"regression": True}),
        ("exported", ["policies"]),
    ],
)
def test_sealed_events_of_another_form_are_told_in_a_sentence(kind: str, body: object, tmp_path: Path) -> None:
    """Whoever seals a ledger of his own can enter anything."""
    ledger = ledger_of(tmp_path, {"policies": {}})
    (event,) = ledger.events()
    text = json.dumps(body)
    seal = hashlib.sha256("\n".join([event.seal, "2", event.time, kind, "1", text]).encode()).hexdigest()
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute("INSERT INTO events VALUES (2, ?, ?, 1, ?, ?)", (event.time, kind, text, seal))
        connection.commit()
    with pytest.raises(CorruptionError, match=r"ledger\.sqlite: event 2 is not what marline enters"):
        ledger.events()


def test_the_same_bytes_are_read_once_and_others_always(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_of(tmp_path, {"policies": {}}, {"policies": {}})
    other = ledger_of(tmp_path / "other", {"policies": {"arm": "0" * 64}}, {"policies": {}})
    opened: list[object] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: (opened.append(args), connect(*args, **kwargs))[1])
    assert len(ledger.events()) == 2 and ledger.events() == ledger.events()
    assert opened == []
    assert [event.number for event in Ledger(tmp_path).events()] == [1, 2] and len(opened) == 1
    ledger.path.write_bytes(other.path.read_bytes())
    with pytest.raises(CorruptionError, match="an older ledger, or that of another run"):
        ledger.events()
    assert len(opened) == 2


def test_what_events_tell_is_hashed_as_one_list(tmp_path: Path) -> None:
    events = ledger_of(tmp_path, {"policies": {"a": "é"}}, {"policies": {}, "folder": "b"}).events()
    content = [["exported", 0, {"policies": {"a": "é"}}], ["exported", 1, {"policies": {}, "folder": "b"}]]
    assert told(events) == hashlib.sha256(json.dumps(content).encode()).hexdigest()
    assert told([]) == hashlib.sha256(b"[]").hexdigest()
