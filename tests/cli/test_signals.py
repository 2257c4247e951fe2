"""Ctrl-C, SIGTERM and a closed terminal are the same orderly end, each with its own exit code."""

from __future__ import annotations

import os
import pty
import shutil
import signal

import pytest

from tests.support.command import COMMAND, CommandLine
from tests.support.missing import missing

LOGIN = ("login", "--port", "0", "--no-browser")
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_flow_is_saved_and_says_how_to_resume(cli: CommandLine, number: signal.Signals, code: int) -> None:
    """In words; the flow is in its state, and no process drives it any more."""
    running = cli.begin(*LOGIN)
    running.wait_invited()
    running.interrupt(number)
    ran = running.wait().ended(code)
    assert "systemprompt-cloud flows resume" in ran.err
    (flow,) = cli("flows", "list", "--json").ended(0).lines
    assert (flow["state"], flow["driven"]) == ("awaiting_callback", False)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_program_reads_the_same(cli: CommandLine, number: signal.Signals, code: int) -> None:
    """The last line is a pending flow with the command that resumes it."""
    running = cli.begin(*LOGIN, "--json")
    running.wait_invited()
    running.interrupt(number)
    last = running.wait().ended(code).lines[-1]
    assert (last["verdict"], last["state"]) == ("pending", "awaiting_callback")
    assert last["resume"] == f"systemprompt-cloud flows resume {last['flow']}"


def test_a_command_that_ignores_a_closed_terminal_goes_on(cli: CommandLine) -> None:
    """As under `nohup`, or in a service: the login waits for its browser, and ends well."""
    if shutil.which("nohup") is None:
        missing("nohup is not installed (apt-get install coreutils)")
    cli.before, cli.real = ("nohup",), True
    running = cli.begin(*LOGIN, "--json")
    url = running.wait_invited()
    running.interrupt(signal.SIGHUP)
    cli.before, cli.real = (), False
    assert running.process.poll() is None
    assert url
    running.interrupt(signal.SIGTERM)
    running.wait().ended(143)


def test_a_terminal_that_is_closed_saves_the_flow(cli: CommandLine) -> None:
    """The system sends SIGHUP, and nothing can be written any more."""
    child, leader = pty.fork()
    if child == 0:
        os.chdir(cli.home)
        os.execve(COMMAND[0], [*COMMAND, *LOGIN], cli.environ)  # noqa: S606 - our own command
    shown = b""
    while b"http://" not in shown:
        shown += os.read(leader, 65536)
    os.close(leader)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    (flow,) = cli("flows", "list", "--json").ended(0).lines
    assert (flow["state"], flow["driven"]) == ("awaiting_callback", False)
