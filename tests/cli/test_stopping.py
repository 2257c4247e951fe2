"""Ctrl-Z and `fg`, as a shell with job control does them: the terminal is given back, and taken again."""

from __future__ import annotations

import os
import pty
import select
import shutil
import termios
import time
from collections.abc import Generator

import pytest

from tests.support.command import COMMAND, SECONDS, CommandLine
from tests.support.missing import missing
from tests.support.process import Process, start

SHELL = 'set -m; "$@"; echo "[it has stopped]"; read _; fg; echo "[it has ended: $?]"'
"""Runs a command in the foreground; when Ctrl-Z has stopped it, Enter continues it."""
STOP, CONTINUE, INTERRUPT = b"\x1a", b"\n", b"\x03"


class Stoppable:
    """A command at a terminal, in a shell."""

    def __init__(self, cli: CommandLine) -> None:
        self._cli = cli
        self._leader, self._follower = pty.openpty()
        self._process: Process | None = None
        self.shown = ""

    def begin(self, *words: str, **environ: str) -> None:
        """Start the command."""
        self._process = start(
            ["sh", "-c", SHELL, "sh", *COMMAND, *words],
            stdin=self._follower,
            stdout=self._follower,
            stderr=self._follower,
            environ=self._cli.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"} | environ,
            cwd=self._cli.home,
            terminal=True,
            real=True,
        )

    def press(self, keys: bytes, until: str) -> str:
        """Press keys, and wait for a text; what was shown since then."""
        os.write(self._leader, keys)
        return self.wait(until)

    def wait(self, until: str) -> str:
        """Wait for a text; what was shown up to it and behind it."""
        self.shown = ""
        deadline = time.monotonic() + SECONDS
        while until not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._leader], [], [], 1)[0]:
                self.shown += os.read(self._leader, 65_536).decode("utf-8", "replace")
        return self.shown

    @property
    def is_normal(self) -> bool:
        """Whether the terminal gives lines and echoes what is typed."""
        mode = termios.tcgetattr(self._leader)[3]
        return bool(mode & termios.ICANON) and bool(mode & termios.ECHO)

    def close(self) -> None:
        """Hang up, which ends what still runs."""
        os.close(self._leader)
        os.close(self._follower)
        if self._process is not None:
            self._process.wait(SECONDS)


@pytest.fixture
def terminal(cli: CommandLine) -> Generator[Stoppable]:
    if shutil.which("sh") is None:
        missing("sh is not installed (apt-get install dash)")
    made = Stoppable(cli)
    yield made
    made.close()


def test_progress_gives_the_cursor_back_and_is_drawn_again(terminal: Stoppable) -> None:
    """The flow goes on waiting, and can be interrupted as ever."""
    terminal.begin("login", "--port", "0", "--no-browser")
    terminal.wait("total 0:0")
    stopped = terminal.press(STOP, "[it has stopped]")
    assert stopped.rindex("\x1b[?25h") > stopped.rfind("\x1b[?25l")  # the cursor is back
    assert terminal.is_normal
    assert "\x1b[?25l" in terminal.press(CONTINUE, "total 0:0")
    assert "flows resume" in terminal.press(INTERRUPT, "[it has ended: 130]")
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rfind("\x1b[?25l")


def test_an_address_that_enter_opens_gives_the_cursor_back(terminal: Stoppable) -> None:
    """The key is waited for again afterwards, below what is drawn."""
    terminal.begin("login", "--port", "0", BROWSER="true")
    terminal.wait("Press Enter to open")
    stopped = terminal.press(STOP, "[it has stopped]")
    assert stopped.rindex("\x1b[?25h") > stopped.rfind("\x1b[?25l")
    assert terminal.is_normal
    terminal.press(CONTINUE, "total 0:0")
    assert not terminal.is_normal
    terminal.press(b"c", "Address copied")
    terminal.press(INTERRUPT, "[it has ended: 130]")
    assert terminal.is_normal


def test_a_question_is_asked_again_with_what_was_typed(terminal: Stoppable) -> None:
    """The shell gets a terminal that echoes lines; the question gets its own mode back."""
    terminal.begin("login", "--port", "0", "--paste")
    question = "paste the address it ended on:"
    terminal.wait(question)
    terminal.press(b"zebra", "zebra")
    assert not terminal.is_normal
    terminal.press(STOP, "[it has stopped]")
    assert terminal.is_normal
    terminal.press(CONTINUE, f"{question} zebra")
    assert not terminal.is_normal
    terminal.press(INTERRUPT, "[it has ended: 130]")
    assert terminal.is_normal


def test_a_secret_is_asked_for_again_and_stays_hidden(terminal: Stoppable) -> None:
    """What is typed at the shell in between is shown, the secret after it is not."""
    terminal.begin("login", "--token-stdin")
    terminal.wait("it is not shown")
    assert not terminal.is_normal
    terminal.press(STOP, "[it has stopped]")
    assert terminal.is_normal
    terminal.press(CONTINUE, "it is not shown")
    assert not terminal.is_normal
    assert "no-token" not in terminal.press(b"no-token\n", "[it has ended: 4]")
    assert terminal.is_normal
