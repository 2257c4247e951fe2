"""Read and write private files: atomically, with mode 0600, refusing symbolic links and foreign owners.

Theory. A credentials file has three enemies. A *crash* in the middle of a write: so the bytes go to a temporary file
in the same directory, are forced to disk, and one `rename` (atomic by POSIX) puts them in place; the directory is
forced to disk too, or a power cut could undo the rename. Another *user* of the machine: so the file is created 0600,
not created and then narrowed, in a 0700 directory; a loosened mode is narrowed again, with a warning; a
symbolic link or a foreign owner is refused, because both mean that another user chose what we read or overwrite.
Another *process of ours*: so a process that reads in order to write holds `locked(path)` meanwhile.

Every temporary file is held under an OS lock by its writer. One that is not held was left by a killed process,
secrets and all, and the next write or removal of the same file sweeps it away.

Nothing here is asynchronous: files are small, and callers in a trio task put the call on a thread. POSIX only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shlex
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import filelock

from .errors import Io, UnsafeFile
from .log import get_logger
from .remedies import Remedy

logger = get_logger(__name__)

PRIVATE_FILE: Final = 0o600
PRIVATE_DIR: Final = 0o700
READ_LIMIT: Final = 16 * 1024 * 1024
LOCK_SECONDS: Final = 10.0
LOCK_POLL_SECONDS: Final = 0.01
"""A write takes a few milliseconds, so waiting longer between two attempts would build a queue."""

_TEMP: Final = re.compile(r"[0-9a-f]{16}\.tmp")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# What an open with O_NOFOLLOW says about a symbolic link: ELOOP by POSIX, EMLINK on FreeBSD.
_IS_LINK: Final = frozenset({errno.ELOOP, errno.EMLINK})


def fail(action: str, path: Path, exc: OSError, *, consequence: str = "") -> NoReturn:
    """Translate an OSError: what could not be done, to which path, why, and what that leaves behind."""
    if exc.errno in _IS_LINK:
        raise UnsafeFile(f"cannot {action} {path}: it is a symbolic link") from exc
    reason = "no space left on its device" if exc.errno in _FULL else (exc.strerror or str(exc))
    raise Io(
        f"cannot {action} {path}: {reason}{consequence}", hint=_hint(path, exc), remedy=_remedy(path, exc)
    ) from exc


def _hint(path: Path, exc: OSError) -> str | None:
    if exc.errno in _FULL:
        return f"Free some space on the disk of {path.parent}, then run the same command again."
    if exc.errno == errno.EROFS:
        return f"Make the disk of {path.parent} writable again, or use another directory."
    if exc.errno in {errno.EACCES, errno.EPERM}:
        return f"See who may do that: ls -ld {shlex.quote(str(path))} {shlex.quote(str(path.parent))}"
    return None


def _remedy(path: Path, exc: OSError) -> Remedy | None:
    return Remedy("writable_disk", {"disk": str(path.parent)}) if exc.errno == errno.EROFS else None


def refuse_foreign(path: Path, found: os.stat_result) -> None:
    """Refuse what is a link or belongs to somebody else."""
    if stat.S_ISLNK(found.st_mode):
        raise UnsafeFile(f"{path} is a symbolic link; it is neither followed nor replaced")
    if found.st_uid != os.geteuid():
        raise UnsafeFile(f"{path} belongs to user {found.st_uid}, not to user {os.geteuid()} who runs this")


def kind_of(found: os.stat_result) -> str:
    """What something that should be a regular file is instead, for a message."""
    return "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"


def _existing(path: Path, action: str) -> os.stat_result | None:
    """Look at a file that is about to be replaced or removed; refuse anything but a regular file of our own."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as exc:
        fail(action, path, exc)
    refuse_foreign(path, found)
    if not stat.S_ISREG(found.st_mode):
        raise Io(f"cannot {action} {path}: it is {kind_of(found)}")
    return found


# --- directories ---------------------------------------------------------------------------------------


