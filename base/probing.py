"""Try a directory before it is relied on: whether it takes files, keeps them private, and has locks.

Theory. What a directory cannot do shows when it is used, and that is too late where a person has logged in, or paid, in
the meantime. So everything that is going to be needed is done once, with a file of no content: make it, narrow it, lock
it in both ways that are used (`flock` by us, `fcntl` by SQLite), see that a lock keeps others out, write, force it to
disk, rename it, remove it. File systems that cannot do these (FAT and exFAT, drives of Windows, some network and FUSE
mounts) are refused: without modes a token could be read by all, and without locks two processes would drive one flow.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shlex
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .errors import DirectoryUnusable
from .files import PRIVATE_FILE, sweep_temps
from .remedies import Remedy

_NAME: Final = "probe"
_SIZE: Final = 4096
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def try_directory(path: Path) -> None:
    """Do once what private files need.

    Args:
        path: A directory that exists. Nothing is left in it.

    Raises:
        DirectoryUnusable: It cannot do that; the message says what.
    """
    sweep_temps(path / _NAME)
    temp = path / f".{_NAME}.{secrets.token_hex(8)}.tmp"
    renamed = path / f".{_NAME}.{secrets.token_hex(8)}.tmp"
    with _trying(path, "cannot be written"):
        fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            _narrow(path, fd)
            _lock(path, temp, fd)
            os.write(fd, bytes(_SIZE))
            os.fsync(fd)
            temp.replace(renamed)
        finally:
            os.close(fd)
            for each in (temp, renamed):
                with suppress(OSError):
                    each.unlink(missing_ok=True)


def _narrow(path: Path, fd: int) -> None:
    with _trying(path, "cannot keep a file private, chmod is refused"):
        os.fchmod(fd, PRIVATE_FILE)
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & 0o077:
        raise DirectoryUnusable(f"{path} cannot keep a file private: its mode stays {mode:04o}")


def _lock(path: Path, temp: Path, fd: int) -> None:
    with _trying(path, "has no file locks"):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other = os.open(temp, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise DirectoryUnusable(f"{path} has no file locks that keep others out")
    finally:
        os.close(other)
    with _trying(path, "has no file locks"):
        fcntl.flock(fd, fcntl.LOCK_UN)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(fd, fcntl.LOCK_UN)


@contextmanager
def _trying(path: Path, problem: str) -> Generator[None]:
    try:
        yield
    except OSError as exc:
        raise unusable(path, problem, exc) from exc


def unusable(path: Path, problem: str, exc: OSError) -> DirectoryUnusable:
    """The error that a directory cannot do something, with the system's reason."""
    full = exc.errno in _FULL
    reason = "no space left on its device" if full else exc.strerror or str(exc)
    message = f"{path} {'cannot be written' if full else problem}: {reason}"
    if exc.errno != errno.EACCES:
        return DirectoryUnusable(message)
    return DirectoryUnusable(
        message,
        hint=f"See who may write there: ls -ld {shlex.quote(str(path))} {shlex.quote(str(path.parent))}",
        remedy=Remedy("permitted_directory", {"directory": str(path), "parent": str(path.parent)}),
    )
