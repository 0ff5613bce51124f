"""What SQLite's rollback journal says, played back in memory: nothing on the disk is opened, changed or removed.

Ledgers are written as whole files, so they have no journal. An earlier marline let SQLite write them: where it was
killed in the middle, a journal lies beside the ledger with the pages as they were before. SQLite itself is not let
near it, because a journal may name another file, which SQLite removes after playing it back.

Source: https://www.sqlite.org/fileformat2.html#the_rollback_journal
"""

from __future__ import annotations

import struct
from pathlib import Path

from marline.errors import CorruptionError

MAGIC = bytes.fromhex("d9d505f920a163d7")
_HEADER = struct.Struct(">8sIIIII")
_CHECKED = 200  # every so many bytes of a page, one is in its checksum


def undone(database: bytes, journal: bytes, path: Path) -> bytes:
    """The database before the change that did not come to its end.

    Args:
        database: the file, perhaps half changed.
        journal: the file beside it.
        path: of the journal, for messages.

    Raises:
        CorruptionError: the journal names another file, as that of one database alone never does.
    """
    if journal.endswith(MAGIC):
        raise CorruptionError(
            f"{path} names another file, to be removed after it; marline writes no such journal, so that somebody else "
            "put it there: look at where this run comes from, then remove the journal"
        )
    pages, start, original_size = bytearray(database), 0, len(database)
    while start + _HEADER.size <= len(journal):
        magic, num_records, nonce, num_pages, sector, page_size = _HEADER.unpack_from(journal, start)
        if magic != MAGIC:  # it was never begun, or put out of force
            break
        if sector < _HEADER.size or page_size < 512:
            raise CorruptionError(f"{path} is no journal of a ledger; restore a copy of both")
        if start == 0:
            original_size = num_pages * page_size
        start += sector
        record = 4 + page_size + 4
        for _ in range(min(num_records, (len(journal) - start) // record)):
            number = int.from_bytes(journal[start : start + 4])
            page = journal[start + 4 : start + 4 + page_size]
            if int.from_bytes(journal[start + 4 + page_size : start + record]) != _checksum(page, nonce):
                return bytes(pages[:original_size])  # so far it had reached the disk
            start += record
            if 0 < number * page_size <= len(pages):
                pages[(number - 1) * page_size : number * page_size] = page
        start = -(-start // sector) * sector
    return bytes(pages[:original_size])


def _checksum(page: bytes, nonce: int) -> int:
    return (nonce + sum(page[place] for place in range(len(page) - _CHECKED, 0, -_CHECKED))) & 0xFFFFFFFF
