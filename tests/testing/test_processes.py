"""The helpers that run the command as a process: they end, and they hear every character."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator

import pytest
import trio
from systemprompt_cloud.testing.command import Running
from systemprompt_cloud.testing.processes import run_command

TICKS = 65_536
"""Three bytes each and two before them: whatever the pipe holds at once, it ends inside one."""


@pytest.fixture
def silent() -> Generator[Running, None, None]:
    """A process that says one line on each stream and then waits for something that never comes."""
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Running(process, None).start()
    yield running
    running.kill()


def test_waiting_for_a_command_that_hangs_ends(silent: Running) -> None:
    """The wait has a bound; after it the command is killed and the failure quotes what it said."""
    assert not silent.invited.wait(0.0)
    with pytest.raises(AssertionError, match=r"did not end within 1 s\nout\n\nerr\n"):
        silent.wait(1)
    assert silent.process.wait(5) < 0


def test_waiting_for_a_command_gives_all_it_said(silent: Running) -> None:
    """Both streams, whole, and the exit code."""
    assert silent.process.stdin is not None
    silent.process.stdin.close()
    ran = silent.wait().ended(0)
    assert (ran.out, ran.err) == ("out\n", "err\n")


async def test_characters_cut_in_two_arrive_whole() -> None:
    """A chunk that ends inside a character is no error, and nothing of it is lost."""
    code = f"import sys; sys.stdout.buffer.write(('ab' + '\u2713' * {TICKS}).encode())"
    with trio.fail_after(20):
        async with run_command(argv=[sys.executable, "-c", code]) as command:
            assert await command.wait() == 0
    assert command.stdout == "ab" + "\u2713" * TICKS


async def test_a_command_that_stops_inside_a_character() -> None:
    """What a killed command has begun to say is kept, with a mark in place of the rest."""
    code = r"import sys; sys.stdout.buffer.write(b'so far \xe2\x9c')"
    with trio.fail_after(20):
        async with run_command(argv=[sys.executable, "-c", code]) as command:
            assert await command.wait() == 0
    assert command.stdout == "so far \ufffd"
