"""The journal as a file: its owner and place, how it is made, and how a damaged one is moved out of the way.

Theory. SQLite trusts its file names: it follows a symbolic link, replays whatever log lies beside a file, and goes on
writing into a file that was moved or removed hours ago. And it trusts its locks, which POSIX takes away from the whole
process as soon as *anybody* in it closes *any* descriptor of the file: another process then believes that nobody has
the journal open, folds in the log and removes it under a living writer (https://sqlite.org/howtocorrupt.html, 2.2 to
2.6). So:

- We look at the file through one descriptor for each journal and process (`Held`), closed after the last connection.
- What is not a regular file of ours with one name is refused; loose modes are narrowed, with a warning.
- A log without its journal is refused: replayed into a new journal it would be a mixture of two.
- Before each commit `InPlace` makes sure that the names still lead to the files that are open.

Making a journal and setting one aside happen under a lock on their directory, so that nobody sets aside the new
journal because the one before it was damaged.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, NamedTuple

from ...base.errors import Io, UnsafeFile
from ...base.files import ensure_private_dir, kind_of, open_temp, set_aside, sweep_temps, sync_dir
from ...base.log import get_logger
from ..errors import JournalCorrupted, JournalError, JournalMoved
from .codes import primary_code
from .records import APPLICATION_ID, SCHEMA, SCHEMA_VERSION

logger = get_logger(__name__)

LOG: Final = "-wal"
SHARED_MEMORY: Final = "-shm"
COMPANIONS: Final = (LOG, SHARED_MEMORY)
HEAD_BYTES: Final = 100
"""The header of an SQLite file (https://sqlite.org/fileformat.html, 1.3)."""

SETTLE_SECONDS: Final = 0.02
"""Seconds between two attempts, while another process is busy with the file."""

TICK_NS: Final = 50_000_000
"""Longer than the resolution of file times: 1 to 10 ms on Linux, by `CONFIG_HZ`."""
COARSE_TICK_NS: Final = 3_000_000_000
"""The same where a file system knows whole seconds only, or every other one."""

# Every open connection holds this range of bytes shared (os_unix.c: SHARED_FIRST, SHARED_SIZE).
_SHARED_FIRST: Final = 0x40000000 + 2
_SHARED_SIZE: Final = 510
_FLOCK: Final = "@qqihh" if sys.platform == "darwin" else "@hhqqi4x"


def companion(path: Path, suffix: str) -> Path:
    """The file SQLite keeps beside a journal under the same name and a suffix."""
    return path.with_name(path.name + suffix)


# --- looking --------------------------------------------------------------------------------------------------------


class FileId(NamedTuple):
    """Which file it is, whatever it is called."""

    device: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileId:
        """From what `stat` says."""
        return cls(found.st_dev, found.st_ino)


class _Shared:
    def __init__(self, fd: int) -> None:
        self.fds = [fd]
        self.users = 0


_open_files: dict[FileId, _Shared] = {}
_opening = threading.Lock()


class Held:
    """A journal's file, looked at and held; close it after the connections to it.

    Args:
        path: The journal; it exists. Loose mode bits are narrowed, its companions' too.

    Raises:
        UnsafeFile: It, or a companion, is a symbolic link, belongs to somebody else or has a second name.
        Io: It, or a companion, is a directory, a pipe or the like.
        JournalError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.closed = path, False
        with _opening:
            try:
                for suffix in COMPANIONS:
                    with contextlib.suppress(FileNotFoundError):
                        _refuse_strange(path, companion(path, suffix))
                self.id = FileId.of(_refuse_strange(path, path))
                if self.id not in _open_files:
                    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                    self.id = FileId.of(os.fstat(fd))
                    # Known after all only if it was swapped this instant: closing it here would cost our own locks.
                    _open_files.setdefault(self.id, _Shared(fd)).fds.append(fd)
            except OSError as exc:
                raise JournalError(f"cannot open the journal {path}: {exc.strerror or exc}") from exc
            _open_files[self.id].users += 1
            self.fd = _open_files[self.id].fds[0]

    def close(self) -> None:
        """Let go of the file."""
        with _opening:
            self.closed, shared = True, _open_files[self.id]
            shared.users -= 1
            if not shared.users:
                del _open_files[self.id]
                for fd in set(shared.fds):
                    os.close(fd)

    @property
    def head(self) -> bytes:
        """The first bytes of the file, as they are on disk: what the log says is not in them."""
        return os.pread(self.fd, HEAD_BYTES, 0)

    def read_all(self) -> None:
        """Read the file and its log to the end, to know whether the disk can. Raises `OSError` when it cannot."""
        at = 0
        while part := os.pread(self.fd, 1 << 20, at):
            at += len(part)
        with contextlib.suppress(FileNotFoundError), companion(self.path, LOG).open("rb") as log:
            while log.read(1 << 20):
                pass

    def alone(self) -> bool:
        """Whether no connection to the file is open, in this process or another."""
        with _opening:
            shared = _open_files[self.id].users > 1
        return not shared and not self.open_elsewhere()

    def open_elsewhere(self) -> bool:
        """Whether another process has a connection to the file."""
        lock, place = (fcntl.F_WRLCK, os.SEEK_SET), (_SHARED_FIRST, _SHARED_SIZE, 0)
        mac = sys.platform == "darwin"
        query = struct.pack(_FLOCK, *((*place, *lock) if mac else (*lock, *place)))
        return struct.unpack(_FLOCK, fcntl.fcntl(self.fd, fcntl.F_GETLK, query))[3 if mac else 0] != fcntl.F_UNLCK


def _refuse_strange(journal: Path, path: Path) -> os.stat_result:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise UnsafeFile(f"{path} is a symbolic link; it is neither followed nor replaced")
    if not stat.S_ISREG(found.st_mode):
        raise Io(
            f"cannot open the journal {journal}: {path.name} is {kind_of(found)}",
            hint=f"Move it away: mv {path} {path}.old",
        )
    if found.st_uid != os.geteuid():
        raise UnsafeFile(f"{path} belongs to user {found.st_uid}, not to user {os.geteuid()} who runs this")
    if found.st_nlink > 1:
        with _alone_in(path.parent):  # until whoever made it has taken away the name it was made under
            sweep_temps(journal)
        found = path.lstat()
    if found.st_nlink > 1:
        raise UnsafeFile(
            f"{path} has {found.st_nlink} names (hard links); opened by two of them it would be destroyed",
            hint=f"Give it a file of its own: cp -p {path} {path}.copy && mv {path}.copy {path}",
        )
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        try:
            path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
        except OSError as exc:
            # A read-only file system: reading is still safe, but the user must know.
            logger.warning("%s is open to others (mode %04o) and cannot be narrowed: %s", path, mode, exc.strerror)
        else:
            logger.warning("%s was open to others (mode %04o); it is not any more", path, found.st_mode & 0o7777)
    return found


class InPlace:
    """The files that are open, under the names they were opened by.

    A name cannot change without its directory: whatever is made, removed or renamed in it sets its times (POSIX.1-2017,
    XBD 4.9). So a directory that is the same, with the same time, vouches for its names; the files are looked at only
    after something happened in it. Looking costs more than it seems: since Linux 6.13 a file whose times were asked
    for has them written anew with the next write, which makes each sync of the log 60 µs longer.

    Args:
        path: The journal, its connections open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory = str(path.parent)
        self._at_rest: tuple[int, int, int] | None = None
        self._files: list[tuple[str, FileId]] = []
        for each in (path, *(companion(path, suffix) for suffix in COMPANIONS)):
            with contextlib.suppress(FileNotFoundError):
                self._files.append((str(each), FileId.of(each.stat())))

    def check(self) -> None:
        """Make sure that what is written now will be found by whoever opens the journal next.

        Raises:
            JournalMoved: A name leads elsewhere, or nowhere.
        """
        # Before the files: what happens to them after this look is seen in the next one.
        try:
            found = os.stat(self._directory)  # noqa: PTH116 before each commit
        except OSError as exc:
            raise self._moved(self._directory, exc.strerror or str(exc)) from exc
        seen = (found.st_dev, found.st_ino, found.st_ctime_ns)
        if seen == self._at_rest:
            return
        for name, identity in self._files:
            try:
                this = FileId.of(os.stat(name))  # noqa: PTH116 see above
            except OSError as exc:
                raise self._moved(name, exc.strerror or str(exc)) from exc
            if this != identity:
                raise self._moved(name, "another file has its name now")
        # Two changes within one tick of the file system's clock leave the same time: the first of them vouches for
        # nothing until the tick is over.
        tick = COARSE_TICK_NS if found.st_ctime_ns % 1_000_000_000 == 0 else TICK_NS
        self._at_rest = seen if time.time_ns() - found.st_ctime_ns > tick else None

    def _moved(self, name: str, why: str) -> JournalMoved:
        return JournalMoved(
            f"the journal {self._path} was moved, removed or replaced while it was open ({name}: {why}); "
            "nothing more is written to it",
            hint=f"Put {self._path} back as it was, with its {LOG} file, and run the same command again.",
        )


# --- making ---------------------------------------------------------------------------------------------------------


def make_ready(path: Path, *, create: bool, make_directory: Callable[[Path], None]) -> bool:
    """Make sure there is a journal to open.

    Args:
        path: Where it is, or is to be.
        create: Whether to make it, with its directory, when it is missing.
        make_directory: Makes the directory.

    Returns:
        False when it is missing and was not to be made.

    Raises:
        JournalCorrupted: It is missing and its log is there; nothing was touched.
        DirectoryInUse: It is missing, and its directory is in use for something else; nothing was touched.
        UnsafeFile: Its directory is a symbolic link or belongs to somebody else.
        Io: It cannot be made.
    """
    if _is_there(path):
        ensure_private_dir(path.parent)
        sweep_temps(path)
        return True
    _refuse_orphan(path)
    if not create:
        return False
    make_directory(path.parent)
    with _alone_in(path.parent):
        if not _is_there(path):
            _refuse_orphan(path)
            _create(path)
    return True


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise JournalError(f"cannot open the journal {path}: {exc.strerror or exc}") from exc
    return True


def _refuse_orphan(path: Path) -> None:
    log = companion(path, LOG)
    try:
        held = log.lstat().st_size
    except OSError:
        return
    if held:
        raise JournalCorrupted(
            f"the journal {path} is gone, and its log {log.name} with {held} bytes of it is still there",
            hint=f"Put the journal back beside its log, or start anew: mv {log} {log}.old",
        )


def _create(path: Path) -> None:
    # Made under another name and linked into place when it is whole: a half-made journal is then always damage.
    try:
        fresh, fd = open_temp(path)
        try:
            # SQLite gives the companions the mode of the file.
            with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = MEMORY")  # no second file that a crash could leave behind
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(
                    f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
                    f"{SCHEMA} COMMIT;"
                )
            with contextlib.suppress(FileExistsError):  # no locks there, and another process was quicker
                os.link(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
            os.close(fd)
        # A power cut must not lose the file's name once records in it have been acknowledged.
        sync_dir(path.parent)
    except OSError as exc:
        raise Io(f"cannot make the journal {path}: {exc.strerror or exc}") from exc
    except sqlite3.Error as exc:
        raise JournalError(f"cannot make the journal {path}: {exc}") from exc


def log_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Put the file of a connection into WAL mode, which a new or restored one is not in.

    When several connections change the mode, SQLite refuses all but one at once, whatever their busy timeout.

    Args:
        connection: To the journal, without a transaction.
        patience: Seconds to try for.

    Raises:
        sqlite3.OperationalError: Another connection held it all that time, or the disk fails.
    """
    until = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if primary_code(exc) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        else:
            return
        time.sleep(SETTLE_SECONDS)


# --- setting aside --------------------------------------------------------------------------------------------------


def set_journal_aside(path: Path, damaged: FileId) -> Path | None:
    """Move a damaged journal, with its log, out of the way.

    Args:
        path: The journal.
        damaged: The file that was found damaged.

    Returns:
        Where it is now; None when another process was quicker, and something else is at `path`.

    Raises:
        Io: It cannot be moved.
    """
    with _alone_in(path.parent):
        try:
            if FileId.of(path.lstat()) != damaged:
                return None
        except OSError:
            return None
        aside = set_aside(path)
        try:
            # The journal first: without its log a damaged one could pass for a whole one that holds less.
            for suffix in COMPANIONS:
                with contextlib.suppress(FileNotFoundError):
                    companion(path, suffix).rename(companion(aside, suffix))
        except OSError as exc:
            raise Io(f"cannot set aside the log of {path}: {exc.strerror or exc}") from exc
    return aside


@contextlib.contextmanager
def _alone_in(directory: Path) -> Generator[None]:
    """Hold the directory's lock, under which journals are made and set aside. Raises `Io`."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise Io(f"cannot open the directory {directory}: {exc.strerror or exc}") from exc
    try:
        with contextlib.suppress(OSError):  # a network file system without locks: linking and looking still hold
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
