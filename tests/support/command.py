"""The command line as a process of its own, with a scripted person at the browser: for tests from the outside.

    command = CommandLine(home, clean_environ() | {"HOME": str(home), "SYSTEMPROMPT_API_URL": sandbox_url})
    ran = command.play("up", "--plan", "starter", "--login-port", "0", "--checkout-port", "0", "--no-browser", "--json")
    assert ran.ended(0).lines[-1]["verdict"] == "success"

The person reads the addresses from stderr, as a real one does: nothing of the program is reached into. Threads read
what a command says, so that a test needs no event loop; one that has trio waits with `await along(running.wait)`.

A command is a fork of a server that has imported everything (`process.py`), which is three times cheaper than a new
interpreter; `real=True` asks for that one, where a test is about how the command starts.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

import trio
from systemprompt_cloud.cli.fields import FIELDS, fields_of
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.process import COMMAND, DEVNULL, PIPE, start

T = TypeVar("T")

SECONDS: Final = 60.0
"""How long anything here may take before it counts as hanging."""

URL: Final = re.compile(r"^ {2}(https?://\S+)", re.MULTILINE)
"""An address as a person is shown it: on a line of its own."""


def clean_environ() -> dict[str, str]:
    """This process's environment without anything that steers the command."""
    steering = (
        "SYSTEMPROMPT_",
        "XDG_",
        "BROWSER",
        "DISPLAY",
        "WAYLAND",
        "SSH_",
        "NO_COLOR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    )
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(steering)}


async def along(wait: Callable[[], T]) -> T:
    """Wait in a thread while trio's tasks go on; who is cancelled does not wait any more."""
    return await trio.to_thread.run_sync(wait, abandon_on_cancel=True)


def command_of(argv: Sequence[str]) -> str:
    """The words of the command that an argument list runs; empty where it is none of ours."""
    if "--version" in argv:
        return ""
    pairs = [" ".join(argv[at : at + 2]) for at in range(len(argv))]
    return next((each for pair in pairs for each in (pair, pair.partition(" ")[0]) if each in FIELDS), "")


