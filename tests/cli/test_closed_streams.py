"""A stdin, stdout or stderr that whoever started us has closed, or opened the wrong way round."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import CommandLine

BROKEN = """
import os, sys
from systemprompt_cloud.__main__ import main
from systemprompt_cloud.cli.app import app
from systemprompt_cloud.cli.commands import COMMANDS
COMMANDS["broken"] = ("tools.broken:broken", "Use a descriptor that was never open.")
@app.command()
def broken() -> None:
    os.fstat(99)
sys.exit(main(["broken"]))
"""
"""The command line with a command more, which uses a descriptor that was never open."""


def without(cli: CommandLine, how: str) -> CommandLine:
    """The command line, started by a shell that closes streams."""
    cli.before = ("sh", "-c", f'exec "$@" {how}', "sh")
    return cli


def test_a_flow_without_stderr(cli: CommandLine) -> None:
    """Talk nobody wants to hear is dropped; the flow reaches its end, and stdout has data only."""
    ran = without(cli, "<&- 2>&-")("--dir", "here", "demo").ended(0)
    assert "Error" not in ran.out
    assert [row["state"] for row in cli("--dir", "here", "flows", "list", "--json").ended(0).lines] == ["ready"]


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_mistake_nobody_hears(cli: CommandLine, closed: str) -> None:
    """It is 2 as ever, and the words for people do not turn up among the data."""
    assert without(cli, closed)("--nonsense").ended(2).out == ""
    ran = without(cli, closed)("--nonsense", "--json").ended(2)
    assert [line["error"] for line in ran.lines] == ([] if ">&- 2" in closed else ["UsageError"])


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has open stands in /proc")
def test_no_file_gets_the_number_of_a_closed_stream(cli: CommandLine) -> None:
    """What is written to stdout or stderr, or read from stdin, never goes to a socket or a file of ours."""
    running = without(cli, "<&- 2>&-").begin("sandbox")
    running.wait_line()
    has = Path(f"/proc/{running.process.pid}/fd")
    assert [str((has / number).readlink()) for number in ("0", "2")] == ["/dev/null", "/dev/null"]
    running.interrupt(signal.SIGTERM)
    running.wait().ended(0)


def test_nothing_comes_from_a_closed_stdin(cli: CommandLine) -> None:
    """It is at its end."""
    assert "stdin holds no token" in without(cli, "<&-")("login", "--token-stdin").ended(2).err


def test_stdin_that_cannot_be_read(cli: CommandLine) -> None:
    """It is named, and not stdout."""
    ran = without(cli, "0>/dev/null")("login", "--token-stdin").ended(2)
    assert "stdin cannot be read: Bad file descriptor" in ran.err


def test_a_bad_descriptor_that_is_not_stdouts(cli: CommandLine) -> None:
    """A bug of ours is shown as one; nobody is told to look at a stdout that is as it should be."""
    ended = subprocess.run(
        [sys.executable, "-c", BROKEN], capture_output=True, text=True, env=cli.environ, cwd=cli.home, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "OSError: [Errno 9] Bad file descriptor"
    assert "stdout" not in ended.stderr
