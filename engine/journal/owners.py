"""Record which process drives a flow, with a lock file per process that is released when the process dies.

A flow names its owner. An owner whose lock is free is dead, whatever its process id is used for now, and its flows may
be claimed. The id also says where the owner runs, for the message to a second process.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ...base.errors import Io
from ...base.files import ensure_private_dir
from ...base.log import get_logger

logger = get_logger(__name__)

SUFFIX: Final = ".lock"
SWEEP_SECONDS: Final = 0.001
LOCK_SECONDS: Final = 1.0


class OwnerName(NamedTuple):
    """An owner's id, taken apart."""

    token: str
    pid: int
    host: str

    @classmethod
    def parse(cls, owner: str) -> OwnerName:
        """From the form stored with a flow, `<token>:<pid>:<host>`."""
        token, _, rest = owner.partition(":")
        pid, _, host = rest.partition(":")
        # A name that was damaged is nobody's: no lock file has its token, so it counts as dead.
        return cls(token.replace("/", "_"), int(pid) if pid.isdecimal() else 0, host)

    def __str__(self) -> str:
        return f"{self.token}:{self.pid}:{self.host}"


class Owner:
    """This process as an owner of flows: alive until `release`, or until the process dies.

    Raises:
        Io: The lock file cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        import secrets
        import socket

        import filelock

        directory = directory.absolute()  # the process may change its directory
        ensure_private_dir(directory)
        self._name = OwnerName(secrets.token_hex(8), os.getpid(), socket.gethostname())
        self._path = directory / (self._name.token + SUFFIX)
        # Nobody else uses the name, but a sweeper may take away the file before it is locked: then it is made again.
        self._lock = filelock.FileLock(self._path, timeout=LOCK_SECONDS, mode=0o600, thread_local=False)
        try:
            self._lock.acquire()
        except OSError as exc:
            raise Io(f"cannot make the lock file {self._path}: {exc.strerror or exc}") from exc

    @property
    def name(self) -> str:
        """What a flow's row says while this process drives it."""
        return str(self._name)

    def release(self) -> None:
        """Let go; every flow of this owner may be claimed from now on."""
        # Unlink first: whoever opens the name afterwards makes a new file, and nobody can hold the old one any more.
        try:
            self._path.unlink(missing_ok=True)
        except OSError as exc:
            logger.warning("the lock file %s cannot be removed: %s", self._path, exc.strerror or exc)
        self._lock.release()


def sweep_owners(directory: Path) -> None:
    """Remove the lock files of dead owners; those without a flow are never looked at otherwise."""
    for path in directory.glob(f"*{SUFFIX}"):
        with suppress(OSError):  # housekeeping; a caller that needs this file raises the error
            # Alone: an owner that has made its file and not locked it yet cannot while we hold it, and then finds that
            # what it locks has no name any more, and makes another (filelock looks). That one nobody may take away.
            _is_held(path, fcntl.LOCK_EX, remove=True)


def owner_is_alive(directory: Path, owner: str) -> bool:
    """Whether a process holds the owner's lock. A dead owner's lock file is removed.

    Raises:
        Io: The lock file is there and cannot be opened.
    """
    path = directory / (OwnerName.parse(owner).token + SUFFIX)
    try:
        # Shared, so that two processes that look at the same moment do not take each other for the owner. Twice: the
        # first may have met a sweeper, and that one is done at once.
        if not _is_held(path, fcntl.LOCK_SH, remove=True):
            return False
        time.sleep(SWEEP_SECONDS)
        return _is_held(path, fcntl.LOCK_SH, remove=True)
    except OSError as exc:
        raise Io(f"cannot look at the lock file {path}: {exc.strerror or exc}") from exc


def any_owner_alive(directory: Path) -> bool:
    """Whether any process drives flows at this moment, this one included.

    Raises:
        Io: A lock file cannot be opened.
    """
    try:
        return any(_is_held(path, fcntl.LOCK_SH) for path in directory.glob(f"*{SUFFIX}"))
    except OSError as exc:
        raise Io(f"cannot look at the lock files in {directory}: {exc.strerror or exc}") from exc


def _is_held(path: Path, mode: int, *, remove: bool = False) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
        if remove:
            with suppress(FileNotFoundError):
                # Somebody else may have been quicker, and then the name is perhaps a new owner's.
                if os.path.samestat(os.fstat(fd), path.stat()):
                    path.unlink()
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