@dataclass
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str
    argv: Sequence[str] = ()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its stdout, a JSON object a line, whose fields are those the command is known to have."""
        found: list[dict[str, Any]] = [json.loads(line) for line in self.out.splitlines()]
        known = fields_of(command_of(self.argv))
        for line in found:
            assert not known or "error" in line or line.keys() <= set(known), f"add it to cli/fields.py: {line}"
        return found

    def ended(self, code: int) -> Self:
        """The same, if it ended with this code and without a traceback."""
        assert self.code == code, f"exit code {self.code}, wanted {code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err
        return self


class Running:
    """A command that runs, and everything it has said so far; killed at the end of a `with` block.

    Args:
        argv: The whole command.
        environ: Its environment; None for this process's.
        cwd: Its current directory; None for this process's.
        browser: Opens what addresses it shows, one after the other; None for nobody.
        listening: Whether it has a stdin to `say` something to.
        stdin: A descriptor that is its stdin instead.
        real: Whether the command line, too, has an interpreter of its own.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        browser: ScriptedBrowser | None = None,
        listening: bool = False,
        stdin: int | None = None,
        real: bool = False,
    ) -> None:
        if stdin is None:
            stdin = PIPE if listening else DEVNULL
        self.argv = tuple(argv)
        self.process = start(argv, stdin=stdin, stdout=PIPE, stderr=PIPE, environ=environ, cwd=cwd, real=real)
        self._browser = browser
        self._said = ["", ""]
        self._heard = threading.Condition()
        self._speaking = 2
        self._trouble: Exception | None = None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._streams = (self.process.stdout, self.process.stderr)
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True) for pair in enumerate(self._streams)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def out(self) -> str:
        """Its stdout so far."""
        return self._said[0]

    @property
    def err(self) -> str:
        """Its stderr so far."""
        return self._said[1]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The complete lines of its stdout so far, a JSON object each."""
        return [json.loads(line) for line in self.out.split("\n")[:-1]]

    @property
    def urls(self) -> list[str]:
        """The addresses it has shown so far, in order, without repetitions."""
        return list(dict.fromkeys(URL.findall(self.err.rpartition("\n")[0])))

    @property
    def finished(self) -> bool:
        """Whether everything it said was read: nobody has its pipes open any more."""
        return not self._speaking

    def _read(self, number: int, stream: IO[bytes]) -> None:
        # A chunk may end, and a killed command may stop, in the middle of a character.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        seen = 0
        try:
            while chunk := os.read(stream.fileno(), 65_536):
                self._hear(number, decoder.decode(chunk))
                while self._browser is not None and stream is self.process.stderr and seen < len(self.urls):
                    seen += 1
                    trio.run(self._browser.visit, self.urls[seen - 1])
        except Exception as exc:  # noqa: BLE001 whatever it is, whoever waits is told
            self._trouble = exc
        finally:
            self._hear(number, decoder.decode(b"", final=True), last=1)

    def _hear(self, number: int, words: str, *, last: int = 0) -> None:
        with self._heard:
            self._said[number] += words
            self._speaking -= last
            self._heard.notify_all()

    def wait_until(self, holds: Callable[[], bool], do: str, seconds: float = SECONDS) -> None:
        """Wait until something holds of what it has said.

        Args:
            holds: Asked whenever it has said more, and when it has finished.
            do: What it does then, for the message.
            seconds: How long that may take.

        Raises:
            AssertionError: It finished without, or did not do it in that time, or its browser failed; it was killed,
                and the message holds what it has said.
        """
        with self._heard:
            self._heard.wait_for(lambda: self._trouble or holds() or self.finished, seconds)
        if self._trouble is not None:
            raise self._failed(f"the browser failed: {self._trouble!r}") from self._trouble
        if not holds():
            raise self._failed(f"did not {do} {'before it ended' if self.finished else f'within {seconds:g} s'}")

    def _failed(self, how: str) -> AssertionError:
        self.process.kill()
        return AssertionError(f"{how}\n{self.out}\n{self.err}")

    def wait_for(self, text: str) -> None:
        """Wait until it has said `text`."""
        self.wait_until(lambda: text in self.out or text in self.err, f"say {text!r}")

    def wait_line(self) -> str:
        """Wait until it has said a line on stdout; the first one."""
        self.wait_until(lambda: "\n" in self.out, "say a line")
        return self.out.partition("\n")[0]

    def wait_invited(self, where: str = "") -> str:
        """Wait until it shows an address with `where` in it; the newest one."""
        self.wait_until(lambda: any(where in url for url in self.urls), f"show an address {where}")
        return [url for url in self.urls if where in url][-1]

    def wait(self, seconds: float = SECONDS) -> Ran:
        """Wait until it has ended and everything it said was read."""
        self.wait_until(lambda: self.finished, "end", seconds)
        try:
            return Ran(self.process.wait(seconds), self.out, self.err, self.argv)
        except subprocess.TimeoutExpired as exc:
            raise self._failed(f"said all it can, and did not end within {seconds:g} s") from exc

    def say(self, text: str) -> None:
        """Write to its stdin, and close it; a command that does not listen to the end is let be."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(text.encode())

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, and join its readers."""
        self.process.kill()
        self.process.wait(SECONDS)
        if self.process.stdin is not None:
            self.process.stdin.close()
        for stream, reader in zip(self._streams, self._readers, strict=True):
            reader.join(SECONDS)
            # Somebody the command left behind may hold the pipe open: closing it under a reader would wait for them.
            if not reader.is_alive():
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()


@dataclass
class CommandLine:
    """The command line in a home of its own."""

    home: Path
    environ: dict[str, str]
    running: list[Running] = field(default_factory=list[Running])
    before: tuple[str, ...] = ()
    """A program the commands are run by, with its options: `setpriv`, say."""
    real: bool = False
    """Whether every command has an interpreter of its own."""

    @property
    def directory(self) -> Path:
        """Where credentials and tenants are by default."""
        return self.home / ".local/share/systemprompt-cloud"

    @property
    def journal(self) -> Path:
        """Where the journal is by default."""
        return self.home / ".local/state/systemprompt-cloud/journal.sqlite3"

    def __call__(self, *words: str, given: str = "", cwd: Path | None = None, **environ: str) -> Ran:
        """Run a command that needs nobody, and reads no more than `given` from its stdin."""
        argv = [*self.before, *COMMAND, *words]
        everything = self.environ | environ
        with Running(argv, environ=everything, cwd=cwd or self.home, listening=True, real=self.real) as running:
            running.say(given)
            return running.wait()

    def close(self) -> None:
        """Kill whatever still runs."""
        for running in self.running:
            running.kill()

    def begin(
        self, *words: str, browser: ScriptedBrowser | None = None, cwd: Path | None = None, listening: bool = False
    ) -> Running:
        """Start a command, with somebody at the browser or nobody."""
        argv = [*self.before, *COMMAND, *words]
        begun = Running(
            argv, environ=self.environ, cwd=cwd or self.home, browser=browser, listening=listening, real=self.real
        )
        self.running.append(begun)
        return begun

    def play(self, *words: str, browser: ScriptedBrowser | None = None, cwd: Path | None = None) -> Ran:
        """Run a command to its end with somebody at the browser."""
        return self.begin(*words, browser=browser or ScriptedBrowser(), cwd=cwd).wait()

    def login(self) -> None:
        """Log in."""
        self.play("login", "--port", "0", "--no-browser").ended(0)
