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
import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from marline.data.files import StorageError, atomic_bytes, atomic_json, read_regular, to_json
from marline.data.migrations import LEDGER, require_known
from marline.data.provenance import last_writer
from marline.data.scratch import sync
from marline.errors import CorruptionError
from marline.runs.events import Content, Created, Event, written
from marline.runs.journal import undone
from marline.runs.layout import configuration_sha256

FILE = "ledger.sqlite"
HEAD = "ledger.head"
LARGEST = 1 << 30  # bytes: SQLite keeps no larger database in memory
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


class Ledger:
    """The ledger of a run directory; the file is made by the first event.

    SQLite only ever sees it in memory, for in a file of a stranger's it would follow what that says: a journal that
    names another file, a view, a trigger. It is written as every other file is, as a whole and by a rename. Beside it
    `ledger.head` names the newest event, so that an older ledger that was put back is told from the newest.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._head = folder / HEAD
        self._journal = folder / f"{FILE}-journal"
        self._known: tuple[bytes, list[Event]] = b"", []  # the same bytes hold the same events: they are read once
        self._well_formed: list[Event] = []  # those of them that were looked into

    def events(self, *kinds: str) -> list[Event]:
        """All events, or those of some kinds, in order.

        Raises:
            CorruptionError: the file is no ledger, is damaged, or an event was changed, taken out or put in.
            NewerError: a newer marline wrote it.
        """
        found = self._read()[1]
        if found is not self._well_formed:
            for event, looked_into in itertools.zip_longest(found, self._well_formed[: len(found)]):
                if event is not looked_into:
                    self._require_well_formed(event)
            self._well_formed = found
        return [event for event in found if not kinds or event.kind in kinds]

    def append(self, deployment: int, content: Content) -> Event:
        """Add an event; when this returns, it is on the disk. One writer at a time, see `lock.writing`.

        Raises:
            CorruptionError: as of `events`.
            StorageError: the disk is full or the file may not be written; the ledger is as it was.
        """
        image, known = self._read()
        number, before = len(known) + 1, known[-1].seal if known else ""
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        kind, text = content.kind, to_json(written(content))
        seal = _seal(before, number, time, kind, deployment, text)
        event = Event(number, time, kind, deployment, json.loads(text), seal)
        if os.path.lexists(self._journal):
            # in this order: played back twice, a journal does no harm, but played back on what follows it would
            atomic_bytes(self.path, image)
            self._journal.unlink()
            sync(self.path.parent)
        with self._opened(image) as connection:
            if not image:
                for statement in (_TABLE, *_APPEND_ONLY, f"PRAGMA user_version = {LEDGER.newest}"):
                    connection.execute(statement)
            row = (number, time, kind, deployment, text, event.seal)
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
            image = connection.serialize()
        if len(image) > LARGEST:
            raise StorageError(
                f"cannot write {self.path}: it would have {len(image)} bytes, and {LARGEST} can be read back"
            )
        atomic_bytes(self.path, image)
        self._known = image, [*known, event]
        self.anchor(self._known[1])
        return event

    def anchor(self, events: Sequence[Event]) -> None:
        """Let `ledger.head` name the newest of all events, which a crash or an earlier marline kept from it."""
        if events and self._anchored() != (events[-1].number, events[-1].seal):
            atomic_json(self._head, {"number": events[-1].number, "seal": events[-1].seal})

    @property
    def is_anchored(self) -> bool:
        """Whether `ledger.head` names the newest event; in what an earlier marline wrote, nothing does."""
        return os.path.lexists(self._head)

    def check(self) -> None:
        """Raise `CorruptionError` unless the whole file is in order, down to its free pages."""
        content, _ = self._read()
        if content:
            with self._opened(content) as connection:
                found = connection.execute("PRAGMA integrity_check").fetchall()
                if found != [("ok",)]:
                    raise CorruptionError(f"{self.path} is damaged ({found[0][0]}); restore a copy")

    def _require_well_formed(self, event: Event) -> None:
        """Raise `CorruptionError` unless an event holds what its readers look for."""
        try:
            is_plain = isinstance(event.time, str) and isinstance(event.kind, str)
            if not (is_plain and type(event.deployment) is int and event.deployment >= 0):
                raise ValueError("a column is of another type")
            _ = event.content
        except ValueError as error:
            raise CorruptionError(
                f"{self.path}: event {event.number} is not what marline enters; restore a copy"
            ) from error

    def _read(self) -> tuple[bytes, list[Event]]:
        """The file, as it was before a change that did not come to its end, and its events."""
        anchored = self._anchored()  # first: a writer changes it last
        content = read_regular(self.path, LARGEST) if os.path.lexists(self.path) else b""
        if content and os.path.lexists(self._journal):
            content = undone(content, read_regular(self._journal, LARGEST), self._journal)
        if content and content != self._known[0]:
            self._known = content, self._events_in(content)
        events = self._known[1] if content else []
        if anchored is not None:
            number, seal = anchored
            if not 1 <= number <= len(events) or events[number - 1].seal != seal:
                raise CorruptionError(
                    f"{self.path} does not hold the event that {self._head.name} beside it names as the newest, number "
                    f"{number}: an older ledger, or that of another run, was put in its place; restore the newest copy"
                )
        elif len(events) > 1 and _is_anchored(events[0]):
            raise CorruptionError(
                f"{self._head} is missing, without which an older ledger could not be told from the newest; restore a "
                "copy of both"
            )
        return content, events

    def _events_in(self, content: bytes) -> list[Event]:
        with self._opened(content) as connection:
            rows = connection.execute("SELECT number, time, kind, deployment, body, seal FROM events ORDER BY number")
            events, seal = [], ""
            for place, (number, time, kind, deployment, text, found) in enumerate(rows, start=1):
                if number != place or found != _seal(seal, number, time, kind, deployment, text):
                    raise CorruptionError(f"{self.path} was altered: event {place} breaks its seal; restore a copy")
                seal = found
                events.append(Event(number, time, kind, deployment, json.loads(text), seal))
        return events

    def _anchored(self) -> tuple[int, str] | None:
        """Number and seal of the newest event, as `ledger.head` has it."""
        if not os.path.lexists(self._head):
            return None
        try:
            found = json.loads(read_regular(self._head, 4096))
            return int(found["number"]), str(found["seal"])
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            raise CorruptionError(f"{self._head} names no event; restore a copy of it and the ledger") from error

    @contextlib.contextmanager
    def _opened(self, content: bytes) -> Iterator[sqlite3.Connection]:
        """The tables of a ledger, in memory."""
        steps = itertools.count()
        try:
            with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
                if content:
                    connection.deserialize(content)
                connection.execute("PRAGMA trusted_schema = OFF")
                # a thousand steps of SQLite's machine for each: many more than an honest file of the size takes
                connection.set_progress_handler(lambda: next(steps) > 1000 + len(content) // 100, 1000)
                if content:
                    self._require_schema(connection)
                yield connection
        except sqlite3.Error as error:
            reason = str(error).partition(" with text")[0]  # which is whatever the file holds
            raise CorruptionError(f"{self.path} is no ledger, or is damaged ({reason}); restore a copy") from error
        except (ValueError, RecursionError) as error:
            raise CorruptionError(f"{self.path} holds an event that is not JSON ({error}); restore a copy") from error

    def _require_schema(self, connection: sqlite3.Connection) -> None:
        """Raise unless it is known, and holds the table of events and nothing that acts, as a view of others does."""
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        require_known(schema, LEDGER, self.path, last_writer(self.path.parent))
        known = {_plain_sql(statement) for statement in (_TABLE, *_APPEND_ONLY)}
        for kind, name, statement in connection.execute("SELECT type, name, sql FROM sqlite_master"):
            is_index = (kind, name, statement) == ("index", "sqlite_autoindex_events_1", None)
            if not is_index and _plain_sql(str(statement)) not in known:
                raise CorruptionError(
                    f"{self.path} holds a view, a trigger or a table that marline does not make; restore a copy"
                )


def _is_anchored(first: Event) -> bool:
    """Whether the first event says that there is a `ledger.head`."""
    with contextlib.suppress(ValueError):  # of what it is then, whoever reads the events is told
        return isinstance(first.content, Created) and first.content.anchored
    return False


def told(events: Iterable[Event]) -> str:
    """A hash of what events tell, whenever they happened: it is the same in a run that was repeated."""
    return hashlib.sha256(f"[{', '.join(event.told for event in events)}]".encode()).hexdigest()


def _plain_sql(statement: str) -> str:
    return " ".join(statement.split())


def require_same_configuration(path: Path, events: Iterable[Event]) -> None:
    """Raise `CorruptionError` unless run.json is what the campaign was started with, as far as its ledger tells."""
    for event in events:
        if isinstance(event.content, Created) and event.content.configuration != configuration_sha256(path):
            raise CorruptionError(f"{path} is not what the campaign was started with: it was altered; restore a copy")


def _seal(before: str, *content: object) -> str:
    return hashlib.sha256("\n".join([before, *map(str, content)]).encode()).hexdigest()
