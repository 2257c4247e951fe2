"""The command line as a process of its own, with a scripted person at the browser: for tests from the outside.

    command = CommandLine(home, clean_environ() | {"HOME": str(home), "SYSTEMPROMPT_API_URL": sandbox_url})
    ran = command.play("up", "--plan", "starter", "--login-port", "0", "--checkout-port", "0", "--no-browser", "--json")
    assert ran.ended(0).lines[-1]["verdict"] == "success"

The person reads the addresses from stderr, as a real one does: nothing of the program is reached into.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

import trio

from .browser import ScriptedBrowser

COMMAND: Final = (sys.executable, "-m", "systemprompt_cloud")
SECONDS: Final = 60.0
"""How long anything here may take before it counts as hanging."""


def clean_environ() -> dict[str, str]:
    """This process's environment without anything that steers the command."""
    steering = ("SYSTEMPROMPT_", "XDG_", "BROWSER", "DISPLAY", "WAYLAND", "NO_COLOR", "HTTP_PROXY", "HTTPS_PROXY")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(steering)}


@dataclass
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its stdout, a JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def ended(self, code: int) -> Self:
        """The same, if it ended with this code and without a traceback."""
        assert self.code == code, f"exit code {self.code}, wanted {code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err
        return self


@dataclass
class Running:
    """A command that runs; its stderr is read by a thread that also clicks what it is shown."""

    process: subprocess.Popen[str]
    browser: ScriptedBrowser | None
    said: list[str] = field(default_factory=list[str])
    urls: list[str] = field(default_factory=list[str])
    reader: threading.Thread | None = None
    drain: threading.Thread | None = None
    invited: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Self:
        """Begin to read."""
        assert self.process.stderr is not None
        self.reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self.reader.start()
        return self

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.said.append(line)
            if line.startswith("  http"):
                self.urls.append(line.strip())
                self.invited.set()
                if self.browser is not None:
                    trio.run(self.browser.visit, line.strip())
        self.invited.set()  # it will show none any more: whoever waits for one is told so

    def wait_invited(self) -> str:
        """Wait until it shows an address."""
        assert self.invited.wait(SECONDS), "".join(self.said)
        assert self.urls, "".join(self.said)
        return self.urls[-1]

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, and join its reader."""
        self.process.kill()
        self.process.wait(SECONDS)
        if self.process.stdin is not None:
            self.process.stdin.close()
        for stream, thread in ((self.process.stdout, self.drain), (self.process.stderr, self.reader)):
            if thread is not None:
                thread.join(SECONDS)
            # Somebody the command left behind may hold the pipe open: closing it under a reader would wait for them.
            if stream is not None and not (thread and thread.is_alive()):
                stream.close()

    def wait(self, seconds: float = SECONDS) -> Ran:
        """Wait until it has ended and everything it said was read.

        Args:
            seconds: How long that may take.

        Raises:
            AssertionError: It did not end in that time; it was killed, and the message holds what it has said.
        """
        assert self.process.stdout is not None
        assert self.reader is not None
        stdout, out = self.process.stdout, list[str]()
        until = time.monotonic() + seconds
        self.drain = threading.Thread(target=lambda: out.extend(stdout), daemon=True)
        self.drain.start()
        for thread in (self.drain, self.reader):
            thread.join(max(until - time.monotonic(), 0))
        try:
            code = self.process.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            code = None
        if code is None or self.drain.is_alive() or self.reader.is_alive():
            self.process.kill()
            raise AssertionError(f"did not end within {seconds:g} s\n{''.join(out)}\n{''.join(self.said)}")
        return Ran(code, "".join(out), "".join(self.said))


@dataclass
class CommandLine:
    """The command line in a home of its own."""

    home: Path
    environ: dict[str, str]
    running: list[Running] = field(default_factory=list[Running])
    before: tuple[str, ...] = ()
    """A program the commands are run by, with its options: `setpriv`, say."""

    @property
    def directory(self) -> Path:
        """Where credentials and tenants are by default."""
        return self.home / ".local/share/systemprompt-cloud"

    @property
    def journal(self) -> Path:
        """Where the journal is by default."""
        return self.home / ".local/state/systemprompt-cloud/journal.sqlite3"

    def __call__(self, *words: str, given: str = "", cwd: Path | None = None, **environ: str) -> Ran:
        """Run a command that needs nobody."""
        ended = subprocess.run(  # noqa: S603 our own command
            [*self.before, *COMMAND, *words],
            input=given,
            capture_output=True,
            text=True,
            env=self.environ | environ,
            cwd=cwd or self.home,
            timeout=SECONDS,
            check=False,
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    def close(self) -> None:
        """Kill whatever still runs."""
        for running in self.running:
            running.kill()

    def begin(
        self, *words: str, browser: ScriptedBrowser | None = None, cwd: Path | None = None, given: bool = False
    ) -> Running:
        """Start a command, with somebody at the browser or nobody; `given` keeps its stdin open to write to."""
        process = subprocess.Popen(  # noqa: S603 our own command
            [*self.before, *COMMAND, *words],
            stdin=subprocess.PIPE if given else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ,
            cwd=cwd or self.home,
        )
        self.running.append(Running(process, browser).start())
        return self.running[-1]

    def play(self, *words: str, browser: ScriptedBrowser | None = None, cwd: Path | None = None) -> Ran:
        """Run a command to its end with somebody at the browser."""
        return self.begin(*words, browser=browser or ScriptedBrowser(), cwd=cwd).wait()

    def login(self) -> None:
        """Log in."""
        self.play("login", "--port", "0", "--no-browser").ended(0)
