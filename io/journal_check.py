"""Is a journal whole? Asked by whoever opens it first after somebody stopped without closing it.

Theory. SQLite finds damage when it reads a damaged page, and overlooks what it does not read. Worse, it takes a log for
what is left of it: a log that ends early, or whose header cannot be read, counts as short or empty, and is written over.
A file whose last writer closed it has no log, and is looked at in no time. One with a log was left by a crash, and is
worth some milliseconds before anybody writes:

1. The log's checksums are followed from frame to frame (https://sqlite.org/fileformat.html, 4.3). Where they stop, at
   most one transaction may follow, the one that was being written. More is damage in the middle, not an end.
2. Every page that the last transaction counts must be in the file or in the log. A page that is in neither was cut off.
3. The flows must agree with their records. A log that lost its end while the file had already taken it in, or that
   belongs to another copy of the file, makes a mixture of two moments; that is where it shows.

Nothing here writes. The connection of step 3 is read-only: a read-only connection folds nothing in when it closes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from .journal_file import HEAD_BYTES, LOG, Held, companion
from .records import APPLICATION_ID, SCHEMA_VERSION

SETTLE_SECONDS: Final = 0.1
TRIES: Final = 3

_MAGIC: Final = 0x377F0682
_LOG_HEAD: Final = struct.Struct(">8I")
_FRAME_HEAD: Final = struct.Struct(">6I")
_WORD: Final = 0xFFFFFFFF


def check_whole(held: Held) -> None:
    """Look at a journal that is about to be opened.

    Args:
        held: Its file.

    Raises:
        sqlite3.DatabaseError: It is damaged; the message says how.
        OSError: It cannot be read.
    """
    for left in reversed(range(TRIES)):
        try:
            check_head(held.head)
            # Somebody who has it open has looked at it; and what is being written cannot be judged.
            if held.alone():
                _check_pages(held)
        except sqlite3.DatabaseError:
            # Looked at again, because another process may have begun to write this instant.
            if not left:
                raise
            time.sleep(SETTLE_SECONDS)
        else:
            return


def check_head(head: bytes) -> None:
    """Look at the first bytes of a journal, before SQLite sees them: it would remove the log of an empty file.

    Raises:
        sqlite3.DatabaseError: They are not a journal's.
    """
    if len(head) < HEAD_BYTES or not head.startswith(b"SQLite format 3\0"):
        raise sqlite3.DatabaseError("it is not an SQLite database")
    if int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise sqlite3.DatabaseError("it is not a journal of this program")


def _check_pages(held: Held) -> None:
    head = held.head
    page = int.from_bytes(head[16:18], "big") or 1
    page = 65536 if page == 1 else page
    log = read_log(companion(held.path, LOG), page)
    size = os.fstat(held.fd).st_size
    if log is None:
        pages = int.from_bytes(head[28:32], "big")
        if size % page or size // page < pages:
            raise sqlite3.DatabaseError(f"it is cut off: {size} bytes of {pages * page}")
        return
    lost = [number for number in range(size // page + 1, log.pages + 1) if number not in log.holds]
    if lost:
        raise sqlite3.DatabaseError(f"it is cut off: {len(lost)} of {log.pages} pages are neither in it nor in its log")
    _check_flows(held.path)


class Log(NamedTuple):
    """What a write-ahead log holds: the size of the file after its last transaction, and which pages it has."""

    pages: int
    holds: frozenset[int]


def read_log(path: Path, page: int) -> Log | None:
    """Follow a log as SQLite does when it recovers one.

    Args:
        path: The log.
        page: Bytes in a page of the file it belongs to.

    Returns:
        None when there is no log, or no whole transaction in it.

    Raises:
        sqlite3.DatabaseError: It does not end where it stops making sense.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) <= _LOG_HEAD.size or not any(data[: _LOG_HEAD.size]):
        return None  # it was being made, and nothing in it was acknowledged
    magic, _version, size, _count, salt_1, salt_2, *stored = _LOG_HEAD.unpack_from(data)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _MAGIC or size != page or _sum(order, (0, 0), data[:24]) != tuple(stored):
        raise sqlite3.DatabaseError("the header of its log is damaged")
    step = _FRAME_HEAD.size + page
    holds: set[int] = set()
    open_pages: list[int] = []
    pages = 0
    before = (stored[0], stored[1])
    at = _LOG_HEAD.size
    while at + step <= len(data):
        number, commit, *salts, sum_1, sum_2 = _FRAME_HEAD.unpack_from(data, at)
        if salts != [salt_1, salt_2]:
            break
        now = _sum(order, _sum(order, before, data[at : at + 8]), data[at + _FRAME_HEAD.size : at + step])
        if now != (sum_1, sum_2):
            break
        open_pages.append(number)
        if commit:
            holds.update(open_pages)
            open_pages.clear()
            pages = commit
        before = now
        at += step
    heads = (_FRAME_HEAD.unpack_from(data, later) for later in range(at, len(data) - step + 1, step))
    if sum(1 for _, commit, *salts, _, _ in heads if commit and salts == [salt_1, salt_2]) > 1:
        raise sqlite3.DatabaseError(f"its log is damaged at byte {at}, and goes on after that")
    return Log(pages, frozenset(holds)) if pages else None


def _sum(order: str, before: tuple[int, int], data: bytes) -> tuple[int, int]:
    """SQLite's running checksum over pairs of words (https://sqlite.org/fileformat.html, 4.2)."""
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    one, two = before
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & _WORD
        two = (two + second + one) & _WORD
    return one, two


def _check_flows(path: Path) -> None:
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                return  # what its tables mean is not known here
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
            if found != ["ok"]:
                raise sqlite3.DatabaseError(found[0])
            row = connection.execute(_DISAGREES).fetchone()
    except sqlite3.OperationalError:
        return  # not to be read like this (a read-only directory, say): opening it will tell why
    if row is not None:
        raise sqlite3.DatabaseError(f"flow {row[0]} stands at record {row[1]} and has {row[2]}")


_DISAGREES: Final = """
SELECT id, flows.seq, count(events.seq) AS has FROM flows LEFT JOIN events ON flow = id GROUP BY id
HAVING has <> flows.seq OR max(events.seq) <> flows.seq LIMIT 1
"""
