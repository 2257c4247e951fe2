"""What SQLite and the system mean by an error, by their codes: their words are for people."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def primary_code(exc: sqlite3.Error) -> int:
    """SQLite's code without its details (https://sqlite.org/rescode.html); 0 of an error that is not SQLite's own."""
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF


def means_full(exc: sqlite3.Error | OSError) -> bool:
    """No space is left."""
    return exc.errno in FULL if isinstance(exc, OSError) else primary_code(exc) == sqlite3.SQLITE_FULL


def means_failing(exc: sqlite3.Error | OSError) -> bool:
    """The disk fails."""
    return exc.errno == errno.EIO if isinstance(exc, OSError) else primary_code(exc) == sqlite3.SQLITE_IOERR


def means_read_only(exc: sqlite3.Error | OSError) -> bool:
    """The file, or its file system, cannot be written."""
    return exc.errno == errno.EROFS if isinstance(exc, OSError) else primary_code(exc) == sqlite3.SQLITE_READONLY


def means_busy(exc: sqlite3.Error | OSError) -> bool:
    """Another connection holds the file."""
    return not isinstance(exc, OSError) and primary_code(exc) in BUSY
