"""What happened in a campaign, in order: an append-only table in the run directory.

Arrays live in files that vouch for themselves; the ledger names those files by their hashes, and holds what no file
does: which policies left, and what people decided. An event is appended after its files are in place, so an event
that is missing after a crash can be told from the files and is appended then.

Every event carries a seal, the SHA-256 of the seal before it and of its own content: nothing can be changed, taken
out or put in without breaking the seals that follow.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from marline.data.files import StorageError, sha256_file, to_json
from marline.errors import ConfigError, CorruptionError

FILE = "ledger.sqlite"
SCHEMA = 1
PATIENCE = 10.0  # seconds that another process may take to read or append
_TABLE = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    kind TEXT NOT NULL,
    deployment INTEGER NOT NULL,
    body TEXT NOT NULL,
    seal TEXT NOT NULL UNIQUE
)
"""
_APPEND_ONLY = [
    f"CREATE TRIGGER no_{verb.lower()} BEFORE {verb} ON events BEGIN "
    "SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    for verb in ("UPDATE", "DELETE")
]


_OUTSIDE = (  # what is wrong with the disk or the moment, not with the file
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        number: counted from 1.
        time: in UTC, ISO 8601.
        kind: created, trained, foreseen, exported, waiting, ingested, gated, tuned or rolled-back.
        deployment: the one that it belongs to; 0 is the offline team.
        body: what else there is to say.
        seal: over this event and all before it.
    """

    number: int
    time: str
    kind: str
    deployment: int
    body: Mapping[str, Any]
    seal: str


class Ledger:
    """The ledger of a run directory; the file is made by the first event."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def events(self, *kinds: str) -> list[Event]:
        """All events, or those of some kinds, in order.

        Raises:
            CorruptionError: the file is no ledger, is damaged, or an event was changed, taken out or put in.
            ConfigError: a newer marline wrote it.
        """
        if not self.path.exists():
            return []
        with self._connected() as connection:
            if connection.execute("PRAGMA page_count").fetchone() == (0,):
                return []  # a crash came before the first event was on the disk
            rows = connection.execute("SELECT number, time, kind, deployment, body, seal FROM events ORDER BY number")
            events, seal = [], ""
            for place, (number, time, kind, deployment, text, found) in enumerate(rows, start=1):
                if number != place or found != _seal(seal, number, time, kind, deployment, text):
                    raise CorruptionError(f"{self.path} was altered: event {place} breaks its seal; restore a copy")
                seal = found
                events.append(Event(number, time, kind, deployment, json.loads(text), seal))
        return [event for event in events if not kinds or event.kind in kinds]

    def append(self, kind: str, deployment: int, body: Mapping[str, Any]) -> Event:
        """Add an event; when this returns, it is on the disk.

        Raises:
            CorruptionError: as of `events`.
            StorageError: the disk is full or the file may not be written; the ledger is as it was.
        """
        events = self.events()
        number, before = len(events) + 1, events[-1].seal if events else ""
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        text = to_json(dict(body))
        event = Event(number, time, kind, deployment, json.loads(text), "")
        event = event._replace(seal=_seal(before, number, time, kind, deployment, text))
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                for statement in (_TABLE, *_APPEND_ONLY, f"PRAGMA user_version = {SCHEMA}"):
                    connection.execute(statement)
            row = (number, time, kind, deployment, text, event.seal)
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        return event

    def check(self) -> None:
        """Raise `CorruptionError` unless the whole file is in order, down to its free pages."""
        self.events()
        if self.path.exists():
            with self._connected() as connection:
                found = connection.execute("PRAGMA integrity_check").fetchall()
                if found != [("ok",)]:
                    raise CorruptionError(f"{self.path} is damaged ({found[0][0]}); restore a copy")

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)) as connection:
                # One file and a rollback journal, not a write-ahead log: a copy of the run directory is then complete,
                # and network disks will do. EXTRA also syncs the folder when the journal goes, which FULL does not.
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("PRAGMA synchronous = EXTRA")
                schema = connection.execute("PRAGMA user_version").fetchone()[0]
                if schema > SCHEMA:
                    raise ConfigError(f"{self.path} has schema {schema}, this marline knows {SCHEMA}: upgrade marline")
                yield connection
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE:  # the low byte tells the kind
                raise StorageError(
                    f"cannot use {self.path}: {error}; free some space, or look for another program that uses it"
                ) from error
            reason = str(error).partition(" with text")[0]  # which is whatever the file holds
            raise CorruptionError(f"{self.path} is no ledger, or is damaged ({reason}); restore a copy") from error
        except (ValueError, RecursionError) as error:
            raise CorruptionError(f"{self.path} holds an event that is not JSON ({error}); restore a copy") from error


def require_same_configuration(path: Path, events: Iterable[Event]) -> None:
    """Raise `CorruptionError` unless run.json is what the campaign was started with, as far as its ledger tells."""
    for event in events:
        if event.kind == "created" and event.body["run.json"] != sha256_file(path):
            raise CorruptionError(f"{path} is not what the campaign was started with: it was altered; restore a copy")


def _seal(before: str, *content: object) -> str:
    return hashlib.sha256("\n".join([before, *map(str, content)]).encode()).hexdigest()
