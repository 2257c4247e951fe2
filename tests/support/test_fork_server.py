"""A forked command is like one with an interpreter of its own, as far as a test can see."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support import fork_server
from tests.support.command import SECONDS, CommandLine, Running, clean_environ
from tests.support.fork_server import STEERING, generators
from tests.support.process import COMMAND, DEVNULL, PIPE, Forked, start

ROOT = Path(__file__).parents[2]

READS = """
import json, os, sys
read = {}
get = os._Environ.__getitem__
def spy(environ, name):
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith("<frozen"):
        frame = frame.f_back
    read.setdefault(name, frame.f_globals.get("__name__", ""))
    return get(environ, name)
os._Environ.__getitem__ = spy
sys.path.insert(0, sys.argv[1])
import fork_server
fork_server.import_everything()
print(json.dumps(read))
"""
"""Imports what the server imports; prints which variables were read then, and by which module."""

ALL_OF_THEM = {"wsgiref.handlers", "sysconfig"}
"""Modules of Python that read every variable, or the home, and whose copy nothing of ours asks for."""

STARTS_AND_WAITS = """
import sys, time
from pathlib import Path
from tests.support.command import CommandLine, clean_environ
running = CommandLine(Path.cwd(), clean_environ()).begin("sandbox")
running.wait_line()
print(running.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cli(tmp_path: Path) -> Generator[CommandLine]:
    """The command line in an empty home, without an API."""
    made = CommandLine(
        tmp_path, clean_environ() | {"HOME": str(tmp_path), "SYSTEMPROMPT_API_URL": "http://127.0.0.1:9"}
    )
    yield made
    made.close()


def test_whatever_is_read_at_the_start_steers() -> None:
    """A variable that a module reads when it is imported makes a command start an interpreter of its own."""
    command = [sys.executable, "-c", READS, str(Path(fork_server.__file__).parent)]
    # On a CI machine modules ask which one it is.
    done = subprocess.run(command, env=os.environ | {"CI": "true"}, capture_output=True, text=True, check=True)
    read = {name for name, module in json.loads(done.stdout).items() if module not in ALL_OF_THEM}
    assert "LOGURU_LEVEL" in read, "the spy sees nothing"
    assert {name for name in read if not name.startswith(STEERING)} == set()


@pytest.mark.parametrize(
    ("environ", "forked"), [({"NO_COLOR": "1", "COLUMNS": "40"}, True), ({"LC_ALL": "C"}, False), ({"TZ": "x"}, False)]
)
def test_who_steers_gets_a_real_interpreter(cli: CommandLine, environ: dict[str, str], forked: bool) -> None:
    """Everything else is forked."""
    everything = cli.environ | environ
    with Running([*COMMAND, "--version"], environ=everything, cwd=cli.home) as running:
        assert isinstance(running.process, Forked) is forked
        running.wait().ended(0)


@pytest.mark.parametrize(
    "words", [("--version",), (), ("nonsense",), ("whoami",), ("plans", "--json"), ("diagram", "login"), ("\udcff",)]
)
def test_the_same_as_a_real_one(cli: CommandLine, words: tuple[str, ...]) -> None:
    """Exit code, data and talk are the same, whatever the command does and however it ends."""
    forked = cli(*words)
    cli.real = True
    assert cli(*words) == forked


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has open is in /proc")
def test_the_same_files_are_open_as_in_a_real_one(cli: CommandLine) -> None:
    """Nothing of the server's, or of another command's, is left open in a child."""

    def kinds(real: bool) -> list[str]:
        cli.real = real
        running = cli.begin("sandbox")
        running.wait_line()
        return sorted(
            str(each.readlink()).partition(":")[0] for each in Path(f"/proc/{running.process.pid}/fd").iterdir()
        )

    assert kinds(real=False) == kinds(real=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_signals_arrive(cli: CommandLine, number: signal.Signals, code: int) -> None:
    """A command is ended by a signal as any process is, and its exit code tells."""
    running = cli.begin("sandbox")
    running.wait_line()
    assert running.process.poll() is None
    running.interrupt(number)
    assert running.wait().code == code
    running.interrupt(number)  # to nobody, whoever has that process id now
    with pytest.raises(ProcessLookupError):
        os.kill(running.process.pid, 0)


def test_waiting_has_a_bound(cli: CommandLine) -> None:
    """As with `Popen`."""
    process = start([*COMMAND, "sandbox"], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, environ=cli.environ)
    assert isinstance(process, Forked)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_every_random_generator_begins_anew() -> None:
    """One that a module made for itself, as trio does, is found too."""
    mine = random.Random(1)  # noqa: S311 no secret
    assert any(each is mine for each in generators())


@pytest.mark.skipif(sys.platform != "linux", reason="waits for a process that is not a child")
def test_no_command_outlives_the_tests() -> None:
    """Whoever runs the tests is killed: the commands end with them."""
    with subprocess.Popen([sys.executable, "-c", STARTS_AND_WAITS], cwd=ROOT, stdin=PIPE, stdout=PIPE) as tests:
        assert tests.stdout is not None
        command = os.pidfd_open(int(tests.stdout.readline()))
        try:
            assert select.select([command], [], [], 0)[0] == []
            tests.kill()
            assert select.select([command], [], [], SECONDS)[0] == [command]
        finally:
            os.close(command)
