"""Checks a journal for damage, when it is opened for the first time after a process stopped without closing it.

Theory. SQLite finds damage only in the pages it reads. Worse, it takes a damaged log for a shorter one: a log that ends
early, or whose header cannot be read, counts as short or empty, and is written over. A file whose last writer closed it
has no log and is checked at once. One with a log was left by a crash, and gets some milliseconds of checks before
anything is written:

1. The header of the log must be whole: with a broken one SQLite would take the log for empty, and write over it.
2. Every page that the last transaction counts must be in the file or in the log. A page that is in neither was cut off.
   Only a file that looks too short is worth following the log's checksums from frame to frame
   (https://sqlite.org/fileformat.html, 4.3).
3. The flows must agree with their records, and the file without its log must not know more than with it. A log that
   lost its end after the file had taken it in, or that belongs to another copy, makes a mixture of two moments.

What cannot be found: a log that lost its end, or was damaged in its middle, before any of that was copied to the file.
What is behind the end of a log proves nothing: killed writers leave whole transactions there that were never
acknowledged. Ended flows that are missing are no damage: `flows prune` may have removed them.

Nothing here writes. The connection of step 3 is read-only, so it does not checkpoint the log when it closes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from ...base.remedies import Remedy
from ..errors import JournalBusy, JournalCorrupted, JournalError
from .codes import means_busy, means_failing, means_full, means_read_only
from .file import HEAD_BYTES, LOG, Held, companion
from .records import APPLICATION_ID, SCHEMA_VERSION

THOROUGH_BYTES: Final = 16 * 1024 * 1024
"""In a larger journal not every page is checked when it is opened, to save a second; `flows check` checks all."""
RECORDS_CHECKED: Final = 1000
"""The last so many of a flow are counted when a journal is opened; `flows check` looks at all."""
FULL_BYTES: Final = 64 * 1024
"""SQLite does not always say why a write failed; with less free space than this, the disk is full."""

_MAGIC: Final = 0x377F0682
_LOG_HEAD: Final = struct.Struct(">8I")
_FRAME_HEAD: Final = struct.Struct(">6I")
_WORD: Final = 0xFFFFFFFF


def check_whole(held: Held) -> None:
    """Check a journal that is about to be opened.

    Args:
        held: Its file.

    Raises:
        sqlite3.DatabaseError: It is damaged; the message says how. Check again before acting on it: another process
            may have begun to write.
        OSError: It cannot be read.
    """
    check_head(held.head)
    # Whoever has it open has checked it, and a file that is being written looks damaged.
    if held.alone():
        _check_pages(held)


def explain(held: Held, exc: sqlite3.Error | OSError, verb: str) -> JournalError:
    """The error for a failed operation on a journal: the file, the reason and the fix.

    Args:
        held: Its file.
        exc: What SQLite, or the system, raised.
        verb: What was tried: `open`, `read`, `write`.
    """
    path, text, failing = held.path, str(exc), means_failing(exc)
    if not isinstance(exc, sqlite3.OperationalError | OSError):
        try:
            held.read_all()
        except OSError:
            text, failing = "disk I/O error", True  # SQLite calls a file malformed that it could not read
        else:
            return JournalCorrupted(
                f"cannot {verb} the journal {path}: {text}",
                hint=f"Nothing was written over. Copy it and its {LOG} file; `sqlite3 {path} .recover` may read it. "
                "When both are moved away, the next command starts with a new one.",
            )
    remedy: Remedy | None = None
    hint = f"Check the path, its owner and the free space of {path.parent}, then run the same command again."
    read_only = _disk_is_read_only(path.parent)
    full = means_full(exc)
    if read_only and not (isinstance(exc, OSError) and means_read_only(exc)):
        text += "; the file system is read-only"
    elif not full and _disk_is_full(path.parent):
        full = True
        text += "; the disk is full"
    if full:
        hint = f"Free some space on the disk of {path.parent}, then resume the flow."
    elif failing:
        hint = (
            f"The disk of {path.parent} fails: see the system log. Copy the directory to another disk and use it there."
        )
        remedy = Remedy("copy_directory", {"disk": str(path.parent)})
    elif read_only:
        hint = f"Make the disk of {path.parent} writable again (mount -o remount,rw), then resume the flow."
    elif means_read_only(exc):
        hint = f"Make {path} and its directory writable: chmod u+w; then resume the flow."
    elif means_busy(exc):
        hint = f"Another program holds {path} open for writing; close it and run the same command again."
        return JournalBusy(f"cannot {verb} the journal {path}: {text}", hint=hint)
    return JournalError(f"cannot {verb} the journal {path}: {text}", hint=hint, remedy=remedy)


def _disk_is_read_only(directory: Path) -> bool:
    # SQLite reports only "unable to open database file" there: it cannot make its shared memory file.
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _disk_is_full(directory: Path) -> bool:
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < FULL_BYTES


def check_head(head: bytes) -> None:
    """Check the header of a journal before SQLite opens it: SQLite would remove the log of an empty file.

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
    log_path = companion(held.path, LOG)
    has_log = _check_log_head(log_path, page) is not None
    size = os.fstat(held.fd).st_size
    pages = int.from_bytes(head[28:32], "big")
    if size % page or size // page < pages:
        _check_short(log_path, page, size, pages)
    if has_log:
        _check_flows(held.path, thorough=size <= THOROUGH_BYTES)


