"""On a terminal an address is opened when Enter is pressed, copied with `c`, and drawn as a QR code with `--qr`."""

from __future__ import annotations

import base64
import importlib.util
import os
import pty
import re
import select
import shlex
import signal
import sys
import termios
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import trio
from systemprompt_cloud.cli.screen.qr import qr_lines
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.cli.conftest import Clouds
from tests.support.command import SECONDS, CommandLine
from tests.support.missing import missing
from tests.support.process import COMMAND, start

LOGIN = ("login", "--port", "0")
ADDRESS = re.compile(r"^ {2}(https?://[^\s\x1b]+)\r?$", re.MULTILINE)
PROMPT = "Press Enter to open 127.0.0.1 in your browser (c copies the address)."
CLICKS = (
    "import sys, trio; from systemprompt_cloud.sandbox.browser import ScriptedBrowser;"
    "trio.run(ScriptedBrowser().visit, sys.argv[1])"
)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, cli: CommandLine, words: tuple[str, ...], environ: dict[str, str], columns: int) -> None:
        self._leader, self._follower = pty.openpty()
        termios.tcsetwinsize(self._leader, (60, columns))
        self.mode = termios.tcgetattr(self._follower)
        self.shown = ""
        self.process = start(
            [*COMMAND, *words],
            stdin=self._follower,
            stdout=self._follower,
            stderr=self._follower,
            environ=cli.environ | {"NO_COLOR": "1", "TERM": "xterm-256color"} | environ,
            cwd=cli.home,
            terminal=True,
        )

    def wait_for(self, text: str) -> str:
        """Read until it shows a text."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown}"
            assert self.process.poll() is None or self._readable(0), f"no {text!r} in {self.shown}"
            if self._readable(0.1):
                self.shown += os.read(self._leader, 65_536).decode()
        return self.shown

    def _readable(self, seconds: float) -> bool:
        return bool(select.select([self._leader], [], [], seconds)[0])

    def press(self, keys: bytes) -> None:
        """Type keys."""
        os.write(self._leader, keys)

    def ended(self, code: int) -> None:
        """Wait until it has ended with this code, and the terminal is as it was before."""
        assert self.process.wait(SECONDS) == code, self.shown
        assert termios.tcgetattr(self._follower) == self.mode

    def close(self) -> None:
        """Kill it if it still runs."""
        self.process.kill()
        os.close(self._leader)
        os.close(self._follower)


@contextmanager
def on_terminal(
    cli: CommandLine, *words: str, columns: int = 200, browser: str = "true", **environ: str
) -> Generator[Terminal]:
    made = Terminal(cli, words, {"BROWSER": browser, "COLUMNS": str(columns)} | environ, columns)
    try:
        yield made
    finally:
        made.close()


def need_segno() -> None:
    if importlib.util.find_spec("segno") is None:
        missing("the package segno: pip install -r requirements-dev.lock")


def test_enter_opens_the_browser(cli: CommandLine) -> None:
    """The address is shown above, alone on its line; the browser it is opened in ends the login."""
    with on_terminal(cli, *LOGIN, browser=shlex.join([sys.executable, "-c", CLICKS])) as terminal:
        shown = terminal.wait_for(PROMPT)
        assert ADDRESS.search(shown)
        assert "logged in" not in shown
        terminal.press(b"x\r")
        terminal.wait_for("Logged in as ada@sandbox.example")
        terminal.ended(0)


def test_a_browser_that_comes_without_enter(cli: CommandLine, clouds: Clouds) -> None:
    """The flow listens meanwhile: the address was opened elsewhere, and no key is waited for."""
    cli.environ["SYSTEMPROMPT_API_URL"] = clouds()  # a tenant is bought, which others would find
    cli.login()
    for words in ((*LOGIN, "--yes"), ("checkout", "--plan", "plan_sandbox_starter", "--region", "fra", "--port", "0")):
        with on_terminal(cli, *words) as terminal:
            found = ADDRESS.search(terminal.wait_for(PROMPT))
            assert found is not None
            trio.run(ScriptedBrowser().visit, found[1])
            terminal.ended(0)


def test_c_copies_the_address(cli: CommandLine) -> None:
    """By the escape sequence that also works over SSH; Enter can still be pressed then."""
    with on_terminal(cli, *LOGIN) as terminal:
        found = ADDRESS.search(terminal.wait_for(PROMPT))
        assert found is not None
        terminal.press(b"c")
        shown = terminal.wait_for("Address copied, if your terminal allows it.")
        copied = re.search(r"\x1b\]52;c;([\w+/=]+)\x07", shown)
        assert copied is not None
        assert base64.b64decode(copied[1]).decode() == found[1]
        terminal.press(b"\r")
        terminal.wait_for("Opened in your browser.")
        terminal.press(b"\x03")
        terminal.ended(130)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_mode_of_the_terminal_is_restored(cli: CommandLine, number: signal.Signals, code: int) -> None:
    """A signal ends the wait for a key; the command says how to continue."""
    with on_terminal(cli, *LOGIN) as terminal:
        terminal.wait_for(PROMPT)
        terminal.process.send_signal(number)
        terminal.wait_for("flows resume")
        terminal.ended(code)


@pytest.mark.parametrize("words", [("--no-input",), ("--json",)])
def test_scripts_and_programs_wait_for_no_key(cli: CommandLine, words: tuple[str, ...]) -> None:
    """Also on a terminal: the browser is opened at once."""
    pipe = cli.home / "opened"
    os.mkfifo(pipe)
    with on_terminal(cli, *LOGIN, *words, browser=f"sh -c 'echo $1 > {pipe}' sh") as terminal:
        assert pipe.read_text().strip() in terminal.wait_for("/sandbox/consent/")
        terminal.process.send_signal(signal.SIGTERM)
        terminal.ended(143)
        assert "Enter" not in terminal.shown


def test_who_wants_no_browser_is_offered_none(cli: CommandLine) -> None:
    """Nor is anything read from the terminal."""
    with on_terminal(cli, *LOGIN, "--no-browser") as terminal:
        terminal.wait_for("/sandbox/consent/")
        terminal.press(b"\r\x03")
        terminal.wait_for("flows resume")
        terminal.ended(130)
        assert "Enter" not in terminal.shown


def test_an_order_counts_as_shown_before_enter(cli: CommandLine) -> None:
    """The page may be paid for from another device: that it was shown is on disk while a key is waited for."""
    cli.login()
    with on_terminal(cli, "checkout", "--plan", "plan_sandbox_starter", "--region", "fra", "--port", "0") as terminal:
        terminal.wait_for(PROMPT)
        terminal.process.kill()
    flow = cli("flows", "list", "--json", "--machine", "checkout").lines[0]["flow"]
    events = [line["event"] for line in cli("flows", "history", flow, "--json").lines]
    assert events[-1] == "BrowserNotOpened"
    cancelled = cli("flows", "cancel", flow).ended(0)
    assert "may have been paid: its payment page was shown" in cancelled.err


def test_qr_shows_the_address_as_a_code(cli: CommandLine) -> None:
    """Black on white in any theme, with the address below it, alone on its line."""
    need_segno()
    with on_terminal(cli, *LOGIN, "--qr", "--no-browser") as terminal:
        shown = terminal.wait_for("/sandbox/consent/")
        drawn, _, below = shown.partition("Open this to log in:")
        assert drawn.count("\x1b[38;5;16;48;5;231m") > 10
        assert "▀" not in below
        terminal.press(b"\x03")
        terminal.ended(130)


def test_qr_in_a_terminal_that_is_too_narrow(cli: CommandLine) -> None:
    """It is not drawn broken; the message says how wide it has to be."""
    need_segno()
    with on_terminal(cli, *LOGIN, "--qr", "--no-browser", columns=30) as terminal:
        shown = terminal.wait_for("has 30.")
        assert "▀" not in shown
        terminal.press(b"\x03")
        terminal.ended(130)


def test_qr_off_a_terminal(cli: CommandLine) -> None:
    """A log gets the address alone."""
    need_segno()
    ran = cli.play(*LOGIN, "--qr", "--no-browser").ended(0)
    assert "▀" not in ran.err
    assert "Logged in as" in ran.err


def test_a_code_can_be_read() -> None:
    """The modules are segno's, two rows a line, with a quiet zone around them."""
    need_segno()
    import importlib

    address = "https://cloud.example/login?state=" + "x" * 40
    rows = [[*row] for row in importlib.import_module("segno").make(address, error="l", micro=False).matrix]
    lines = qr_lines(address)
    assert {*lines[0]} == {" "}
    upper, lower = "▀█", "▄█"
    drawn = [[each in half for each in line[2:-2]] for line in lines for half in (upper, lower)]
    assert drawn[2 : 2 + len(rows)] == [[bool(module) for module in row] for row in rows]


def test_without_the_extra_the_message_shows_how_to_install_it(cli: CommandLine) -> None:
    """Before any flow is started."""
    if importlib.util.find_spec("segno") is not None:
        cli.before = (sys.executable, "-c", WITHOUT_SEGNO)
    ran = cli("login", "--qr").ended(2)
    assert "pip install 'systemprompt-cloud[qr]'" in ran.err


WITHOUT_SEGNO = (
    "import runpy, sys; sys.modules['segno'] = None; sys.argv = sys.argv[3:];"
    "runpy.run_module('systemprompt_cloud', run_name='__main__', alter_sys=True)"
)