def ensure_private_dir(path: Path) -> None:
    """Make sure a directory exists that only we can enter.

    Missing parents are created 0700 too (XDG Base Directory Specification); existing parents are left alone.

    Args:
        path: The directory. An existing one with other rights than 0700 is repaired, with a warning.

    Raises:
        UnsafeFile: It is a symbolic link or belongs to somebody else.
        Io: It cannot be created or repaired, or is not a directory.
    """
    try:
        _make_dirs(path)
        found = path.lstat()
        refuse_foreign(path, found)
        if not stat.S_ISDIR(found.st_mode):
            raise Io(f"{path} is not a directory")
        mode = stat.S_IMODE(found.st_mode)
        if mode != PRIVATE_DIR:
            path.chmod(PRIVATE_DIR)
            if mode & 0o077:
                logger.warning("%s was open to others (mode %04o); it is 0700 now", path, mode)
    except OSError as exc:
        fail("prepare the directory", path, exc)


def _make_dirs(path: Path) -> None:
    try:
        path.mkdir(PRIVATE_DIR)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_dirs(path.parent)
        # Another process may have been faster.
        path.mkdir(PRIVATE_DIR, exist_ok=True)


def sync_dir(path: Path) -> None:
    """Force a directory's entries to disk. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as exc:
        # Some network and FUSE file systems cannot sync a directory; the rename is still atomic there.
        if exc.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}:
            raise
    finally:
        os.close(fd)


# --- writing -------------------------------------------------------------------------------------------


def open_temp(path: Path) -> tuple[Path, int]:
    """Create the temporary file beside the target: 0600, ours alone, and locked so that `sweep_temps` leaves it.

    Returns:
        Its path, and its open descriptor, which holds the lock; the caller closes it.

    Raises:
        OSError: It cannot be made.
    """
    while True:
        temp = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            # A umask can only have narrowed 0600 further; the owner must be able to read what is put in place.
            os.fchmod(fd, PRIVATE_FILE)
            with suppress(OSError):  # no locks on this file system: then nothing is swept there either
                fcntl.flock(fd, fcntl.LOCK_EX)
            taken = os.fstat(fd).st_nlink == 0
        except BaseException:
            os.close(fd)
            temp.unlink(missing_ok=True)
            raise
        if not taken:
            return temp, fd
        os.close(fd)  # a sweeper came between the open and the lock


def sweep_temps(path: Path) -> None:
    """Remove temporary files of this target whose writer is dead: they may hold secrets."""
    ours = f".{path.name}."
    # Housekeeping, and the work it follows is done: errors are left out, each for itself.
    entries: list[str] = []
    with suppress(OSError):
        entries = os.listdir(path.parent)  # noqa: PTH208 - names are all it takes
    for entry in entries:
        if entry.startswith(ours) and _TEMP.fullmatch(entry, len(ours)):
            with suppress(OSError):  # its writer lives, or another sweeper was faster
                _sweep(path.with_name(entry))


def _sweep(temp: Path) -> None:
    # O_NONBLOCK: a FIFO of that name must not hang us.
    fd = os.open(temp, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temp.unlink(missing_ok=True)
    finally:
        os.close(fd)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file's content as a whole; when this returns, the new content is on disk.

    Args:
        path: The file, in a directory that exists. Created 0600 under any umask; a looser existing one ends 0600.
        data: The whole new content.

    Raises:
        UnsafeFile: The path is a symbolic link, or the file belongs to somebody else.
        Io: It could not be written; the message names the path and says so when the device is full. The file that
            was there before is unchanged, and nothing is left beside it. The one exception is named in its message:
            the new content is in place, and the directory could not be forced to disk.
    """
    _existing(path, "write")
    try:
        temp, fd = open_temp(path)
        try:
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(fd, left) :]
                os.fsync(fd)
                # Renamed while still locked: a sweeper can never see it free under its temporary name.
                temp.replace(path)
            finally:
                os.close(fd)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
    except OSError as exc:
        fail("write", path, exc, consequence="; the previous content is unchanged")
    try:
        sync_dir(path.parent)
    except OSError as exc:
        fail("force to disk", path, exc, consequence="; the new content is in place but a power cut may undo it")
    sweep_temps(path)


# --- reading -------------------------------------------------------------------------------------------


