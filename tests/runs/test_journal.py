"""Rollback journals, against what SQLite itself makes of them."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from marline.errors import CorruptionError
from marline.runs.journal import MAGIC, undone


def interrupted(folder: Path) -> tuple[bytes, bytes, bytes]:
    """A database, and the same with its journal in the middle of a change that has reached the disk in part."""
    path = folder / "a.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("CREATE TABLE events (number INTEGER PRIMARY KEY, body TEXT)")
        connection.executemany("INSERT INTO events (body) VALUES (?)", [("x" * 700,)] * 40)
        before = path.read_bytes()
        connection.execute("PRAGMA cache_size = 5")  # so that pages are written before the end
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE events SET body = ?", ("y" * 700,))
        connection.executemany("INSERT INTO events (body) VALUES (?)", [("z" * 700,)] * 40)
        killed = path.read_bytes(), (folder / "a.sqlite-journal").read_bytes()
        connection.execute("ROLLBACK")
    return before, *killed


def test_what_did_not_come_to_its_end_is_undone_as_sqlite_undoes_it(tmp_path: Path) -> None:
    before, database, journal = interrupted(tmp_path)
    assert database != before and journal.startswith(MAGIC)
    assert undone(database, journal, Path("journal")) == before
    (tmp_path / "b.sqlite").write_bytes(database)
    (tmp_path / "b.sqlite-journal").write_bytes(journal)
    with closing(sqlite3.connect(tmp_path / "b.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM events WHERE body LIKE 'x%'").fetchone() == (40,)
    assert undone(before, journal, Path("journal")) == before  # twice does no harm


def test_a_journal_that_was_not_begun_or_is_torn_undoes_only_what_it_holds(tmp_path: Path) -> None:
    before, database, journal = interrupted(tmp_path)
    for nothing in (b"", b"\0" * len(journal), journal[:20], b"\0" + journal[1:]):
        assert undone(database, nothing, Path("journal")) == database
    # what follows a record that is not whole never reached the database
    altered = bytearray(journal)
    altered[512 + 4 + 1024 - 200] ^= 1  # a byte of the first page that is in its checksum
    assert undone(database, bytes(altered), Path("journal")) == database[: len(before)] != before


def test_a_journal_that_names_another_file_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    _, database, journal = interrupted(tmp_path)
    victim = tmp_path / "thesis.tex"
    victim.write_text("years of work")
    name = str(victim).encode()
    hostile = journal + struct.pack(">I", 1 << 20) + name + struct.pack(">II", len(name), sum(name)) + MAGIC
    with pytest.raises(CorruptionError, match="journal names another file"):
        undone(database, hostile, tmp_path / "journal")
    assert victim.exists()


@pytest.mark.parametrize("field", [2, 3, 4, 5])
def test_a_header_that_claims_too_much_takes_no_time_and_no_memory(field: int, tmp_path: Path) -> None:
    _, database, journal = interrupted(tmp_path)
    header = list(struct.unpack_from(">8sIIIII", journal))
    header[field if field > 2 else 1] = 0xFFFFFFFF
    hostile = struct.pack(">8sIIIII", *header) + journal[28:]
    assert len(undone(database, hostile, Path("journal"))) <= len(database)


def test_a_header_of_nothing_is_refused() -> None:
    hostile = struct.pack(">8sIIIII", MAGIC, 1, 0, 1, 0, 0)
    with pytest.raises(CorruptionError, match="is no journal of a ledger"):
        undone(b"x" * 4096, hostile, Path("journal"))
