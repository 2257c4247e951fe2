"""Commands without the start of an interpreter: a process that has imported everything forks one for each.

    python tests/support/fork_server.py CONTROL

Theory. `python -m systemprompt_cloud` spends half a second of CPU on starting the interpreter and on imports, and the
tests run it hundreds of times. This process has done both, and has started no thread, no event loop and opened no file;
a fork of it is a new interpreter in all that a command can see. What differs between two interpreters is set after the
fork: the arguments, the environment, the directory, the standard streams (opened as Python opens them), the search
path, the state of random generators. What an interpreter or a module reads from the environment at its start
(`STEERING`) cannot be set afterwards: `process.py` starts a real interpreter for a command that changes any of it.

The server talks with `process.py` over sockets. CONTROL is the number of an open one; each message there is a byte with
five descriptors: stdin, stdout, stderr, a pipe with the `Job` as JSON, and a socket of the command's own. On the last
the server writes the process id and later the exit code, four bytes each; a byte it reads there is a signal for the
command. When CONTROL is closed, everything that still runs is killed.

Not as in a new interpreter: the hash seed (one for each server), the import of modules (few are left), and the end,
where modules are not taken apart. A test about one of those asks for a real process.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import random
import runpy
import selectors
import signal
import socket
import struct
import sys
import termios
import threading
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

NUMBER: Final = struct.Struct("=i")
"""A process id or an exit code on the command's own socket."""

STEERING: Final = (
    "PYTHON",
    "LC_",
    "LANG",
    "LD_",
    "DYLD_",
    "MALLOC_",
    "OPENSSL_",
    "TZ",
    "LOGURU_",
    "CI",
    "APPVEYOR",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "TRAVIS",
    "PYCHARM_HOSTED",
    "SPHINX_BUILD",
    "ANDROID_DATA",
    "_PYTHON_",
)
"""How the variables begin that are read once, when an interpreter starts or a module is imported."""

ROOMS: Final = ("base", "cli", "diagrams", "engine", "flows", "io", "machines", "sandbox")
LATE: Final = (
    "anyio._backends._trio",
    "click._textwrap",
    "click.shell_completion",
    "difflib",
    "encodings.ascii",
    "encodings.idna",
    "filelock",
    "h2.connection",
    "httpcore._async.http2",
    "loguru",
    "platformdirs",
    "rich.console",
    "rich.live",
)
"""Modules of others that commands import when they need them."""


class Job(NamedTuple):
    """What a command is started with."""

    words: list[str]
    environ: dict[str, str]
    directory: str
    terminal: bool


def import_everything() -> None:
    """Import every module a command may import, and build the tree of commands, which is the same for all of them."""
    package = importlib.import_module("systemprompt_cloud")
    root = Path(str(package.__file__)).parent
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            name = ".".join(("systemprompt_cloud", *path.relative_to(root).with_suffix("").parts))
            importlib.import_module(name.removesuffix(".__init__"))
    for name in LATE:
        with contextlib.suppress(ImportError):  # of another version of theirs; then the command imports it itself
            importlib.import_module(name)
    importlib.import_module("systemprompt_cloud.cli.help").live_help()


class Server:
    """Forks, signals and reaps."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._running: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_up)

    def serve(self) -> Job | None:
        """Serve until the control socket is closed: None. In a child: the command it is to be."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    message, descriptors, _flags, _address = socket.recv_fds(self._control, 1, 5)
                    if not message:
                        return self._end()
                    if job := self._fork(descriptors):
                        return job
                elif key.fileobj is self._woken:
                    with contextlib.suppress(BlockingIOError):
                        self._woken.recv(4096)
                    self._reap()
                else:
                    self._signal(key.data)

    def _fork(self, descriptors: list[int]) -> Job | None:
        pid = os.fork()
        if pid == 0:
            self._leave()
            return _become(descriptors)
        stdin, stdout, stderr, job, own = descriptors
        for descriptor in (stdin, stdout, stderr, job):
            os.close(descriptor)
        teller = socket.socket(fileno=own)
        self._running[pid] = teller
        self._selector.register(teller, selectors.EVENT_READ, pid)
        _tell(teller, pid)
        return None

    def _leave(self) -> None:
        """In the child: nothing of the server's is left, and nothing that would close a number a second time."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for each in (self._control, self._woken, self._wake, *self._running.values()):
            each.close()

    def _signal(self, pid: int) -> None:
        teller = self._running[pid]
        with contextlib.suppress(ConnectionError):
            if wanted := teller.recv(1):
                os.kill(pid, wanted[0])  # not reaped yet, so the number is still this command's
                return
        self._selector.unregister(teller)  # nobody is interested any more

    def _reap(self) -> None:
        for pid, teller in list(self._running.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._running[pid]
                with contextlib.suppress(KeyError):
                    self._selector.unregister(teller)
                _tell(teller, os.waitstatus_to_exitcode(status))
                teller.close()

    def _end(self) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)


def _wake_up(_number: int, _frame: object) -> None:
    """Python writes to the wakeup socket only for signals that have a handler."""


def _tell(teller: socket.socket, number: int) -> None:
    with contextlib.suppress(ConnectionError):
        teller.sendall(NUMBER.pack(number))


def _become(descriptors: list[int]) -> Job:
    """In the child: put the three streams and nothing else in their places, and read what to be."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    with open(descriptors[3], "rb", closefd=False) as pipe:
        job = Job(*json.load(pipe))
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if job.terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(job.directory)
    os.environ.clear()
    os.environ.update(job.environ)
    sys.path[0] = str(Path.cwd())
    sys.orig_argv[:] = [sys.executable, "-m", "systemprompt_cloud", *job.words]
    sys.argv[:] = ["-m", *job.words]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _opened(number, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    return job


def _opened(number: int, before: TextIO) -> TextIO:
    """A standard stream as a new interpreter opens it (CPython, `create_stdio` in pylifecycle.c)."""
    unbuffered = bool(getattr(before, "write_through", False))
    writing = number > 0
    raw: Any = open(number, "wb" if writing else "rb", buffering=0 if unbuffered and writing else -1, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(
        raw,
        encoding=before.encoding,
        errors=before.errors,
        newline="\n",
        line_buffering=not unbuffered and (number == 2 or raw.isatty()),
        write_through=unbuffered,
    )


def generators() -> list[random.Random]:
    """Every random generator there is: they would hand out the same numbers in each child."""
    return [each for each in gc.get_objects() if issubclass(type(each), random.Random)]


def main() -> None:
    """Serve; in a child be the command, and end as an interpreter ends."""
    ended = End()
    atexit.register(ended)  # the first to be registered is the last to be called
    import_everything()
    control = socket.socket(fileno=int(sys.argv[1]))
    seeded = generators()
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()
    if Server(control).serve() is None:
        os._exit(0)
    for generator in seeded:
        generator.seed()
    try:
        runpy.run_module("systemprompt_cloud", run_name="__main__", alter_sys=True)
    except SystemExit as exc:
        ended.code = exc.code
        raise


class End:
    """Leaves out what an interpreter does after its `atexit` functions: taking every module apart costs as much again.

    Attributes:
        code: The exit code; where it is no number, or somebody did not catch an exception, nothing is left out.
    """

    code: object = None

    def __call__(self) -> None:
        """End the process."""
        if isinstance(self.code, int):
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            except OSError:
                return  # the interpreter knows what to say
            os._exit(self.code)


if __name__ == "__main__":
    main()
