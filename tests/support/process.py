"""Starts a command as a process: a fork of a server that has imported everything, or an interpreter of its own.

    process = start([*COMMAND, "flows", "list"], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, environ=environ, cwd=home)

Either is real: it has a process id, exits, can be killed. A fork costs a third; see `fork_server.py` for what it cannot
show. There is one server for each process that runs tests; it is started with the first command, and ends with that
process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO, Any, Final, Protocol

from tests.support.fork_server import NUMBER, STEERING

COMMAND: Final = (sys.executable, "-m", "systemprompt_cloud")
ENVIRON: Final = dict(os.environ)
"""This process's environment before any test has changed it: the server's."""

LASTING: Final = frozenset({"setpriv"})
"""Programs that run another one and change only what its children inherit: a server that one has run makes the same."""

_starting: Final = threading.Lock()


class Process(Protocol):
    """What `subprocess.Popen` and `Forked` have in common."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class Forked:
    """A command that a fork server runs, used like a `subprocess.Popen`.

    Args:
        server: The server's control socket.
        streams: For stdin, stdout and stderr: `PIPE`, `DEVNULL`, or a descriptor, which stays open here.
        job: What the command is to be, for `fork_server.Job`.
    """

    def __init__(self, server: socket.socket, streams: Sequence[int], job: Sequence[object]) -> None:
        self.args = job[0]
        self.returncode: int | None = None
        self._hearing = threading.Lock()
        with contextlib.ExitStack() as theirs:
            ends = [_stream(wanted, number, theirs) for number, wanted in enumerate(streams)]
            self.stdin, self.stdout, self.stderr = (mine for _, mine in ends)
            self._own, own = socket.socketpair()
            theirs.callback(own.close)
            read, write = os.pipe()
            theirs.callback(os.close, read)
            with open(write, "wb") as pipe:  # noqa: PTH123 a descriptor
                socket.send_fds(server, [b"f"], [*(end for end, _ in ends), read, own.fileno()])
                pipe.write(json.dumps(job).encode())
        self.pid = self._hear()

    def _hear(self) -> int:
        said = self._own.recv(NUMBER.size, socket.MSG_WAITALL)
        assert len(said) == NUMBER.size, "the fork server has died"
        return int(NUMBER.unpack(said)[0])

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and _readable(self._own, timeout):
            with self._hearing:
                if self.returncode is None:
                    self.returncode = self._hear()
                    self._own.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended. Raises `subprocess.TimeoutExpired`."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.args), timeout or 0.0)
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended. The server sends it: nobody else knows that the number is still its."""
        with contextlib.suppress(OSError):  # it ends just now
            if self.poll() is None:
                self._own.sendall(bytes([sig]))

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def __del__(self) -> None:
        self._own.close()


def _readable(own: socket.socket, timeout: float | None) -> bool:
    try:
        waiting = select.poll()
        waiting.register(own, select.POLLIN)
        return bool(waiting.poll(None if timeout is None else timeout * 1000))
    except (OSError, ValueError):  # another thread has heard the end and closed it
        return True


def _stream(wanted: int, number: int, theirs: contextlib.ExitStack) -> tuple[int, IO[bytes] | None]:
    """The end of a stream for the command, and ours if there is one."""
    if wanted == DEVNULL:
        end = os.open(os.devnull, os.O_RDWR)
        theirs.callback(os.close, end)
        return end, None
    if wanted != PIPE:
        return wanted, None
    read, write = os.pipe()
    end, mine = (read, write) if number == 0 else (write, read)
    theirs.callback(os.close, end)
    return end, open(mine, "wb" if number == 0 else "rb")  # noqa: PTH123


@cache
def _server(before: tuple[str, ...]) -> socket.socket:
    mine, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [*before, sys.executable, str(Path(__file__).with_name("fork_server.py")), str(its.fileno())],
            stdin=DEVNULL,
            stdout=DEVNULL,
            env=ENVIRON,
            pass_fds=[its.fileno()],
            start_new_session=True,
        )

    def end() -> None:
        mine.close()
        process.wait()

    atexit.register(end)
    return mine


def steering(environ: Mapping[str, str]) -> dict[str, str]:
    """Of an environment, what an interpreter or a module reads once and for all."""
    return {name: value for name, value in environ.items() if name.startswith(STEERING)}


def start(
    argv: Sequence[str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    terminal: bool = False,
    real: bool = False,
) -> Process:
    """Start a process.

    Args:
        argv: The whole command; where it is not `COMMAND`, or that after one of `LASTING`, it is started as it is.
        stdin: `PIPE`, `DEVNULL` or a descriptor; so are stdout and stderr.
        stdout: See there.
        stderr: See there.
        environ: Its environment; None for this process's.
        cwd: Its current directory; None for this process's.
        terminal: Whether it has a session of its own, and the terminal that is its stdin.
        real: Whether it has an interpreter of its own whatever it is.
    """
    wanted = dict(os.environ if environ is None else environ)
    begins = list(argv).index(COMMAND[0]) if COMMAND[0] in argv else len(argv)
    before, words = tuple(argv[:begins]), list(argv[begins + len(COMMAND) :])
    forkable = tuple(argv[begins : begins + len(COMMAND)]) == COMMAND and LASTING.issuperset(before[:1])
    if real or not forkable or steering(wanted) != steering(ENVIRON):
        options: dict[str, Any] = {"start_new_session": True, "preexec_fn": _take_terminal} if terminal else {}
        return subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, env=wanted, cwd=cwd, **options)
    with _starting:
        server = _server(before)
    return Forked(server, (stdin, stdout, stderr), (words, wanted, str(cwd or Path.cwd()), terminal))


def _take_terminal() -> None:
    """Make the terminal the new session's own, so that its Ctrl-C is a SIGINT."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