def _check_short(log_path: Path, page: int, size: int, pages: int) -> None:
    # The file is shorter than it says: fine if its log holds the rest.
    log = read_log(log_path, page)
    if log is None:
        raise sqlite3.DatabaseError(f"it is cut off: {size} bytes of {pages * page}")
    lost = [number for number in range(size // page + 1, log.pages + 1) if number not in log.holds]
    if lost:
        raise sqlite3.DatabaseError(f"it is cut off: {len(lost)} of {log.pages} pages are neither in it nor in its log")


class Log(NamedTuple):
    """What a write-ahead log holds: the size of the file after its last transaction, and which pages it has."""

    pages: int
    holds: frozenset[int]


class _LogHead(NamedTuple):
    order: str
    salts: list[int]
    checksum: tuple[int, int]


def _check_log_head(path: Path, page: int) -> _LogHead | None:
    """The header of a log; None when there is no log, or only the beginning of one."""
    try:
        with path.open("rb") as file:
            data = file.read(_LOG_HEAD.size + 1)
    except FileNotFoundError:
        return None
    if len(data) <= _LOG_HEAD.size or not any(data[: _LOG_HEAD.size]):
        return None  # it was being made, and nothing in it was acknowledged
    magic, _version, size, _count, salt_1, salt_2, *stored = _LOG_HEAD.unpack_from(data)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _MAGIC or size != page or _sum(order, (0, 0), data[:24]) != tuple(stored):
        raise sqlite3.DatabaseError("the header of its log is damaged")
    return _LogHead(order, [salt_1, salt_2], (stored[0], stored[1]))


def read_log(path: Path, page: int) -> Log | None:
    """Follow a log as SQLite does when it recovers one.

    Args:
        path: The log.
        page: Bytes in a page of the file it belongs to.

    Returns:
        None when there is no log, or no whole transaction in it.

    Raises:
        sqlite3.DatabaseError: Its header is damaged.
    """
    head = _check_log_head(path, page)
    if head is None:
        return None
    data = path.read_bytes()
    step = _FRAME_HEAD.size + page
    holds: set[int] = set()
    open_pages: list[int] = []
    pages = 0
    before = head.checksum
    at = _LOG_HEAD.size
    while at + step <= len(data):
        number, commit, *salts, sum_1, sum_2 = _FRAME_HEAD.unpack_from(data, at)
        if salts != head.salts:
            break
        begun = _sum(head.order, before, data[at : at + 8])
        now = _sum(head.order, begun, data[at + _FRAME_HEAD.size : at + step])
        if now != (sum_1, sum_2):
            break
        open_pages.append(number)
        if commit:
            holds.update(open_pages)
            open_pages.clear()
            pages = commit
        before = now
        at += step
    return Log(pages, frozenset(holds)) if pages else None


def _sum(order: str, before: tuple[int, int], data: bytes) -> tuple[int, int]:
    """SQLite's running checksum over pairs of words (https://sqlite.org/fileformat.html, 4.2)."""
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    one, two = before
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & _WORD
        two = (two + second + one) & _WORD
    return one, two


def _check_flows(path: Path, *, thorough: bool) -> None:
    address = f"file:{quote(str(path.absolute()))}"
    try:
        with contextlib.closing(sqlite3.connect(f"{address}?mode=ro", uri=True, isolation_level=None)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                return  # what its tables mean is not known here
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")] if thorough else ["ok"]
            if found != ["ok"]:
                raise sqlite3.DatabaseError(found[0])
            if row := connection.execute(_DISAGREES, {"checked": RECORDS_CHECKED}).fetchone():
                raise sqlite3.DatabaseError(f"flow {row[0]} stands at record {row[1]} and has {row[2]}")
            try:
                connection.execute("ATTACH ? AS bare", (f"{address}?immutable=1",))
                row = connection.execute(_BEHIND).fetchone()
            except sqlite3.DatabaseError:
                return  # a process died during a checkpoint: without its log the file need not be consistent
            if row is not None:
                raise sqlite3.DatabaseError(f"its log ends before record {row[1]} of flow {row[0]}, which the file has")
    except sqlite3.OperationalError:
        return  # not readable this way (a read-only directory, for example); opening it raises the reason


# A log holds what was written recently: the unfinished flows, and the newest; and of each its last records.
_LATELY: Final = """
WITH lately AS (SELECT id, seq, status FROM {0}.flows WHERE status <> 'ended'
    UNION SELECT * FROM (SELECT id, seq, status FROM {0}.flows ORDER BY rowid DESC LIMIT 1000))
"""
_MISCOUNTED: Final = """
SELECT id, lately.seq, max(lately.seq - :checked, 0)
    + (SELECT count(*) FROM events WHERE flow = id AND events.seq > lately.seq - :checked) AS has
FROM lately WHERE has <> lately.seq OR (SELECT max(events.seq) FROM events WHERE flow = id) <> lately.seq LIMIT 1
"""
_DISAGREES: Final = _LATELY.format("main") + _MISCOUNTED
_BEHIND: Final = (
    _LATELY.format("bare")
    + """
SELECT id, lately.seq FROM lately LEFT JOIN main.flows USING (id)
WHERE main.flows.seq < lately.seq OR main.flows.id IS NULL AND lately.status <> 'ended' LIMIT 1
"""
)