def read_private(path: Path, *, limit: int = READ_LIMIT) -> bytes | None:
    """Read a private file whole.

    Args:
        path: The file. When others can read it, it is narrowed to 0600, with a warning.
        limit: The most bytes it may hold.

    Returns:
        Its content, or None when, and only when, it does not exist.

    Raises:
        UnsafeFile: It is a symbolic link or belongs to somebody else.
        Io: It is not a regular file, is over the limit, or cannot be read.
    """
    try:
        # O_NONBLOCK: a FIFO in the file's place must not hang us.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        fail("read", path, exc)
    try:
        return _read_open(path, fd, limit)
    except OSError as exc:
        fail("read", path, exc)
    finally:
        os.close(fd)


def _read_open(path: Path, fd: int, limit: int) -> bytes:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise Io(f"cannot read {path}: it is {kind_of(found)}")
    refuse_foreign(path, found)
    _narrow(path, fd, found)
    if found.st_size > limit:
        raise Io(f"cannot read {path}: it holds {found.st_size} bytes, more than the {limit} expected at most")
    parts: list[bytes] = []
    # One byte more than allowed: the file may have grown since the look at its size.
    left = limit + 1
    while left and (part := os.read(fd, min(left, 1024 * 1024))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise Io(f"cannot read {path}: it holds more than the {limit} bytes expected at most")
    return b"".join(parts)


def _narrow(path: Path, fd: int, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not mode & 0o077:
        return
    try:
        os.fchmod(fd, PRIVATE_FILE)
    except OSError as exc:
        # A read-only file system: reading is still safe, but the user must know.
        logger.warning("%s is open to others (mode %04o) and cannot be narrowed: %s", path, mode, exc.strerror)
    else:
        logger.warning("%s was open to others (mode %04o); it is 0600 now", path, mode)


# --- sharing and removing ------------------------------------------------------------------------------


@contextmanager
def locked(path: Path, *, timeout: float = LOCK_SECONDS) -> Generator[None]:
    """Lock a file against other processes and threads that use `locked`, to read it, decide, and write it.

    The lock is the operating system's, on `<path>.lock` beside it, so the death of its holder frees it. The lock
    file stays: removing it would let two processes lock two different files of that name. Not reentrant.

    Args:
        path: The file to be read and written, in a directory that exists.
        timeout: Seconds to wait for the lock.

    Raises:
        Io: Another process held it all that time, or the lock file cannot be made.
        UnsafeFile: The lock file is a symbolic link.
    """
    lock_path = path.with_name(f"{path.name}.lock")
    if not path.parent.is_dir():
        # filelock would create it, under whatever umask there is.
        raise Io(f"cannot lock {path}: there is no directory {path.parent}")
    lock = filelock.FileLock(lock_path, mode=PRIVATE_FILE)
    try:
        lock.acquire(timeout=timeout, poll_interval=LOCK_POLL_SECONDS)
    except filelock.Timeout as exc:
        raise Io(
            f"cannot lock {path}: another process has held {lock_path} for {timeout:g} seconds",
            hint=f"Wait for the other process, or find it with: lsof {lock_path}",
        ) from exc
    except OSError as exc:
        fail("lock", lock_path, exc)
    try:
        yield
    finally:
        lock.release()


def set_aside(path: Path) -> Path:
    """Move what could not be read out of the way, so that a save cannot destroy it.

    Args:
        path: The file, or whatever is in its place.

    Returns:
        Where it is now: `<name>.unreadable-<UTC timestamp>` in the same directory, never an existing name.

    Raises:
        Io: It does not exist or cannot be renamed.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.unreadable-{stamp}")
    again = 1
    while os.path.lexists(aside):
        again += 1
        aside = path.with_name(f"{path.name}.unreadable-{stamp}-{again}")
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            path.chmod(PRIVATE_FILE)  # unreadable or not, it may still hold a token
        path.rename(aside)
        sync_dir(path.parent)
    except OSError as exc:
        fail("set aside", path, exc)
    return aside


def remove_private(path: Path) -> bool:
    """Remove a private file, and what a killed writer left beside it.

    Args:
        path: The file.

    Returns:
        Whether there was one.

    Raises:
        UnsafeFile: It is a symbolic link or belongs to somebody else.
        Io: It is not a regular file, or cannot be removed.
    """
    found = _existing(path, "remove")
    if found is not None:
        try:
            path.unlink(missing_ok=True)
            sync_dir(path.parent)
        except OSError as exc:
            fail("remove", path, exc)
    sweep_temps(path)
    return found is not None
