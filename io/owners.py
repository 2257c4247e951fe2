"""Who drives a flow: one lock file for each process that drives any, released by the operating system when it dies.

A flow names its owner. An owner whose lock is free is dead, whatever its process id is used for now, and its flows may
be claimed. The id also says where the owner runs, for the message to whoever comes second.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from typing import Final, NamedTuple

import filelock

from ..errors import Io
from .files import ensure_private_dir

SUFFIX: Final = ".lock"


class OwnerName(NamedTuple):
    """An owner's id, taken apart."""

    token: str
    pid: int
    host: str

    @classmethod
    def parse(cls, owner: str) -> OwnerName:
        """From the form stored with a flow, `<token>:<pid>:<host>`."""
        token, pid, host = owner.split(":", 2)
        return cls(token, int(pid), host)

    def __str__(self) -> str:
        return f"{self.token}:{self.pid}:{self.host}"


class Owner:
    """This process's hold: alive until `release`, or until the process dies.

    Raises:
        Io: The lock file cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        ensure_private_dir(directory)
        self._name = OwnerName(secrets.token_hex(8), os.getpid(), socket.gethostname())
        self._path = directory / (self._name.token + SUFFIX)
        self._lock = filelock.FileLock(self._path, timeout=0, mode=0o600, thread_local=False)
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
        self._path.unlink(missing_ok=True)
        self._lock.release()


def owner_is_alive(directory: Path, owner: str) -> bool:
    """Whether somebody holds the owner's lock. A dead owner's lock file is tidied away.

    Raises:
        Io: The lock file is there and cannot be opened.
    """
    path = directory / (OwnerName.parse(owner).token + SUFFIX)
    if not path.exists():
        return False
    lock = filelock.FileLock(path, timeout=0, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        return True
    except OSError as exc:
        raise Io(f"cannot look at the lock file {path}: {exc.strerror or exc}") from exc
    # An owner's name is never used again, so nobody can be waiting for this file.
    path.unlink(missing_ok=True)
    lock.release()
    return False
